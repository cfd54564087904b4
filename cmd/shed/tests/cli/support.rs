//! A server, and a machine of a person's with the client on it.

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

/// Nothing here takes longer unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// The desk's server's own.
pub(crate) const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJMrfvLpJ4pZkSoO9AGYyQfOTtVEmBRw9hpPfzjbqLhZ";
/// Variables of whoever runs the tests that would change what the client does.
const FOREIGN: &[&str] = &["SHED_SERVER", "SHED_TOKEN", "SSH_AUTH_SOCK", "COMPLETE", "LC_ALL"];

/// A server whose socket is where the client looks for it, and a home directory of the client's own.
pub(crate) struct Desk {
    pub(crate) test: TestApp,
    place: tempfile::TempDir,
    serving: JoinHandle<()>,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    /// As a shell tells it.
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) errors: String,
}

impl Said {
    /// What it printed; it must have gone well.
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.status, 0, "{self:?}");
        str::from_utf8(&self.out).unwrap()
    }

    /// What it said while it failed with this status.
    pub(crate) fn fails(&self, status: i32) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        &self.errors
    }

    /// What it printed, as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Desk {
    /// With a running shed `a`.
    pub(crate) async fn new() -> Self {
        let desk = Self::empty().await;
        desk.test.shed("a").await;
        desk
    }

    /// Without sheds.
    pub(crate) async fn empty() -> Self {
        let test = TestApp::start().await;
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("home")).unwrap();
        let serving = serve(&test, &socket(place.path()), options()).await;
        Self { test, place, serving }
    }

    /// A file of the person's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The server's address.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", socket(self.place.path()).display())
    }

    /// The server goes away; sheds go on.
    pub(crate) async fn close(&mut self) {
        self.test.app.close().await;
        timeout(LIMIT, &mut self.serving).await.unwrap().unwrap();
        // As one that was killed leaves it. Without the file the client would go to this machine's own server.
        drop(std::os::unix::net::UnixListener::bind(socket(self.place.path())).unwrap());
    }

    /// A server that was closed is back.
    pub(crate) async fn reopen(&mut self) {
        self.test.restart().await;
        self.serving = serve(&self.test, &socket(self.place.path()), options()).await;
    }

    /// The client with these words.
    pub(crate) fn shed(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shed"));
        command.args(words).current_dir(self.place.path());
        for name in FOREIGN {
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

    /// Runs the client to its end, without input.
    pub(crate) async fn run(&self, words: &[&str]) -> Said {
        let mut command = self.shed(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(command.kill_on_drop(true).spawn().unwrap()).await
    }

    /// Runs the client to its end with this piped into it.
    pub(crate) async fn run_with(&self, words: &[&str], input: &[u8]) -> Said {
        let mut child = started(self.shed(words));
        let mut stdin = child.stdin.take().unwrap();
        let feed = async move {
            // A client that does not want it all is its own affair.
            stdin.write_all(input).await.ok();
        };
        tokio::join!(feed, ended(child)).1
    }

    /// The client in a terminal of 80 columns and 24 rows.
    pub(crate) fn terminal(&self, words: &[&str]) -> Terminal {
        Terminal::start(self.shed(words), 80, 24)
    }

    /// A script in a terminal; the client is `$SHED`.
    pub(crate) fn script(&self, script: &str) -> Terminal {
        let shed = self.shed(&[]).into_std();
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(self.place.path());
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

fn socket(place: &Path) -> PathBuf {
    place.join("run/shed/shed.sock")
}

/// As if there were an SSH door.
fn options() -> Options {
    let host_key = HostKey { host_key: HOST_KEY.to_owned(), fingerprint: "SHA256:x".to_owned() };
    Options { host_key: Some(host_key), ssh_port: Some(2200), ..Options::default() }
}

/// Serves an App at a socket until it is closed.
pub(crate) async fn serve(test: &TestApp, socket: &Path, options: Options) -> JoinHandle<()> {
    let owner_uid = rustix::process::geteuid().as_raw();
    let http = Http::new(test.app.clone(), Options { owner_uid, ..options });
    let listener = Listener::bind(Listen::Unix(socket.to_owned())).await.unwrap();
    tokio::spawn(http.serve(listener))
}

/// Starts a program with three pipes. It ends with the test.
pub(crate) fn started(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// What a program said until its end.
pub(crate) async fn ended(child: Child) -> Said {
    let output = timeout(LIMIT, child.wait_with_output()).await.expect("it hangs").unwrap();
    let signal = output.status.signal().map(|signal| 128 + signal);
    Said {
        status: output.status.code().or(signal).unwrap(),
        out: output.stdout,
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Sends a signal to a program.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    rustix::process::kill_process(pid.unwrap(), signal).unwrap();
}

/// Reads until `text` shows; what came until then.
pub(crate) async fn until(mut output: impl AsyncRead + Unpin, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = vec![0; 4096];
    while !seen.contains(text) {
        let read = timeout(LIMIT, output.read(&mut buffer)).await;
        let n_read = read.unwrap_or_else(|_| panic!("no {text:?} in {seen:?}")).unwrap();
        assert!(n_read > 0, "it ended before {text:?} in {seen:?}");
        seen += &String::from_utf8_lossy(&buffer[..n_read]);
    }
    seen
}
