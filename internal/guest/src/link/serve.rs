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

/// Accepts the shed-init of a shed until `stop`, and waits for its links to end. Owned by the shed's keeper.
pub async fn listen(
    mut listener: Box<dyn Listener>,
    shed: ShedName,
    events: mpsc::Sender<LinkEvent>,
    stop: CancellationToken,
) {
    let callers = Arc::new(Semaphore::new(MAX_CALLERS));
    let mut backoff = Backoff::constant(ACCEPT_PAUSE);
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
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
        links.spawn(async move {
            let greeted = timeout(GREETING_LIMIT, greet(&shed, caller)).await;
            drop(permit);
            match greeted {
                Ok(Ok(Some((wire, hello)))) => serve(wire, shed, hello, events, stop).await,
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
    let hello: Hello = serde_json::from_value(hello)
        .map_err(|error| Error::io("link")(std::io::Error::other(error)))?;
    if hello.protocol != PROTOCOL {
        let why = format!("protocol {} of shed-init {}", hello.protocol, hello.version);
        return Err(Error::Invalid(why));
    }
    let welcome = Welcome { protocol: PROTOCOL, shed: shed.to_string() };
    wire.sender.send(Outgoing::Welcome(&welcome), Ends::none()).await?;
    Ok(Some((wire, hello)))
}

/// One link from hello to its end. Two halves: one sends requests, one takes messages; either end ends both.
async fn serve(
    wire: Wire,
    shed: ShedName,
    hello: Hello,
    events: mpsc::Sender<LinkEvent>,
    stop: CancellationToken,
) {
    let Wire { mut sender, mut receiver, streams } = wire;
    let (requests, mut inbox) = mpsc::channel::<Queued>(OUTBOX);
    let gone = CancellationToken::new();
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
        while let Some(item) = receiver.recv().await? {
            // An item that a newer shed-init sends and this server does not know is skipped.
            let Ok(item) = serde_json::from_value::<Message>(item) else {
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
                Message::TmuxSnapshot(snapshot) => LinkEvent::TmuxSnapshot(link.clone(), snapshot),
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
        () = gone.cancelled() => {
            tracing::warn!(%shed, "its shed-init does not answer any more");
            Ok(())
        }
    };
    if let Err(error) = ended {
        tracing::warn!(%shed, %error, "the link broke");
    }
    gone.cancel();
    events.send(LinkEvent::Down(link)).await.ok();
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use shed_link::{Conn, Run};
    use tokio::net::UnixStream;

    use super::*;
    use crate::unix;

    /// A link to a shed-init of another version, as far as its hello; what it sends is up to the test.
    async fn link_to(version: &str) -> (Link, Conn, mpsc::Receiver<LinkEvent>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let hello = Hello {
            protocol: PROTOCOL,
            version: version.to_owned(),
            boot: "1".to_owned(),
            user: "dev".to_owned(),
            uid: 1000,
            home: "/home/dev".to_owned(),
            tmux: None,
            program: "/opt/shed/shed-init".to_owned(),
            socket: "/run/shed/box/sock".to_owned(),
            worktrees: "/worktrees".to_owned(),
            workspace: "/workspace".to_owned(),
            confine: None,
        };
        let (events, mut heard) = mpsc::channel(8);
        let shed = "a".parse().unwrap();
        tokio::spawn(serve(
            unix::wire(Conn::new(ours)),
            shed,
            hello,
            events,
            CancellationToken::new(),
        ));
        let Some(LinkEvent::Up(link)) = heard.recv().await else {
            panic!("no link");
        };
        (link, Conn::new(theirs), heard)
    }

    #[tokio::test]
    async fn an_older_shed_init_that_does_not_know_ping_keeps_its_link() {
        let (link, mut old, _heard) = link_to("0.0.1").await;
        let answer = async {
            let (request, _) = old.recv::<serde_json::Value>().await.unwrap().unwrap();
            let id = request["id"].as_u64().unwrap();
            let reply = Reply::Refused(Refusal::Unsupported);
            old.send(&Message::Reply { id, reply }, &[]).await.unwrap();
        };
        tokio::join!(link.check(), answer);
        assert!(!link.gone().is_cancelled());
        assert_eq!(link.hello().version, "0.0.1");
    }

    #[tokio::test]
    async fn an_unknown_message_of_a_newer_shed_init_is_skipped() {
        let (_link, new, mut heard) = link_to("99.0.0").await;
        new.send(&serde_json::json!({ "weather": { "in": "the container" } }), &[]).await.unwrap();
        let ended = Message::DetachedEnded { tag: "t".to_owned(), status: Status::Code(0) };
        new.send(&ended, &[]).await.unwrap();
        assert!(matches!(heard.recv().await, Some(LinkEvent::DetachedEnded { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_does_not_answer_ends() {
        let (link, _silent, mut heard) = link_to("0.1.0").await;
        link.check().await;
        assert!(link.gone().is_cancelled());
        assert!(matches!(heard.recv().await, Some(LinkEvent::Down(_))));
        let run = Run { argv: Vec::new(), env: Vec::new(), directory: None, timeout_ms: 0 };
        assert!(matches!(link.run(run).await, Err(Error::Unreachable(_))));
    }
}
