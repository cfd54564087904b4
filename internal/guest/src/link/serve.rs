//! One link from the first connection to its end.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shed_api::ShedName;
use shed_link::{Hello, Message, PROTOCOL, Refusal, Reply, Status, Welcome};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{HANGUP, Inner, Link, LinkEvent, Queued};
use crate::Error;
use crate::backoff::Backoff;
use crate::pace::Pace;
use crate::transport::{Caller, Ends, Listener, Outgoing, Wire};

/// How long a caller may take to be authenticated and to say hello.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// Requests that wait to be sent. Callers wait beyond that.
const OUTBOX: usize = 64;
/// The most requests and processes of one shed at once. A shed's own process limit is far below.
const MAX_OPEN: usize = 10_000;
/// Callers that are being authenticated at once. shed-init is one; the others are hostile.
const MAX_CALLERS: usize = 4;
/// After a failed accept: no descriptor was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Callers that are accepted at once. shed-init calls again when its link has ended, and pauses after a failure.
const CALLER_BURST: u32 = 16;
/// How often a further caller is accepted. The others wait in the socket's queue.
const CALLER_INTERVAL: Duration = Duration::from_millis(100);
/// Messages that are taken at once. A busy shed sends three for each of a thousand commands a second.
const MESSAGE_BURST: u32 = 10_000;
/// How often a further message is taken.
const MESSAGE_INTERVAL: Duration = Duration::from_micros(100);
/// Snapshots of tmux that are passed on at once. shed-init sends fewer.
const SNAPSHOT_BURST: u32 = 100;
/// How often a further snapshot is passed on, or each further part of a large one.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(20);
/// A larger snapshot counts as several, because reading it takes longer.
const SNAPSHOT_BYTES: usize = 64 << 10;

/// Accepts the shed-init of a shed until `stop`, and waits for its links to end. Owned by the shed's keeper.
pub async fn listen(
    mut listener: Box<dyn Listener>,
    shed: ShedName,
    events: mpsc::Sender<LinkEvent>,
    stop: CancellationToken,
) {
    let callers = Arc::new(Semaphore::new(MAX_CALLERS));
    let newest = Arc::new(Mutex::new(CancellationToken::new()));
    let mut pace = Pace::new(CALLER_BURST, CALLER_INTERVAL);
    let mut backoff = Backoff::constant(ACCEPT_PAUSE);
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = async { pace.wait().await; listener.accept().await } => accepted,
            Some(_) = links.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let Ok(caller) = accepted else {
            backoff.pause().await;
            continue;
        };
        let Ok(permit) = Arc::clone(&callers).try_acquire_owned() else {
            continue;
        };
        let (shed, events, stop) = (shed.clone(), events.clone(), stop.clone());
        let newest = Arc::clone(&newest);
        links.spawn(async move {
            let greeted = timeout(GREETING_LIMIT, greet(&shed, caller)).await;
            drop(permit);
            match greeted {
                Ok(Ok(Some((wire, hello)))) => {
                    // shed-init has one link. An earlier one is dead, or of a second shed-init that must not keep it.
                    let gone = CancellationToken::new();
                    std::mem::replace(&mut *lock(&newest), gone.clone()).cancel();
                    serve(wire, shed, hello, events, stop, gone).await;
                }
                Ok(Ok(None)) => {
                    tracing::warn!(%shed, "a connection that is not from shed-init was refused");
                }
                Ok(Err(error)) => tracing::warn!(%shed, %error, "a link was not established"),
                Err(_) => tracing::warn!(%shed, "a connection sent no hello in time"),
            }
        });
    }
    while links.join_next().await.is_some() {}
}

/// Authenticates the caller, then exchanges hello and welcome.
async fn greet(shed: &ShedName, caller: Box<dyn Caller>) -> Result<Option<(Wire, Hello)>, Error> {
    let Some(mut wire) = caller.admit().await? else {
        return Ok(None);
    };
    let Some(hello) = wire.receiver.recv().await? else {
        return Ok(None);
    };
    let hello: Hello =
        hello.parse().map_err(|error| Error::io("link")(std::io::Error::other(error)))?;
    if hello.protocol != PROTOCOL {
        let version = shed_api::name::printable(&hello.version);
        let why = format!("protocol {} of shed-init {version}", hello.protocol);
        return Err(Error::Invalid(why));
    }
    let welcome = Welcome { protocol: PROTOCOL, shed: shed.to_string() };
    wire.sender.send(Outgoing::Welcome(&welcome), Ends::none()).await?;
    Ok(Some((wire, hello)))
}

/// One link from hello to its end. Two halves: one sends requests, one takes messages; either end ends both.
pub(super) async fn serve(
    wire: Wire,
    shed: ShedName,
    hello: Hello,
    events: mpsc::Sender<LinkEvent>,
    stop: CancellationToken,
    gone: CancellationToken,
) {
    let Wire { mut sender, mut receiver, streams } = wire;
    let (requests, mut inbox) = mpsc::channel::<Queued>(OUTBOX);
    let next_id = AtomicU64::new(1);
    let inner = Inner { shed: shed.clone(), requests, next_id, hello, gone: gone.clone(), streams };
    let link = Link { inner: Arc::new(inner) };
    // The keeper is gone when this fails, and with it the shed.
    events.send(LinkEvent::Up(link.clone())).await.ok();
    let open = Mutex::new(Open::default());
    let sending = async {
        while let Some(queued) = inbox.recv().await {
            let Queued { request, ends, reply, exit } = queued;
            if !lock(&open).add(request.id, reply, exit) {
                continue;
            }
            sender.send(Outgoing::Request(&request), ends).await?;
        }
        Ok(())
    };
    let receiving = async {
        let mut pace = Pace::new(MESSAGE_BURST, MESSAGE_INTERVAL);
        let mut snapshot_pace = Pace::new(SNAPSHOT_BURST, SNAPSHOT_INTERVAL);
        while let Some(message) = receiver.recv().await? {
            pace.wait().await;
            // A message that a newer shed-init sends and this server does not know is skipped.
            let Ok(item) = message.parse::<Message>() else {
                continue;
            };
            let report = match item {
                Message::Reply { id, reply } => {
                    if lock(&open).reply(id, reply) == Waiter::Gone {
                        link.signal(id, HANGUP);
                    }
                    continue;
                }
                Message::Exited { process, status } => {
                    lock(&open).exited(process, status);
                    continue;
                }
                Message::TmuxSnapshot(snapshot) => {
                    let n_parts = message.n_bytes().div_ceil(SNAPSHOT_BYTES);
                    snapshot_pace.wait_for(u32::try_from(n_parts).unwrap_or(u32::MAX)).await;
                    LinkEvent::TmuxSnapshot(link.clone(), snapshot)
                }
                Message::DetachedEnded { tag, status } => LinkEvent::DetachedEnded { tag, status },
            };
            events.send(report).await.ok();
        }
        Ok(())
    };
    let ended: Result<(), Error> = tokio::select! {
        ended = sending => ended,
        ended = receiving => ended,
        () = stop.cancelled() => Ok(()),
        () = gone.cancelled() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::warn!(%shed, %error, "the link broke");
    }
    gone.cancel();
    events.send(LinkEvent::Down(link)).await.ok();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the sender of a request still waits for its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Answered,
    Gone,
}

/// Who waits for what on one link. Dropped with the link, which ends every wait.
#[derive(Debug, Default)]
struct Open {
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    exits: HashMap<u64, oneshot::Sender<Status>>,
}

impl Open {
    /// False if there are too many.
    fn add(
        &mut self,
        id: u64,
        reply: Option<oneshot::Sender<Reply>>,
        exit: Option<oneshot::Sender<Status>>,
    ) -> bool {
        if self.replies.len() + self.exits.len() >= MAX_OPEN {
            if let Some(reply) = reply {
                let refusal = Refusal::NoResources("too many commands at once".to_owned());
                reply.send(Reply::Refused(refusal)).ok();
            }
            return false;
        }
        if let Some(reply) = reply {
            self.replies.insert(id, reply);
        }
        if let Some(exit) = exit {
            self.exits.insert(id, exit);
        }
        true
    }

    fn reply(&mut self, id: u64, reply: Reply) -> Waiter {
        let started = matches!(reply, Reply::Started { .. });
        if !started {
            self.exits.remove(&id);
        }
        let Some(waiting) = self.replies.remove(&id) else {
            return Waiter::Answered;
        };
        match waiting.send(reply) {
            // Whoever wanted the process went away while it was started.
            Err(_) if started => Waiter::Gone,
            Err(_) | Ok(()) => Waiter::Answered,
        }
    }

    fn exited(&mut self, id: u64, status: Status) {
        if let Some(waiting) = self.exits.remove(&id) {
            waiting.send(status).ok();
        }
    }
}
