//! A transport over TCP, as an engine on another machine would need one.
//!
//! ```text
//!   App ── TcpTransport ◀══ TCP: one link, one connection per stream ══ bridge ── unix socket, descriptors ── shed-init
//! ```
//!
//! The bridge stands beside shed-init and dials the server. Each connection begins with a random token: the shed's for its
//! link, one of its own for each stream. Nothing of the server's kernel is known on the other side.

mod bridge;
mod frames;
mod streams;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shed_api::ShedName;
use shed_guest::{
    Caller, Ends, Error, Listener, Near, Outgoing, Pending, RawMessage, Receiver, Sender,
    Transport, Wire,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use bridge::bridge;
use frames::{FarEnds, Frames, FromBridge, ToBridge, frame};
use streams::TcpStreams;

/// The length of a token: 128 random bits in hex.
const TOKEN_BYTES: usize = 32;
/// How long a connection may take to present its token, and a stream to be dialled.
const DIAL_LIMIT: Duration = Duration::from_secs(20);
/// Callers that wait to be accepted, and frames that wait to be sent.
const QUEUE: usize = 64;

/// Where a bridge dials for the link of its shed, and the token it presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    address: SocketAddr,
    token: String,
}

/// Reaches containers over TCP on the loopback interface.
#[derive(Debug, Clone)]
pub struct TcpTransport {
    address: SocketAddr,
    expected: Arc<Expected>,
    tickets: watch::Sender<HashMap<ShedName, Ticket>>,
}

/// Who may connect.
#[derive(Debug, Default)]
struct Expected {
    links: Mutex<HashMap<String, mpsc::Sender<TcpStream>>>,
    streams: Mutex<HashMap<String, oneshot::Sender<TcpStream>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl TcpTransport {
    /// Listens at a free port. Ends with the runtime.
    pub(crate) async fn start() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port for links");
        let address = listener.local_addr().expect("an address");
        let expected = Arc::<Expected>::default();
        tokio::spawn(accept_all(listener, Arc::clone(&expected)));
        Self { address, expected, tickets: watch::Sender::default() }
    }

    /// Where bridges find their server.
    pub(crate) fn tickets(&self) -> watch::Receiver<HashMap<ShedName, Ticket>> {
        self.tickets.subscribe()
    }
}

async fn accept_all(listener: TcpListener, expected: Arc<Expected>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let expected = Arc::clone(&expected);
        tokio::spawn(async move {
            socket.set_nodelay(true).ok();
            let mut token = [0; TOKEN_BYTES];
            let read = tokio::time::timeout(DIAL_LIMIT, socket.read_exact(&mut token));
            if !matches!(read.await, Ok(Ok(_))) {
                return;
            }
            let token = String::from_utf8_lossy(&token).into_owned();
            // A token is good once, except a shed's. Whoever has none is hung up on.
            let waiting = lock(&expected.streams).remove(&token);
            if let Some(waiting) = waiting {
                waiting.send(socket).ok();
                return;
            }
            let link = lock(&expected.links).get(&token).cloned();
            if let Some(link) = link {
                link.send(socket).await.ok();
            }
        });
    }
}

impl Transport for TcpTransport {
    fn listen(&self, shed: &ShedName) -> Result<Box<dyn Listener>, Error> {
        let (callers, called) = mpsc::channel(QUEUE);
        let token = new_token();
        lock(&self.expected.links).insert(token.clone(), callers);
        let ticket = Ticket { address: self.address, token };
        self.tickets.send_modify(|tickets| drop(tickets.insert(shed.clone(), ticket.clone())));
        Ok(Box::new(TcpLinks { transport: self.clone(), shed: shed.clone(), ticket, called }))
    }

    fn forget(&self, _shed: &ShedName) -> Result<(), Error> {
        Ok(())
    }
}

/// The listener of a shed. Its token ends with it.
struct TcpLinks {
    transport: TcpTransport,
    shed: ShedName,
    ticket: Ticket,
    called: mpsc::Receiver<TcpStream>,
}

impl Drop for TcpLinks {
    fn drop(&mut self) {
        lock(&self.transport.expected.links).remove(&self.ticket.token);
        self.transport.tickets.send_modify(|tickets| {
            // A later listener of the same shed has another ticket.
            if tickets.get(&self.shed) == Some(&self.ticket) {
                tickets.remove(&self.shed);
            }
        });
    }
}

impl Listener for TcpLinks {
    fn accept(&mut self) -> Pending<'_, Box<dyn Caller>> {
        Box::pin(async move {
            let gone = || Error::Connect("the listener ended".to_owned());
            let socket = self.called.recv().await.ok_or_else(gone)?;
            let expected = Arc::clone(&self.transport.expected);
            Ok(Box::new(TcpCaller { socket, expected }) as Box<dyn Caller>)
        })
    }
}

/// A connection that has presented the shed's token.
struct TcpCaller {
    socket: TcpStream,
    expected: Arc<Expected>,
}

impl Caller for TcpCaller {
    fn admit(self: Box<Self>) -> Near<Option<Wire>> {
        let Self { socket, expected } = *self;
        let (read, mut write) = socket.into_split();
        let (sender, mut queued) = mpsc::channel::<Vec<u8>>(QUEUE);
        let ended = CancellationToken::new();
        let stop = ended.clone();
        tokio::spawn(async move {
            let writing = async {
                while let Some(bytes) = queued.recv().await {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            };
            stop.run_until_cancelled(writing).await;
        });
        let streams = Arc::new(TcpStreams::new(expected, sender.clone()));
        let receiver = TcpReceiver { frames: Frames::new(read), streams: Arc::clone(&streams) };
        let sender = TcpSender { frames: sender, _ends: ended.drop_guard() };
        let wire = Wire { sender: Box::new(sender), receiver: Box::new(receiver), streams };
        Box::pin(std::future::ready(Ok(Some(wire))))
    }
}

struct TcpSender {
    frames: mpsc::Sender<Vec<u8>>,
    /// The connection ends with this half.
    _ends: DropGuard,
}

impl Sender for TcpSender {
    fn send<'a>(&'a mut self, message: Outgoing<'a>, ends: Ends) -> Pending<'a, ()> {
        Box::pin(async move {
            let message = serde_json::to_value(message).expect("a message is JSON");
            let ends: FarEnds = ends.take();
            let bytes = frame(&ToBridge::Message { message, ends });
            let broken = |_| Error::Connect("the link ended".to_owned());
            self.frames.send(bytes).await.map_err(broken)
        })
    }
}

struct TcpReceiver {
    frames: Frames<OwnedReadHalf>,
    streams: Arc<TcpStreams>,
}

impl Receiver for TcpReceiver {
    fn recv(&mut self) -> Pending<'_, Option<RawMessage>> {
        Box::pin(async move {
            let received = self.frames.next::<FromBridge>().await.map_err(Error::io("link"))?;
            Ok(received.map(|FromBridge { message, written }| {
                self.streams.announce(written);
                RawMessage::new(message.to_string().into_bytes())
            }))
        })
    }
}
