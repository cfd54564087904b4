//! Copying between a WebSocket and a process or a connection.
//!
//! Input waits when the process does not read: the socket is not read then, and TCP makes the caller wait. Output waits
//! when the caller does not read: the process's pipe fills, and the process waits. Nothing is buffered without bound, and
//! nothing is dropped.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use shed_api::stream::{ClientFrame, Exit, STDERR, STDOUT, ServerFrame, signal_number};
use shed_api::{Code, Problem};
use shed_core::{App, Control, Duplex, Running, read_some};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// How long a caller may take to say what it wants.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// An idle caller is asked this often whether it is there.
const PING_PERIOD: Duration = Duration::from_secs(20);
/// A process that has ended left nothing more in its pipes once they are quiet for so long.
const QUIET: Duration = Duration::from_millis(10);
/// The most time spent waiting for what the children of an ended process print.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);
/// Messages of input that wait for the process. With one being written and one being read that is 4 MiB at most.
const INPUT_MESSAGES: usize = 2;

/// When a process's stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainUntil {
    /// When it has ended and what it printed is out.
    Quiet,
    /// When its output is closed by everyone who holds it, as with sshd.
    Closed,
}

type Sink = SplitSink<WebSocket, Message>;
type Stream = SplitStream<WebSocket>;

/// Reads the opening object.
pub(crate) async fn opening<T: DeserializeOwned>(socket: &mut WebSocket) -> Result<T, Problem> {
    let invalid = |text: String| Problem::new(Code::InvalidRequest, text);
    loop {
        match timeout(OPEN_LIMIT, socket.recv()).await {
            Ok(Some(Ok(Message::Text(text)))) => {
                return serde_json::from_str(&text)
                    .map_err(|error| invalid(format!("the opening message: {error}")));
            }
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
            Ok(Some(Ok(_))) => {
                return Err(invalid(
                    "the first message must be the opening object, as text".to_owned(),
                ));
            }
            Ok(Some(Err(_)) | None) => return Err(invalid("the caller went away".to_owned())),
            Err(_) => return Err(Problem::new(Code::TimedOut, "no opening message came")),
        }
    }
}

/// Says one thing.
pub(crate) async fn say(socket: &mut WebSocket, frame: &ServerFrame) {
    let text = serde_json::to_string(frame).unwrap_or_default();
    // A caller that went away does not hear it.
    socket.send(Message::text(text)).await.ok();
}

/// Says what is wrong and closes.
pub(crate) async fn refuse(socket: &mut WebSocket, problem: Problem) {
    say(socket, &ServerFrame::Problem { problem }).await;
    let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    socket.send(Message::Close(Some(frame))).await.ok();
}

async fn send_frame(sink: &mut Sink, frame: &ServerFrame) -> Result<(), axum::Error> {
    sink.send(Message::text(serde_json::to_string(frame).unwrap_or_default())).await
}

/// Bytes with their channel in front, in one buffer that is filled in place.
struct Outgoing {
    channel: u8,
    buffer: Vec<u8>,
    ended: bool,
}

impl Outgoing {
    fn new(channel: u8) -> Self {
        Self { channel, buffer: Vec::new(), ended: false }
    }

    /// The next message; `None` at the end. Safe to drop and call again.
    async fn read(&mut self, pipe: Option<&mut pipe::Receiver>) -> Option<Message> {
        let Some(pipe) = pipe.filter(|_| !self.ended) else {
            return std::future::pending().await;
        };
        self.buffer.resize(READ_BYTES + 1, 0);
        self.buffer[0] = self.channel;
        match read_some(pipe, &mut self.buffer[1..]).await {
            Ok(0) | Err(_) => {
                self.ended = true;
                None
            }
            Ok(n_read) => {
                self.buffer.truncate(n_read + 1);
                Some(Message::binary(std::mem::take(&mut self.buffer)))
            }
        }
    }
}

/// Copies a process until its end.
pub(crate) async fn copy_process(
    app: &App,
    socket: WebSocket,
    running: Running,
    until: DrainUntil,
) {
    let Running { input, mut output, mut errors, control, mut exit } = running;
    let (mut sink, stream) = socket.split();
    if send_frame(&mut sink, &ServerFrame::Started).await.is_err() {
        return;
    }
    let stop = app.stopping();
    let inbound = take_input(stream, input, &control);
    let outbound = async {
        let (mut out, mut err) = (Outgoing::new(STDOUT), Outgoing::new(STDERR));
        let mut ended = None;
        let mut drain = Drain::new(until);
        let mut ping = tokio::time::interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
        loop {
            let closed = out.ended && (err.ended || errors.is_none());
            if let (Some(exit), true) = (&ended, closed || drain.is_over()) {
                return finish(&mut sink, Option::as_ref(exit)).await;
            }
            let waiting = Instant::now();
            let message = tokio::select! {
                message = out.read(Some(&mut output)) => message,
                message = err.read(errors.as_mut()) => message,
                exit = exit.wait(), if ended.is_none() => {
                    ended = Some(exit);
                    drain.begin();
                    continue;
                }
                () = drain.quiet() => return finish(&mut sink, ended.flatten().as_ref()).await,
                _ = ping.tick() => Some(Message::Ping(Vec::new().into())),
                () = stop.cancelled() => {
                    let text = "the server is going away; what runs in tmux goes on";
                    return part(&mut sink, Problem::new(Code::ShuttingDown, text)).await;
                }
            };
            drain.waited(waiting.elapsed());
            if let Some(message) = message {
                sink.send(message).await?;
            }
        }
    };
    tokio::select! {
        ended = outbound => if let Err(error) = ended {
            tracing::debug!(%error, "a stream's caller went away");
        },
        // Whoever called went away: the process gets HUP when `control` is dropped.
        () = inbound => {}
    }
    drop(control);
}

/// How long what was printed is waited for.
struct Drain {
    until: DrainUntil,
    left: Option<Duration>,
}

impl Drain {
    fn new(until: DrainUntil) -> Self {
        Self { until, left: None }
    }

    fn begin(&mut self) {
        if self.until == DrainUntil::Quiet {
            self.left = Some(DRAIN_LIMIT);
        }
    }

    /// Time spent waiting for the process's children counts, time spent sending does not.
    fn waited(&mut self, spent: Duration) {
        self.left = self.left.map(|left| left.saturating_sub(spent));
    }

    fn is_over(&self) -> bool {
        self.left.is_some_and(|left| left.is_zero())
    }

    async fn quiet(&self) {
        match self.left {
            Some(left) => tokio::time::sleep(left.min(QUIET)).await,
            None => std::future::pending().await,
        }
    }
}

async fn finish(sink: &mut Sink, exit: Option<&Exit>) -> Result<(), axum::Error> {
    let Some(exit) = exit else {
        let text = "the shed went away, and with it the command's status";
        return part(sink, Problem::new(Code::ShedUnreachable, text)).await;
    };
    send_frame(sink, &ServerFrame::Exit { exit: exit.clone() }).await?;
    close(sink).await
}

/// Ends a stream before its process has.
async fn part(sink: &mut Sink, problem: Problem) -> Result<(), axum::Error> {
    send_frame(sink, &ServerFrame::Problem { problem }).await?;
    close(sink).await
}

async fn close(sink: &mut Sink) -> Result<(), axum::Error> {
    let close = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    sink.send(Message::Close(Some(close))).await
}

/// Takes what the caller sends until it goes away. Input that the process does not take holds up further input, not
/// sizes and signals, until a few messages wait.
async fn take_input(mut stream: Stream, input: Option<pipe::Sender>, control: &Control) {
    let (queue, mut queued) = mpsc::channel::<Option<axum::body::Bytes>>(INPUT_MESSAGES);
    let write = async move {
        let mut input = input;
        while let Some(item) = queued.recv().await {
            match (item, input.as_mut()) {
                (Some(bytes), Some(pipe)) => {
                    if pipe.write_all(&bytes).await.is_err() {
                        // The process takes no more; what else comes is dropped, as a closed pipe drops it.
                        input = None;
                    }
                }
                (None, _) => input = None,
                // A reader's input, or that of a command that has none.
                (Some(_), None) => {}
            }
        }
    };
    let read = async move {
        while let Some(Ok(message)) = stream.next().await {
            let item = match message {
                Message::Binary(bytes) => Some(bytes),
                Message::Text(text) => match serde_json::from_str::<ClientFrame>(&text) {
                    Ok(ClientFrame::Eof) => None,
                    Ok(ClientFrame::Resize { cols, rows }) => {
                        control.resize(cols, rows);
                        continue;
                    }
                    Ok(ClientFrame::Signal { name }) => {
                        if let Some(number) = signal_number(&name) {
                            control.signal(number);
                        }
                        continue;
                    }
                    // A newer client's frame that we do not know.
                    Err(_) => continue,
                },
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => break,
            };
            if queue.send(item).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// Copies a connection until both directions have ended.
pub(crate) async fn copy_connection(app: &App, socket: WebSocket, connection: Box<dyn Duplex>) {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(connection);
    let outbound = async {
        send_frame(&mut sink, &ServerFrame::Started).await?;
        loop {
            let mut buffer = vec![0; READ_BYTES + 1];
            buffer[0] = STDOUT;
            match read.read(&mut buffer[1..]).await {
                Ok(0) | Err(_) => break,
                Ok(n_read) => buffer.truncate(n_read + 1),
            }
            sink.send(Message::binary(buffer)).await?;
        }
        send_frame(&mut sink, &ServerFrame::Eof).await?;
        Ok::<_, axum::Error>(sink)
    };
    let inbound = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Message::Text(text) => {
                    if let Ok(ClientFrame::Eof) = serde_json::from_str(&text) {
                        write.shutdown().await.ok();
                    }
                }
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) => return,
            }
        }
    };
    let stop = app.stopping();
    tokio::pin!(inbound);
    tokio::select! {
        sink = outbound => {
            // The other direction may go on: a half-closed connection.
            tokio::select! {
                () = inbound => {}
                () = stop.cancelled() => {}
            }
            if let Ok(mut sink) = sink {
                sink.close().await.ok();
            }
        }
        () = &mut inbound => {}
        () = stop.cancelled() => {}
    }
}
