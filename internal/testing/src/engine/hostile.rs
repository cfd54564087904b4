//! Shed-inits that attack the server. They run on threads of the test's process, which is the same to the kernel as a
//! process in a container: they hold descriptors of the same open files, and the other ends of the same sockets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::net::sockopt::set_socket_linger;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use shed_link::conn::{Receiver, Sender};
use shed_link::{
    Conn, Connected, Hello, Io, LINK_SOCKET, LinkError, Listened, Message, Op, PROTOCOL, Program,
    Refusal, Reply, Request, Spawn, Status, Tmux, TmuxSnapshot, Welcome, send_blocking,
};
use tokio::net::UnixStream;
use tokio::time::sleep;

/// How long a socket that was sent to the server lets its last `close` wait.
const LINGER: Duration = Duration::from_secs(60);
/// The size of a message that means nothing.
const JUNK_BYTES: usize = 1 << 20;
/// What fills a socket is written in parts of this size, in bytes.
const FILL_BYTES: usize = 64 << 10;
/// Between two attempts to connect, and two links of [`Attack::Links`].
const PAUSE: Duration = Duration::from_millis(5);
/// Messages of [`Attack::Flood`] before it looks for requests.
const BURST: u64 = 64;

/// What a hostile shed-init does.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// Clears `O_NONBLOCK` of everything it hands over, all the time, and reads nothing.
    Block,
    /// Sends messages and junk as fast as it can.
    Flood,
    /// Opens links, and sends sockets on them that linger when they are closed.
    Links,
}

/// A hostile shed-init. Dropping it ends its threads soon.
#[derive(Debug)]
pub(super) struct Hostile {
    stop: Arc<AtomicBool>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Hostile {
    /// Starts the shed-init of an image, if it is a hostile one: `hostile-block`, `hostile-flood` or `hostile-links`.
    pub(super) fn start(image: &str, link_dir: &Path) -> Option<Self> {
        let attack = match image.strip_prefix("hostile-")? {
            "block" => Attack::Block,
            "flood" => Attack::Flood,
            "links" => Attack::Links,
            other => panic!("no hostile image {other:?}"),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let actor = Actor { attack, link_dir: link_dir.to_owned(), stop: Arc::clone(&stop) };
        // Ends soon after `stop`.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(actor.run());
        });
        Some(Self { stop })
    }
}

struct Actor {
    attack: Attack,
    link_dir: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Actor {
    async fn run(self) {
        while !self.stopped() {
            // It fails when the server has had enough; it is called again.
            self.link().await.ok();
            sleep(PAUSE).await;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> Result<Conn, LinkError> {
        let conn = Conn::new(UnixStream::connect(self.link_dir.join(LINK_SOCKET)).await?);
        conn.send(&hello(), &[]).await?;
        Ok(conn)
    }

    async fn link(&self) -> Result<(), LinkError> {
        let mut conn = self.connect().await?;
        conn.recv::<Welcome>().await?;
        let (mut sender, mut receiver) = conn.split();
        let mut n_sent = 0;
        while !self.stopped() {
            match self.attack {
                Attack::Block => {}
                Attack::Flood => {
                    for _ in 0..BURST {
                        n_sent += 1;
                        flood(&mut sender, n_sent).await?;
                    }
                }
                Attack::Links => {
                    let (socket, _peer) = lingering()?;
                    let further = self.connect().await?;
                    further.send(&"a message with a socket", &[socket.as_fd()]).await?;
                    close_elsewhere(socket);
                }
            }
            while let Some(request) = next(&mut receiver)? {
                self.answer(&mut sender, request).await?;
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn answer(
        &self,
        sender: &mut Sender,
        (Request { id, op }, descriptors): (Request, Vec<OwnedFd>),
    ) -> Result<(), LinkError> {
        let reply = match op {
            Op::Ping => Reply::Done,
            Op::Spawn(spawn) => {
                self.hand_over(&spawn, descriptors)?;
                Reply::Started { pid: 1 }
            }
            _ => Reply::Refused(Refusal::Unsupported),
        };
        sender.send(&Message::Reply { id, reply }, &[]).await
    }

    /// Gives the server what it asked for, and keeps a descriptor of the same open file.
    fn hand_over(&self, spawn: &Spawn, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        let words = match &spawn.program {
            Program::Own(words) => words.as_slice(),
            _ => &[],
        };
        let control = descriptors.first().ok_or(LinkError::Descriptors)?.as_fd();
        let (kept, peer): (OwnedFd, OwnedFd) = match (spawn.io, words.first().map(String::as_str)) {
            (Io::Tty { .. }, _) => {
                let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
                let master = openpt(flags).map_err(io::Error::from)?;
                unlockpt(&master).map_err(io::Error::from)?;
                let slave = ioctl_tiocgptpeer(&master, flags).map_err(io::Error::from)?;
                send_blocking(control, &(), &[master.as_fd()])?;
                (master, slave)
            }
            (_, Some("connect")) => {
                let (socket, peer) = StdUnixStream::pair()?;
                send_blocking(control, &Connected::Socket, &[socket.as_fd()])?;
                (socket.into(), peer.into())
            }
            (_, Some("listen")) => {
                let (socket, peer) = StdUnixStream::pair()?;
                send_blocking(control, &Listened::Listening { port: 1 }, &[])?;
                let accepted = Listened::Accepted { host: String::new(), port: 0 };
                send_blocking(control, &accepted, &[socket.as_fd()])?;
                (socket.into(), peer.into())
            }
            // It holds the ends of pipes and reads none.
            _ => return self.keep(descriptors, None),
        };
        self.keep(descriptors, Some((kept, peer)))
    }

    /// Holds descriptors until the end, and clears the flag of one all the time.
    #[expect(clippy::unnecessary_wraps, reason = "the last step of what can fail")]
    fn keep(
        &self,
        descriptors: Vec<OwnedFd>,
        blocking: Option<(OwnedFd, OwnedFd)>,
    ) -> Result<(), LinkError> {
        let stop = Arc::clone(&self.stop);
        // Ends soon after `stop`.
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some((kept, _)) = &blocking {
                    rustix::io::ioctl_fionbio(kept, false).ok();
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            drop((descriptors, blocking));
        });
        Ok(())
    }
}

/// The next request, if one is there.
fn next(receiver: &mut Receiver) -> Result<Option<(Request, Vec<OwnedFd>)>, LinkError> {
    match receiver.recv::<Request>().now_or_never() {
        None => Ok(None),
        Some(Ok(None)) => Err(LinkError::Torn),
        Some(received) => received,
    }
}

async fn flood(sender: &mut Sender, n: u64) -> Result<(), LinkError> {
    if n.is_multiple_of(BURST) {
        return sender.send(&vec![0; JUNK_BYTES / 2], &[]).await;
    }
    let message = match n % 4 {
        0 => {
            let tmux = Tmux::Down(format!("{n}: {}", "x".repeat(1 << 10)));
            Message::TmuxSnapshot(TmuxSnapshot { tmux, at_ms: n, foreground: BTreeMap::new() })
        }
        1 => Message::Exited { process: n, status: Status::Code(0) },
        2 => Message::Reply { id: n << 32, reply: Reply::Started { pid: 1 } },
        _ => Message::DetachedEnded { tag: format!("flood-{n}"), status: Status::Code(0) },
    };
    sender.send(&message, &[]).await
}

/// A TCP socket that the kernel waits for when it is closed, and its peer, which does not read.
fn lingering() -> io::Result<(std::net::TcpStream, std::net::TcpStream)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let socket = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (peer, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    let much = vec![0; FILL_BYTES];
    while io::Write::write(&mut &socket, &much).is_ok() {}
    set_socket_linger(&socket, Some(LINGER))?;
    Ok((socket, peer))
}

/// Closes a descriptor of a socket that was sent. It may be the last one already.
fn close_elsewhere(socket: std::net::TcpStream) {
    std::thread::spawn(move || drop(socket));
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: "hostile \u{1b}[2J".to_owned(),
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
