//! Port, socket and agent forwards into, out of and through a shed.

use std::fs;
use std::path::Path;

use shed_api::Scope;
use shed_api::shed::PatchShed;
use shed_testing::{Transport, eventually, over_each_transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::support::{Door, Master, line_with, noise, rest, said, started};

/// Something that listens: it answers what it was told, when it has been told all.
async fn parrot() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(repeat(socket));
        }
    });
    port
}

fn parrot_at(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(repeat(socket));
        }
    });
}

async fn repeat(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let mut told = Vec::new();
    // Whoever hangs up wants no answer.
    if socket.read_to_end(&mut told).await.is_ok() {
        socket.write_all(&told).await.ok();
    }
}

/// Tells the parrot something and hears it.
async fn hear(mut socket: impl AsyncRead + AsyncWrite + Unpin, what: &[u8]) -> Vec<u8> {
    socket.write_all(what).await.unwrap();
    socket.shutdown().await.unwrap();
    rest(socket).await
}

/// `ssh -N` with these options; ready when `path` is there.
async fn forward(door: &Door, options: &[&str], path: &Path) -> Child {
    let mut ssh = door.ssh("a", &["-N", "-o", "ExitOnForwardFailure=yes"]);
    ssh.args(options).arg("door");
    let child = started(ssh);
    eventually("the forward's socket", async || path.exists().then_some(())).await;
    child
}

over_each_transport! {
    connections_into_the_shed_support_half_close
    a_browser_reaches_what_the_shed_reaches
    programs_in_the_shed_reach_the_client
}

async fn connections_into_the_shed_support_half_close(transport: Transport) {
    let door = Door::open_on(transport).await;
    let (port, file) = (parrot().await, door.path("parrot"));
    parrot_at(&file);
    let (tcp, unix, closed) = (door.path("tcp"), door.path("unix"), door.path("closed"));
    let to_tcp = format!("{}:localhost:{port}", tcp.display());
    let to_unix = format!("{}:{}", unix.display(), file.display());
    let to_closed = format!("{}:127.0.0.1:1", closed.display());
    let mut ssh = forward(&door, &["-L", &to_tcp, "-L", &to_unix, "-L", &to_closed], &closed).await;
    let large = noise(12 << 20);
    for path in [&tcp, &unix] {
        assert_eq!(hear(UnixStream::connect(path).await.unwrap(), b"hello").await, b"hello");
        assert!(hear(UnixStream::connect(path).await.unwrap(), &large).await == large);
        let mut many = JoinSet::new();
        for n in 0..30_u8 {
            let socket = UnixStream::connect(path).await.unwrap();
            many.spawn(async move { (n, hear(socket, &[n; 1000]).await) });
        }
        while let Some(heard) = many.join_next().await {
            let (n, heard) = heard.unwrap();
            assert_eq!(heard, [n; 1000]);
        }
    }
    assert_eq!(rest(UnixStream::connect(&closed).await.unwrap()).await, b"");
    let why = line_with(ssh.stderr.take().unwrap(), "open failed").await;
    assert!(why.contains("onnection refused"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_scope_cannot_forward() {
    let door = Door::open().await;
    door.key("reader", Scope::Read, &[]).await;
    door.configure("reader");
    let port = parrot().await;
    let into = said(door.ssh("a", &["-W", &format!("127.0.0.1:{port}"), "door"]), b"x").await;
    assert_eq!(into.out, b"");
    assert!(into.errors.contains("needs scope drive"), "{into:?}");
    let listen = ["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", "door"];
    assert_eq!(said(door.ssh("a", &listen), b"").await.status, Some(255));
}

async fn a_browser_reaches_what_the_shed_reaches(transport: Transport) {
    let door = Door::open_on(transport).await;
    let port = parrot().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ready = door.path("ready");
    let to_nothing = format!("{}:127.0.0.1:1", ready.display());
    let proxy = format!("127.0.0.1:{}", free.port());
    let _ssh = forward(&door, &["-D", &proxy, "-L", &to_nothing], &ready).await;
    let mut socks = TcpStream::connect(free).await.unwrap();
    socks.write_all(&[5, 1, 0]).await.unwrap();
    let mut chosen = [0; 2];
    socks.read_exact(&mut chosen).await.unwrap();
    // By name, so that the shed resolves it.
    let mut wanted = [&[5, 1, 0, 3, 9][..], b"localhost"].concat();
    wanted.extend(port.to_be_bytes());
    socks.write_all(&wanted).await.unwrap();
    let mut answer = [0; 10];
    socks.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..2], [5, 0]);
    assert_eq!(hear(socks, b"through").await, b"through");
}

async fn programs_in_the_shed_reach_the_client(transport: Transport) {
    let door = Door::open_on(transport).await;
    let (port, file) = (parrot().await, door.path("parrot"));
    parrot_at(&file);
    let (there, there_too) = (door.path("there"), door.path("there-too"));
    let to_tcp = format!("{}:127.0.0.1:{port}", there.display());
    let to_unix = format!("{}:{}", there_too.display(), file.display());
    let any = format!("0:127.0.0.1:{port}");
    let options = ["-o", "LogLevel=INFO", "-R", &any, "-R", &to_tcp, "-R", &to_unix];
    let mut ssh = forward(&door, &options, &there_too).await;
    let told = line_with(ssh.stderr.take().unwrap(), "Allocated port").await;
    let bound: u16 = told.split_whitespace().nth(2).unwrap().parse().unwrap();
    let large = noise(5 << 20);
    assert!(hear(TcpStream::connect(("127.0.0.1", bound)).await.unwrap(), &large).await == large);
    for path in [&there, &there_too] {
        assert_eq!(hear(UnixStream::connect(path).await.unwrap(), b"hello").await, b"hello");
    }
    // They end with the connection.
    ssh.kill().await.unwrap();
    eventually("the end of the listeners", async || {
        let port_is_closed = TcpStream::connect(("127.0.0.1", bound)).await.is_err();
        let file_is_dead = UnixStream::connect(&there).await.is_err();
        (port_is_closed && file_is_dead).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_are_added_and_cancelled_on_a_connection() {
    let door = Door::open().await;
    let port = parrot().await;
    let master = Master::connect(&door, "a", &[]).await;
    let there = door.path("there");
    let spec = format!("{}:127.0.0.1:{port}", there.display());
    for _ in 0..10 {
        let ran = said(master.ssh(&door, &["-O", "forward", "-R", &spec, "door"]), b"").await;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert_eq!(hear(UnixStream::connect(&there).await.unwrap(), b"hello").await, b"hello");
        let ran = said(master.ssh(&door, &["-O", "cancel", "-R", &spec, "door"]), b"").await;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        eventually("its end", async || UnixStream::connect(&there).await.is_err().then_some(()))
            .await;
    }
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spec = format!("{}:127.0.0.1:{port}", taken.local_addr().unwrap().port());
    let ran = said(master.ssh(&door, &["-O", "forward", "-R", &spec, "door"]), b"").await;
    assert_ne!(ran.status, Some(0), "a port that is taken cannot be listened at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_serves_as_a_jump_host() {
    let door = Door::open().await;
    let port = parrot().await;
    let pipe = said(door.ssh("a", &["-W", &format!("127.0.0.1:{port}"), "door"]), b"told").await;
    assert_eq!((pipe.status, pipe.text()), (Some(0), "told"));
    let jumped = said(door.ssh("a", &["-J", "a@door", "door", "echo there"]), b"").await;
    assert_eq!((jumped.status, jumped.text()), (Some(0), "there\n"), "{}", jumped.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_forwarded_only_if_the_shed_allows_it() {
    let door = Door::open().await;
    let socket = door.path("agent");
    let mut agent = Command::new("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket);
    let _agent = started(agent);
    eventually("the agent", async || socket.exists().then_some(())).await;
    let mut add = Command::new("ssh-add");
    add.arg("-q").arg(door.path("admin")).env("SSH_AUTH_SOCK", &socket);
    assert_eq!(said(add, b"").await.status, Some(0));
    let list = async |option: &str| {
        let mut ssh = door.ssh("a", &[option, "door", "echo [$SSH_AUTH_SOCK]; ssh-add -l"]);
        ssh.env("SSH_AUTH_SOCK", &socket);
        said(ssh, b"").await
    };
    assert!(list("-A").await.text().starts_with("[]\n"));
    let patch = PatchShed { allow_agent_forwarding: Some(true), ..PatchShed::default() };
    door.test.app.sheds().patch(&door.test.admin, &"a".parse().unwrap(), patch).await.unwrap();
    assert!(list("-a").await.text().starts_with("[]\n"));
    let lent = list("-A").await;
    assert_eq!(lent.status, Some(0), "{lent:?}");
    assert!(lent.text().contains("ED25519"), "{lent:?}");
    // Nothing of it stays behind.
    let path = lent.text().split(['[', ']']).nth(1).unwrap().to_owned();
    eventually("the end of its socket", async || fs::metadata(&path).is_err().then_some(())).await;
}
