//! A command in a window of a session, followed through its runner's output socket.
//!
//! The output socket is between runner and server: a daemon of shed-init's that dies in between takes nothing along.

use shed_link::output_socket::{self, Frame};
use shed_link::{Spawn, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::connection::Connection;
use crate::link::{HANGUP, Link};
use crate::stream::{Control, ExitWait, Stream};
use crate::unix::pipe_pair;

/// Signals that wait for the runner.
const SIGNALS: usize = 16;
/// What is read from an output socket at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// A command that a runner will claim, or has claimed.
#[derive(Debug)]
pub struct SessionCommand(OutputSocket);

impl SessionCommand {
    /// Leaves the command for the runner that will claim it with `token`.
    pub async fn offer(link: &Link, token: String, spawn: Spawn) -> Result<Self, Error> {
        let connection = link.offer(token, spawn).await?;
        Ok(Self(OutputSocket {
            connection,
            bytes: Vec::with_capacity(output_socket::HEADER_BYTES),
        }))
    }

    /// Waits until the runner has started the command.
    pub async fn started(&mut self) -> Result<(), Error> {
        match self.0.next().await {
            Some(Frame::Started) => Ok(()),
            Some(Frame::Refused(refusal)) => Err(Error::Refused(refusal)),
            Some(Frame::Output(_) | Frame::Exit(_)) | None => {
                Err(Error::Connect("the window of the command closed before it ran".to_owned()))
            }
        }
    }

    /// The command as a stream, and the task that feeds it, which the caller spawns. The exit is reported when
    /// `before_exit` is done.
    pub fn follow(
        self,
        before_exit: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Stream, impl Future<Output = ()> + Send + 'static), Error> {
        let (copy, output) = pipe_pair()?;
        let (signals, numbers) = mpsc::channel(SIGNALS);
        let (exit, exited) = oneshot::channel();
        let task = async move {
            if let Some(status) = copy_output(self.0, copy, numbers).await {
                before_exit.await;
                // Nobody waits for it any more.
                exit.send(status).ok();
            } else {
                tracing::debug!("a runner went away without an exit");
            }
        };
        let control = Control::of_runner(signals);
        let exit = ExitWait::new(exited);
        Ok((Stream { input: None, output, errors: None, control, exit }, task))
    }
}

/// An output socket and what was read of it.
#[derive(Debug)]
struct OutputSocket {
    connection: Connection,
    bytes: Vec<u8>,
}

impl OutputSocket {
    /// The next frame; `None` at the end, or when the runner breaks the rules.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, n_bytes)) = Frame::decode(&self.bytes).ok()? {
                self.bytes.drain(..n_bytes);
                return Some(frame);
            }
            let mut buffer = vec![0; READ_BYTES];
            let n_read = self.connection.read(&mut buffer).await.ok()?;
            if n_read == 0 {
                return None;
            }
            self.bytes.extend(&buffer[..n_read]);
        }
    }
}

/// Copies output until the exit. When nobody reads any more the command gets HUP, as one without a window does.
async fn copy_output(
    mut socket: OutputSocket,
    mut copy: pipe::Sender,
    mut numbers: mpsc::Receiver<u8>,
) -> Option<Status> {
    loop {
        let frame = tokio::select! {
            frame = socket.next() => frame?,
            number = numbers.recv() => {
                let hang_up = number.is_none();
                socket.connection.write_all(&[number.unwrap_or(HANGUP)]).await.ok()?;
                if hang_up {
                    return None;
                }
                continue;
            }
        };
        match frame {
            Frame::Output(bytes) => {
                let write = copy.write_all(&bytes);
                tokio::select! {
                    written = write => written.ok()?,
                    () = numbers_closed(&mut numbers) => {
                        socket.connection.write_all(&[HANGUP]).await.ok()?;
                        return None;
                    }
                }
            }
            Frame::Exit(status) => return Some(status),
            Frame::Started | Frame::Refused(_) => return None,
        }
    }
}

/// Ends when the caller's [`Control`] is gone. Signals that come meanwhile are for a command whose output nobody takes.
async fn numbers_closed(numbers: &mut mpsc::Receiver<u8>) {
    while numbers.recv().await.is_some() {}
}
