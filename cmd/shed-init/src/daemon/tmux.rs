//! Watches tmux and stores a snapshot whenever its state has changed. The watch is invisible to the users of tmux.
//!
//! ```text
//!   start server ──▶ watch: list, store ──▶ wait ──┐
//!        ▲             ▲                           │
//!        │             └── something changed ◀─────┤
//!        └──────────────── the server ended ◀──────┘
//! ```
//!
//! While somebody observes, and otherwise every few minutes, the state is also listed beside the waiting watch.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shed_link::{MAX_RUN_OUTPUT_BYTES, Refusal, Run, Status, Tmux, TmuxSnapshot};
use shed_tmux::{TmuxError, version, watch};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::pace::Pace;
use super::run::{run as run_command, start};
use super::state::State;
use super::tmux_socket::CHECK_PERIOD;
use crate::{clock, process_tree};

/// How long a command of tmux may run.
const TMUX_LIMIT_MS: u64 = 5_000;
/// The pause after tmux could not be started or did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often foreground commands and activity are read while somebody observes.
const OBSERVE_PERIOD: Duration = Duration::from_secs(1);
/// How often the state is listed without any change. A user who reloads their tmux configuration may have removed a hook.
const SAFETY_PERIOD: Duration = Duration::from_secs(300);
/// The message when the listing is over the limit of a command's output.
const TOO_MANY: &str = "tmux has more sessions than can be listed";

/// tmux's version; `None` when the image has no tmux.
pub(super) async fn tmux_version(state: &State) -> Option<String> {
    find_tmux()?;
    let output = run_tmux(state, vec!["tmux".to_owned(), "-V".to_owned()]).await.ok()?;
    version::parse(&output)
}

fn find_tmux() -> Option<()> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    path.split(':').any(|dir| Path::new(dir).join("tmux").exists()).then_some(())
}

/// Watches forever.
pub(super) async fn run(state: Arc<State>) {
    let mut pace = Pace::new();
    loop {
        let unavailable = match tmux_version(&state).await {
            None => Tmux::Missing,
            Some(version) if !version::is_supported(&version) => {
                let (major, minor) = version::OLDEST;
                Tmux::Down(format!(
                    "tmux {version} is too old; version {major}.{minor} or later is required"
                ))
            }
            Some(_) => match try_watch(&state, &mut pace).await {
                Failed::NoServer => continue,
                Failed::Other(error) => Tmux::Down(error),
            },
        };
        let missing = unavailable == Tmux::Missing;
        store(&state, unavailable);
        if missing {
            state.tmux.recheck.notified().await;
        } else {
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Why watching ended.
enum Failed {
    /// The tmux server ended and is started again.
    NoServer,
    /// Another error; retried after a pause.
    Other(String),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Other(refusal.to_string())
    }
}

async fn try_watch(state: &State, pace: &mut Pace) -> Failed {
    pace.wait(&state.tmux.hurry).await;
    match run_tmux(state, watch::start_argv()).await {
        Ok(pid) => state.socket.record(&state.settings, &pid).await,
        Err(failed) => return failed,
    }
    // Each daemon has a channel of its own: a watch that was killed stays in its channel and consumes a signal.
    let channel = format!("shed-{}", std::process::id());
    loop {
        let mut watch = match Watch::start(state, &channel).await {
            Ok(watch) => watch,
            Err(failed) => return failed,
        };
        store(state, Tmux::Listing(std::mem::take(&mut watch.listing)));
        while !watch.ended {
            match wait_for_change(state, &mut watch).await {
                Wake::Changed => {}
                Wake::Due => match run_tmux(state, watch::list_argv()).await {
                    Ok(listing) => store(state, Tmux::Listing(listing)),
                    Err(failed) => return failed,
                },
            }
        }
        pace.wait(&state.tmux.hurry).await;
        if state.socket.has_ended().await {
            // A person may have started another one, which must be set up and recorded.
            return Failed::NoServer;
        }
    }
}

/// Why the state is read again.
enum Wake {
    /// The watch ended because something changed.
    Changed,
    /// Somebody observes, or the last listing is old.
    Due,
}

async fn wait_for_change(state: &State, watch: &mut Watch) -> Wake {
    let mut observed_until = state.tmux.observation();
    let safety = Instant::now() + SAFETY_PERIOD;
    loop {
        let is_observed = *observed_until.borrow_and_update() > Instant::now();
        let due = if is_observed { Instant::now() + OBSERVE_PERIOD } else { safety };
        tokio::select! {
            () = watch.end() => return Wake::Changed,
            () = sleep_until(due) => return Wake::Due,
            () = sleep(CHECK_PERIOD) => {
                // The listing reports a failure.
                if state.socket.ensure(state).await.is_err() {
                    return Wake::Due;
                }
            }
            changed = observed_until.changed() => {
                // An observation that begins gets a new listing at once. One that is prolonged waits for the next one.
                let begins =
                    changed.is_ok() && !is_observed && *observed_until.borrow() > Instant::now();
                if begins {
                    return Wake::Due;
                }
            }
        }
    }
}

fn store(state: &State, tmux: Tmux) {
    let foreground = match &tmux {
        Tmux::Listing(text) => foreground_of_workers(text),
        Tmux::Missing | Tmux::Down(_) => BTreeMap::new(),
    };
    state.tmux.store(TmuxSnapshot { tmux, at_ms: clock::unix_ms(), foreground });
}

/// The foreground commands on the terminals of workers, by the process id of the runner. tmux only sees the runner.
fn foreground_of_workers(listing: &str) -> BTreeMap<u32, String> {
    let listing = shed_tmux::parse_listing(listing).unwrap_or_default();
    let windows = listing.sessions.iter().flat_map(|session| &session.windows);
    let workers = windows.filter(|window| !window.mark.is_empty());
    workers
        .flat_map(|window| &window.panes)
        .filter(|pane| !pane.dead)
        .filter_map(|pane| Some((pane.pid, process_tree::foreground_of_runner(pane.pid)?)))
        .collect()
}

async fn run_tmux(state: &State, argv: Vec<String>) -> Result<String, Failed> {
    state.socket.ensure(state).await?;
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: TMUX_LIMIT_MS };
    let ran = run_command(state, run).await?;
    if ran.truncated {
        return Err(Failed::Other(TOO_MANY.to_owned()));
    }
    if ran.status == Status::Code(0) { Ok(ran.stdout) } else { Err(failed(&ran.stderr)) }
}

fn failed(stderr: &str) -> Failed {
    match TmuxError::parse(stderr) {
        TmuxError::NoServer | TmuxError::Lost => Failed::NoServer,
        error @ (TmuxError::NoSession
        | TmuxError::Duplicate
        | TmuxError::NoProcess(_)
        | TmuxError::Other(_)) => Failed::Other(error.to_string()),
    }
}

/// A tmux client that has printed the state and waits for a change.
struct Watch {
    listing: String,
    exit: oneshot::Receiver<Status>,
    ended: bool,
}

impl Watch {
    /// Starts a watch and reads its listing.
    async fn start(state: &State, channel: &str) -> Result<Self, Failed> {
        let run = Run {
            argv: watch::watch_argv(channel),
            env: Vec::new(),
            directory: Some("/".to_owned()),
            timeout_ms: TMUX_LIMIT_MS,
        };
        let limit = Duration::from_millis(run.timeout_ms);
        state.socket.ensure(state).await?;
        let piped = start(state, run).await?;
        let mut watch = Self { listing: String::new(), exit: piped.started.exit, ended: false };
        let read = timeout(limit, watch.read(piped.stdout, piped.stderr)).await;
        read.map_err(|_| Failed::from(Refusal::TimedOut))??;
        Ok(watch)
    }

    async fn read(
        &mut self,
        mut stdout: pipe::Receiver,
        mut stderr: pipe::Receiver,
    ) -> Result<(), Failed> {
        let mut bytes = Vec::new();
        loop {
            if stdout.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                let mut message = Vec::new();
                stderr.read_to_end(&mut message).await.ok();
                return Err(failed(&String::from_utf8_lossy(&message)));
            }
            if bytes.len() > MAX_RUN_OUTPUT_BYTES {
                return Err(Failed::Other(TOO_MANY.to_owned()));
            }
            if bytes.ends_with(watch::END.as_bytes()) {
                let text = String::from_utf8_lossy(&bytes);
                // A name may end like a listing. A complete listing parses.
                if shed_tmux::parse_listing(&text).is_ok() {
                    self.listing = text.into_owned();
                    return Ok(());
                }
            }
        }
    }

    /// Waits until the watch ends because something has changed.
    async fn end(&mut self) {
        // Fails only when the reaper has ended, which ends the daemon.
        (&mut self.exit).await.ok();
        self.ended = true;
    }
}
