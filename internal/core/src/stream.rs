//! Streams: a process in a shed as a door sees it, and a connection into a shed.
//!
//! The server makes the pipes or the socket pair and passes the far ends; a terminal's master side comes back. So the
//! bytes cross from the kernel's hands straight to the door's, and back-pressure is the kernel's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::termios::Winsize;
use shed_api::stream::Exit;
use shed_link::{Conn, Io, Spawn, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::Error;
use crate::box_link::{BoxLink, BoxProcess, HUP};

/// The size of a process's input pipe: twice the throughput of the default (measured).
const INPUT_PIPE_BYTES: usize = 1 << 20;

/// A process in a shed. Dropping it before its end means that its caller went away: its process group gets HUP.
#[derive(Debug)]
pub struct Running {
    /// Its input; `None` where nothing the caller types may reach it.
    pub input: Option<pipe::Sender>,
    /// Its output, or its terminal's. Read with [`read_some`].
    pub output: pipe::Receiver,
    /// Its errors; `None` with a terminal.
    pub errors: Option<pipe::Receiver>,
    /// Size and signals.
    pub control: Control,
    /// How it ends; once.
    pub exit: ExitWait,
}

/// Size and signals of a process.
#[derive(Debug)]
pub struct Control {
    hold: Hold,
    terminal: Option<Arc<OwnedFd>>,
}

/// Where signals go.
#[derive(Debug)]
enum Hold {
    /// A process of shed-init's.
    Process { link: BoxLink, id: u64 },
    /// A runner, by its tap.
    Runner { signals: tokio::sync::mpsc::Sender<u8> },
}

/// Tells how a process ended.
#[derive(Debug)]
pub struct ExitWait(oneshot::Receiver<Status>);

impl ExitWait {
    pub(crate) fn new(receiver: oneshot::Receiver<Status>) -> Self {
        Self(receiver)
    }

    /// Waits for the end; `None` if it will never be known: the link or the shed went down. Call it once.
    pub async fn wait(&mut self) -> Option<Exit> {
        (&mut self.0).await.ok().map(Exit::from)
    }
}

impl Control {
    /// The terminal's new size. Nothing without a terminal.
    pub fn resize(&self, cols: u16, rows: u16) {
        if let Some(master) = &self.terminal {
            let size =
                Winsize { ws_col: cols.max(1), ws_row: rows.max(1), ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that is gone needs no size.
            rustix::termios::tcsetwinsize(master, size).ok();
        }
    }

    /// Signals the process group.
    pub fn signal(&self, number: u8) {
        match &self.hold {
            Hold::Process { link, id } => link.signal(*id, number),
            // A runner whose queue is full has signals enough.
            Hold::Runner { signals } => drop(signals.try_send(number)),
        }
    }

    /// The terminal, for settings beyond its size.
    pub fn terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_deref()
    }

    pub(crate) fn of_runner(signals: tokio::sync::mpsc::Sender<u8>) -> Self {
        Self { hold: Hold::Runner { signals }, terminal: None }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // shed-init forgets a process at its end, so this reaches nobody who has taken over its number.
        if let Hold::Process { link, id } = &self.hold {
            link.signal(*id, HUP);
        }
        // A runner notices the end of its tap by itself.
    }
}

/// Reads what is there. A terminal nobody holds any more says so by an error; here that is its end, as with a pipe.
pub async fn read_some(output: &mut pipe::Receiver, buffer: &mut [u8]) -> io::Result<usize> {
    match output.read(buffer).await {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(0),
        read => read,
    }
}

/// How many bytes can be read at once. After a process's end: what it printed and nobody has read.
pub fn n_readable(output: &pipe::Receiver) -> usize {
    // One that cannot tell is read until it is quiet.
    rustix::io::ioctl_fionread(output).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Starts `spawn` with pipes or with a terminal, as its `io` says.
pub(crate) async fn start(link: &BoxLink, spawn: Spawn) -> Result<Running, Error> {
    match spawn.io {
        Io::Tty { .. } => start_terminal(link, spawn).await,
        Io::Pipes | Io::Socket | Io::Tap | Io::Prelude | Io::Null => start_pipes(link, spawn).await,
    }
}

async fn start_pipes(link: &BoxLink, spawn: Spawn) -> Result<Running, Error> {
    let (stdin, input) = new_pipe()?;
    let (output, stdout) = new_pipe()?;
    let (errors, stderr) = new_pipe()?;
    // A user's share of pipe memory may be used up; the default works too.
    fcntl_setpipe_size(&input, INPUT_PIPE_BYTES).ok();
    let failed = || Error::io("pipes");
    let process = link.spawn(spawn, vec![stdin, stdout, stderr]).await?;
    Ok(Running {
        input: Some(pipe::Sender::from_owned_fd(input).map_err(failed())?),
        output: pipe::Receiver::from_owned_fd(output).map_err(failed())?,
        errors: Some(pipe::Receiver::from_owned_fd(errors).map_err(failed())?),
        control: control(&process, None),
        exit: ExitWait(process.exit),
    })
}

fn control(process: &BoxProcess, terminal: Option<Arc<OwnedFd>>) -> Control {
    let hold = Hold::Process { link: process.link.clone(), id: process.id };
    Control { hold, terminal }
}

async fn start_terminal(link: &BoxLink, spawn: Spawn) -> Result<Running, Error> {
    let failed = || Error::io("terminal");
    let (ours, theirs) = socket_pair()?;
    let process = link.spawn(spawn, vec![theirs]).await?;
    let mut conn = Conn::new(to_tokio(ours)?);
    // It was sent before the process started, so it is there.
    let sent = conn.recv::<()>().await.ok().flatten();
    let master = sent.and_then(|((), fds)| fds.into_iter().next());
    // What comes from a shed is hostile: only a terminal will do.
    let master = master.filter(|fd| rustix::termios::isatty(fd));
    let Some(master) = master else {
        link.signal(process.id, HUP);
        return Err(Error::io("terminal")(io::Error::other("the shed sent none")));
    };
    let dup =
        || rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(|error| failed()(error.into()));
    rustix::io::ioctl_fionbio(&master, true).map_err(|error| failed()(error.into()))?;
    // A pipe end of tokio's is any descriptor that can be polled, read and written, which a terminal is.
    let input = pipe::Sender::from_file_unchecked(dup()?.into()).map_err(failed())?;
    let output = pipe::Receiver::from_file_unchecked(dup()?.into()).map_err(failed())?;
    Ok(Running {
        input: Some(input),
        output,
        errors: None,
        control: control(&process, Some(Arc::new(master))),
        exit: ExitWait(process.exit),
    })
}

pub(crate) fn new_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::io("pipe")(error.into()))
}

pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::io("socket pair")(error.into()))
}

pub(crate) fn to_tokio(fd: OwnedFd) -> Result<UnixStream, Error> {
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.set_nonblocking(true).map_err(Error::io("socket"))?;
    UnixStream::from_std(socket).map_err(Error::io("socket"))
}

/// A connection into a shed, made there and handed out.
#[derive(Debug)]
pub enum Connection {
    /// To a port.
    Tcp(TcpStream),
    /// To a socket file.
    Unix(UnixStream),
}

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Connection {
    /// Checks that what the shed sent is a stream socket of a family we know.
    pub(crate) fn from_shed(fd: OwnedFd) -> Result<Self, Error> {
        use rustix::net::sockopt::{socket_domain, socket_type};
        let refused = || Error::Connect("the shed sent something that is no connection".to_owned());
        if socket_type(&fd).map_err(|_| refused())? != SocketType::STREAM {
            return Err(refused());
        }
        let domain = socket_domain(&fd).map_err(|_| refused())?;
        if domain == AddressFamily::UNIX {
            return to_tokio(fd).map(Self::Unix);
        }
        if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
            return Err(refused());
        }
        let socket = std::net::TcpStream::from(fd);
        socket.set_nonblocking(true).map_err(Error::io("socket"))?;
        socket.set_nodelay(true).ok();
        TcpStream::from_std(socket).map(Self::Tcp).map_err(Error::io("socket"))
    }

    /// The connection without its kind.
    pub fn into_stream(self) -> Box<dyn Duplex> {
        match self {
            Self::Tcp(socket) => Box::new(socket),
            Self::Unix(socket) => Box::new(socket),
        }
    }
}

/// One end of a socket pair for a helper in the box, and a connection that hears it.
pub(crate) struct Helper {
    /// Its end ends the helper, which tidies up; a signal would keep it from that.
    pub(crate) conn: Conn,
}

/// Starts a helper of shed-init's (`connect`, `listen`) as `dev`.
pub(crate) async fn start_helper(link: &BoxLink, words: &[&str]) -> Result<Helper, Error> {
    let (ours, theirs) = socket_pair()?;
    let spawn = Spawn {
        program: shed_link::Program::Own(words.iter().map(|word| (*word).to_owned()).collect()),
        env: Vec::new(),
        directory: None,
        user: shed_link::User::Dev,
        io: Io::Socket,
        detached: None,
        worker: None,
    };
    link.spawn(spawn, vec![theirs]).await?;
    Ok(Helper { conn: Conn::new(to_tokio(ours)?) })
}
