//! Pipes, socket pairs and terminals whose descriptors are passed.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use shed_link::Conn;
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

use super::terminal::Master;
use crate::Error;
use crate::connection::Connection;
use crate::stream::{Input, Output};
use crate::transport::{
    Ends, Helper, HelperMessages, Near, Opened, Pending, Pipes, Streams, TerminalEnds,
};

/// The size of a process's input pipe: twice the throughput of the default (measured).
const INPUT_PIPE_BYTES: usize = 1 << 20;

/// Makes streams on this kernel.
#[derive(Debug)]
pub(super) struct UnixStreams;

impl Streams for UnixStreams {
    fn pipes(&self) -> Result<Opened<Pipes>, Error> {
        let (stdin, input) = process_pipe()?;
        let (output, stdout) = process_pipe()?;
        let (errors, stderr) = process_pipe()?;
        // A user's share of pipe memory may be used up; the default size works too.
        fcntl_setpipe_size(&input, INPUT_PIPE_BYTES).ok();
        Ok(opened(vec![stdin, stdout, stderr], async move {
            Ok(Pipes { input: writer(input)?, output: reader(output)?, errors: reader(errors)? })
        }))
    }

    fn terminal(&self) -> Result<Opened<TerminalEnds>, Error> {
        let (ours, theirs) = socket_pair()?;
        Ok(opened(vec![theirs], async move {
            let mut conn = Conn::new(to_tokio(ours)?);
            // shed-init sent it before the process started, so it is there.
            let sent = conn.recv::<()>().await.ok().flatten();
            let master = sent.and_then(|((), descriptors)| descriptors.into_iter().next());
            // What comes from a shed is untrusted: anything but a terminal is refused.
            let master = master.filter(|fd| rustix::termios::isatty(fd));
            let missing = || Error::io("terminal")(io::Error::other("the shed sent none"));
            Master::new(master.ok_or_else(missing)?)?.into_ends()
        }))
    }

    fn connection(&self) -> Result<Opened<Connection>, Error> {
        let (ours, theirs) = socket_pair()?;
        Ok(opened(vec![theirs], async move { to_tokio(ours).map(Connection::from) }))
    }

    fn helper(&self) -> Result<Opened<Helper>, Error> {
        let (ours, theirs) = socket_pair()?;
        Ok(opened(vec![theirs], async move {
            Ok(Helper::new(Box::new(UnixHelper(Conn::new(to_tokio(ours)?)))))
        }))
    }
}

fn opened<T>(
    descriptors: super::Descriptors,
    near: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Opened<T> {
    let near: Near<T> = Box::pin(near);
    Opened { ends: Ends::new(descriptors), near }
}

/// A helper's end of a socket pair, on which it passes descriptors of sockets.
struct UnixHelper(Conn);

impl HelperMessages for UnixHelper {
    fn next(&mut self) -> Pending<'_, Option<(serde_json::Value, Option<Connection>)>> {
        Box::pin(async move {
            let Some((message, mut descriptors)) = self.0.recv().await.map_err(super::broken)?
            else {
                return Ok(None);
            };
            // One that is no connection is dropped; whoever needs it sees that it is missing.
            Ok(Some((message, descriptors.pop().and_then(|fd| from_shed(fd).ok()))))
        })
    }
}

/// Checks that what the shed sent is a stream socket of a family we know.
fn from_shed(fd: OwnedFd) -> Result<Connection, Error> {
    let refused = || Error::Connect("the shed sent a descriptor that is not a socket".to_owned());
    if socket_type(&fd).map_err(|_| refused())? != SocketType::STREAM {
        return Err(refused());
    }
    let domain = socket_domain(&fd).map_err(|_| refused())?;
    if domain == AddressFamily::UNIX {
        return to_tokio(fd).map(Connection::from);
    }
    if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
        return Err(refused());
    }
    let socket = std::net::TcpStream::from(fd);
    socket.set_nonblocking(true).map_err(Error::io("socket"))?;
    socket.set_nodelay(true).ok();
    TcpStream::from_std(socket).map(Connection::from).map_err(Error::io("socket"))
}

/// A pipe with both ends on the server, for output that the server itself passes on.
pub(crate) fn pipe_pair() -> Result<(pipe::Sender, Output), Error> {
    let (read, write) = new_pipe()?;
    let sender = pipe::Sender::from_owned_fd(write).map_err(Error::io("pipe"))?;
    Ok((sender, reader(read)?))
}

fn writer(fd: OwnedFd) -> Result<Input, Error> {
    pipe::Sender::from_owned_fd(fd).map(Input::pipe).map_err(Error::io("pipes"))
}

fn reader(fd: OwnedFd) -> Result<Output, Error> {
    pipe::Receiver::from_owned_fd(fd).map(Output::pipe).map_err(Error::io("pipes"))
}

/// A pipe for a process. It belongs to the server's user, and a process of another user may open it again by a name such as
/// `/dev/stdout`. Only processes that have it open can.
fn process_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let (read, write) = new_pipe()?;
    rustix::fs::fchmod(&read, Mode::from_raw_mode(0o666))
        .map_err(|error| Error::io("pipe")(error.into()))?;
    Ok((read, write))
}

/// The two ends of a pipe: for reading, for writing.
fn new_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::io("pipe")(error.into()))
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::io("socket pair")(error.into()))
}

fn to_tokio(fd: OwnedFd) -> Result<UnixStream, Error> {
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.set_nonblocking(true).map_err(Error::io("socket"))?;
    UnixStream::from_std(socket).map_err(Error::io("socket"))
}

impl Master {
    /// Two more descriptors of the terminal, for reading and for writing.
    fn into_ends(self) -> Result<TerminalEnds, Error> {
        let failed = || Error::io("terminal");
        // A pipe end of tokio's is any descriptor that can be polled, read and written, which a terminal is.
        let input = pipe::Sender::from_file_unchecked(self.duplicate()?.into()).map_err(failed())?;
        let output =
            pipe::Receiver::from_file_unchecked(self.duplicate()?.into()).map_err(failed())?;
        let (input, output) = (Input::pipe(input), Output::pipe(output));
        Ok(TerminalEnds { input, output, terminal: Arc::new(self) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_may_open_the_pipe_of_a_process_again() {
        let (read, write) = process_pipe().unwrap();
        for end in [read, write] {
            assert_eq!(rustix::fs::fstat(&end).unwrap().st_mode & 0o777, 0o666);
        }
    }
}
