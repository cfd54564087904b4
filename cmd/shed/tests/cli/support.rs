//! The test environment: a server in this process, and the client with a home directory of its own.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use shed_api::server::HostKey;
use shed_http::{Http, Listen, Listener, Options};
pub(crate) use shed_testing::noise;
use shed_testing::{Terminal, TestApp};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Time limit for any step; one that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// Host key that the server of the test environment reports.
pub(crate) const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJMrfvLpJ4pZkSoO9AGYyQfOTtVEmBRw9hpPfzjbqLhZ";
/// Environment variables that change the behaviour of the client. Tests run without those of the developer.
const REMOVED_VARIABLES: &[&str] = &[
    "SHED_SERVER",
    "SHED_TOKEN",
    "SSH_AUTH_SOCK",
    "COMPLETE",
    "LC_ALL",
    "SHED_PAGER",
    "PAGER",
    "LESS",
    "NO_COLOR",
];

/// A server whose socket is where the client looks for the local server, and directories for the client.
pub(crate) struct TestEnv {
    pub(crate) test: TestApp,
    dir: tempfile::TempDir,
    serving: JoinHandle<()>,
}

/// Exit status and output of a program.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    /// Exit status as a shell reports it: 128 plus the number after a signal.
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl CommandOutput {
    /// Standard output. Panics unless the status is 0.
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.status, 0, "{self:?}");
        str::from_utf8(&self.stdout).unwrap()
    }

    /// Standard error. Panics unless this is the status.
    pub(crate) fn fails(&self, status: i32) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        &self.stderr
    }

    /// Standard output as JSON. Panics unless the status is 0.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl TestEnv {
    /// An environment with a running shed `a`.
    pub(crate) async fn new() -> Self {
        let env = Self::empty().await;
        env.test.shed("a").await;
        env
    }

    /// An environment without sheds.
    pub(crate) async fn empty() -> Self {
        let test = TestApp::start().await;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        let serving = serve(&test, &socket(dir.path()), options()).await;
        Self { test, dir, serving }
    }

    /// A path in the environment's directory, which is the working directory of the client.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Address of the server.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", socket(self.dir.path()).display())
    }

    /// Stops the server; sheds keep running.
    pub(crate) async fn close(&mut self) {
        self.test.app.close().await;
        timeout(LIMIT, &mut self.serving).await.unwrap().unwrap();
        // A socket without listener, as a killed server leaves it. Without the file the client would try `/run/shed`.
        drop(std::os::unix::net::UnixListener::bind(socket(self.dir.path())).unwrap());
    }

    /// Starts the stopped server again.
    pub(crate) async fn reopen(&mut self) {
        self.test.restart().await;
        self.serving = serve(&self.test, &socket(self.dir.path()), options()).await;
    }

    /// The client with these arguments.
    pub(crate) fn shed(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shed"));
        command.args(words).current_dir(self.dir.path());
        for name in REMOVED_VARIABLES {
            command.env_remove(name);
        }
        command
            .env("HOME", self.path("home"))
            .env("SHED_CONFIG_DIR", self.path("config"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color");
        command
    }

    /// Runs the client without input until it exits.
    pub(crate) async fn run(&self, words: &[&str]) -> CommandOutput {
        let mut command = self.shed(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(command.kill_on_drop(true).spawn().unwrap()).await
    }

    /// Runs the client with this input until it exits.
    pub(crate) async fn run_with(&self, words: &[&str], input: &[u8]) -> CommandOutput {
        let mut child = started(self.shed(words));
        let mut stdin = child.stdin.take().unwrap();
        let feed = async move {
            // Fails when the client exits without reading everything.
            stdin.write_all(input).await.ok();
        };
        tokio::join!(feed, ended(child)).1
    }

    /// Starts the client in a terminal of 80 columns and 24 rows.
    pub(crate) fn terminal(&self, words: &[&str]) -> Terminal {
        Terminal::start(self.shed(words), 80, 24)
    }

    /// Starts a shell script in a terminal; the client is `$SHED`.
    pub(crate) fn script(&self, script: &str) -> Terminal {
        let shed = self.shed(&[]).into_std();
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(self.dir.path());
        for (name, value) in shed.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.env("SHED", shed.get_program());
        Terminal::start(shell, 80, 24)
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("run/shed/shed.sock")
}

/// Options of a server with an SSH listener, which does not exist.
fn options() -> Options {
    let host_key = HostKey { host_key: HOST_KEY.to_owned(), fingerprint: "SHA256:x".to_owned() };
    Options { host_key: Some(host_key), ssh_port: Some(2200), ..Options::default() }
}

/// Serves an App at a unix socket until it is closed.
pub(crate) async fn serve(test: &TestApp, socket: &Path, options: Options) -> JoinHandle<()> {
    let owner_uid = rustix::process::geteuid().as_raw();
    let http = Http::new(test.app.clone(), Options { owner_uid, ..options });
    let listener = Listener::bind(Listen::Unix(socket.to_owned())).await.unwrap();
    tokio::spawn(http.serve(listener))
}

/// Starts a program with its standard streams piped. It is killed when the test ends.
pub(crate) fn started(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// Waits for a program to exit; its status and output.
pub(crate) async fn ended(child: Child) -> CommandOutput {
    let output =
        timeout(LIMIT, child.wait_with_output()).await.expect("the program hangs").unwrap();
    let signal = output.status.signal().map(|signal| 128 + signal);
    CommandOutput {
        status: output.status.code().or(signal).unwrap(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Sends a signal to a program.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    rustix::process::kill_process(pid.unwrap(), signal).unwrap();
}

/// Reads until `text` appears; everything read.
pub(crate) async fn until(mut output: impl AsyncRead + Unpin, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = vec![0; 4096];
    while !seen.contains(text) {
        let read = timeout(LIMIT, output.read(&mut buffer)).await;
        let n_read = read.unwrap_or_else(|_| panic!("no {text:?} in {seen:?}")).unwrap();
        assert!(n_read > 0, "the output ended without {text:?}: {seen:?}");
        seen += &String::from_utf8_lossy(&buffer[..n_read]);
    }
    seen
}
