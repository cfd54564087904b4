//! The messages. Both sides may be of different versions: a new field has a default, an unknown request is answered
//! with [`Refusal::Unsupported`], an unknown news item is skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spool::WorkerId;

/// The protocol this code speaks. A peer with another one is refused with words.
pub const PROTOCOL: u32 = 1;

/// Where the server's directory is mounted in a box.
pub const BOX_LINK_DIR: &str = "/run/shed/link/host";
/// The socket's name in that directory.
pub const LINK_SOCKET: &str = "link.sock";
/// Where shed-init's directory is mounted in a box.
pub const BOX_PROGRAM_DIR: &str = "/opt/shed";
/// shed-init's name in that directory.
pub const PROGRAM: &str = "shed-init";
/// The directory in the box, on a tmpfs of its own, where shed-init listens for the programs of the box.
pub const BOX_RUN_DIR: &str = "/run/shed/box";
/// The socket's name in that directory.
pub const BOX_SOCKET: &str = "box.sock";

/// The most output a [`Run`] returns, of each kind, in bytes. More is cut and said.
pub const MAX_RUN_OUTPUT_BYTES: usize = 1 << 20;

/// shed-init's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the box.
    pub protocol: u32,
    /// The version of shed-init.
    pub version: String,
    /// Differs after each start of the container.
    pub boot: String,
    /// The user sessions run as.
    pub user: String,
    /// That user's number.
    pub uid: u32,
    /// That user's home.
    pub home: String,
    /// tmux's version (`3.3a`); `None` when there is no tmux in the image.
    pub tmux: Option<String>,
    /// Where shed-init can be started from inside the box.
    pub program: String,
    /// Where a runner in the box claims its command.
    pub socket: String,
    /// Where worktrees and spools live; empty in a box that knows none.
    #[serde(default)]
    pub worktrees: String,
    /// Where commands run when nothing else is said; empty in a box that does not say.
    #[serde(default)]
    pub workspace: String,
    /// Why no command can be confined here; `None` when it can. A box that does not say is too old for it.
    #[serde(default = "too_old_to_confine")]
    pub confine: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn too_old_to_confine() -> Option<String> {
    Some("this shed's shed-init is too old for it".to_owned())
}

/// The server's first message, after [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL`] of the server.
    pub protocol: u32,
    /// The name of the shed.
    pub shed: String,
}

/// What the server asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the server, never used twice on a connection. For [`Op::Spawn`] it also names the process later.
    pub id: u64,
    /// What to do.
    pub op: Op,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Start a process. Its descriptors come with the frame, see [`Io`]. Answered by [`Reply::Started`] once its
    /// `execve` succeeded, followed some time by [`News::Exited`].
    Spawn(Spawn),
    /// Signal the process group of a spawned process. No answer.
    Signal {
        /// The id it was spawned with.
        process: u64,
        /// The signal's number.
        signal: u8,
    },
    /// Run a short command as `dev` and answer with its output ([`Reply::Ran`]).
    Run(Run),
    /// Hold a [`Spawn`] and one descriptor for the runner that will claim it by `token`. Answered by [`Reply::Done`] at
    /// once.
    Offer {
        /// 128 random bits in hex.
        token: String,
        /// What the runner is to run; its `io` is [`Io::Tap`], or [`Io::Prelude`] for a worker.
        spawn: Spawn,
    },
    /// Are you there? Answered by [`Reply::Done`]; whoever does not know it answers with a refusal, which says the same.
    Ping,
    /// Someone looks: read foreground commands and activity once a second for so long. No answer.
    Look {
        /// Seconds from now; 0 ends it.
        seconds: u32,
    },
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// What.
    pub program: Program,
    /// Added to the box's environment.
    pub env: Vec<(String, String)>,
    /// Where; the user's default directory when absent.
    pub directory: Option<String>,
    /// As whom.
    pub user: User,
    /// With what.
    pub io: Io,
    /// Lives on when the link ends; its end is told as [`News::DetachedEnded`] with this tag, also on a later link.
    #[serde(default)]
    pub detached: Option<String>,
    /// Only in an offer: the command is a worker's. Its output goes to a spool, and it is asked by its control socket.
    #[serde(default)]
    pub worker: Option<WorkerSpec>,
}

/// Whose command a runner runs, and where its spool is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// The worker.
    pub id: WorkerId,
    /// Which start of the worker this is. Each has a spool of its own; one that is there already is refused.
    pub epoch: u64,
    /// The absolute directory of all spools, usually `/worktrees/.shed/spool`. This one is `SPOOL/ID/EPOCH`.
    pub spool: String,
    /// What the command may write to; everything the user may when absent.
    #[serde(default)]
    pub confine: Option<Confine>,
}

/// Limits what a command and its descendants may change. They read and execute whatever the user may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// Absolute directories and files that exist. Terminals, `/dev/null` and `/dev/shm` are writable beside them.
    pub write: Vec<String>,
}

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// These words, the first looked up in `PATH`.
    Argv(Vec<String>),
    /// The user's shell as a login shell.
    LoginShell,
    /// The user's shell as a login shell with `-c` and this line: what `ssh host LINE` means.
    ShellLine(String),
    /// shed-init itself, with these words: `sftp`, `connect`, `listen`.
    Own(Vec<String>),
    /// Nothing: a worker that shows its prelude and ends. It has no spool.
    Nothing,
}

/// As whom a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// The user sessions run as.
    Dev,
    /// Root, the human's way.
    Root,
}

/// What a process has as input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Io {
    /// Three descriptors: input, output, error.
    Pipes,
    /// A new terminal of this size. One descriptor: a socket on which the terminal's master side is sent to the server.
    Tty {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// One descriptor, as input. Output and error are `/dev/null`.
    Socket,
    /// One descriptor, held for the runner: output and exit go there as [`crate::tap`] frames.
    Tap,
    /// One descriptor, held for a worker's runner, which reads it to its end and shows it in the window first.
    Prelude,
    /// No descriptor; all three are `/dev/null`.
    Null,
}

/// A short command, as `dev`, without input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The words.
    pub argv: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Where; the user's default directory when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Killed after this.
    pub timeout_ms: u64,
}

/// What shed-init says after [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum News {
    /// The answer to a request.
    Reply {
        /// The request's id.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// A spawned process ended.
    Exited {
        /// The id it was spawned with.
        process: u64,
        /// How.
        status: Status,
    },
    /// tmux's state changed, or someone looks.
    Picture(Picture),
    /// A process that was spawned `detached` ended.
    DetachedEnded {
        /// Its tag.
        tag: String,
        /// How.
        status: Status,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The process runs.
    Started {
        /// Its number in the box, which is also its process group.
        pid: u32,
    },
    /// The command ended.
    Ran(Ran),
    /// It is done.
    Done,
    /// It is not done.
    Refused(Refusal),
}

/// What a [`Run`] printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// How it ended.
    pub status: Status,
    /// Its output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its errors, likewise.
    pub stderr: String,
    /// Whether one of them was cut at [`MAX_RUN_OUTPUT_BYTES`].
    pub truncated: bool,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No program of that name, or the file cannot be executed.
    #[error("cannot run {program:?}: {why}")]
    NotExecutable {
        /// The first word.
        program: String,
        /// The system's reason.
        why: String,
        /// Whether the file was not there at all.
        missing: bool,
    },
    /// The directory cannot be entered.
    #[error("cannot enter {directory:?}: {why}")]
    NoDirectory {
        /// As asked for.
        directory: String,
        /// The system's reason.
        why: String,
    },
    /// No process or memory left in the shed's limits, no terminal left, or the like.
    #[error("cannot start a process in the shed: {0}")]
    NoResources(String),
    /// A word with a NUL byte, an empty command, a wrong number of descriptors.
    #[error("{0}")]
    Invalid(String),
    /// The command was to be confined, and that is not possible here. It was not started.
    #[error("cannot confine the command: {0}")]
    CannotConfine(String),
    /// A [`Run`] took longer than its limit.
    #[error("the command in the shed did not end in time")]
    TimedOut,
    /// A request of a newer protocol.
    #[error("this shed's shed-init is too old for that; restart the shed to bring a newer one")]
    Unsupported,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// By itself.
    Code(u8),
    /// By a signal.
    Signal(u8),
}

impl From<Status> for shed_api::stream::Exit {
    fn from(status: Status) -> Self {
        match status {
            Status::Code(code) => Self::Code(code),
            Status::Signal(number) => Self::Signal(shed_api::stream::signal_name(number)),
        }
    }
}

/// tmux's state in the box, as tmux printed it. The server parses it (`shed-tmux`), so that the small program in the box
/// has nothing to get wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// What is known.
    pub tmux: Tmux,
    /// When it was read, in milliseconds since 1970.
    pub at_ms: u64,
    /// What runs in the foreground of workers, by the process of their pane: tmux itself sees the runner only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub foreground: BTreeMap<u32, String>,
}

/// What is known of tmux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tmux {
    /// There is no tmux in the image.
    Missing,
    /// It cannot be asked; why.
    Down(String),
    /// The output of `shed_tmux::watch`.
    Listing(String),
}

/// What a runner says to shed-init in the box, first and only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The token of the [`Op::Offer`].
    pub token: String,
}

/// shed-init's answer to a [`Claim`]; the offered descriptor comes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claimed {
    /// What to run.
    Spawn(Spawn),
    /// The token is unknown, used or too old.
    Unknown,
}

/// What `shed-init connect` sends on its control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connected {
    /// The connected socket comes with this.
    Socket,
    /// Why there is none.
    Refused(String),
}

/// What `shed-init listen` sends on its control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listened {
    /// It listens; first.
    Listening {
        /// The port, where there is one.
        port: u16,
    },
    /// Somebody connected; the socket comes with this.
    Accepted {
        /// The peer's address; empty for a unix socket.
        host: String,
        /// The peer's port.
        port: u16,
    },
    /// Why it does not listen.
    Refused(String),
}
