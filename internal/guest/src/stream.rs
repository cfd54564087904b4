//! A process in a container, as a door sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use shed_api::stream::Exit;
use shed_link::Status;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::link::{HANGUP, Link};
use crate::terminal::{Terminal, TerminalMode, WindowSize};

/// A process in a container. Dropping it before the process has ended sends HUP to its process group: the caller went away.
#[derive(Debug)]
pub struct Stream {
    /// Its input; `None` where nothing the caller types may reach it. Dropping it ends the input of a process without a
    /// terminal, while output goes on.
    pub input: Option<Input>,
    /// Its output, or its terminal's.
    pub output: Output,
    /// Its standard error; `None` with a terminal.
    pub errors: Option<Output>,
    /// Size, modes and signals.
    pub control: Control,
    /// How it ends; once.
    pub exit: ExitWait,
}

/// The input of a process. A process that does not read makes the writer wait.
#[derive(Debug)]
pub struct Input(Sink);

enum Sink {
    Pipe(pipe::Sender),
    Other(Box<dyn WriteStream>),
}

/// Output of a process. A reader that does not read makes the process wait. The end of a pipe, and a terminal that nobody
/// holds any more, are both read as the end.
#[derive(Debug)]
pub struct Output(Source);

enum Source {
    Pipe(pipe::Receiver),
    Other(Box<dyn ReadStream>),
}

/// The input of a process over another transport than pipes.
pub trait WriteStream: AsyncWrite + Send + Unpin {}
impl<T: AsyncWrite + Send + Unpin> WriteStream for T {}

/// Output of a process over another transport than pipes.
pub trait ReadStream: AsyncRead + Send + Unpin {
    /// As [`Output::ready_bytes`].
    fn ready_bytes(&self) -> usize;
}

impl Input {
    /// Wraps the input of another transport.
    pub fn other(sink: Box<dyn WriteStream>) -> Self {
        Self(Sink::Other(sink))
    }

    /// Writes into a pipe, or into a terminal that can be polled and written like one.
    pub(crate) fn pipe(sender: pipe::Sender) -> Self {
        Self(Sink::Pipe(sender))
    }
}

impl Output {
    /// Wraps the output of another transport.
    pub fn other(source: Box<dyn ReadStream>) -> Self {
        Self(Source::Other(source))
    }

    /// Reads from a pipe, or from a terminal that can be polled and read like one.
    pub(crate) fn pipe(receiver: pipe::Receiver) -> Self {
        Self(Source::Pipe(receiver))
    }

    /// How many bytes have been written and not yet been read. Once the exit of the process is known this counts everything
    /// that the process itself has written, wherever it is on its way; before that it may be too low.
    pub fn ready_bytes(&self) -> usize {
        match &self.0 {
            // A descriptor that cannot tell is read until it is quiet.
            Source::Pipe(pipe) => rustix::io::ioctl_fionread(pipe)
                .map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
            Source::Other(source) => source.ready_bytes(),
        }
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Source::Pipe(pipe) => match Pin::new(pipe).poll_read(context, buffer) {
                // A terminal that no process holds any more fails with EIO; a pipe just ends.
                Poll::Ready(Err(error))
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
            Source::Other(source) => Pin::new(source).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Sink::Pipe(pipe) => Pin::new(pipe).poll_write(context, bytes),
            Sink::Other(sink) => Pin::new(sink).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Sink::Pipe(pipe) => Pin::new(pipe).poll_flush(context),
            Sink::Other(sink) => Pin::new(sink).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Sink::Pipe(pipe) => Pin::new(pipe).poll_shutdown(context),
            Sink::Other(sink) => Pin::new(sink).poll_shutdown(context),
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Pipe(_)) { "pipe" } else { "other" })
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Pipe(_)) { "pipe" } else { "other" })
    }
}

/// Size, modes and signals of a process.
#[derive(Debug)]
pub struct Control {
    signals: Signals,
    terminal: Option<Arc<dyn Terminal>>,
}

/// Where signals go.
#[derive(Debug)]
enum Signals {
    /// To a process of shed-init's.
    Process { link: Link, id: u64 },
    /// To a runner, through its output socket.
    Runner(mpsc::Sender<u8>),
}

impl Control {
    /// Of a process that shed-init started.
    pub(crate) fn of_process(link: Link, id: u64, terminal: Option<Arc<dyn Terminal>>) -> Self {
        Self { signals: Signals::Process { link, id }, terminal }
    }

    /// Of a runner, which notices by itself when its output socket closes.
    pub(crate) fn of_runner(signals: mpsc::Sender<u8>) -> Self {
        Self { signals: Signals::Runner(signals), terminal: None }
    }

    /// Sets the terminal's size. Does nothing without a terminal.
    pub fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            terminal.resize(size);
        }
    }

    /// Changes modes of the terminal. Does nothing without a terminal.
    pub fn set_modes(&self, modes: &[TerminalMode]) {
        if let (Some(terminal), false) = (&self.terminal, modes.is_empty()) {
            terminal.set_modes(modes);
        }
    }

    /// Sends a signal, by its number on Linux, to the process group.
    pub fn signal(&self, number: u8) {
        match &self.signals {
            Signals::Process { link, id } => link.signal(*id, number),
            // A runner whose queue is full has enough signals to handle.
            Signals::Runner(signals) => drop(signals.try_send(number)),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // shed-init forgets a process when it ends, so a later process with the same number does not get this.
        if let Signals::Process { link, id } = &self.signals {
            link.signal(*id, HANGUP);
        }
    }
}

/// Reports how a process ended.
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
