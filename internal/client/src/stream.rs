//! Streams over WebSocket: a process, or a connection, at the other end.

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
use crate::request::segment;
use crate::{Client, ClientError};

/// The server says something every 20 seconds, if only that it is there. After so much silence it is not.
pub(crate) const SILENCE: Duration = Duration::from_secs(50);

type Socket = WebSocketStream<Pipe>;

/// The largest piece of input in one message.
const INPUT_BYTES: usize = 64 << 10;

/// A process or a connection at the other end.
pub struct ProcessStream {
    /// What comes from it.
    pub reader: StreamReader,
    /// What goes to it.
    pub input: Input,
}

/// What comes from the other end.
pub struct StreamReader {
    client: Client,
    stream: SplitStream<Socket>,
    /// When the server last said something.
    heard: Instant,
}

/// What goes to the other end. Clones go to the same; messages are whole.
#[derive(Clone)]
pub struct Input {
    sink: Arc<Mutex<SplitSink<Socket, Message>>>,
    /// Set when a write has failed.
    gone: Arc<AtomicBool>,
}

/// A connection that can still be read when writing to it has failed. tungstenite writes pongs while it reads; a failure there
/// would hide the problem that the server sent before it left.
struct Pipe {
    duplex: Box<dyn Duplex>,
    gone: Arc<AtomicBool>,
}

/// One message of the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// It is there.
    Started,
    /// It goes on by itself.
    Detached(String),
    /// Output, or bytes of the terminal or connection.
    Stdout(Bytes),
    /// Errors.
    Stderr(Bytes),
    /// The connection's other side will send no more.
    Eof,
    /// It ended; the last one.
    Exit(Exit),
    /// It failed; the last one.
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

    /// `GET /api/sheds/{n}/lend/{id}`.
    pub async fn lend(&self, shed: &str, id: &str) -> Result<ProcessStream, ClientError> {
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
        let gone = socket.get_ref().gone.clone();
        let (sink, stream) = socket.split();
        let reader = StreamReader { client: self.clone(), stream, heard: Instant::now() };
        ProcessStream { reader, input: Input { sink: Arc::new(Mutex::new(sink)), gone } }
    }

    /// The server's problem, if that is what it answered instead of an upgrade.
    fn refused(&self, error: WsError) -> ClientError {
        match error {
            WsError::Http(answer) => {
                let status = answer.status();
                let body = answer.into_body().unwrap_or_default();
                match serde_json::from_slice::<Problem>(&body) {
                    Ok(problem) => ClientError::Problem(Box::new(problem)),
                    Err(_) => self.protocol(format!("status {status} without a problem")),
                }
            }
            error => ClientError::Unreachable {
                address: self.address.to_string(),
                why: error.to_string(),
            },
        }
    }

    fn broken(&self, error: &WsError) -> ClientError {
        ClientError::Lost { address: self.address.to_string(), why: error.to_string() }
    }
}

impl StreamReader {
    /// The next message; an error when the connection ends without a last one, or when the server is silent for so long
    /// that it must be gone. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Frame, ClientError> {
        loop {
            // What has come already is read first, however long nobody asked for it.
            let next = timeout_at(self.heard + SILENCE, self.stream.next()).await;
            self.heard = Instant::now();
            let Ok(next) = next else {
                let address = self.client.address.to_string();
                return Err(ClientError::Lost { address, why: "it is silent".to_owned() });
            };
            let message = match next {
                None | Some(Ok(Message::Close(_))) => {
                    let address = self.client.address.to_string();
                    return Err(ClientError::Lost {
                        address,
                        why: "the server closed it".to_owned(),
                    });
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
                    // A frame of a newer server that we do not know is skipped.
                    if let Ok(frame) = serde_json::from_str::<ServerFrame>(&text) {
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
            ServerFrame::Started => Self::Started,
            ServerFrame::Detached { id } => Self::Detached(id),
            ServerFrame::Eof => Self::Eof,
            ServerFrame::Exit { exit } => Self::Exit(exit),
            ServerFrame::Problem { problem } => Self::Problem(Box::new(problem)),
        }
    }
}

impl Input {
    /// Sends bytes. False when the other end is gone; the reader tells why.
    pub async fn send(&self, bytes: Bytes) -> bool {
        let mut rest = bytes;
        let mut sink = self.sink.lock().await;
        while !rest.is_empty() {
            let now = rest.split_to(rest.len().min(INPUT_BYTES));
            if sink.send(Message::Binary(now)).await.is_err() || self.is_gone() {
                return false;
            }
        }
        true
    }

    /// No more input.
    pub async fn eof(&self) -> bool {
        self.frame(&ClientFrame::Eof).await
    }

    /// The terminal's new size.
    pub async fn resize(&self, cols: u16, rows: u16) -> bool {
        self.frame(&ClientFrame::Resize { cols, rows }).await
    }

    /// A signal for the process group, by name without `SIG`.
    pub async fn signal(&self, name: &str) -> bool {
        self.frame(&ClientFrame::Signal { name: name.to_owned() }).await
    }

    /// Ends the stream from this side.
    pub async fn close(&self) {
        // Closed already when this fails.
        self.sink.lock().await.close().await.ok();
    }

    async fn frame(&self, frame: &ClientFrame) -> bool {
        let text = serde_json::to_string(frame).unwrap_or_default();
        self.sink.lock().await.send(Message::text(text)).await.is_ok() && !self.is_gone()
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

impl Pipe {
    fn new(duplex: Box<dyn Duplex>) -> Self {
        Self { duplex, gone: Arc::default() }
    }

    /// What a write came to. One that failed counts as done, and so does every later one.
    fn forgive<T>(&self, written: Poll<io::Result<T>>, whole: T) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.gone.store(true, Ordering::Relaxed);
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
        self.forgive(written, bytes.len())
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.duplex).poll_flush(cx);
        self.forgive(flushed, ())
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.duplex).poll_shutdown(cx);
        self.forgive(shut, ())
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::Address;

    /// A stream and the server's end of it, without a server. The clock stands still but for what waits.
    async fn pair() -> (ProcessStream, WebSocketStream<tokio::io::DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let ours = Pipe::new(Box::new(ours));
        let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        (Client::new(Address::Unix("/s".into())).on_socket(socket), server)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_lost() {
        let (mut stream, _server) = pair().await;
        let start = Instant::now();
        let ended = stream.reader.next().await;
        assert!(matches!(ended, Err(ClientError::Lost { .. })), "{ended:?}");
        assert_eq!(start.elapsed(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_across_calls_that_were_dropped() {
        let (mut stream, _server) = pair().await;
        let start = Instant::now();
        // As somebody who types does it.
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
    async fn a_server_that_asks_now_and_then_is_there() {
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
    async fn what_came_while_nobody_read_is_read() {
        let (mut stream, mut server) = pair().await;
        server.send(Message::binary(vec![STDERR, b'x'])).await.unwrap();
        tokio::time::sleep(SILENCE * 10).await;
        assert_eq!(stream.reader.next().await.unwrap(), Frame::Stderr(Bytes::from_static(b"x")));
    }

    /// The server asks, says why it leaves, and is gone before the answer to its question can be written.
    #[tokio::test(start_paused = true)]
    async fn a_problem_is_read_from_a_connection_that_nobody_reads_any_more() {
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
