//! The link to the server: dial, say hello, serve requests, tell news; and redial for ever.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use shed_link::{
    BOX_SOCKET, Conn, Hello, LINK_SOCKET, LinkError, News, Op, PROTOCOL, Picture, Refusal, Reply,
    Request, Spawn, Status, Welcome,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::launch::{Started, launch};
use crate::run::run as run_command;
use crate::say;
use crate::watch::tmux_version;
use crate::worker::Shared;

/// How long the server may take to greet.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// The first pause after a failed dial; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause. A server that comes back is noticed by its new socket, not by this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Answers that wait to be sent. The tasks that make them wait then.
const OUTBOX: usize = 64;
/// Ends of detached commands kept for the next link; the oldest go first.
const MAX_KEPT_ENDS: usize = 256;

/// Room for many inotify events; what they say does not matter.
const EVENT_BYTES: usize = 4 << 10;

/// Dials for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut arrivals = Arrivals::watch(&shared.place.link_dir);
    let ends = Arc::new(Ends::default());
    shared.watcher.settled().await;
    let mut pause = FIRST_PAUSE;
    loop {
        match try_serve(&shared, &ends).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(Dial::Refused) => {}
            Err(Dial::Broken(why)) => say(&format!("shed-init: {why}")),
        }
        tokio::select! {
            () = arrivals.next() => pause = FIRST_PAUSE,
            () = sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
        }
    }
}

/// Why a link did not come about, or ended badly.
enum Dial {
    /// Nobody listens; no news.
    Refused,
    /// Something worth a line in the log.
    Broken(String),
}

impl From<LinkError> for Dial {
    fn from(error: LinkError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// One connection, from dialling to its orderly end.
async fn try_serve(shared: &Arc<Shared>, ends: &Arc<Ends>) -> Result<(), Dial> {
    let path = shared.place.link_dir.join(LINK_SOCKET);
    let socket = UnixStream::connect(&path).await.map_err(|_| Dial::Refused)?;
    let mut conn = Conn::new(socket);
    let user = &shared.place.user;
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: shared.boot.clone(),
        user: user.name.clone(),
        uid: user.uid,
        home: user.home.clone(),
        tmux: tmux_version(shared).await,
        program: shared.place.program.to_string_lossy().into_owned(),
        socket: shared.place.run_dir.join(BOX_SOCKET).to_string_lossy().into_owned(),
        worktrees: shared.place.worktrees.to_string_lossy().into_owned(),
        workspace: shared.place.workspace.to_string_lossy().into_owned(),
        confine: shared.confine.clone(),
    };
    conn.send(&hello, &[]).await?;
    let greeted = timeout(GREETING_LIMIT, conn.recv::<Welcome>()).await;
    let Ok(greeted) = greeted else {
        return Err(Dial::Broken("the server does not greet".to_owned()));
    };
    if greeted?.is_none() {
        // Refused after a look at who we are.
        return Err(Dial::Refused);
    }
    let processes = Arc::new(Processes::default());
    let ended = serve(shared, ends, &processes, &mut conn).await;
    processes.hang_up();
    shared.watcher.look(0);
    ended.map_err(Dial::from)
}

/// One thing the serving loop does next.
enum Turn {
    Request(Option<(serde_json::Value, Vec<OwnedFd>)>),
    Answer(News),
    Picture,
    Ended(String, Status),
}

async fn serve(
    shared: &Arc<Shared>,
    ends: &Arc<Ends>,
    processes: &Arc<Processes>,
    conn: &mut Conn,
) -> Result<(), LinkError> {
    let (answer, mut answers) = mpsc::channel(OUTBOX);
    let mut pictures = shared.watcher.picture.subscribe();
    pictures.mark_changed();
    loop {
        let turn = tokio::select! {
            request = conn.recv() => Turn::Request(request?),
            // `answer` lives as long as this loop.
            Some(news) = answers.recv() => Turn::Answer(news),
            _ = pictures.changed() => Turn::Picture,
            (tag, status) = ends.first() => Turn::Ended(tag, status),
        };
        match turn {
            Turn::Request(None) => return Ok(()),
            Turn::Request(Some((request, fds))) => {
                let context = Context {
                    shared: Arc::clone(shared),
                    ends: Arc::clone(ends),
                    processes: Arc::clone(processes),
                    answer: answer.clone(),
                };
                context.take(request, fds);
            }
            Turn::Answer(news) => conn.send(&news, &[]).await?,
            Turn::Picture => {
                if let Some(picture) = newest(&mut pictures) {
                    conn.send(&News::Picture(picture), &[]).await?;
                }
            }
            Turn::Ended(tag, status) => {
                conn.send(&News::DetachedEnded { tag, status }, &[]).await?;
                ends.drop_first();
            }
        }
    }
}

fn newest(pictures: &mut watch::Receiver<Option<Picture>>) -> Option<Picture> {
    pictures.borrow_and_update().clone()
}

/// What a request's task holds. It ends with its answer, or for a process with the process.
struct Context {
    shared: Arc<Shared>,
    ends: Arc<Ends>,
    processes: Arc<Processes>,
    answer: mpsc::Sender<News>,
}

impl Context {
    fn take(self, request: serde_json::Value, fds: Vec<OwnedFd>) {
        let id = request.get("id").and_then(serde_json::Value::as_u64).unwrap_or_default();
        match serde_json::from_value::<Request>(request) {
            Ok(Request { op: Op::Signal { process, signal }, .. }) => {
                self.processes.signal(process, signal);
            }
            Ok(Request { op: Op::Look { seconds }, .. }) => self.shared.watcher.look(seconds),
            Ok(Request { id, op: Op::Ping }) => {
                tokio::spawn(async move { self.reply(id, Reply::Done).await });
            }
            Ok(Request { id, op: Op::Spawn(spawn) }) => {
                tokio::spawn(self.spawn(id, spawn, fds));
            }
            Ok(Request { id, op: Op::Run(run) }) => {
                tokio::spawn(async move {
                    let is_tmux = run.argv.first().is_some_and(|word| word == "tmux");
                    let ran = run_command(&self.shared.place, &self.shared.stages, run).await;
                    if is_tmux {
                        self.shared.watcher.hurry();
                    }
                    self.reply(id, ran.map_or_else(Reply::Refused, Reply::Ran)).await;
                });
            }
            Ok(Request { id, op: Op::Offer { token, spawn } }) => {
                let put = match <[OwnedFd; 1]>::try_from(fds) {
                    Ok([tap]) => self.shared.offers.put(token, spawn, tap),
                    Err(_) => {
                        Err(Refusal::Invalid("an offer comes with one descriptor".to_owned()))
                    }
                };
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
        // The link is gone when this fails; so is the server's wish to know.
        self.answer.send(News::Reply { id, reply }).await.ok();
    }

    async fn spawn(self, id: u64, spawn: Spawn, fds: Vec<OwnedFd>) {
        let tag = spawn.detached.clone();
        let started = launch(&self.shared.place, &self.shared.stages, spawn, fds).await;
        let Started { pid, ended } = match started {
            Ok(started) => started,
            Err(refusal) => return self.reply(id, Reply::Refused(refusal)).await,
        };
        self.processes.add(id, pid, tag.is_some());
        let number = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
        self.reply(id, Reply::Started { pid: number }).await;
        let Ok(status) = ended.await else {
            return;
        };
        self.processes.remove(id);
        self.shared.watcher.recheck();
        match tag {
            Some(tag) => self.ends.add(tag, status),
            // The link is gone when this fails.
            None => drop(self.answer.send(News::Exited { process: id, status }).await),
        }
    }
}

/// The processes of one connection, by request id.
#[derive(Debug, Default)]
struct Processes {
    running: Mutex<HashMap<u64, Process>>,
}

#[derive(Debug, Clone, Copy)]
struct Process {
    group: Pid,
    detached: bool,
}

impl Processes {
    fn add(&self, id: u64, group: Pid, detached: bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(id, Process { group, detached });
    }

    fn remove(&self, id: u64) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn signal(&self, id: u64, number: u8) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(process), Some(signal)) =
            (running.get(&id), Signal::from_named_raw(i32::from(number)))
        {
            // Ended in between: nothing left to signal.
            kill_process_group(process.group, signal).ok();
        }
    }

    /// A caller that is gone means HUP to its commands, nothing more; what is in tmux lives on.
    fn hang_up(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for process in running.values().filter(|process| !process.detached) {
            kill_process_group(process.group, Signal::HUP).ok();
        }
    }
}

/// Ends of detached commands the server has not been told yet.
#[derive(Debug, Default)]
struct Ends {
    kept: Mutex<VecDeque<(String, Status)>>,
    added: tokio::sync::Notify,
}

impl Ends {
    fn add(&self, tag: String, status: Status) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_KEPT_ENDS {
            kept.pop_front();
        }
        kept.push_back((tag, status));
        self.added.notify_one();
    }

    /// The oldest, left in place until [`Self::drop_first`].
    async fn first(&self) -> (String, Status) {
        loop {
            if let Some(first) = self.peek() {
                return first;
            }
            self.added.notified().await;
        }
    }

    fn peek(&self) -> Option<(String, Status)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    fn drop_first(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

/// Tells when something new appears in the link directory: the socket of a server that came back. A receiver of tokio's is
/// any descriptor that can be polled and read, which an inotify is.
struct Arrivals {
    inotify: Option<pipe::Receiver>,
}

impl Arrivals {
    fn watch(dir: &Path) -> Self {
        let inotify =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok().and_then(|fd| {
                inotify::add_watch(&fd, dir, WatchFlags::CREATE | WatchFlags::MOVED_TO).ok()?;
                pipe::Receiver::from_file_unchecked(fd.into()).ok()
            });
        Self { inotify }
    }

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
