//! A live link to a container's shed-init: the server sends requests, shed-init answers and reports.

mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shed_api::ShedName;
use shed_link::{
    Hello, Io, Op, Program, Ran, Reply, Request, Run, Spawn, Status, TmuxSnapshot, User,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use serve::listen;

use crate::Error;
use crate::connection::Connection;
use crate::stream::{Control, ExitWait, Stream};
use crate::transport::{Ends, Helper, Opened, Pipes, Streams, TerminalEnds};

/// How long shed-init may take to start a process or to refuse.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long shed-init may take to answer a ping.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// The number of SIGHUP, on every architecture: the caller of a process went away.
pub(crate) const HANGUP: u8 = 1;

/// What a link reports to the keeper of its shed.
#[derive(Debug)]
pub enum LinkEvent {
    /// shed-init said hello.
    Up(Link),
    /// That link ended.
    Down(Link),
    /// tmux's state, and the link that reported it.
    TmuxSnapshot(Link, TmuxSnapshot),
    /// A detached command ended.
    DetachedEnded {
        /// The tag it was started with.
        tag: String,
        /// How it ended.
        status: Status,
    },
}

/// A live link. Clones are the same link.
#[derive(Debug, Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shed: ShedName,
    requests: mpsc::Sender<Queued>,
    next_id: AtomicU64,
    hello: Hello,
    gone: CancellationToken,
    streams: Arc<dyn Streams>,
}

/// A request on its way, with the far ends of its streams, and who waits for its answer and for its process.
#[derive(Debug)]
struct Queued {
    request: Request,
    ends: Ends,
    reply: Option<oneshot::Sender<Reply>>,
    exit: Option<oneshot::Sender<Status>>,
}

/// A process that shed-init started: its id in requests, and how it ends.
struct Process {
    id: u64,
    exit: oneshot::Receiver<Status>,
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Link {
    /// The shed it leads to.
    pub fn shed(&self) -> &ShedName {
        &self.inner.shed
    }

    /// What shed-init reported about itself.
    pub fn hello(&self) -> &Hello {
        &self.inner.hello
    }

    /// Cancelled when the link ends.
    pub fn gone(&self) -> CancellationToken {
        self.inner.gone.clone()
    }

    /// The directory of all spools, on the worktrees' volume, as a path in the container.
    pub fn spool_dir(&self) -> String {
        format!("{}/.shed/spool", self.hello().worktrees)
    }

    /// Runs a short command as `dev` and returns what it printed.
    pub async fn run(&self, run: Run) -> Result<Ran, Error> {
        let limit = Duration::from_millis(run.timeout_ms) + START_LIMIT;
        match self.ask(Op::Run(run), Ends::none(), None, limit).await?.1 {
            Reply::Ran(ran) => Ok(ran),
            Reply::Refused(refusal) => Err(Error::Refused(refusal)),
            Reply::Started { .. } | Reply::Done => Err(self.unreachable()),
        }
    }

    /// Starts a process with pipes or with a terminal, as its `io` says.
    pub async fn start(&self, spawn: Spawn) -> Result<Stream, Error> {
        match spawn.io {
            Io::Tty { .. } => {
                let opened = self.inner.streams.terminal()?;
                let (process, near) = self.spawn_with(spawn, opened).await?;
                let TerminalEnds { input, output, terminal } = near;
                let control = Control::of_process(self.clone(), process.id, Some(terminal));
                let exit = ExitWait::new(process.exit);
                Ok(Stream { input: Some(input), output, errors: None, control, exit })
            }
            Io::Pipes | Io::Socket | Io::OutputSocket | Io::Prelude | Io::Null => {
                let opened = self.inner.streams.pipes()?;
                let (process, near) = self.spawn_with(spawn, opened).await?;
                let Pipes { input, output, errors } = near;
                let control = Control::of_process(self.clone(), process.id, None);
                let exit = ExitWait::new(process.exit);
                Ok(Stream { input: Some(input), output, errors: Some(errors), control, exit })
            }
        }
    }

    /// Starts a process without streams that outlives the link.
    pub async fn start_detached(&self, spawn: Spawn) -> Result<(), Error> {
        self.spawn(spawn, Ends::none()).await.map(drop)
    }

    /// Starts a program of shed-init's with pipes, as `dev`.
    pub async fn start_own(&self, words: &[&str]) -> Result<Stream, Error> {
        self.start(own_program(words, Io::Pipes)).await
    }

    /// Starts a program of shed-init's that has a connection to the server as its input, as `dev`. Closing the connection
    /// ends the program.
    pub async fn start_connected(&self, words: &[&str]) -> Result<Connection, Error> {
        let opened = self.inner.streams.connection()?;
        Ok(self.spawn_with(own_program(words, Io::Socket), opened).await?.1)
    }

    /// Starts a helper of shed-init's (`connect`, `listen`) as `dev`.
    pub async fn start_helper(&self, words: &[&str]) -> Result<Helper, Error> {
        let opened = self.inner.streams.helper()?;
        Ok(self.spawn_with(own_program(words, Io::Socket), opened).await?.1)
    }

    /// Leaves a command for the runner that will claim it with `token`; returns the connection to that runner.
    pub async fn offer(&self, token: String, spawn: Spawn) -> Result<Connection, Error> {
        let Opened { ends, near } = self.inner.streams.connection()?;
        match self.ask(Op::Offer { token, spawn }, ends, None, START_LIMIT).await?.1 {
            Reply::Done => near.await,
            Reply::Refused(refusal) => Err(Error::Refused(refusal)),
            Reply::Ran(_) | Reply::Started { .. } => Err(self.unreachable()),
        }
    }

    /// Sends a signal to a process group. Sent later if the link is busy; not at all if it is gone.
    pub(crate) fn signal(&self, process: u64, signal: u8) {
        self.notify(Op::Signal { process, signal });
    }

    /// Checks that shed-init answers, and ends the link if it does not: a program that is stopped or stuck keeps its socket
    /// open, and its last reports would look current.
    pub async fn check(&self) {
        if self.ask(Op::Ping, Ends::none(), None, PING_LIMIT).await.is_err() {
            tracing::warn!(shed = %self.inner.shed, "its shed-init does not answer any more");
            self.inner.gone.cancel();
        }
    }

    /// Asks shed-init to read foreground commands and activity every second, for so many seconds.
    pub fn observe(&self, seconds: u32) {
        self.notify(Op::Observe { seconds });
    }

    async fn spawn_with<T>(&self, spawn: Spawn, opened: Opened<T>) -> Result<(Process, T), Error> {
        let process = self.spawn(spawn, opened.ends).await?;
        // shed-init has sent its part before it answered; one that did not is not waited for.
        let near = timeout(START_LIMIT, opened.near).await;
        match near.unwrap_or_else(|_| Err(self.unreachable())) {
            Ok(near) => Ok((process, near)),
            Err(error) => {
                self.signal(process.id, HANGUP);
                Err(error)
            }
        }
    }

    async fn spawn(&self, spawn: Spawn, ends: Ends) -> Result<Process, Error> {
        let (exit, exited) = oneshot::channel();
        let (id, reply) = self.ask(Op::Spawn(spawn), ends, Some(exit), START_LIMIT).await?;
        match reply {
            Reply::Started { .. } => Ok(Process { id, exit: exited }),
            Reply::Refused(refusal) => Err(Error::Refused(refusal)),
            Reply::Ran(_) | Reply::Done => Err(self.unreachable()),
        }
    }

    /// Sends a request that has no answer.
    fn notify(&self, op: Op) {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request { id, op };
        let queued = Queued { request, ends: Ends::none(), reply: None, exit: None };
        if let Err(mpsc::error::TrySendError::Full(queued)) = self.inner.requests.try_send(queued) {
            let requests = self.inner.requests.clone();
            // Ends when the link takes it or ends; bounded by what its callers hold open.
            tokio::spawn(async move { requests.send(queued).await.ok() });
        }
    }

    async fn ask(
        &self,
        op: Op,
        ends: Ends,
        exit: Option<oneshot::Sender<Status>>,
        limit: Duration,
    ) -> Result<(u64, Reply), Error> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, replied) = oneshot::channel();
        let queued = Queued { request: Request { id, op }, ends, reply: Some(reply), exit };
        let asked = async {
            self.inner.requests.send(queued).await.map_err(|_| self.unreachable())?;
            replied.await.map_err(|_| self.unreachable())
        };
        match timeout(limit, asked).await {
            Ok(reply) => Ok((id, reply?)),
            Err(_) => Err(self.unreachable()),
        }
    }

    fn unreachable(&self) -> Error {
        Error::Unreachable(self.inner.shed.clone())
    }
}

/// A program of shed-init's, as `dev`.
fn own_program(words: &[&str], io: Io) -> Spawn {
    Spawn {
        program: Program::Own(words.iter().map(|word| (*word).to_owned()).collect()),
        env: Vec::new(),
        locale: Vec::new(),
        directory: None,
        user: User::Dev,
        io,
        detached: None,
        worker: None,
    }
}
