//! WebSocket streams: opening, pings and closing. `process` and `connection` copy the bytes.
//!
//! Back-pressure works in both directions. When a process does not read its input, the socket is not read, and TCP makes the
//! caller wait. When the caller does not read, the process's pipe fills, and the process waits. Buffers are bounded, and
//! nothing is dropped.

mod connection;
mod process;

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::SinkExt as _;
use futures_util::stream::{SplitSink, SplitStream};
use serde::de::DeserializeOwned;
use shed_api::stream::ServerFrame;
use shed_api::{Code, Problem};
use tokio::time::{Instant, Interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::extract::Object;

pub(crate) use connection::copy_connection;
pub(crate) use process::{DrainUntil, copy_process};

/// How long a caller may take to send the opening message.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// Size of a read from a process or connection, in bytes.
const READ_BYTES: usize = 64 << 10;
/// How long the last message and the close frame may take. A caller that does not read within it does not get them.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(1);

pub(crate) type Sink = SplitSink<WebSocket, Message>;
pub(crate) type Stream = SplitStream<WebSocket>;

/// Reads the opening object of a stream.
pub(crate) async fn opening<T: DeserializeOwned>(
    state: &State,
    socket: &mut WebSocket,
) -> Result<T, Problem> {
    let stop = state.app.stopping();
    tokio::select! {
        opening = timeout(OPEN_LIMIT, first_text(socket)) => {
            let text = opening.map_err(|_| Problem::new(Code::TimedOut, "no opening message arrived"))??;
            let opened = serde_json::from_str::<Object<T>>(&text).map(|Object(opened)| opened);
            opened.map_err(|error| {
                Problem::new(Code::InvalidRequest, format!("invalid opening message: {error}"))
            })
        }
        () = stop.cancelled() => Err(shutting_down("the server is shutting down")),
    }
}

fn shutting_down(detail: &str) -> Problem {
    Problem::new(Code::ShuttingDown, detail)
}

async fn first_text(socket: &mut WebSocket) -> Result<Utf8Bytes, Problem> {
    let invalid = |text: &str| Problem::new(Code::InvalidRequest, text);
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => {
                return Err(invalid("invalid first message; expected the opening object as text"));
            }
            Some(Err(error)) => return Err(invalid(&format!("invalid first message: {error}"))),
            None => return Err(invalid("the caller closed the stream")),
        }
    }
}

/// Waits for `work` and sends pings meanwhile: a shed may take a minute to start.
pub(crate) async fn with_pings<T>(
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
                // A failure is ignored: work that has begun is completed, and copying then ends at once.
                socket.send(Message::Ping(Vec::new().into())).await.ok();
            }
        }
    }
}

pub(crate) fn pings(state: &State) -> Interval {
    let period = state.options.timing.ping;
    tokio::time::interval_at(Instant::now() + period, period)
}

/// The frame that begins a stream.
fn started(state: &State) -> ServerFrame {
    let interval = state.options.timing.ping.as_millis();
    ServerFrame::Started { ping_ms: u64::try_from(interval).ok() }
}

/// Returns when the server began to shut down and [`CLOSE_GRACE`] has passed, for callers that do not read.
pub(crate) async fn close_grace_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(CLOSE_GRACE).await;
}

/// Sends a problem and closes the stream.
pub(crate) async fn refuse(socket: &mut WebSocket, problem: Problem) {
    send_last(socket, &ServerFrame::Problem { problem }).await;
}

/// Sends a last frame and closes the stream. Failures are ignored: the caller may be gone.
pub(crate) async fn send_last(socket: &mut WebSocket, frame: &ServerFrame) {
    socket.send(text(frame)).await.ok();
    socket.send(close_frame(close_code::NORMAL, "")).await.ok();
}

fn text(frame: &ServerFrame) -> Message {
    Message::text(serde_json::to_string(frame).unwrap_or_default())
}

fn close_frame(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

async fn send_frame(sink: &mut Sink, frame: &ServerFrame) -> Result<(), axum::Error> {
    sink.send(text(frame)).await
}

/// Sends a problem and closes the stream.
async fn close_with(sink: &mut Sink, problem: Problem) -> Result<(), axum::Error> {
    send_frame(sink, &ServerFrame::Problem { problem }).await?;
    close(sink).await
}

pub(crate) async fn close(sink: &mut Sink) -> Result<(), axum::Error> {
    sink.send(close_frame(close_code::NORMAL, "")).await
}

/// How the caller's side of a stream ended.
#[derive(Debug)]
pub(crate) enum CallerEnd {
    /// It closed the stream, or the connection was lost.
    Closed,
    /// It violated the WebSocket protocol or a size limit; with the close code and reason to send.
    Broken(u16, String),
}

impl CallerEnd {
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

    /// Sends the close frame for a broken stream.
    pub(crate) async fn close(self, sink: &mut Sink) {
        if let Self::Broken(code, reason) = self {
            timeout(CLOSE_GRACE, sink.send(close_frame(code, &reason))).await.ok();
        }
    }
}
