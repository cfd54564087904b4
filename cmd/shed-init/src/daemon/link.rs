//! The link to the server: connect, greet, serve requests and send messages; reconnect forever.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use shed_link::{
    CONTAINER_SOCKET, Conn, Hello, LINK_SOCKET, LinkError, Message, Op, PROTOCOL, Program, Ran,
    Refusal, Reply, Request, Run, Spawn, Status, Welcome,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::processes::{Kind, Processes, UnsentExits};
use super::run::run as run_command;
use super::state::State;
use super::tmux::tmux_version;
use crate::launch::{Started, launch};
use crate::{log, process_tree};

/// How long the server may take to send its greeting.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// The first pause after a failed attempt to connect. It doubles with each further attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause. It rarely matters, since the socket of a restarted server is noticed through inotify.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The most messages that wait to be sent. Tasks with further messages wait.
const OUTBOX: usize = 64;
/// Buffer for inotify events, whose content is ignored.
const EVENT_BYTES: usize = 4 << 10;

/// Connects and reconnects forever.
pub(super) async fn run(state: Arc<State>) {
    let mut new_sockets = NewSockets::watch(&state.settings.link_dir);
    let exits = Arc::new(UnsentExits::default());
    state.tmux.wait_for_first().await;
    let mut pause = FIRST_PAUSE;
    loop {
        match try_serve(&state, &exits).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(Failed::Refused) => {}
            Err(Failed::Broken(error)) => log::line(&format!("shed-init: {error}")),
        }
        tokio::select! {
            () = new_sockets.next() => pause = FIRST_PAUSE,
            () = sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
        }
    }
}

/// Why a connection failed.
enum Failed {
    /// Nobody listens, or the server refused us. Not logged, since it happens with each attempt.
    Refused,
    /// An error to be logged.
    Broken(String),
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// One connection, until the server closes it.
async fn try_serve(state: &Arc<State>, exits: &Arc<UnsentExits>) -> Result<(), Failed> {
    let path = state.settings.link_dir.join(LINK_SOCKET);
    let socket = UnixStream::connect(&path).await.map_err(|_| Failed::Refused)?;
    if state.settings.switch_user && !is_outside(&socket) {
        return Err(Failed::Broken(format!(
            "refused the listener at {}: it runs in this container",
            path.display()
        )));
    }
    let mut conn = Conn::new(socket);
    conn.send(&hello(state).await, &[]).await?;
    let Ok(welcome) = timeout(GREETING_LIMIT, conn.recv::<Welcome>()).await else {
        return Err(Failed::Broken("the server did not send its greeting in time".to_owned()));
    };
    if welcome?.is_none() {
        // The server closed the connection because of who we are.
        return Err(Failed::Refused);
    }
    let processes = Arc::new(Processes::default());
    let served = serve(state, exits, &processes, &mut conn).await;
    processes.hang_up();
    state.tmux.observe(0);
    served.map_err(Failed::from)
}

/// Whether the other end of a connection is outside of this container. The kernel shows no pid for a process of another pid
/// namespace. Whoever listens at the link's socket decides what root runs here.
fn is_outside(socket: &UnixStream) -> bool {
    socket.peer_cred().is_ok_and(|peer| peer.pid().is_none_or(|pid| pid == 0))
}

async fn hello(state: &State) -> Hello {
    let settings = &state.settings;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: state.boot.clone(),
        user: settings.user.name.clone(),
        uid: settings.user.uid,
        home: settings.user.home.clone(),
        tmux: tmux_version(state).await,
        program: text(&settings.program),
        socket: text(&settings.run_dir.join(CONTAINER_SOCKET)),
        worktrees: text(&settings.worktrees),
        workspace: text(&settings.workspace),
        confine: state.confine.clone(),
    }
}

/// What the serving loop handles next.
enum Event {
    /// A request and its descriptors; `None` when the server has closed the connection.
    Request(Option<(serde_json::Value, Vec<OwnedFd>)>),
    Message(Message),
    Snapshot,
    DetachedExit(String, Status),
}

async fn serve(
    state: &Arc<State>,
    exits: &Arc<UnsentExits>,
    processes: &Arc<Processes>,
    conn: &mut Conn,
) -> Result<(), LinkError> {
    let (outbox, mut messages) = mpsc::channel(OUTBOX);
    let mut snapshots = state.tmux.snapshots();
    loop {
        let event = tokio::select! {
            request = conn.recv() => Event::Request(request?),
            // Never `None`: `outbox` lives as long as this loop.
            Some(message) = messages.recv() => Event::Message(message),
            _ = snapshots.changed() => Event::Snapshot,
            (tag, status) = exits.first() => Event::DetachedExit(tag, status),
        };
        match event {
            Event::Request(None) => return Ok(()),
            Event::Request(Some((request, fds))) => {
                let handler = Handler {
                    state: Arc::clone(state),
                    exits: Arc::clone(exits),
                    processes: Arc::clone(processes),
                    outbox: outbox.clone(),
                };
                handler.handle(request, fds);
            }
            Event::Message(message) => conn.send(&message, &[]).await?,
            Event::Snapshot => {
                let snapshot = snapshots.borrow_and_update().clone();
                if let Some(snapshot) = snapshot {
                    conn.send(&Message::TmuxSnapshot(snapshot), &[]).await?;
                }
            }
            Event::DetachedExit(tag, status) => {
                conn.send(&Message::DetachedEnded { tag, status }, &[]).await?;
                exits.drop_first();
            }
        }
    }
}

/// What the task of a request needs. The task of a process lives as long as the process, the others end with their answer.
struct Handler {
    state: Arc<State>,
    exits: Arc<UnsentExits>,
    processes: Arc<Processes>,
    outbox: mpsc::Sender<Message>,
}

impl Handler {
    fn handle(self, request: serde_json::Value, fds: Vec<OwnedFd>) {
        let id = request.get("id").and_then(serde_json::Value::as_u64).unwrap_or_default();
        match serde_json::from_value::<Request>(request) {
            Ok(Request { op: Op::Signal { process, signal }, .. }) => {
                self.processes.signal(process, signal);
            }
            Ok(Request { op: Op::Observe { seconds }, .. }) => self.state.tmux.observe(seconds),
            Ok(Request { id, op: Op::Ping }) => {
                tokio::spawn(async move { self.reply(id, Reply::Done).await });
            }
            Ok(Request { id, op: Op::Spawn(spawn) }) => {
                tokio::spawn(self.spawn(id, spawn, fds));
            }
            Ok(Request { id, op: Op::Run(run) }) => {
                tokio::spawn(async move {
                    let is_tmux = run.argv.first().is_some_and(|program| program == "tmux");
                    let ran = self.run(run, is_tmux).await;
                    if is_tmux {
                        self.state.tmux.hurry();
                    }
                    self.reply(id, ran.map_or_else(Reply::Refused, Reply::Ran)).await;
                });
            }
            Ok(Request { id, op: Op::Offer { token, spawn } }) => {
                let text = "expected one descriptor with the offered command";
                let put = <[OwnedFd; 1]>::try_from(fds)
                    .map_err(|_| Refusal::Invalid(text.to_owned()))
                    .and_then(|[descriptor]| self.state.offers.put(token, spawn, descriptor));
                let reply = put.map_or_else(Reply::Refused, |()| Reply::Done);
                tokio::spawn(async move { self.reply(id, reply).await });
            }
            Err(_) => {
                tokio::spawn(
                    async move { self.reply(id, Reply::Refused(Refusal::Unsupported)).await },
                );
            }
        }
    }

    async fn reply(&self, id: u64, reply: Reply) {
        // Fails when the connection has ended; nobody waits for the answer then.
        self.outbox.send(Message::Reply { id, reply }).await.ok();
    }

    async fn run(&self, run: Run, is_tmux: bool) -> Result<Ran, Refusal> {
        if is_tmux {
            self.state.socket.ensure(&self.state).await?;
        }
        run_command(&self.state, run).await
    }

    async fn start(&self, spawn: Spawn, fds: Vec<OwnedFd>) -> Result<Started, Refusal> {
        let argv = if let Program::Argv(argv) = &spawn.program { argv.first() } else { None };
        if argv.is_some_and(|program| program == "tmux") {
            self.state.socket.ensure(&self.state).await?;
        }
        launch(&self.state.settings, &self.state.stages, spawn, fds).await
    }

    async fn spawn(self, id: u64, spawn: Spawn, fds: Vec<OwnedFd>) {
        let tag = spawn.detached.clone();
        let kind = match (&tag, &spawn.program) {
            (Some(_), _) => Kind::Detached,
            (None, Program::Own(_)) => Kind::Own,
            (None, _) => Kind::Command,
        };
        let started = self.start(spawn, fds).await;
        let Started { pid, exit } = match started {
            Ok(started) => started,
            Err(refusal) => return self.reply(id, Reply::Refused(refusal)).await,
        };
        self.processes.add(id, pid, kind);
        self.reply(id, Reply::Started { pid: process_tree::number(pid) }).await;
        let Ok(status) = exit.await else {
            return;
        };
        self.processes.remove(id);
        self.state.tmux.recheck();
        match tag {
            Some(tag) => self.exits.add(tag, status),
            // Fails when the connection has ended.
            None => drop(self.outbox.send(Message::Exited { process: id, status }).await),
        }
    }
}

/// Notices new files in the link directory, such as the socket of a restarted server. tokio's pipe receiver works for any
/// descriptor that can be polled and read, which includes inotify.
struct NewSockets {
    inotify: Option<pipe::Receiver>,
}

impl NewSockets {
    fn watch(dir: &Path) -> Self {
        let inotify =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok().and_then(|fd| {
                inotify::add_watch(&fd, dir, WatchFlags::CREATE | WatchFlags::MOVED_TO).ok()?;
                pipe::Receiver::from_file_unchecked(fd.into()).ok()
            });
        Self { inotify }
    }

    /// Waits for a new file; forever if inotify does not work.
    async fn next(&mut self) {
        let mut buffer = vec![0; EVENT_BYTES];
        let read = match &mut self.inotify {
            Some(inotify) => inotify.read(&mut buffer).await.ok(),
            None => None,
        };
        if read.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
