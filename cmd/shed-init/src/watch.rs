//! The live picture of tmux: asked only when something changed, told whole, invisible to everyone in the box.
//!
//! ```text
//!   start server ──▶ start waiter ──▶ list ──▶ tell ──▶ wait ──┐
//!        ▲               ▲    ▲                                │
//!        │               │    └── the waiter spoke ◀───────────┤
//!        │               └─────── the waiter ended ◀───────────┤
//!        └─────────────────────── the list says no server ◀────┘
//! ```
//!
//! The waiter runs before the list is asked for, so a change in between is told by the waiter.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::pipe::{PipeFlags, pipe_with};
use shed_link::{Io, Picture, Program, Refusal, Run, Spawn, Status, Tmux, User};
use shed_tmux::{TmuxError, version, watch};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::launch::launch;
use crate::run::run as run_command;
use crate::worker::Shared;

/// How long tmux may take to answer.
const TMUX_LIMIT_MS: u64 = 5_000;
/// After tmux could not be started or asked.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// While someone looks, foreground commands and activity are read this often.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// A burst of this many changes is told at once; a program that changes its title all day is told twice a second.
const BURST: u32 = 20;
/// How often one more change may be told at once.
const REFILL: Duration = Duration::from_millis(500);
/// The most news of one waiter that is read at once; only that it spoke matters.
const NEWS_BYTES: usize = 4 << 10;

/// tmux's state, for the link.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// The newest picture; `None` until the first.
    pub(crate) picture: tokio::sync::watch::Sender<Option<Picture>>,
    /// Until when someone looks.
    look_until: tokio::sync::watch::Sender<Instant>,
    /// Something may have brought or taken the tmux program.
    recheck: Notify,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            picture: tokio::sync::watch::Sender::new(None),
            look_until: tokio::sync::watch::Sender::new(Instant::now()),
            recheck: Notify::new(),
        }
    }
}

impl Watcher {
    /// Someone looks for so long from now; 0 ends it.
    pub(crate) fn look(&self, seconds: u32) {
        self.look_until.send_replace(Instant::now() + Duration::from_secs(u64::from(seconds)));
    }

    /// Look again whether there is a tmux: a command that ran as root may have installed one.
    pub(crate) fn recheck(&self) {
        self.recheck.notify_one();
    }
}

/// Whether there is a tmux, and which.
pub(crate) async fn tmux_version(shared: &Shared) -> Option<String> {
    find_tmux()?;
    let ran = run_tmux(shared, vec!["tmux".to_owned(), "-V".to_owned()]).await.ok()?;
    version::parse(&ran)
}

fn find_tmux() -> Option<()> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    path.split(':').any(|dir| Path::new(dir).join("tmux").exists()).then_some(())
}

/// Watches for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut pace = Pace::new();
    loop {
        let trouble = match tmux_version(&shared).await {
            None => Tmux::Missing,
            Some(version) if !version::is_supported(&version) => {
                Tmux::Down(format!("tmux {version} is too old; 3.2 is the oldest that works"))
            }
            Some(_) => match try_watch(&shared, &mut pace).await {
                Trouble::NoServer => continue,
                Trouble::Other(why) => Tmux::Down(why),
            },
        };
        let missing = trouble == Tmux::Missing;
        tell(&shared, trouble);
        if missing {
            shared.watcher.recheck.notified().await;
        } else {
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Why watching ended.
enum Trouble {
    /// Somebody ended the server: start one.
    NoServer,
    /// Something that does not mend at once.
    Other(String),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Other(refusal.to_string())
    }
}

async fn try_watch(shared: &Shared, pace: &mut Pace) -> Trouble {
    pace.wait().await;
    if let Err(trouble) = run_tmux(shared, watch::start_argv()).await {
        return trouble;
    }
    let mut waiter_number = 0_u64;
    loop {
        waiter_number += 1;
        // A name of its own for each waiter: one that was killed stays in its channel and eats a signal.
        let channel = format!("shed-{}-{waiter_number}", std::process::id());
        let mut waiter = match Waiter::start(shared, &channel).await {
            Ok(waiter) => waiter,
            Err(refusal) => return refusal.into(),
        };
        loop {
            let listing = match run_tmux(shared, watch::list_argv(&channel)).await {
                Ok(listing) => listing,
                Err(trouble) => return trouble,
            };
            tell(shared, Tmux::Listing(listing));
            if waiter.ended {
                break;
            }
            wait_for_change(shared, &mut waiter).await;
            pace.wait().await;
        }
    }
}

/// Returns when the waiter spoke or ended, or when someone who looks is due fresh facts.
async fn wait_for_change(shared: &Shared, waiter: &mut Waiter) {
    let mut look_until = shared.watcher.look_until.subscribe();
    loop {
        let until = *look_until.borrow_and_update();
        let looking = until > Instant::now();
        let due = Instant::now() + LOOK_PERIOD;
        tokio::select! {
            () = waiter.news() => return,
            () = sleep_until(due), if looking => return,
            changed = look_until.changed() => {
                // A new look begins with fresh facts; a prolonged one is due in its time.
                let begins = changed.is_ok() && !looking && *look_until.borrow() > Instant::now();
                if begins {
                    return;
                }
            }
        }
    }
}

fn tell(shared: &Shared, tmux: Tmux) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    let looking = *shared.watcher.look_until.borrow() > Instant::now();
    shared.watcher.picture.send_if_modified(|picture| {
        let changed = picture.as_ref().is_none_or(|known| known.tmux != tmux);
        if changed || looking {
            *picture = Some(Picture { tmux, at_ms });
        }
        changed || looking
    });
}

async fn run_tmux(shared: &Shared, argv: Vec<String>) -> Result<String, Trouble> {
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: TMUX_LIMIT_MS };
    let ran = run_command(&shared.place, &shared.reaper, run).await?;
    if ran.truncated {
        return Err(Trouble::Other("tmux has more sessions than can be shown".to_owned()));
    }
    if ran.status == Status::Code(0) {
        return Ok(ran.stdout);
    }
    match TmuxError::parse(&ran.stderr) {
        TmuxError::NoServer => Err(Trouble::NoServer),
        error => Err(Trouble::Other(error.to_string())),
    }
}

/// A `tmux -C wait-for` of ours.
struct Waiter {
    news: pipe::Receiver,
    /// An end of file on its input would end it.
    _input: OwnedFd,
    exit: oneshot::Receiver<Status>,
    ended: bool,
}

impl Waiter {
    async fn start(shared: &Shared, channel: &str) -> Result<Self, Refusal> {
        let failed = |error: String| Refusal::NoResources(error);
        let (news, output) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.to_string()))?;
        let (stdin, input) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.to_string()))?;
        let stderr = rustix::io::fcntl_dupfd_cloexec(&output, 3)
            .map_err(|error| failed(error.to_string()))?;
        let spawn = Spawn {
            program: Program::Argv(watch::wait_argv(channel)),
            env: Vec::new(),
            directory: Some("/".to_owned()),
            user: User::Dev,
            io: Io::Pipes,
            detached: None,
        };
        let fds = vec![stdin, output, stderr];
        let started = launch(&shared.place, &shared.reaper, spawn, fds).await?;
        let news =
            pipe::Receiver::from_owned_fd(news).map_err(|error| failed(error.to_string()))?;
        Ok(Self { news, _input: input, exit: started.ended, ended: false })
    }

    /// Returns when it printed something or ended.
    async fn news(&mut self) {
        let mut buffer = vec![0; NEWS_BYTES];
        tokio::select! {
            read = self.news.read(&mut buffer) => self.ended = matches!(read, Ok(0) | Err(_)),
            _ = &mut self.exit => self.ended = true,
        }
    }
}

/// Lets a burst through and slows a stream down.
struct Pace {
    tokens: u32,
    refilled: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { tokens: BURST, refilled: Instant::now() }
    }

    async fn wait(&mut self) {
        loop {
            let since = self.refilled.elapsed();
            let earned = u32::try_from(since.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
            if earned > 0 {
                self.tokens = BURST.min(self.tokens.saturating_add(earned));
                self.refilled = Instant::now();
            }
            if self.tokens > 0 {
                self.tokens -= 1;
                return;
            }
            sleep_until(self.refilled + REFILL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_told_at_once_and_a_stream_twice_a_second() {
        let mut pace = Pace::new();
        let start = Instant::now();
        for _ in 0..BURST {
            pace.wait().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            pace.wait().await;
        }
        assert_eq!(start.elapsed(), 4 * REFILL);
    }
}
