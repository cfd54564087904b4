//! The server's ends of streams over TCP.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use serde_json::Value;
use shed_guest::{
    Connection, Ends, Error, Helper, HelperMessages, Input, Opened, Output, Pending, Pipes,
    RawMessage, ReadStream, Streams, Terminal, TerminalEnds, TerminalMode, WindowSize,
};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::frames::{FarEnds, Frames, FromHelper, ToBridge, frame};
use super::{DIAL_LIMIT, Expected, lock, new_token};

/// Opens streams that a bridge dials.
#[derive(Debug)]
pub(super) struct TcpStreams {
    expected: Arc<Expected>,
    frames: mpsc::Sender<Vec<u8>>,
    /// By token: what the process of a stream had written when it ended.
    written: Mutex<HashMap<String, Arc<AtomicU64>>>,
}

/// A stream that will be dialled. Not any more when it is dropped.
struct Dialled {
    expected: Arc<Expected>,
    token: String,
    socket: oneshot::Receiver<TcpStream>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        lock(&self.expected.streams).remove(&self.token);
    }
}

impl Dialled {
    fn new(expected: &Arc<Expected>) -> Self {
        let (sender, socket) = oneshot::channel();
        let token = new_token();
        lock(&expected.streams).insert(token.clone(), sender);
        Self { expected: Arc::clone(expected), token, socket }
    }

    /// Waits for the bridge. Safe to drop and call again.
    async fn socket(&mut self) -> Result<TcpStream, Error> {
        let late = || Error::TimedOut("a stream was not dialled in time".to_owned());
        let lost = |_| Error::Connect("a stream was not dialled".to_owned());
        tokio::time::timeout(DIAL_LIMIT, &mut self.socket).await.map_err(|_| late())?.map_err(lost)
    }
}

impl TcpStreams {
    pub(super) fn new(expected: Arc<Expected>, frames: mpsc::Sender<Vec<u8>>) -> Self {
        Self { expected, frames, written: Mutex::default() }
    }

    /// The process of these streams has ended.
    pub(super) fn announce(&self, written: HashMap<String, u64>) {
        for (token, n_bytes) in written {
            if let Some(stream) = lock(&self.written).remove(&token) {
                stream.store(n_bytes, Ordering::Release);
            }
        }
    }

    fn expect(&self) -> Dialled {
        Dialled::new(&self.expected)
    }

    fn expect_output(&self) -> (Dialled, Arc<AtomicU64>) {
        let (dialled, written) = (self.expect(), Arc::<AtomicU64>::default());
        lock(&self.written).insert(dialled.token.clone(), Arc::clone(&written));
        (dialled, written)
    }
}

fn opened<T>(
    ends: FarEnds,
    near: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Opened<T> {
    Opened { ends: Ends::new(ends), near: Box::pin(near) }
}

impl Streams for TcpStreams {
    fn pipes(&self) -> Result<Opened<Pipes>, Error> {
        let mut input = self.expect();
        let (mut output, output_written) = self.expect_output();
        let (mut errors, errors_written) = self.expect_output();
        let tokens = [&input, &output, &errors].map(|dialled| dialled.token.clone());
        Ok(opened(FarEnds::Pipes(tokens), async move {
            let input = Input::other(Box::new(input.socket().await?));
            let output = whole_output(output.socket().await?, output_written);
            let errors = whole_output(errors.socket().await?, errors_written);
            Ok(Pipes { input, output, errors })
        }))
    }

    fn terminal(&self) -> Result<Opened<TerminalEnds>, Error> {
        let (mut dialled, written) = self.expect_output();
        let (frames, token) = (self.frames.clone(), dialled.token.clone());
        Ok(opened(FarEnds::Terminal(token.clone()), async move {
            let (read, write) = dialled.socket().await?.into_split();
            let output = TcpOutput { read, _write: None, n_read: 0, written };
            Ok(TerminalEnds {
                input: Input::other(Box::new(write)),
                output: Output::other(Box::new(output)),
                terminal: Arc::new(TcpTerminal { frames, token }),
            })
        }))
    }

    fn connection(&self) -> Result<Opened<Connection>, Error> {
        let mut dialled = self.expect();
        Ok(opened(FarEnds::Connection(dialled.token.clone()), async move {
            dialled.socket().await.map(Connection::from)
        }))
    }

    fn helper(&self) -> Result<Opened<Helper>, Error> {
        let mut dialled = self.expect();
        let expected = Arc::clone(&self.expected);
        Ok(opened(FarEnds::Helper(dialled.token.clone()), async move {
            let frames = Frames::new(dialled.socket().await?);
            Ok(Helper::new(Box::new(TcpHelper { frames, expected, waiting: None })))
        }))
    }
}

fn whole_output(socket: TcpStream, written: Arc<AtomicU64>) -> Output {
    let (read, write) = socket.into_split();
    Output::other(Box::new(TcpOutput { read, _write: Some(write), n_read: 0, written }))
}

/// Output of a process. The bridge says at the process's end how much it has written, because that may still be on its way.
struct TcpOutput {
    read: OwnedReadHalf,
    /// Held so that the connection is closed with the output, and not before.
    _write: Option<OwnedWriteHalf>,
    n_read: u64,
    written: Arc<AtomicU64>,
}

impl AsyncRead for TcpOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.read).poll_read(context, buffer))?;
        self.n_read += (buffer.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl ReadStream for TcpOutput {
    fn ready_bytes(&self) -> usize {
        let on_its_way = self.written.load(Ordering::Acquire).saturating_sub(self.n_read);
        let arrived = rustix::io::ioctl_fionread(self.read.as_ref()).unwrap_or(0);
        usize::try_from(on_its_way.max(arrived)).unwrap_or(usize::MAX)
    }
}

/// A terminal beyond the bridge.
#[derive(Debug)]
struct TcpTerminal {
    frames: mpsc::Sender<Vec<u8>>,
    token: String,
}

impl TcpTerminal {
    fn send(&self, message: &ToBridge) {
        let (frames, bytes) = (self.frames.clone(), frame(message));
        match frames.try_send(bytes) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(bytes)) => {
                tokio::spawn(async move { frames.send(bytes).await.ok() });
            }
        }
    }
}

impl Terminal for TcpTerminal {
    fn resize(&self, size: WindowSize) {
        self.send(&ToBridge::Resize { token: self.token.clone(), size });
    }

    fn set_modes(&self, modes: &[TerminalMode]) {
        self.send(&ToBridge::Modes { token: self.token.clone(), modes: modes.to_vec() });
    }
}

/// A helper's messages. For each connection the server sends a token back, and the bridge dials with it.
struct TcpHelper {
    frames: Frames<TcpStream>,
    expected: Arc<Expected>,
    /// A message whose connection is not there yet, and what of its token is not sent yet.
    waiting: Option<(Value, Dialled, Vec<u8>)>,
}

fn to_message(message: &Value) -> RawMessage {
    RawMessage::new(message.to_string().into_bytes())
}

impl HelperMessages for TcpHelper {
    fn next(&mut self) -> Pending<'_, Option<(RawMessage, Option<Connection>)>> {
        Box::pin(async move {
            if self.waiting.is_none() {
                let received =
                    self.frames.next::<FromHelper>().await.map_err(Error::io("helper"))?;
                let Some(FromHelper { message, connection }) = received else {
                    return Ok(None);
                };
                if !connection {
                    return Ok(Some((to_message(&message), None)));
                }
                let dialled = Dialled::new(&self.expected);
                let token = dialled.token.clone().into_bytes();
                self.waiting = Some((message, dialled, token));
            }
            let Some((_, dialled, unsent)) = &mut self.waiting else {
                return Ok(None);
            };
            while !unsent.is_empty() {
                let n_sent = self.frames.reader.write(unsent).await.map_err(Error::io("helper"))?;
                unsent.drain(..n_sent);
            }
            let socket = dialled.socket().await;
            let message = self.waiting.take().map(|(message, ..)| message).unwrap_or_default();
            Ok(Some((to_message(&message), Some(Connection::from(socket?)))))
        })
    }
}
