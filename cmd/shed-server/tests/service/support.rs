//! A service in a directory of its own, and waiting with a limit.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use shed_testing::wait::within_blocking;

/// How long anything may take here. A start takes half a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A directory with a service. Dropping it stops the service.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

/// What a command printed, and its exit status.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    /// A directory where nothing runs yet. Listeners will have free ports.
    pub(crate) fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(home.path("state")).unwrap();
        std::fs::write(home.path("state/address"), "--http 127.0.0.1:0 --ssh 127.0.0.1:0\n")
            .unwrap();
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `shed-server service` on this directory; nothing of the user's environment selects another server or engine.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shed-server"));
        command
            .arg("service")
            .args(words)
            .env("SHED_RUN_DIR", self.dir.path())
            .env("HOME", self.dir.path())
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .env_remove("SHED_SERVER_CONFIG")
            .env_remove("SHED_SERVER_DATA")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the service.
    pub(crate) fn tried(&self, words: &[&str]) -> Said {
        self.command(words).output().unwrap().into()
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, words: &[&str]) -> Said {
        let said = self.tried(words);
        assert_eq!(said.status, Some(0), "{words:?}: {said:?}\n{}", self.log());
        said
    }

    /// `service status --json`.
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.tried(&["status", "--json"]).stdout).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("state/log")).unwrap_or_default()
    }

    /// The server's pid according to the ready file. None while there is no ready file.
    pub(crate) fn ready_pid(&self) -> Option<u64> {
        let text = std::fs::read(self.path("state/ready")).ok()?;
        serde_json::from_slice::<Value>(&text).unwrap()["pid"].as_u64()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A failed test leaves its server running; this stops it, or reports that none runs.
        self.command(&["stop"]).output().ok();
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Sends a signal.
pub(crate) fn signal(pid: u64, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether a process exists and is not a zombie.
pub(crate) fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|text| !text.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

/// Asks until there is an answer, and fails after a limit.
pub(crate) fn until<T>(what: &str, home: &Home, ask: impl FnMut() -> Option<T>) -> T {
    within_blocking(LIMIT, |_| format!("{what} did not happen; log:\n{}", home.log()), ask)
}
