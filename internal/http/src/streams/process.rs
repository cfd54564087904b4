//! Copies between a WebSocket and a process.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use shed_api::stream::{ClientFrame, Exit, STDERR, STDOUT, ServerFrame, signal_number};
use shed_api::{Code, Problem};
use shed_core::{Control, Input, OUTPUT_WAIT, Output, Stream as ProcessStream, WindowSize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{
    CallerEnd, READ_BYTES, Sink, Stream, close, close_grace_over, close_with, pings, send_frame,
    shutting_down, started,
};
use crate::State;

/// After a process has ended, its terminal is considered empty when it was quiet for this long.
const QUIET: Duration = Duration::from_millis(10);
/// The longest time spent waiting for output on the terminal of an ended process.
const TERMINAL_DRAIN: Duration = Duration::from_millis(100);
/// Queued messages of input. With one being written and one being read, that is at most 4 MiB.
const INPUT_MESSAGES: usize = 2;

/// When the stream of a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainUntil {
    /// When the process has ended and its terminal is quiet. What is left in the background of a shell keeps the terminal.
    Quiet,
    /// When the process has ended and its output has, or [`OUTPUT_WAIT`] is over.
    Ended,
    /// When all processes that hold its output have closed it, as with sshd.
    Closed,
}

/// Copies the streams of a process until it ends.
pub(crate) async fn copy_process(
    state: &State,
    socket: WebSocket,
    process: ProcessStream,
    until: DrainUntil,
) {
    let ProcessStream { input, mut output, mut errors, control, mut exit } = process;
    let (mut sink, stream) = socket.split();
    if send_frame(&mut sink, &started(state)).await.is_err() {
        return;
    }
    let stop = state.app.stopping();
    let inbound = take_input(stream, input, &control);
    let outbound = async {
        let (mut out, mut err) = (Outgoing::new(STDOUT), Outgoing::new(STDERR));
        let mut ended = None;
        let mut drain = Drain::new(until);
        let mut ping = pings(state);
        loop {
            let closed = out.ended && (err.ended || errors.is_none());
            // On a busy machine the time may be over before the process's own output was read.
            let unread = out.unread > 0 || err.unread > 0;
            if let (Some(exit), true) = (&ended, closed || drain.is_over() && !unread) {
                return finish(&mut sink, Option::as_ref(exit)).await;
            }
            let waiting = Instant::now();
            let message = tokio::select! {
                message = out.read(Some(&mut output)) => message,
                message = err.read(errors.as_mut()) => message,
                exit = exit.wait(), if ended.is_none() => {
                    ended = Some(exit);
                    out.unread = output.ready_bytes();
                    err.unread = errors.as_ref().map_or(0, Output::ready_bytes);
                    drain.begin();
                    continue;
                }
                () = drain.quiet(), if !unread => return finish(&mut sink, ended.flatten().as_ref()).await,
                _ = ping.tick() => Some(Message::Ping(Vec::new().into())),
                () = stop.cancelled() => {
                    let text = "the server is shutting down; processes in tmux continue";
                    return close_with(&mut sink, shutting_down(text)).await;
                }
            };
            drain.waited(waiting.elapsed());
            if let Some(message) = message {
                sink.send(message).await?;
            }
        }
    };
    let ended = tokio::select! {
        ended = outbound => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a stream's caller disconnected");
            }
            CallerEnd::Closed
        }
        ended = inbound => ended,
        () = close_grace_over(&stop) => CallerEnd::Closed,
    };
    // A process that still runs gets HUP.
    drop(control);
    ended.close(&mut sink).await;
}

async fn finish(sink: &mut Sink, exit: Option<&Exit>) -> Result<(), axum::Error> {
    let Some(exit) = exit else {
        let text = "the connection to the shed was lost; exit status unknown";
        return close_with(sink, Problem::new(Code::ShedUnreachable, text)).await;
    };
    send_frame(sink, &ServerFrame::Exit { exit: exit.clone() }).await?;
    close(sink).await
}

/// Time left to wait for output after the process has ended.
struct Drain {
    until: DrainUntil,
    /// `None` while the process runs, and if its output is read until it is closed.
    left: Option<Duration>,
}

impl Drain {
    fn new(until: DrainUntil) -> Self {
        Self { until, left: None }
    }

    fn begin(&mut self) {
        self.left = match self.until {
            DrainUntil::Quiet => Some(TERMINAL_DRAIN),
            DrainUntil::Ended => Some(OUTPUT_WAIT),
            DrainUntil::Closed => None,
        };
    }

    /// Subtracts time spent waiting for output. Time spent sending does not count.
    fn waited(&mut self, spent: Duration) {
        self.left = self.left.map(|left| left.saturating_sub(spent));
    }

    fn is_over(&self) -> bool {
        self.left.is_some_and(|left| left.is_zero())
    }

    async fn quiet(&self) {
        match self.left {
            Some(left) if self.until == DrainUntil::Quiet => {
                tokio::time::sleep(left.min(QUIET)).await;
            }
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    }
}

/// One output stream of a process. A message is the channel's byte and the data, read in place into one buffer.
struct Outgoing {
    channel: u8,
    buffer: Vec<u8>,
    ended: bool,
    /// Bytes that were in the pipe when the process ended and have not been read yet.
    unread: usize,
}

impl Outgoing {
    fn new(channel: u8) -> Self {
        Self { channel, buffer: Vec::new(), ended: false, unread: 0 }
    }

    /// The next message; `None` at the end. Cancellation-safe.
    async fn read(&mut self, output: Option<&mut Output>) -> Option<Message> {
        let Some(output) = output.filter(|_| !self.ended) else {
            return std::future::pending().await;
        };
        self.buffer.resize(READ_BYTES + 1, 0);
        self.buffer[0] = self.channel;
        match output.read(&mut self.buffer[1..]).await {
            Ok(0) | Err(_) => {
                self.ended = true;
                self.unread = 0;
                None
            }
            Ok(n_read) => {
                self.unread = self.unread.saturating_sub(n_read);
                self.buffer.truncate(n_read + 1);
                Some(Message::binary(std::mem::take(&mut self.buffer)))
            }
        }
    }
}

/// Passes on the caller's messages until it disconnects. Input that the process does not read delays further input, but not
/// sizes and signals, until the queue is full.
async fn take_input(mut stream: Stream, input: Option<Input>, control: &Control) -> CallerEnd {
    let (queue, mut queued) = mpsc::channel::<Option<axum::body::Bytes>>(INPUT_MESSAGES);
    let write = async move {
        let mut input = input;
        while let Some(item) = queued.recv().await {
            match (item, input.as_mut()) {
                (Some(bytes), Some(pipe)) => {
                    if pipe.write_all(&bytes).await.is_err() {
                        // The process has closed its input; further input is dropped.
                        input = None;
                    }
                }
                (None, _) => input = None,
                // The caller is read-only, or the command has no input.
                (Some(_), None) => {}
            }
        }
    };
    let read = async move {
        while let Some(message) = stream.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => return CallerEnd::from_error(error),
            };
            let item = match message {
                Message::Binary(bytes) => Some(bytes),
                Message::Text(text) => match serde_json::from_str::<ClientFrame>(&text) {
                    Ok(ClientFrame::Eof) => None,
                    Ok(ClientFrame::Resize { cols, rows, x_pixels, y_pixels }) => {
                        control.resize(WindowSize { cols, rows, x_pixels, y_pixels });
                        continue;
                    }
                    Ok(ClientFrame::Signal { name }) => {
                        if let Some(number) = signal_number(&name) {
                            control.signal(number);
                        }
                        continue;
                    }
                    // An unknown frame of a newer client is ignored.
                    Err(_) => continue,
                },
                // The next read answers pings and closes; after a close it is the last.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
            };
            if queue.send(item).await.is_err() {
                break;
            }
        }
        CallerEnd::Closed
    };
    tokio::select! {
        ended = read => ended,
        // Ends only when `read` drops the queue.
        () = write => CallerEnd::Closed,
    }
}
