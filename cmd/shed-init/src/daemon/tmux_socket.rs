//! The socket of tmux's server. When its file is removed or replaced while the server runs, the server is told to create it
//! again (SIGUSR1). Without that, the next tmux client would start a second server, and nobody could enter the sessions of
//! the first one.
//!
//! The file is checked before every tmux client that shed-init starts, and every few seconds for the clients that people
//! start themselves. A check is one `lstat`.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shed_link::{Refusal, Run};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::run::run;
use super::state::State;
use crate::settings::Settings;
use crate::{log, process_tree};

/// How often the file is checked while no client is started.
pub(super) const CHECK_PERIOD: Duration = Duration::from_secs(5);
/// A server that ends removes its socket first. This is how long it may take to end after that.
const END_LIMIT: Duration = Duration::from_millis(200);
/// How long a server may take to create its socket.
const REPAIR_LIMIT: Duration = Duration::from_secs(2);
/// How long the client may run that creates the directory of the socket.
const CLIENT_LIMIT_MS: u64 = 2_000;
/// The pause between two checks of a condition.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// The file in [`Settings::run_dir`] that stores the server for the next daemon.
const RECORD: &str = "tmux-server";

/// What is known of tmux's server.
#[derive(Debug)]
pub(super) struct TmuxSocket {
    /// `None` before the first server. The lock is held during a repair.
    server: Mutex<Option<Server>>,
}

/// A server that has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Server {
    pid: Pid,
    /// Its start time: a process id may be reused.
    start: u64,
    /// Device and inode of its socket. The inode is not reused while the server has the socket open.
    file: (u64, u64),
}

impl TmuxSocket {
    /// Reads what an earlier daemon has stored.
    pub(super) fn load(settings: &Settings) -> Self {
        let text = std::fs::read_to_string(settings.run_dir.join(RECORD)).unwrap_or_default();
        Self { server: Mutex::new(Server::parse(&text)) }
    }

    /// Records the server that has just answered with its process id. The answer comes from the shed, so a process of
    /// another user is not recorded: it would be signalled.
    pub(super) async fn record(&self, settings: &Settings, answer: &str) {
        let found = Server::find(settings, answer);
        let mut server = self.server.lock().await;
        if let Some(found) = found
            && *server != Some(found)
        {
            found.save(settings);
            *server = Some(found);
        }
    }

    /// Whether the recorded server has ended.
    pub(super) async fn has_ended(&self) -> bool {
        self.server.lock().await.is_some_and(|server| !server.runs())
    }

    /// Has the running server create its socket again if the file is not the server's. Does nothing when no server runs.
    /// Fails when the server does not create its socket; a client that is started then would start another server.
    pub(super) async fn ensure(&self, state: &State) -> Result<(), Refusal> {
        let settings = &state.settings;
        let mut server = self.server.lock().await;
        let Some(known) = server.as_mut() else {
            return Ok(());
        };
        let is_intact = || socket_file(settings) == Some(known.file) || !known.runs();
        if is_intact() || until(END_LIMIT, || !known.runs()).await {
            return Ok(());
        }
        // Any tmux client creates the directory of the socket, as its user. This one starts no server.
        let argv = ["tmux", "-u", "list-sessions"].map(str::to_owned).to_vec();
        let directory = Some("/".to_owned());
        settings.make_tmux_dir().ok();
        run(state, Run { argv, env: Vec::new(), directory, timeout_ms: CLIENT_LIMIT_MS }).await?;
        let before = socket_file(settings);
        // Fails when it has ended.
        kill_process(known.pid, Signal::USR1).ok();
        let created = || socket_file(settings).filter(|file| Some(*file) != before);
        until(REPAIR_LIMIT, || created().is_some() || !known.runs()).await;
        let pid = process_tree::number(known.pid);
        match created() {
            Some(file) => {
                known.file = file;
                known.save(settings);
                log::line(&format!("shed-init: tmux's server {pid} has created its socket again"));
                Ok(())
            }
            None if !known.runs() => Ok(()),
            None => Err(Refusal::NoResources(format!(
                "the tmux server (process {pid}) does not create its socket {} again",
                socket_path(settings).display()
            ))),
        }
    }
}

impl Server {
    fn find(settings: &Settings, answer: &str) -> Option<Self> {
        let pid = Pid::from_raw(answer.lines().last()?.parse().ok()?)?;
        let process = std::fs::metadata(format!("/proc/{}", process_tree::number(pid))).ok()?;
        let start = process_tree::start_time(pid)?;
        // Without a file it is created at the next check.
        let file = socket_file(settings).unwrap_or_default();
        (process.uid() == settings.user.uid).then_some(Self { pid, start, file })
    }

    fn runs(&self) -> bool {
        process_tree::runs_since(self.pid, self.start)
    }

    fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
        let [pid, start, device, inode] = numbers.as_slice() else {
            return None;
        };
        let pid = Pid::from_raw(i32::try_from(*pid).ok()?)?;
        Some(Self { pid, start: *start, file: (*device, *inode) })
    }

    fn save(&self, settings: &Settings) {
        let Self { pid, start, file: (device, inode) } = self;
        let text = format!("{} {start} {device} {inode}\n", process_tree::number(*pid));
        // Only a daemon that is started again reads it.
        std::fs::write(settings.run_dir.join(RECORD), text).ok();
    }
}

/// The path at which tmux creates the socket of the default server.
fn socket_path(settings: &Settings) -> PathBuf {
    settings.tmux_dir().join(format!("tmux-{}", settings.user.uid)).join("default")
}

/// Device and inode of the file at [`socket_path`]; `None` if there is none.
fn socket_file(settings: &Settings) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(socket_path(settings)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Waits until the condition holds, and returns whether it did within the limit.
async fn until(limit: Duration, holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL_PAUSE).await;
    }
    true
}
