//! The live picture of tmux: asked only when something changed, told whole, invisible to everyone in the box.
//!
//! ```text
//!   start server ──▶ watch: list, tell ──▶ wait ──┐
//!        ▲             ▲                          │
//!        │             └── something changed ◀────┤
//!        └──────────────── the server is gone ◀───┘
//! ```
//!
//! While someone looks, and once in a long while, a second list is made beside the waiting watch.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use shed_link::{
    Io, MAX_RUN_OUTPUT_BYTES, Picture, Program, Refusal, Run, Spawn, Status, Tmux, User,
};
use shed_tmux::{TmuxError, version, watch};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::launch::launch;
use crate::run::{output_pipe, run as run_command};
use crate::worker::Shared;

/// How long tmux may take to answer.
const TMUX_LIMIT_MS: u64 = 5_000;
/// How long the rest waits for the first look at tmux.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);
/// After tmux could not be started or asked.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// While someone looks, foreground commands and activity are read this often.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// A burst of this many changes is told at once; a program that changes its title all day is told twice a second.
const BURST: u32 = 20;
/// How often one more change may be told at once.
const REFILL: Duration = Duration::from_millis(500);
/// Without any news the state is read again after this: a user's reload of their configuration may have taken a hook away.
const SAFETY_PERIOD: Duration = Duration::from_secs(300);
/// Why there is no picture of very many sessions.
const TOO_MANY: &str = "tmux has more sessions than can be shown";

/// tmux's state, for the link.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// The newest picture; `None` until the first.
    pub(crate) picture: tokio::sync::watch::Sender<Option<Picture>>,
    /// Until when someone looks.
    look_until: tokio::sync::watch::Sender<Instant>,
    /// Something may have brought or taken the tmux program.
    recheck: Notify,
    /// The server had something done, and waits to see it.
    hurry: Notify,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            picture: tokio::sync::watch::Sender::new(None),
            look_until: tokio::sync::watch::Sender::new(Instant::now()),
            recheck: Notify::new(),
            hurry: Notify::new(),
        }
    }
}

impl Watcher {
    /// Waits until tmux was looked at once: its server runs then, or cannot. Two that start at the same moment would end
    /// each other.
    pub(crate) async fn settled(&self) {
        let mut picture = self.picture.subscribe();
        let first = picture.wait_for(Option::is_some);
        timeout(SETTLE_LIMIT, first).await.ok();
    }

    /// Someone looks for so long from now; 0 ends it.
    pub(crate) fn look(&self, seconds: u32) {
        self.look_until.send_replace(Instant::now() + Duration::from_secs(u64::from(seconds)));
    }

    /// Look again whether there is a tmux: a command that ran as root may have installed one.
    pub(crate) fn recheck(&self) {
        self.recheck.notify_one();
    }

    /// What changes next is told at once, however much changed lately: the server had it done.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
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
    pace.wait(&shared.watcher.hurry).await;
    if let Err(trouble) = run_tmux(shared, watch::start_argv()).await {
        return trouble;
    }
    // A name of this worker's own: a watch that was killed stays in its channel and eats a signal.
    let channel = format!("shed-{}", std::process::id());
    loop {
        let mut watch = match Watch::start(shared, &channel).await {
            Ok(watch) => watch,
            Err(trouble) => return trouble,
        };
        tell(shared, Tmux::Listing(std::mem::take(&mut watch.listing)));
        while !watch.ended {
            match wait_for_change(shared, &mut watch).await {
                Change::Told => {}
                Change::Due => match run_tmux(shared, watch::list_argv()).await {
                    Ok(listing) => tell(shared, Tmux::Listing(listing)),
                    Err(trouble) => return trouble,
                },
            }
        }
        pace.wait(&shared.watcher.hurry).await;
    }
}

/// Why the state is read again.
enum Change {
    /// The watch ended.
    Told,
    /// Someone looks, or it is long ago.
    Due,
}

async fn wait_for_change(shared: &Shared, watch: &mut Watch) -> Change {
    let mut look_until = shared.watcher.look_until.subscribe();
    let long_ago = Instant::now() + SAFETY_PERIOD;
    loop {
        let looking = *look_until.borrow_and_update() > Instant::now();
        let due = if looking { Instant::now() + LOOK_PERIOD } else { long_ago };
        tokio::select! {
            () = watch.end() => return Change::Told,
            () = sleep_until(due) => return Change::Due,
            changed = look_until.changed() => {
                // A new look begins with fresh facts; a prolonged one is due in its time.
                let begins = changed.is_ok() && !looking && *look_until.borrow() > Instant::now();
                if begins {
                    return Change::Due;
                }
            }
        }
    }
}

fn tell(shared: &Shared, tmux: Tmux) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    let looking = *shared.watcher.look_until.borrow() > Instant::now();
    let foreground = match &tmux {
        Tmux::Listing(text) => foreground_of_workers(text),
        Tmux::Missing | Tmux::Down(_) => BTreeMap::new(),
    };
    shared.watcher.picture.send_if_modified(|picture| {
        let changed = picture.as_ref().is_none_or(|known| known.tmux != tmux);
        if changed || looking {
            *picture = Some(Picture { tmux, at_ms, foreground });
        }
        changed || looking
    });
}

/// What runs in the foreground of the workers' own terminals, by the runner that tmux sees.
fn foreground_of_workers(listing: &str) -> BTreeMap<u32, String> {
    let listing = shed_tmux::parse_listing(listing).unwrap_or_default();
    let windows = listing.sessions.iter().flat_map(|session| &session.windows);
    let workers = windows.filter(|window| !window.mark.is_empty());
    workers
        .flat_map(|window| &window.panes)
        .filter(|pane| !pane.dead)
        .filter_map(|pane| Some((pane.pid, foreground_below(pane.pid)?)))
        .collect()
}

/// The foreground command of the terminal that a runner's child has. `None` for any other process.
fn foreground_below(runner: u32) -> Option<String> {
    let command_line = std::fs::read(format!("/proc/{runner}/cmdline")).ok()?;
    if command_line.split(|byte| *byte == 0).nth(1)? != b"run" {
        return None;
    }
    let children =
        std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
    // After the name, which may hold anything: state, parent, group, session, terminal, its foreground group.
    let group = stat.rsplit_once(')')?.1.split_whitespace().nth(5)?;
    let name = std::fs::read_to_string(format!("/proc/{group}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

async fn run_tmux(shared: &Shared, argv: Vec<String>) -> Result<String, Trouble> {
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: TMUX_LIMIT_MS };
    let ran = run_command(&shared.place, &shared.stages, run).await?;
    if ran.truncated {
        return Err(Trouble::Other(TOO_MANY.to_owned()));
    }
    if ran.status == Status::Code(0) { Ok(ran.stdout) } else { Err(trouble(&ran.stderr)) }
}

fn trouble(stderr: &str) -> Trouble {
    match TmuxError::parse(stderr) {
        TmuxError::NoServer | TmuxError::Lost => Trouble::NoServer,
        error @ (TmuxError::NoSession | TmuxError::Duplicate | TmuxError::Other(_)) => {
            Trouble::Other(error.to_string())
        }
    }
}

/// A client of ours that has printed the state and waits for a change.
struct Watch {
    listing: String,
    exit: oneshot::Receiver<Status>,
    ended: bool,
}

impl Watch {
    /// Starts one and reads its listing.
    async fn start(shared: &Shared, channel: &str) -> Result<Self, Trouble> {
        let (out, stdout) = output_pipe()?;
        let (err, stderr) = output_pipe()?;
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let stdin = null.map_err(|error| Trouble::Other(error.to_string()))?;
        let spawn = Spawn {
            program: Program::Argv(watch::watch_argv(channel)),
            env: Vec::new(),
            directory: Some("/".to_owned()),
            user: User::Dev,
            io: Io::Pipes,
            detached: None,
            worker: None,
        };
        let started =
            launch(&shared.place, &shared.stages, spawn, vec![stdin, stdout, stderr]).await?;
        let mut watch = Self { listing: String::new(), exit: started.ended, ended: false };
        let read = timeout(Duration::from_millis(TMUX_LIMIT_MS), watch.read(out, err)).await;
        read.map_err(|_| Trouble::from(Refusal::TimedOut))??;
        Ok(watch)
    }

    async fn read(
        &mut self,
        mut out: pipe::Receiver,
        mut err: pipe::Receiver,
    ) -> Result<(), Trouble> {
        let mut bytes = Vec::new();
        loop {
            if out.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                let mut said = Vec::new();
                err.read_to_end(&mut said).await.ok();
                return Err(trouble(&String::from_utf8_lossy(&said)));
            }
            if bytes.len() > MAX_RUN_OUTPUT_BYTES {
                return Err(Trouble::Other(TOO_MANY.to_owned()));
            }
            if bytes.ends_with(watch::END.as_bytes()) {
                let text = String::from_utf8_lossy(&bytes);
                // A name may end as a listing does; a listing that is whole parses.
                if shed_tmux::parse_listing(&text).is_ok() {
                    self.listing = text.into_owned();
                    return Ok(());
                }
            }
        }
    }

    /// Returns when something changed.
    async fn end(&mut self) {
        // The reaper lives as long as this.
        (&mut self.exit).await.ok();
        self.ended = true;
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

    /// Waits until one more change may be told, or until somebody waits for it.
    async fn wait(&mut self, hurry: &Notify) {
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
            tokio::select! {
                () = sleep_until(self.refilled + REFILL) => {}
                () = hurry.notified() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_told_at_once_and_a_stream_twice_a_second() {
        let (mut pace, hurry) = (Pace::new(), Notify::new());
        let start = Instant::now();
        for _ in 0..BURST {
            pace.wait(&hurry).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            pace.wait(&hurry).await;
        }
        assert_eq!(start.elapsed(), 4 * REFILL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_waits_for_is_told_at_once() {
        let (mut pace, hurry) = (Pace::new(), Notify::new());
        for _ in 0..BURST {
            pace.wait(&hurry).await;
        }
        let start = Instant::now();
        hurry.notify_one();
        pace.wait(&hurry).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.wait(&hurry).await;
        assert_eq!(start.elapsed(), REFILL);
    }
}
