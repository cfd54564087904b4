//! A door with a shed behind it, and OpenSSH's programs set up to use it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use shed_api::Scope;
use shed_api::access::NewKey;
use shed_ssh::{HostKey, Options, SshServer};
pub(crate) use shed_testing::noise;
use shed_testing::{TestApp, Transport};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Nothing here takes longer unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// A server for SSH, and an admin's key.
pub(crate) struct Door {
    pub(crate) test: TestApp,
    pub(crate) address: SocketAddr,
    pub(crate) host_key: HostKey,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) errors: String,
}

impl Said {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.out).unwrap()
    }
}

impl Door {
    /// With a running shed `a`.
    pub(crate) async fn open() -> Self {
        Self::open_with(Options::default()).await
    }

    /// With a running shed `a` that the server reaches this way.
    pub(crate) async fn open_on(transport: Transport) -> Self {
        Self::over(TestApp::start_on(transport).await, Options::default()).await
    }

    pub(crate) async fn open_with(options: Options) -> Self {
        Self::over(TestApp::start().await, options).await
    }

    async fn over(test: TestApp, options: Options) -> Self {
        test.shed("a").await;
        let host_key = HostKey::load_or_create(&test.dir().join("host_key")).unwrap();
        let mut server = SshServer::new(test.app.clone(), &host_key, options);
        let address = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(server.run());
        let door = Self { test, address, host_key };
        let known = format!("door {}\n", door.host_key.public_line());
        fs::write(door.path("known_hosts"), known).unwrap();
        door.key("admin", Scope::Admin, &[]).await;
        door.configure("admin");
        door
    }

    /// A file of the client's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.test.dir().join(name)
    }

    /// The home directory in the shed, on this machine.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("containers/a/home")
    }

    /// Makes a key that may log in; the file is called like the key.
    pub(crate) async fn key(&self, name: &str, scope: Scope, sheds: &[&str]) {
        let public_key = self.keygen(name).await;
        let sheds = sheds.iter().map(|shed| (*shed).to_owned()).collect();
        let key = NewKey { name: name.to_owned(), public_key, scope, sheds };
        self.test.app.access().add_key(&self.test.admin, key).await.unwrap();
    }

    /// Makes a key nobody knows.
    pub(crate) async fn keygen(&self, name: &str) -> String {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(self.path(name));
        assert_eq!(said(keygen, b"").await.status, Some(0));
        fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()
    }

    /// Lets the client use this key.
    pub(crate) fn configure(&self, key: &str) {
        let (dir, port) = (self.test.dir().display(), self.address.port());
        let text = format!(
            "Host *\nHostName 127.0.0.1\nPort {port}\nHostKeyAlias door\nIdentityFile {dir}/{key}\n\
             IdentitiesOnly yes\nUserKnownHostsFile {dir}/known_hosts\nGlobalKnownHostsFile /dev/null\n\
             StrictHostKeyChecking yes\nBatchMode yes\n"
        );
        fs::write(self.path("config"), text).unwrap();
    }

    /// `ssh` for a user; what follows is up to the test.
    pub(crate) fn ssh(&self, user: &str, words: &[&str]) -> Command {
        let mut ssh = self.client("ssh");
        ssh.args(["-l", user]).args(words);
        ssh
    }

    /// `ssh`, `scp` or `sftp` with our configuration. The host's name is `door`.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client.arg("-F").arg(self.path("config")).env_remove("SSH_AUTH_SOCK").env_remove("LANG");
        client
    }

    /// Runs a line in shed `a`.
    pub(crate) async fn run(&self, line: &str) -> Said {
        said(self.ssh("a", &["door", line]), b"").await
    }

    /// Whether a process lives.
    pub(crate) fn lives(pid: &str) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let state = state.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next());
        state.is_some_and(|state| state != 'Z')
    }
}

/// Runs a program to its end.
pub(crate) async fn said(command: Command, input: &[u8]) -> Said {
    let mut child = started(command);
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        // A program that does not want it all is its own affair.
        stdin.write_all(input).await.ok();
        drop(stdin);
    };
    let ended = async { tokio::join!(feed, child.wait_with_output()).1.unwrap() };
    let ended = timeout(LIMIT, ended).await.expect("it hangs");
    let errors = String::from_utf8(ended.stderr).unwrap();
    Said { status: ended.status.code(), out: ended.stdout, errors }
}

/// Starts a program with three pipes. It ends with the test.
pub(crate) fn started(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// A file's text once it is there and not empty.
pub(crate) async fn written(path: &Path) -> String {
    shed_testing::eventually(&format!("{}", path.display()), async || {
        fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
    .await
}

/// One connection for many channels.
pub(crate) struct Master {
    socket: PathBuf,
    /// It ends with this.
    _child: Child,
}

impl Master {
    /// Connects as `user`, with more options if need be.
    pub(crate) async fn connect(door: &Door, user: &str, options: &[&str]) -> Self {
        let socket = door.path(&format!("master-{user}"));
        let mut ssh = door.ssh(user, &["-M", "-N", "-S"]);
        ssh.arg(&socket).args(options).arg("door");
        let child = started(ssh);
        shed_testing::eventually("the master's socket", async || socket.exists().then_some(()))
            .await;
        Self { socket, _child: child }
    }

    /// `ssh` over this connection.
    pub(crate) fn ssh(&self, door: &Door, words: &[&str]) -> Command {
        let mut ssh = door.client("ssh");
        ssh.arg("-S").arg(&self.socket).args(words);
        ssh
    }
}

/// Reads lines of a program until one contains `text`; returns that one.
pub(crate) async fn line_with(lines: impl AsyncRead + Unpin, text: &str) -> String {
    let mut lines = BufReader::new(lines).lines();
    let found = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(text) {
                return line;
            }
        }
        panic!("it ended without {text:?}");
    };
    timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("no {text:?}"))
}

/// Everything until the end.
pub(crate) async fn rest(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that is reset has ended too.
    timeout(LIMIT, stream.read_to_end(&mut bytes)).await.expect("no end").ok();
    bytes
}
