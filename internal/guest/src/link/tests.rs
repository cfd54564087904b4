//! Links to a shed-init that the test plays, hostile ones too.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use shed_api::ShedName;
use shed_engine::EngineFuture;
use shed_engine::local::{Peer, PeerCheck, link_dir};
use shed_link::{
    Conn, Connected, Hello, Io, LINK_SOCKET, Message, PROTOCOL, Refusal, Reply, Request, Run,
    Status, Welcome,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::serve::serve;
use super::{Link, LinkEvent, listen, own_program};
use crate::transport::Transport as _;
use crate::unix::{self, UnixTransport};
use crate::{Error, Stream, WindowSize};

/// How long a call blocks that the container made block. A test whose own thread is blocked takes longer than this.
const BLOCKED: Duration = Duration::from_secs(6);
/// More than a terminal, a socket and the channels before them hold.
const MUCH: usize = 4 << 20;

fn hello(version: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: version.to_owned(),
        boot: "1".to_owned(),
        user: "dev".to_owned(),
        uid: 1000,
        home: "/home/dev".to_owned(),
        tmux: None,
        program: "/opt/shed/shed-init".to_owned(),
        socket: "/run/shed/box/sock".to_owned(),
        worktrees: "/worktrees".to_owned(),
        workspace: "/workspace".to_owned(),
        confine: None,
    }
}

/// A link to a shed-init of another version, as far as its hello; what it sends is up to the test.
async fn link_to(version: &str) -> (Link, Conn, mpsc::Receiver<LinkEvent>) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (events, mut heard) = mpsc::channel(8);
    let shed: ShedName = "a".parse().unwrap();
    let thread = unix::ShedThread::start(&shed).unwrap();
    let (admit, admitted) = oneshot::channel();
    admit.send(()).unwrap();
    let wire = unix::start_wire(&thread, ours, admitted);
    let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(serve(wire, shed, hello(version), events, stop, gone));
    let Some(LinkEvent::Up(link)) = heard.recv().await else {
        panic!("no link");
    };
    theirs.set_nonblocking(true).unwrap();
    (link, Conn::new(UnixStream::from_std(theirs).unwrap()), heard)
}

/// Answers the next request as started, after `act` used the descriptor that came with it.
async fn start_next(conn: &mut Conn, act: impl FnOnce(OwnedFd)) {
    let (request, mut descriptors) = conn.recv::<Request>().await.unwrap().unwrap();
    act(descriptors.pop().unwrap());
    let reply = Reply::Started { pid: 1 };
    conn.send(&Message::Reply { id: request.id, reply }, &[]).await.unwrap();
}

/// Runs `attack`, and asserts that this thread, on which the whole test runs, was never blocked by it.
async fn stays_awake(attack: impl Future<Output = ()>) {
    let start = Instant::now();
    timeout(BLOCKED / 6, attack).await.ok();
    assert!(start.elapsed() < BLOCKED / 2, "the thread was blocked for {:?}", start.elapsed());
}

/// A TCP socket whose last `close` blocks for a long time.
fn lingering() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let much = vec![0; MUCH];
    while std::io::Write::write(&mut &socket, &much).is_ok() {}
    set_socket_linger(&socket, Some(BLOCKED)).unwrap();
    (socket, peer)
}

/// Closes the test's descriptor of a socket that was sent. It may be the last one already.
fn close_elsewhere(socket: std::net::TcpStream) {
    std::thread::spawn(move || drop(socket));
}

#[tokio::test]
async fn a_terminal_without_o_nonblock_blocks_only_the_thread_of_its_shed() {
    let (link, mut hostile, _heard) = link_to("0.1.0").await;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let _slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let hand_over = |socket: OwnedFd| {
        shed_link::send_blocking(socket.as_fd(), &(), &[master.as_fd()]).unwrap();
    };
    let spawn = own_program(&["x"], Io::Tty { cols: 80, rows: 24, pixels: (0, 0) });
    let (started, ()) = tokio::join!(link.start(spawn), start_next(&mut hostile, hand_over));
    let Stream { mut input, output: _output, control, .. } = started.unwrap();
    rustix::io::ioctl_fionbio(&master, false).unwrap();
    stays_awake(async {
        // Nobody reads it, so a write to the terminal blocks.
        input.as_mut().unwrap().write_all(&vec![b'x'; MUCH]).await.ok();
    })
    .await;
    stays_awake(async { control.resize(WindowSize::default()) }).await;
}

#[tokio::test]
async fn a_socket_without_o_nonblock_blocks_only_the_thread_of_its_shed() {
    let (link, mut hostile, _heard) = link_to("0.1.0").await;
    let (socket, peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let hand_over = |control: OwnedFd| {
        shed_link::send_blocking(control.as_fd(), &Connected::Socket, &[socket.as_fd()]).unwrap();
    };
    let asked = link.start_helper(&["connect", "unix", "/x"]);
    let (helper, ()) = tokio::join!(asked, start_next(&mut hostile, hand_over));
    let (_, connection) = helper.unwrap().next::<Connected>().await.unwrap();
    let mut connection = connection.unwrap();
    connection.write_all(b"x").await.unwrap();
    // Not before the server has set it.
    let mut byte = [0; 1];
    std::io::Read::read_exact(&mut &peer, &mut byte).unwrap();
    socket.set_nonblocking(false).unwrap();
    stays_awake(async {
        connection.write_all(&vec![b'x'; MUCH]).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_lingering_socket_in_a_message_blocks_only_the_thread_of_its_shed() {
    let (link, hostile, mut heard) = link_to("0.1.0").await;
    let (socket, _peer) = lingering();
    hostile.send(&"a message with a descriptor", &[socket.as_fd()]).await.unwrap();
    close_elsewhere(socket);
    stays_awake(async {
        heard.recv().await;
    })
    .await;
    let (socket, _peer) = lingering();
    hostile.send(&"never received", &[socket.as_fd()]).await.unwrap();
    close_elsewhere(socket);
    let drop_the_link = async {
        drop(link);
        while heard.recv().await.is_some() {}
    };
    stays_awake(drop_the_link).await;
}

#[tokio::test]
async fn a_lingering_socket_on_a_stream_that_is_refused_blocks_only_the_thread_of_its_shed() {
    let (link, mut hostile, _heard) = link_to("0.1.0").await;
    let (socket, _peer) = lingering();
    let refuse = async {
        let (request, mut descriptors) = hostile.recv::<Request>().await.unwrap().unwrap();
        let stream = descriptors.pop().unwrap();
        shed_link::send_blocking(stream.as_fd(), &(), &[socket.as_fd()]).unwrap();
        close_elsewhere(socket);
        let reply = Reply::Refused(Refusal::Unsupported);
        hostile.send(&Message::Reply { id: request.id, reply }, &[]).await.unwrap();
    };
    stays_awake(async {
        let (refused, ()) = tokio::join!(link.start_connected(&["x"]), refuse);
        assert!(matches!(refused, Err(Error::Refused(_))));
    })
    .await;
}

/// Admits everybody.
struct AnyPeer;

impl PeerCheck for AnyPeer {
    fn is_peer<'a>(&'a self, _: &'a ShedName, _: Peer) -> EngineFuture<'a, bool> {
        Box::pin(std::future::ready(Ok(true)))
    }
}

#[tokio::test]
async fn a_second_link_replaces_the_first_and_leaves_none_behind() {
    let dir = tempfile::tempdir().unwrap();
    let shed: ShedName = "a".parse().unwrap();
    let transport = UnixTransport::new(dir.path().to_owned(), Arc::new(AnyPeer));
    let (events, mut heard) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let listener = transport.listen(&shed).unwrap();
    tokio::spawn(listen(listener, shed.clone(), events, stop.clone()));
    let path = link_dir(dir.path(), &shed).join(LINK_SOCKET);
    let connect = async || {
        let mut conn = Conn::new(UnixStream::connect(&path).await.unwrap());
        conn.send(&hello("0.1.0"), &[]).await.unwrap();
        conn.recv::<Welcome>().await.unwrap().unwrap();
        conn
    };
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut first = connect().await;
    let Some(LinkEvent::Up(first_link)) = heard.recv().await else {
        panic!("no link");
    };
    let second = connect().await;
    // The first one ends, so that its shed-init calls again when the second one is gone.
    assert!(first.recv::<()>().await.unwrap().is_none());
    assert!(first_link.gone().is_cancelled());
    let mut up = 0;
    for _ in 0..2 {
        match heard.recv().await.unwrap() {
            LinkEvent::Up(_) => up += 1,
            LinkEvent::Down(link) => assert!(link == first_link),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(up, 1);
    drop(second);
    assert!(matches!(heard.recv().await, Some(LinkEvent::Down(_))));
    let _third = connect().await;
    assert!(matches!(heard.recv().await, Some(LinkEvent::Up(_))));
    stop.cancel();
}

#[tokio::test]
async fn an_older_shed_init_that_does_not_know_ping_keeps_its_link() {
    let (link, mut old, _heard) = link_to("0.0.1").await;
    let answer = async {
        let (request, _) = old.recv::<serde_json::Value>().await.unwrap().unwrap();
        let id = request["id"].as_u64().unwrap();
        let reply = Reply::Refused(Refusal::Unsupported);
        old.send(&Message::Reply { id, reply }, &[]).await.unwrap();
    };
    tokio::join!(link.check(), answer);
    assert!(!link.gone().is_cancelled());
    assert_eq!(link.hello().version, "0.0.1");
}

#[tokio::test]
async fn an_unknown_message_of_a_newer_shed_init_is_skipped() {
    let (_link, new, mut heard) = link_to("99.0.0").await;
    new.send(&serde_json::json!({ "weather": { "in": "the container" } }), &[]).await.unwrap();
    let ended = Message::DetachedEnded { tag: "t".to_owned(), status: Status::Code(0) };
    new.send(&ended, &[]).await.unwrap();
    assert!(matches!(heard.recv().await, Some(LinkEvent::DetachedEnded { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_does_not_answer_ends() {
    let (link, _silent, mut heard) = link_to("0.1.0").await;
    link.check().await;
    assert!(link.gone().is_cancelled());
    assert!(matches!(heard.recv().await, Some(LinkEvent::Down(_))));
    let run = Run { argv: Vec::new(), env: Vec::new(), directory: None, timeout_ms: 0 };
    assert!(matches!(link.run(run).await, Err(Error::Unreachable(_))));
}
