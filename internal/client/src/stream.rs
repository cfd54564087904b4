//! Streams over WebSocket to a process or a connection in a shed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use serde::Serialize;
use shed_api::Problem;
use shed_api::stream::{
    AttachOpen, ClientFrame, ConsoleOpen, ExecOpen, Exit, MAX_MESSAGE_BYTES, STDERR, ServerFrame,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::dial::Duplex;
use crate::request::{SILENCE, segment};
use crate::{Client, ClientError};

type Socket = WebSocketStream<Pipe>;

/// Largest input in one message.
const MAX_INPUT_BYTES: usize = 64 << 10;

/// A stream to a process or a connection.
pub struct ProcessStream {
    /// Receives output and the exit status.
    pub reader: StreamReader,
    /// Sends input, size changes and signals.
    pub input: Input,
}

/// The receiving half of a stream.
pub struct StreamReader {
    client: Client,
    stream: SplitStream<Socket>,
    /// When the server last sent anything.
    last_heard: Instant,
    /// How long it may be silent.
    silence: Duration,
}

/// The sending half of a stream. Clones share it; messages of different clones are not interleaved.
#[derive(Clone)]
pub struct Input {
    sink: Arc<Mutex<SplitSink<Socket, Message>>>,
    /// Set when a write has failed.
    write_failed: Arc<AtomicBool>,
}

/// A connection that stays readable after a write has failed. tungstenite writes pongs while it reads; an error there would
/// hide the problem that the server sent before it closed the connection.
struct Pipe {
    duplex: Box<dyn Duplex>,
    write_failed: Arc<AtomicBool>,
}

/// A message from a process or a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The process has started, or the connection is open.
    Started,
    /// The process runs in the background, with this id.
    Detached(String),
    /// Standard output, or bytes of the terminal or the connection.
    Stdout(Bytes),
    /// The process's standard error; empty for terminals and connections.
    Stderr(Bytes),
    /// The connection's remote side sends no more bytes.
    Eof,
    /// The process exited; the last message.
    Exit(Exit),
    /// The request failed; the last message.
    Problem(Box<Problem>),
}

impl Client {
    /// `GET /api/sheds/{n}/exec/stream`.
    pub async fn exec_stream(
        &self,
        shed: &str,
        open: &ExecOpen,
    ) -> Result<ProcessStream, ClientError> {
        self.stream(&format!("/api/sheds/{}/exec/stream", segment(shed)), Some(open)).await
    }

    /// `GET …/sessions/{s}/attach`.
    pub async fn attach(
        &self,
        shed: &str,
        session: &str,
        open: &AttachOpen,
    ) -> Result<ProcessStream, ClientError> {
        let path = format!("/api/sheds/{}/sessions/{}/attach", segment(shed), segment(session));
        self.stream(&path, Some(open)).await
    }

    /// `GET /api/sheds/{n}/console`.
    pub async fn console(
        &self,
        shed: &str,
        open: &ConsoleOpen,
    ) -> Result<ProcessStream, ClientError> {
        self.stream(&format!("/api/sheds/{}/console", segment(shed)), Some(open)).await
    }

    /// `GET /api/sheds/{n}/forward/{port}`.
    pub async fn forward(&self, shed: &str, port: u16) -> Result<ProcessStream, ClientError> {
        self.stream(&format!("/api/sheds/{}/forward/{port}", segment(shed)), None::<&()>).await
    }

    /// `GET /api/sheds/{n}/lend/{id}`: the connection on which a clone asks for credentials.
    pub async fn credential_stream(
        &self,
        shed: &str,
        id: &str,
    ) -> Result<ProcessStream, ClientError> {
        let path = format!("/api/sheds/{}/lend/{}", segment(shed), segment(id));
        self.stream(&path, None::<&()>).await
    }

    async fn stream<O: Serialize>(
        &self,
        path: &str,
        open: Option<&O>,
    ) -> Result<ProcessStream, ClientError> {
        let pipe = Pipe::new(self.dial().await?);
        let mut request = hyper::Request::builder()
            .uri(format!("ws://{}{path}", self.address.authority()))
            .header(HOST, self.address.authority())
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(()).map_err(|error| self.protocol(error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let upgraded =
            tokio_tungstenite::client_async_with_config(request, pipe, Some(config)).await;
        let (socket, _) = upgraded.map_err(|error| self.refused(error))?;
        let stream = self.on_socket(socket);
        if let Some(open) = open {
            let text = String::from_utf8_lossy(&self.encode(open)?).into_owned();
            let sent = stream.input.sink.lock().await.send(Message::text(text)).await;
            sent.map_err(|error| self.broken(&error))?;
        }
        Ok(stream)
    }

    fn on_socket(&self, socket: Socket) -> ProcessStream {
        let write_failed = socket.get_ref().write_failed.clone();
        let (sink, stream) = socket.split();
        let (client, last_heard) = (self.clone(), Instant::now());
        let reader = StreamReader { client, stream, last_heard, silence: SILENCE };
        ProcessStream { reader, input: Input { sink: Arc::new(Mutex::new(sink)), write_failed } }
    }

    /// The error for a refused upgrade: the server's problem if it sent one.
    fn refused(&self, error: WsError) -> ClientError {
        match error {
            WsError::Http(answer) => {
                let status = answer.status();
                let body = answer.into_body().unwrap_or_default();
                match serde_json::from_slice::<Problem>(&body) {
                    Ok(problem) => ClientError::Problem(Box::new(problem)),
                    Err(_) => self.protocol(format!("status {status} without a problem document")),
                }
            }
            error => ClientError::Unreachable {
                address: self.address.to_string(),
                why: error.to_string(),
            },
        }
    }

    /// The error for a lost connection.
    fn broken(&self, error: &WsError) -> ClientError {
        ClientError::Lost { address: self.address.to_string(), why: error.to_string() }
    }
}

impl StreamReader {
    /// When the server last sent anything, a ping included.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// The next message. Fails when the connection ends before the last message, or when the server was silent for 2.5 times
    /// the interval of its pings; for 50 seconds if it does not say how often it sends them. Cancel safe.
    pub async fn next(&mut self) -> Result<Frame, ClientError> {
        loop {
            // `timeout_at` polls the stream first, so messages that arrived before the deadline are read after it.
            let next = timeout_at(self.last_heard + self.silence, self.stream.next()).await;
            let Ok(next) = next else {
                return Err(self.client.silent_for(self.silence));
            };
            if matches!(next, Some(Ok(_))) {
                self.last_heard = Instant::now();
            }
            let message = match next {
                None | Some(Ok(Message::Close(_))) => {
                    return Err(self.client.lost_because("closed by the server"));
                }
                Some(Err(error)) => return Err(self.client.broken(&error)),
                Some(Ok(message)) => message,
            };
            match message {
                Message::Binary(bytes) if !bytes.is_empty() => {
                    let rest = bytes.slice(1..);
                    return Ok(if bytes[0] == STDERR {
                        Frame::Stderr(rest)
                    } else {
                        Frame::Stdout(rest)
                    });
                }
                Message::Text(text) => {
                    // Unknown messages of a newer server are skipped.
                    if let Ok(frame) = serde_json::from_str::<ServerFrame>(&text) {
                        if let ServerFrame::Started { ping_ms: Some(interval) } = frame {
                            self.silence = Duration::from_millis(interval.saturating_mul(5) / 2);
                        }
                        return Ok(frame.into());
                    }
                }
                Message::Binary(_)
                | Message::Ping(_)
                | Message::Pong(_)
                | Message::Frame(_)
                | Message::Close(_) => {}
            }
        }
    }
}

impl From<ServerFrame> for Frame {
    fn from(frame: ServerFrame) -> Self {
        match frame {
            ServerFrame::Started { .. } => Self::Started,
            ServerFrame::Detached { id } => Self::Detached(id),
            ServerFrame::Eof => Self::Eof,
            ServerFrame::Exit { exit } => Self::Exit(exit),
            ServerFrame::Problem { problem } => Self::Problem(Box::new(problem)),
        }
    }
}

impl Input {
    /// Sends bytes. Returns false when the connection is lost; the reader reports why.
    pub async fn send(&self, bytes: Bytes) -> bool {
        let mut rest = bytes;
        let mut sink = self.sink.lock().await;
        while !rest.is_empty() {
            let now = rest.split_to(rest.len().min(MAX_INPUT_BYTES));
            if sink.send(Message::Binary(now)).await.is_err() || self.has_failed() {
                return false;
            }
        }
        true
    }

    /// Closes the input.
    pub async fn eof(&self) -> bool {
        self.frame(&ClientFrame::Eof).await
    }

    /// Sets the size of the terminal.
    pub async fn resize(&self, cols: u16, rows: u16) -> bool {
        self.frame(&ClientFrame::Resize { cols, rows, x_pixels: 0, y_pixels: 0 }).await
    }

    /// Sends a signal to the process group; `name` is without `SIG`.
    pub async fn signal(&self, name: &str) -> bool {
        self.frame(&ClientFrame::Signal { name: name.to_owned() }).await
    }

    /// Closes the stream.
    pub async fn close(&self) {
        // Fails only when it is closed already.
        self.sink.lock().await.close().await.ok();
    }

    async fn frame(&self, frame: &ClientFrame) -> bool {
        let text = serde_json::to_string(frame).unwrap_or_default();
        self.sink.lock().await.send(Message::text(text)).await.is_ok() && !self.has_failed()
    }

    fn has_failed(&self) -> bool {
        self.write_failed.load(Ordering::Relaxed)
    }
}

impl Pipe {
    fn new(duplex: Box<dyn Duplex>) -> Self {
        Self { duplex, write_failed: Arc::default() }
    }

    /// The result of a write. A failed one is recorded and reported as complete.
    fn ignore_failure<T>(&self, written: Poll<io::Result<T>>, whole: T) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.write_failed.store(true, Ordering::Relaxed);
                Poll::Ready(Ok(whole))
            }
            written => written,
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.duplex).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.duplex).poll_write(cx, bytes);
        self.ignore_failure(written, bytes.len())
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.duplex).poll_flush(cx);
        self.ignore_failure(flushed, ())
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.duplex).poll_shutdown(cx);
        self.ignore_failure(shut, ())
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::Address;

    /// A stream and the server's end of it, without a server.
    async fn pair() -> (ProcessStream, WebSocketStream<tokio::io::DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let ours = Pipe::new(Box::new(ours));
        let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        (Client::new(Address::Unix("/s".into())).on_socket(socket), server)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_the_connection() {
        let (mut stream, _server) = pair().await;
        let start = Instant::now();
        let ended = stream.reader.next().await;
        assert!(matches!(ended, Err(ClientError::Lost { .. })), "{ended:?}");
        assert_eq!(start.elapsed(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_pings_more_often_is_missed_earlier() {
        let (mut stream, mut server) = pair().await;
        server.send(Message::text(r#"{"type":"started","ping_ms":5000}"#)).await.unwrap();
        assert_eq!(stream.reader.next().await.unwrap(), Frame::Started);
        let start = Instant::now();
        let ended = stream.reader.next().await.unwrap_err().to_string();
        assert!(ended.contains("no answer for 12 seconds"), "{ended}");
        assert_eq!(start.elapsed(), Duration::from_millis(12_500));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_measured_across_cancelled_reads() {
        let (mut stream, _server) = pair().await;
        let start = Instant::now();
        // Input from the keyboard cancels a read like this.
        let second = Duration::from_secs(1);
        let ended = loop {
            if let Ok(ended) = tokio::time::timeout(second, stream.reader.next()).await {
                break ended;
            }
        };
        assert!(matches!(ended, Err(ClientError::Lost { .. })), "{ended:?}");
        assert!(start.elapsed() <= SILENCE + second);
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_keep_the_connection() {
        let (mut stream, mut server) = pair().await;
        let serve = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                server.send(Message::Ping(Bytes::new())).await.unwrap();
            }
            server.send(Message::binary(vec![1, b'x'])).await.unwrap();
        };
        let (frame, ()) = tokio::join!(stream.reader.next(), serve);
        assert_eq!(frame.unwrap(), Frame::Stdout(Bytes::from_static(b"x")));
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_arrived_before_the_deadline_are_read() {
        let (mut stream, mut server) = pair().await;
        server.send(Message::binary(vec![STDERR, b'x'])).await.unwrap();
        tokio::time::sleep(SILENCE * 10).await;
        assert_eq!(stream.reader.next().await.unwrap(), Frame::Stderr(Bytes::from_static(b"x")));
    }

    /// The server sends a ping and a problem and closes the connection before the pong can be written.
    #[tokio::test(start_paused = true)]
    async fn a_problem_is_read_although_writing_fails() {
        let (mut stream, mut server) = pair().await;
        let problem = Problem::new(shed_api::Code::ShuttingDown, "going");
        let frame = ServerFrame::Problem { problem: problem.clone() };
        server.send(Message::Ping(Bytes::new())).await.unwrap();
        server.send(Message::text(serde_json::to_string(&frame).unwrap())).await.unwrap();
        drop(server);
        assert_eq!(stream.reader.next().await.unwrap(), Frame::Problem(Box::new(problem)));
        assert!(!stream.input.send(Bytes::from_static(b"x")).await);
        let ended = stream.reader.next().await;
        assert!(matches!(ended, Err(ClientError::Lost { .. })), "{ended:?}");
    }
}
