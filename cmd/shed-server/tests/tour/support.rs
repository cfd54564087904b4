//! A server process with its own data directory, and a client for it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use shed_api::server::Ready;
use shed_testing::DockerRun;
pub(crate) use shed_testing::wait::eventually_blocking as eventually;
use shed_testing::wait::within_blocking;

/// How long a server may take until it serves.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// The image of most tests: it has tmux.
pub(crate) const IMAGE: &str = "shed-base:latest";
/// The smallest image, for tests without sessions.
pub(crate) const SMALL_IMAGE: &str = "shed-test-busybox:latest";

/// The files of a server, which may be started several times.
pub(crate) struct Home {
    pub(crate) run: DockerRun,
    pub(crate) dir: tempfile::TempDir,
}

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) ready: Ready,
}

impl Home {
    /// An empty home. The configuration gives sheds small limits, and labels containers and volumes.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// The same with more top-level lines of configuration.
    pub(crate) fn with(more: &str) -> Self {
        let home = Self { run: DockerRun::start(), dir: tempfile::tempdir().unwrap() };
        let (label, value) = home.run.label();
        let config = format!(
            "name = \"tour\"\n{more}\n[engine]\nprefix = \"shed-t{}\"\nlabels = {{ {label:?} = {value:?} }}\n\
             [defaults]\nmemory = \"512M\"\npids = 256\nnetwork = \"none\"\n",
            home.run.id()
        );
        std::fs::write(home.config(), config).unwrap();
        home
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("server.toml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// The name of a shed's container.
    pub(crate) fn container(&self, shed: &str) -> String {
        format!("shed-t{}-{shed}", self.run.id())
    }

    /// `shed-server` with this home's files, independent of the user who runs the tests.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shed-server"));
        command
            .env("HOME", self.dir.path())
            .env_remove("SHED_SERVER_CONFIG")
            .env_remove("SHED_SERVER_DATA")
            .arg("--config")
            .arg(self.config())
            .arg("--data-dir")
            .arg(self.data());
        command
    }

    /// `shed-server serve` on free ports.
    pub(crate) fn serve(&self) -> Command {
        let mut command = self.command();
        command.args(["serve", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--socket"]);
        command.arg(self.socket()).arg("--ready-file").arg(self.ready_file());
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn ready_file(&self) -> PathBuf {
        self.dir.path().join("ready")
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn start(&self) -> Server {
        let ready_file = self.ready_file();
        std::fs::remove_file(&ready_file).ok();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let child = self.serve().stderr(log).spawn().unwrap();
        let mut server = Server { child, ready: Ready::default() };
        server.ready = eventually_or(
            READY_LIMIT,
            || self.log(),
            || {
                let ended = server.child.try_wait().unwrap();
                assert!(ended.is_none(), "{ended:?}\n{}", self.log());
                serde_json::from_str(&std::fs::read_to_string(&ready_file).ok()?).ok()
            },
        );
        server
    }

    /// The log of all servers of this home.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The client, connected to this home's socket.
    pub(crate) fn shed(&self, words: &[&str]) -> Command {
        let mut command = Command::new(shed_path());
        command
            .env("SHED_CONFIG_DIR", self.dir.path().join("client"))
            .env_remove("SHED_SERVER")
            .arg("--server")
            .arg(format!("unix:{}", self.socket().display()))
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs the client, which must succeed; returns its stdout.
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let output = self.shed(words).output().unwrap();
        assert!(output.status.success(), "shed {words:?}: {}\n{}", both(&output), self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the client; returns its exit status and output.
    pub(crate) fn tried(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = self.shed(words).output().unwrap();
        (output.status.code(), both(&output))
    }

    /// Runs a command of `shed-server`; returns its exit status and output.
    pub(crate) fn command_said(&self, words: &[&str]) -> (Option<i32>, String) {
        said(self.command().args(words))
    }

    /// Sends a request over the socket; returns status and body. `None` while the server does not answer.
    pub(crate) fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Option<(u16, serde_json::Value)> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut socket = UnixStream::connect(self.socket()).ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    /// The same for a request that must succeed.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> serde_json::Value {
        let (status, answer) = self.try_ask(method, path, body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}\n{}", self.log());
        answer
    }

    /// Authorizes a new SSH key; returns the file of its private half.
    pub(crate) fn key(&self, name: &str, scope: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        let public = path.with_extension("pub");
        let (status, text) =
            self.command_said(&["key", "add", name, public.to_str().unwrap(), "--scope", scope]);
        assert_eq!(status, Some(0), "{text}");
        path
    }
}

impl Server {
    /// Kills it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it with SIGTERM; returns its exit status.
    pub(crate) fn end(mut self) -> Option<i32> {
        terminate(&self.child);
        self.child.wait().unwrap().code()
    }

    /// OpenSSH for this server, without any configuration of the user.
    pub(crate) fn ssh(&self, key: &Path) -> Command {
        let port = self.ready.ssh.as_deref().unwrap().rsplit(':').next().unwrap();
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", port, "-i"]).arg(key).args([
            "-oIdentitiesOnly=yes",
            "-oIdentityAgent=none",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oLogLevel=ERROR",
            "-oBatchMode=yes",
        ]);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends SIGTERM.
pub(crate) fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// Exit status and output of a command.
pub(crate) fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), both(&output))
}

pub(crate) fn both(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// The client of the same build.
fn shed_path() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_shed-server")).with_file_name("shed");
    assert!(path.exists(), "build it first: cargo build --workspace --bins");
    path
}

/// Asks until there is an answer, with a given limit and failure message.
pub(crate) fn eventually_or<T>(
    limit: Duration,
    words: impl Fn() -> String,
    ask: impl FnMut() -> Option<T>,
) -> T {
    within_blocking(limit, |_| words(), ask)
}

/// JSON that a program printed.
pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
