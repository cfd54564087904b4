//! The server's end of a shed's link: listen, judge who calls, then ask and be told.

use shed_model::Rejection;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::sockopt::socket_peercred;
use shed_api::ShedName;
use shed_link::{
    Conn, Hello, LINK_SOCKET, LinkError, News, Op, PROTOCOL, Picture, Ran, Refusal, Reply, Request,
    Run, Spawn, Status, Welcome,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::server::Server;
use shed_engine::{Engine, Peer};

/// How long a caller may take to say hello.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// How long shed-init may take to start a process or to say that it cannot.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long shed-init may take to say that it is there.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// Requests that wait to be sent. Callers wait beyond that.
const OUTBOX: usize = 64;
/// The most requests and processes of one shed at once. A shed's own process limit is far below.
const MAX_OPEN: usize = 10_000;
/// Callers whose hello is awaited at once. shed-init is one; the rest is hostile.
const MAX_CALLERS: usize = 4;
/// After a failed accept (no descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The signal for "nobody is there any more".
pub(crate) const HUP: u8 = 1;

/// What a link tells its keeper.
#[derive(Debug)]
pub(crate) enum LinkNews {
    /// shed-init said hello.
    Up(BoxLink),
    /// That link ended.
    Down(BoxLink),
    /// tmux's state, and the link that told it.
    Picture(BoxLink, Picture),
    /// A detached command ended.
    DetachedEnded {
        /// Its tag.
        tag: String,
        /// How.
        status: Status,
    },
}

/// A live link. Clones are the same link.
#[derive(Debug, Clone)]
pub(crate) struct BoxLink {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shed: ShedName,
    orders: mpsc::Sender<Order>,
    next_id: AtomicU64,
    hello: Hello,
    gone: CancellationToken,
}

/// A request on its way, and who waits for what.
#[derive(Debug)]
struct Order {
    request: Request,
    fds: Vec<OwnedFd>,
    reply: Option<oneshot::Sender<Reply>>,
    exit: Option<oneshot::Sender<Status>>,
}

/// A process in the box.
#[derive(Debug)]
pub(crate) struct BoxProcess {
    /// Names it in requests.
    pub(crate) id: u64,
    /// How it ends; an error if the link ends first.
    pub(crate) exit: oneshot::Receiver<Status>,
    /// Where it runs.
    pub(crate) link: BoxLink,
}

impl PartialEq for BoxLink {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl BoxLink {
    /// What shed-init said of itself.
    pub(crate) fn hello(&self) -> &Hello {
        &self.inner.hello
    }

    /// Ends with the link.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.inner.gone.clone()
    }

    /// Runs a short command as `dev` and returns what it printed.
    pub(crate) async fn run_with(&self, run: Run) -> Result<Ran, Error> {
        let limit = Duration::from_millis(run.timeout_ms) + START_LIMIT;
        match self.ask(Op::Run(run), Vec::new(), None, limit).await?.1 {
            Reply::Ran(ran) => Ok(ran),
            Reply::Refused(refusal) => Err(Error::Refused(refusal)),
            Reply::Started { .. } | Reply::Done => Err(self.nonsense()),
        }
    }

    /// Starts a process with these descriptors.
    pub(crate) async fn spawn(&self, spawn: Spawn, fds: Vec<OwnedFd>) -> Result<BoxProcess, Error> {
        let (exit, exited) = oneshot::channel();
        let (id, reply) = self.ask(Op::Spawn(spawn), fds, Some(exit), START_LIMIT).await?;
        match reply {
            Reply::Started { .. } => Ok(BoxProcess { id, exit: exited, link: self.clone() }),
            Reply::Refused(refusal) => Err(Error::Refused(refusal)),
            Reply::Ran(_) | Reply::Done => Err(self.nonsense()),
        }
    }

    /// Leaves a command for the runner that will claim it.
    pub(crate) async fn offer(
        &self,
        token: String,
        spawn: Spawn,
        tap: OwnedFd,
    ) -> Result<(), Error> {
        match self.ask(Op::Offer { token, spawn }, vec![tap], None, START_LIMIT).await?.1 {
            Reply::Done => Ok(()),
            Reply::Refused(refusal) => Err(Error::Refused(refusal)),
            Reply::Ran(_) | Reply::Started { .. } => Err(self.nonsense()),
        }
    }

    /// Signals a process group. Sent later if the link is busy; not at all if it is gone.
    pub(crate) fn signal(&self, process: u64, signal: u8) {
        self.tell(Op::Signal { process, signal });
    }

    /// Asks whether anybody is there, and hangs up if nobody answers: a program that is stopped or stuck keeps its socket
    /// open, and what is shown of it would look like news.
    pub(crate) async fn check(&self) {
        if self.ask(Op::Ping, Vec::new(), None, PING_LIMIT).await.is_err() {
            self.inner.gone.cancel();
        }
    }

    /// Somebody looks for so long.
    pub(crate) fn look(&self, seconds: u32) {
        self.tell(Op::Look { seconds });
    }

    fn tell(&self, op: Op) {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let order = Order { request: Request { id, op }, fds: Vec::new(), reply: None, exit: None };
        if let Err(mpsc::error::TrySendError::Full(order)) = self.inner.orders.try_send(order) {
            let orders = self.inner.orders.clone();
            // Ends when the link takes it or ends; bounded by what its callers hold open.
            tokio::spawn(async move { orders.send(order).await.ok() });
        }
    }

    async fn ask(
        &self,
        op: Op,
        fds: Vec<OwnedFd>,
        exit: Option<oneshot::Sender<Status>>,
        limit: Duration,
    ) -> Result<(u64, Reply), Error> {
        let lost = || Error::ShedUnreachable(self.inner.shed.clone());
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, replied) = oneshot::channel();
        let order = Order { request: Request { id, op }, fds, reply: Some(reply), exit };
        let asked = async {
            self.inner.orders.send(order).await.map_err(|_| lost())?;
            replied.await.map_err(|_| lost())
        };
        match timeout(limit, asked).await {
            Ok(reply) => Ok((id, reply?)),
            Err(_) => Err(lost()),
        }
    }

    fn nonsense(&self) -> Error {
        Error::ShedUnreachable(self.inner.shed.clone())
    }
}

/// A shed's listener. Its socket is new with each server; shed-init notices and dials.
#[derive(Debug)]
pub(crate) struct LinkListener {
    listener: UnixListener,
}

/// A shed's link directory.
pub(crate) fn link_dir(links_dir: &Path, shed: &ShedName) -> PathBuf {
    links_dir.join(shed.as_str())
}

impl LinkListener {
    /// Makes the directory and the socket.
    pub(crate) fn bind(links_dir: &Path, shed: &ShedName) -> Result<Self, Error> {
        let dir = link_dir(links_dir, shed);
        let failed = || Error::io(format!("cannot listen in {}", dir.display()));
        std::fs::create_dir_all(&dir).map_err(failed())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open(&dir, flags, Mode::empty()).map_err(|error| failed()(error.into()))?;
        // Entered by shed-init, listed by nobody. The parent is the server's alone.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(&dir, mode).map_err(failed())?;
        // One that is not there is what we want.
        rustix::fs::unlinkat(&fd, LINK_SOCKET, AtFlags::empty()).ok();
        // A socket's path is at most 108 bytes and a data directory may be deeper: go through the descriptor.
        let short = format!("/proc/self/fd/{}/{LINK_SOCKET}", fd.as_raw_fd());
        let listener = UnixListener::bind(&short).map_err(failed())?;
        Ok(Self { listener })
    }

    /// Takes callers until `stop`. Owned by the shed's keeper.
    pub(crate) async fn run(
        self,
        server: Arc<Server>,
        shed: ShedName,
        news: mpsc::Sender<LinkNews>,
        stop: CancellationToken,
    ) {
        let callers = Arc::new(tokio::sync::Semaphore::new(MAX_CALLERS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&callers).try_acquire_owned() else {
                continue;
            };
            let (server, shed, news) = (Arc::clone(&server), shed.clone(), news.clone());
            let stop = stop.clone();
            server.tasks.clone().spawn(async move {
                let greeted = timeout(GREETING_LIMIT, greet(&*server.engine, &shed, socket)).await;
                drop(permit);
                match greeted {
                    Ok(Ok(Some((conn, hello)))) => serve(conn, shed, hello, news, stop).await,
                    Ok(Ok(None)) => {
                        tracing::warn!(%shed, "a caller that is not shed-init was turned away");
                    }
                    Ok(Err(error)) => tracing::warn!(%shed, %error, "a link was not made"),
                    Err(_) => tracing::warn!(%shed, "a caller did not say hello in time"),
                }
            });
        }
    }
}

/// Judges the caller before a byte of it is read.
async fn greet(
    engine: &dyn Engine,
    shed: &ShedName,
    socket: UnixStream,
) -> Result<Option<(Conn, Hello)>, Error> {
    let cred = socket_peercred(&socket).map_err(|error| Error::io("link peer")(error.into()))?;
    let pid = u32::try_from(cred.pid.as_raw_nonzero().get()).unwrap_or_default();
    let peer = Peer { pid, uid: cred.uid.as_raw() };
    if !engine.is_peer(shed, peer).await? {
        return Ok(None);
    }
    let link_failed = |error: LinkError| Error::io("link")(std::io::Error::other(error));
    let mut conn = Conn::new(socket);
    let Some((hello, _)) = conn.recv::<Hello>().await.map_err(link_failed)? else {
        return Ok(None);
    };
    if hello.protocol != PROTOCOL {
        let why = format!("protocol {} of shed-init {}", hello.protocol, hello.version);
        return Err(Error::Rejected(Rejection::Invalid(why)));
    }
    let welcome = Welcome { protocol: PROTOCOL, shed: shed.to_string() };
    conn.send(&welcome, &[]).await.map_err(link_failed)?;
    Ok(Some((conn, hello)))
}

/// One link from hello to its end. Two halves: one sends orders, one takes news; either end ends both.
async fn serve(
    conn: Conn,
    shed: ShedName,
    hello: Hello,
    news: mpsc::Sender<LinkNews>,
    stop: CancellationToken,
) {
    let (orders, mut inbox) = mpsc::channel::<Order>(OUTBOX);
    let gone = CancellationToken::new();
    let next_id = AtomicU64::new(1);
    let inner = Inner { shed: shed.clone(), orders, next_id, hello, gone: gone.clone() };
    let link = BoxLink { inner: Arc::new(inner) };
    // The keeper is gone when this fails, and with it the shed.
    news.send(LinkNews::Up(link.clone())).await.ok();
    let (mut sender, mut receiver) = conn.split();
    let open = std::sync::Mutex::new(Open::default());
    let hang_up = link.clone();
    let sending = async {
        while let Some(order) = inbox.recv().await {
            let Order { request, fds, reply, exit } = order;
            let id = request.id;
            if !lock(&open).add(id, reply, exit) {
                continue;
            }
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
            sender.send(&request, &borrowed).await?;
        }
        Ok(())
    };
    let receiving = async {
        while let Some((item, _)) = receiver.recv::<serde_json::Value>().await? {
            // An item of a newer shed-init that we do not know is skipped.
            let Ok(item) = serde_json::from_value::<News>(item) else {
                continue;
            };
            let told = match item {
                News::Reply { id, reply } => {
                    if lock(&open).reply(id, reply) == Waiter::GoneAway {
                        hang_up.signal(id, HUP);
                    }
                    continue;
                }
                News::Exited { process, status } => {
                    lock(&open).exited(process, status);
                    continue;
                }
                News::Picture(picture) => LinkNews::Picture(link.clone(), picture),
                News::DetachedEnded { tag, status } => LinkNews::DetachedEnded { tag, status },
            };
            news.send(told).await.ok();
        }
        Ok(())
    };
    let ended: Result<(), LinkError> = tokio::select! {
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
    news.send(LinkNews::Down(link)).await.ok();
}

fn lock(open: &std::sync::Mutex<Open>) -> std::sync::MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What became of the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Told,
    GoneAway,
}

/// Who waits for what on one link. Dropped with the link, which tells everyone.
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
            return Waiter::Told;
        };
        match waiting.send(reply) {
            // Whoever wanted the process went away while it was started.
            Err(_) if started => Waiter::GoneAway,
            Err(_) | Ok(()) => Waiter::Told,
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
    use super::*;

    /// A link to a shed-init of another version, as far as its hello; what it says is up to the test.
    async fn link_to(version: &str) -> (BoxLink, Conn, mpsc::Receiver<LinkNews>) {
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
        let (news, mut heard) = mpsc::channel(8);
        let shed = "a".parse().unwrap();
        tokio::spawn(serve(Conn::new(ours), shed, hello, news, CancellationToken::new()));
        let Some(LinkNews::Up(link)) = heard.recv().await else {
            panic!("no link");
        };
        (link, Conn::new(theirs), heard)
    }

    #[tokio::test]
    async fn an_older_shed_init_that_does_not_know_a_request_is_there_all_the_same() {
        let (link, mut old, _heard) = link_to("0.0.1").await;
        let answer = async {
            let (request, _) = old.recv::<serde_json::Value>().await.unwrap().unwrap();
            let id = request["id"].as_u64().unwrap();
            let reply = Reply::Refused(Refusal::Unsupported);
            old.send(&News::Reply { id, reply }, &[]).await.unwrap();
        };
        tokio::join!(link.check(), answer);
        assert!(!link.gone().is_cancelled());
        assert_eq!(link.hello().version, "0.0.1");
    }

    #[tokio::test]
    async fn news_of_a_newer_shed_init_that_nobody_here_knows_is_skipped() {
        let (_link, new, mut heard) = link_to("99.0.0").await;
        new.send(&serde_json::json!({ "weather": { "in": "the box" } }), &[]).await.unwrap();
        let ended = News::DetachedEnded { tag: "t".to_owned(), status: Status::Code(0) };
        new.send(&ended, &[]).await.unwrap();
        assert!(matches!(heard.recv().await, Some(LinkNews::DetachedEnded { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_where_nobody_answers_ends() {
        let (link, _silent, mut heard) = link_to("0.1.0").await;
        link.check().await;
        assert!(link.gone().is_cancelled());
        assert!(matches!(heard.recv().await, Some(LinkNews::Down(_))));
        let run = Run { argv: Vec::new(), env: Vec::new(), directory: None, timeout_ms: 0 };
        assert!(matches!(link.run_with(run).await, Err(Error::ShedUnreachable(_))));
    }
}
