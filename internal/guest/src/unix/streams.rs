//! Pipes, socket pairs and terminals whose descriptors are passed.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use shed_link::Conn;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::wire::broken;
use super::{ShedThread, relay, terminal};
use crate::Error;
use crate::connection::Connection;
use crate::stream::{Input, Output};
use crate::transport::{
    Ends, Helper, HelperMessages, Near, Opened, Pending, Pipes, RawMessage, Streams, TerminalEnds,
};

/// The size of a process's input pipe: twice the throughput of the default (measured).
const INPUT_PIPE_BYTES: usize = 1 << 20;

/// Makes streams on this kernel, for one shed.
#[derive(Debug)]
pub(super) struct UnixStreams {
    thread: ShedThread,
}

impl UnixStreams {
    pub(super) fn new(thread: ShedThread) -> Self {
        Self { thread }
    }
}

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
        let (mut ready, started) = oneshot::channel();
        let thread = self.thread.clone();
        self.thread.spawn(async move {
            let received = tokio::select! {
                received = receive_master(ours) => received,
                () = ready.closed() => return,
            };
            ready.send(received.and_then(|master| terminal::start(&thread, master))).ok();
        });
        Ok(opened(vec![theirs], async move { started.await.map_err(|_| no_terminal())? }))
    }

    fn connection(&self) -> Result<Opened<Connection>, Error> {
        let (ours, theirs) = socket_pair()?;
        let connection = relay::connection(&self.thread, ours)?;
        Ok(opened(vec![theirs], async move { Ok(connection) }))
    }

    fn helper(&self) -> Result<Opened<Helper>, Error> {
        let (ours, theirs) = socket_pair()?;
        let (inbox, messages) = mpsc::channel(1);
        let thread = self.thread.clone();
        self.thread.spawn(async move { receive_messages(&thread, ours, inbox).await });
        let helper = Helper::new(Box::new(UnixHelper(messages)));
        Ok(opened(vec![theirs], async move { Ok(helper) }))
    }
}

fn opened<T>(
    descriptors: super::Descriptors,
    near: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Opened<T> {
    let near: Near<T> = Box::pin(near);
    Opened { ends: Ends::new(descriptors), near }
}

/// Receives the master side of a terminal. What comes from a shed is untrusted: anything but a terminal is refused.
async fn receive_master(ours: OwnedFd) -> Result<OwnedFd, Error> {
    let mut conn = Conn::new(to_tokio(ours)?);
    let sent = conn.recv::<()>().await.ok().flatten();
    let master = sent.and_then(|((), descriptors)| descriptors.into_iter().next());
    master.filter(|fd| rustix::termios::isatty(fd)).ok_or_else(no_terminal)
}

fn no_terminal() -> Error {
    Error::io("terminal")(io::Error::other("the shed sent none"))
}

type HelperMessage = (RawMessage, Option<Connection>);

/// Passes on what a helper sends on its end of a socket pair: messages, and descriptors of sockets with them.
async fn receive_messages(
    thread: &ShedThread,
    ours: OwnedFd,
    inbox: mpsc::Sender<Result<HelperMessage, Error>>,
) {
    let (_sender, mut receiver) = match to_tokio(ours) {
        Ok(socket) => Conn::new(socket).split(),
        Err(error) => return drop(inbox.send(Err(error)).await),
    };
    while let Ok(permit) = inbox.reserve().await {
        let received = tokio::select! {
            received = receiver.recv_bytes() => received,
            () = inbox.closed() => return,
        };
        match received {
            Ok(Some((message, mut descriptors))) => {
                // One that is no connection is dropped; whoever needs it sees that it is missing.
                let connection = descriptors.pop().and_then(|fd| relay::from_shed(thread, fd).ok());
                permit.send(Ok((RawMessage::new(message), connection)));
            }
            Ok(None) => return,
            Err(error) => return permit.send(Err(broken(error))),
        }
    }
}

struct UnixHelper(mpsc::Receiver<Result<HelperMessage, Error>>);

impl HelperMessages for UnixHelper {
    fn next(&mut self) -> Pending<'_, Option<HelperMessage>> {
        Box::pin(async move { self.0.recv().await.transpose() })
    }
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
