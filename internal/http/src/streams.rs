//! Copying between a WebSocket and a process or a connection.
//!
//! Input waits when the process does not read: the socket is not read then, and TCP makes the caller wait. Output waits
//! when the caller does not read: the process's pipe fills, and the process waits. Nothing is buffered without bound, and
//! nothing is dropped.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use shed_api::stream::{ClientFrame, Exit, STDERR, STDOUT, ServerFrame, signal_number};
use shed_api::{Code, Problem};
use shed_core::{Control, Duplex, Running, n_readable, read_some};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::extract::Object;

/// How long a caller may take to say what it wants.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
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

/// How long a caller may take to hear that the stream ends; one that does not read does not hear it.
pub(crate) const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

pub(crate) type Sink = SplitSink<WebSocket, Message>;
pub(crate) type Stream = SplitStream<WebSocket>;

/// Reads the opening object.
pub(crate) async fn opening<T: DeserializeOwned>(
    state: &State,
    socket: &mut WebSocket,
) -> Result<T, Problem> {
    let stop = state.app.stopping();
    tokio::select! {
        opening = timeout(OPEN_LIMIT, first_text(socket)) => {
            let text = opening.map_err(|_| Problem::new(Code::TimedOut, "no opening message came"))??;
            let opened = serde_json::from_str::<Object<T>>(&text).map(|Object(opened)| opened);
            opened.map_err(|error| {
                Problem::new(Code::InvalidRequest, format!("the opening message: {error}"))
            })
        }
        () = stop.cancelled() => Err(Problem::new(Code::ShuttingDown, "the server is going away")),
    }
}

async fn first_text(socket: &mut WebSocket) -> Result<Utf8Bytes, Problem> {
    let invalid = |text: &str| Problem::new(Code::InvalidRequest, text);
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => {
                return Err(invalid("the first message must be the opening object, as text"));
            }
            Some(Err(error)) => return Err(invalid(&format!("the first message: {error}"))),
            None => return Err(invalid("the caller went away")),
        }
    }
}

/// Waits for what is being started, saying now and then that we are still there: a shed may take a minute to come up.
pub(crate) async fn patiently<T>(
    state: &State,
    socket: &mut WebSocket,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    let mut ping = pings(state);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ping.tick() => {
                // A caller that went away is noticed when the copying begins: what was begun is not left half done.
                socket.send(Message::Ping(Vec::new().into())).await.ok();
            }
        }
    }
}

pub(crate) fn pings(state: &State) -> Interval {
    let period = state.options.timing.ping;
    tokio::time::interval_at(Instant::now() + period, period)
}

/// Ends a little after the server began to go away: for callers that do not read and so cannot be told.
pub(crate) async fn overdue(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL_LIMIT).await;
}

/// Says one thing.
pub(crate) async fn say(socket: &mut WebSocket, frame: &ServerFrame) {
    let text = serde_json::to_string(frame).unwrap_or_default();
    // A caller that went away does not hear it.
    socket.send(Message::text(text)).await.ok();
}

/// Says what is wrong and closes.
pub(crate) async fn refuse(socket: &mut WebSocket, problem: Problem) {
    say_last(socket, &ServerFrame::Problem { problem }).await;
}

/// Says one thing and closes.
pub(crate) async fn say_last(socket: &mut WebSocket, frame: &ServerFrame) {
    say(socket, frame).await;
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
    /// What was there at the process's end and is not sent yet.
    owed: usize,
}

impl Outgoing {
    fn new(channel: u8) -> Self {
        Self { channel, buffer: Vec::new(), ended: false, owed: 0 }
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
                self.owed = 0;
                None
            }
            Ok(n_read) => {
                self.owed = self.owed.saturating_sub(n_read);
                self.buffer.truncate(n_read + 1);
                Some(Message::binary(std::mem::take(&mut self.buffer)))
            }
        }
    }
}

/// Copies a process until its end.
pub(crate) async fn copy_process(
    state: &State,
    socket: WebSocket,
    running: Running,
    until: DrainUntil,
) {
    let Running { input, mut output, mut errors, control, mut exit } = running;
    let (mut sink, stream) = socket.split();
    if send_frame(&mut sink, &ServerFrame::Started).await.is_err() {
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
            // On a busy machine all that time may be over before its own last words are read.
            let owed = out.owed > 0 || err.owed > 0;
            if let (Some(exit), true) = (&ended, closed || drain.is_over() && !owed) {
                return finish(&mut sink, Option::as_ref(exit)).await;
            }
            let waiting = Instant::now();
            let message = tokio::select! {
                message = out.read(Some(&mut output)) => message,
                message = err.read(errors.as_mut()) => message,
                exit = exit.wait(), if ended.is_none() => {
                    ended = Some(exit);
                    out.owed = n_readable(&output);
                    err.owed = errors.as_ref().map_or(0, n_readable);
                    drain.begin();
                    continue;
                }
                () = drain.quiet(), if !owed => return finish(&mut sink, ended.flatten().as_ref()).await,
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
    let parted = tokio::select! {
        ended = outbound => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a stream's caller went away");
            }
            Parted::Closed
        }
        parted = inbound => parted,
        () = overdue(&stop) => Parted::Closed,
    };
    // Whoever called went away: the process gets HUP.
    drop(control);
    parted.say(&mut sink).await;
}

/// How the caller's side of a stream ended.
#[derive(Debug)]
pub(crate) enum Parted {
    /// It closed, or it is gone.
    Closed,
    /// It sent what no WebSocket client sends, or too much at once; with the close code for that.
    Broken(u16, String),
}

impl Parted {
    pub(crate) fn from_error(error: axum::Error) -> Self {
        let inner = error.into_inner();
        let code = match inner.downcast_ref::<tungstenite::Error>() {
            Some(tungstenite::Error::Capacity(_)) => close_code::SIZE,
            Some(tungstenite::Error::Utf8(_)) => close_code::INVALID,
            Some(tungstenite::Error::Protocol(_)) | None => close_code::PROTOCOL,
            Some(_) => return Self::Closed,
        };
        Self::Broken(code, inner.to_string().chars().take(100).collect())
    }

    pub(crate) async fn say(self, sink: &mut Sink) {
        if let Self::Broken(code, reason) = self {
            let close = CloseFrame { code, reason: reason.into() };
            timeout(FAREWELL_LIMIT, sink.send(Message::Close(Some(close)))).await.ok();
        }
    }
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

pub(crate) async fn close(sink: &mut Sink) -> Result<(), axum::Error> {
    let close = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    sink.send(Message::Close(Some(close))).await
}

/// Takes what the caller sends until it goes away. Input that the process does not take holds up further input, not
/// sizes and signals, until a few messages wait.
async fn take_input(mut stream: Stream, input: Option<pipe::Sender>, control: &Control) -> Parted {
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
        while let Some(message) = stream.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => return Parted::from_error(error),
            };
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
                // Both are answered by the next read, which after a close is the last.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
            };
            if queue.send(item).await.is_err() {
                break;
            }
        }
        Parted::Closed
    };
    tokio::select! {
        parted = read => parted,
        // Ends only with the queue, and so with the reading.
        () = write => Parted::Closed,
    }
}

/// Copies a connection until both directions have ended.
pub(crate) async fn copy_connection(state: &State, socket: WebSocket, connection: Box<dyn Duplex>) {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(connection);
    let stop = state.app.stopping();
    let (say_end, mut heard_end) = oneshot::channel();
    let outbound = async {
        send_frame(&mut sink, &ServerFrame::Started).await?;
        let mut ping = pings(state);
        let mut buffer = Vec::new();
        let (mut ended, mut caller_ended) = (false, false);
        while !(ended && caller_ended) {
            buffer.resize(READ_BYTES + 1, 0);
            buffer[0] = STDOUT;
            let n_read = tokio::select! {
                n_read = read.read(&mut buffer[1..]), if !ended => n_read.unwrap_or(0),
                _ = &mut heard_end, if !caller_ended => {
                    caller_ended = true;
                    continue;
                }
                _ = ping.tick() => {
                    sink.send(Message::Ping(Vec::new().into())).await?;
                    continue;
                }
                () = stop.cancelled() => {
                    let text = "the server is going away";
                    return part(&mut sink, Problem::new(Code::ShuttingDown, text)).await;
                }
            };
            if n_read == 0 {
                ended = true;
                send_frame(&mut sink, &ServerFrame::Eof).await?;
                continue;
            }
            buffer.truncate(n_read + 1);
            sink.send(Message::binary(std::mem::take(&mut buffer))).await?;
        }
        close(&mut sink).await
    };
    let inbound = async {
        let mut say_end = Some(say_end);
        while let Some(message) = stream.next().await {
            let ends = match message {
                Err(error) => return Parted::from_error(error),
                // What comes after the end goes nowhere.
                Ok(Message::Binary(bytes)) if say_end.is_some() => {
                    write.write_all(&bytes).await.is_err()
                }
                Ok(Message::Text(text)) => {
                    matches!(serde_json::from_str(&text), Ok(ClientFrame::Eof))
                }
                Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_),
                ) => false,
            };
            if let Some(say_end) = say_end.take_if(|_| ends) {
                write.shutdown().await.ok();
                // The other direction is over, too, when nobody hears it.
                say_end.send(()).ok();
            }
        }
        Parted::Closed
    };
    let parted = tokio::select! {
        ended = outbound => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection's caller went away");
            }
            Parted::Closed
        }
        parted = inbound => parted,
        () = overdue(&stop) => Parted::Closed,
    };
    parted.say(&mut sink).await;
}
