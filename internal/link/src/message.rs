//! The messages of the link. The two sides may have different versions: a new field has a default, an unknown request is
//! answered with [`Refusal::Unsupported`], and an unknown message from shed-init is skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spool::WorkerId;

/// The version of the protocol. A peer with another version is refused with a message.
pub const PROTOCOL: u32 = 1;

/// The directory in the container where the server's socket directory is mounted.
pub const CONTAINER_LINK_DIR: &str = "/run/shed/link/host";
/// The file name of the server's socket in [`CONTAINER_LINK_DIR`].
pub const LINK_SOCKET: &str = "link.sock";
/// The directory in the container where shed-init's directory is mounted.
pub const CONTAINER_PROGRAM_DIR: &str = "/opt/shed";
/// Flag of shed-init in a container with directories of the host: the image decides no group of the session user.
pub const ONLY_OWN_GROUP: &str = "--only-own-group";
/// The file name of shed-init in [`CONTAINER_PROGRAM_DIR`].
pub const PROGRAM: &str = "shed-init";
/// The directory in the container, on a tmpfs of its own, where shed-init listens for runners.
pub const CONTAINER_RUN_DIR: &str = "/run/shed/box";
/// The file name of shed-init's socket in [`CONTAINER_RUN_DIR`].
pub const CONTAINER_SOCKET: &str = "box.sock";

/// The most bytes of standard output, and of standard error, that a [`Run`] returns. Longer output is truncated.
pub const MAX_RUN_OUTPUT_BYTES: usize = 1 << 20;

/// shed-init's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// shed-init's [`PROTOCOL`].
    pub protocol: u32,
    /// shed-init's version, such as `0.1.0`.
    pub version: String,
    /// An id that is different after each start of the container.
    pub boot: String,
    /// The name of the user that sessions run as.
    pub user: String,
    /// That user's uid.
    pub uid: u32,
    /// That user's home directory.
    pub home: String,
    /// tmux's version, such as `3.3a`; `None` when the image has no tmux.
    pub tmux: Option<String>,
    /// The path of the shed-init program in the container.
    pub program: String,
    /// The path of the socket where a runner claims its command.
    pub socket: String,
    /// The directory of worktrees and spools; empty from an older shed-init.
    #[serde(default)]
    pub worktrees: String,
    /// The default directory of commands; empty from an older shed-init.
    #[serde(default)]
    pub workspace: String,
    /// Why commands cannot be confined in this container; `None` when they can. An older shed-init cannot confine.
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
    /// The server's [`PROTOCOL`].
    pub protocol: u32,
    /// The name of the shed.
    pub shed: String,
}

/// A request from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the server and unique on a connection. For [`Op::Spawn`] it also identifies the process later.
    pub id: u64,
    /// The requested operation.
    pub op: Op,
}

/// The operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Start a process. Its descriptors are sent with the frame, see [`Io`]. Answered by [`Reply::Started`] once `execve`
    /// has succeeded; [`Message::Exited`] follows when the process ends.
    Spawn(Spawn),
    /// Send a signal to the process group of a spawned process. Not answered.
    Signal {
        /// The id of the [`Op::Spawn`] request.
        process: u64,
        /// The signal's number.
        signal: u8,
    },
    /// Run a short command as the session user. Answered by [`Reply::Ran`] with its output.
    Run(Run),
    /// Keep a command and one descriptor for the runner that will claim them with `token`. Answered by [`Reply::Done`]
    /// immediately.
    Offer {
        /// 128 random bits in hexadecimal.
        token: String,
        /// The command; its `io` is [`Io::OutputSocket`], or [`Io::Prelude`] for a worker.
        spawn: Spawn,
    },
    /// Check that shed-init responds. Answered by [`Reply::Done`], or by a refusal from an older shed-init.
    Ping,
    /// Read tmux's foreground commands and activity once a second for some time, because somebody is watching. Not
    /// answered.
    #[serde(rename = "look")]
    Observe {
        /// The duration in seconds from now; 0 ends it.
        seconds: u32,
    },
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// The program and its arguments.
    pub program: Program,
    /// Variables that are added to the container's environment, or replace those of the same name.
    pub env: Vec<(String, String)>,
    /// The caller's locale, `LANG` and `LC_*`: added to the environment with `C.UTF-8` instead of a locale that the
    /// container does not have. An older shed-init leaves it out.
    #[serde(default)]
    pub locale: Vec<(String, String)>,
    /// The working directory; the workspace when absent.
    pub directory: Option<String>,
    /// The user to run as.
    pub user: User,
    /// Standard input, output and error.
    pub io: Io,
    /// A tag for a process that survives the end of the connection. [`Message::DetachedEnded`] with this tag reports its exit,
    /// also on a later connection.
    #[serde(default)]
    pub detached: Option<String>,
    /// Only in an [`Op::Offer`]: the command belongs to this worker. Its output goes to a spool, and it is controlled
    /// through its control socket.
    #[serde(default)]
    pub worker: Option<WorkerSpec>,
}

/// The worker that a command belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// The worker's id.
    pub id: WorkerId,
    /// The number of this start of the worker. Each start has a spool of its own; an existing spool is an error.
    pub epoch: u64,
    /// The absolute directory of all spools, usually `/worktrees/.shed/spool`. This start's spool is `SPOOL/ID/EPOCH`.
    pub spool: String,
    /// Limits what the command may write to; not limited when absent.
    #[serde(default)]
    pub confine: Option<Confine>,
}

/// Limits the files that a command and its descendants may change. Reading and executing are not limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// Writable directories and files, absolute and existing. Terminals, `/dev/null`, `/dev/shm` and similar devices are
    /// always writable.
    pub write: Vec<String>,
}

/// A program to execute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// A program, looked up in `PATH`, and its arguments.
    Argv(Vec<String>),
    /// The user's shell, as a login shell.
    LoginShell,
    /// The user's shell with `-c` and this line, not as a login shell: `ssh HOST LINE`.
    ShellLine(String),
    /// The same with a line that is not UTF-8.
    ShellLineBytes(Vec<u8>),
    /// shed-init itself with these arguments, such as `sftp`, `connect` or `listen`.
    Own(Vec<String>),
    /// No program: a worker that shows its prelude and ends. It has no spool.
    Nothing,
}

/// The user a process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// The user that sessions run as.
    Dev,
    /// Root, for a person who administers the shed.
    Root,
}

/// The standard input, output and error of a process, and the descriptors that are sent for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Io {
    /// Three descriptors: standard input, output and error.
    Pipes,
    /// A new terminal of this size. One descriptor: a socket on which the terminal's master side is sent to the server.
    Tty {
        /// The width, in character cells.
        cols: u16,
        /// The height, in character cells.
        rows: u16,
        /// The width and height in pixels; 0 if unknown. An older shed-init sets none.
        #[serde(default)]
        pixels: (u16, u16),
    },
    /// One descriptor, for standard input. Output and error are `/dev/null`.
    Socket,
    /// One descriptor, kept for the runner: its output socket, which receives output and exit as [`crate::output_socket`] frames.
    #[serde(rename = "tap")]
    OutputSocket,
    /// One descriptor, kept for a worker's runner. The runner reads it to the end and shows that in the window before the
    /// command starts.
    Prelude,
    /// No descriptor. All three are `/dev/null`.
    Null,
}

/// A short command that runs as the session user, without input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The program, looked up in `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// Variables that are added to the container's environment, or replace those of the same name.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The working directory; the workspace when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// The runtime limit, in milliseconds, after which the command is killed.
    pub timeout_ms: u64,
}

/// A message from shed-init after [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The answer to a request.
    Reply {
        /// The request's id.
        id: u64,
        /// The result.
        reply: Reply,
    },
    /// A spawned process ended.
    Exited {
        /// The id of the [`Op::Spawn`] request.
        process: u64,
        /// The exit code or signal.
        status: Status,
    },
    /// A snapshot of tmux's state, sent after a change and repeatedly after [`Op::Observe`].
    #[serde(rename = "picture")]
    TmuxSnapshot(TmuxSnapshot),
    /// A process that was spawned `detached` ended.
    DetachedEnded {
        /// The tag of [`Spawn::detached`].
        tag: String,
        /// The exit code or signal.
        status: Status,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The process was started.
    Started {
        /// Its process id in the container, which is also its process group.
        pid: u32,
    },
    /// The command of [`Op::Run`] ended.
    Ran(Ran),
    /// The request was carried out.
    Done,
    /// The request was not carried out.
    Refused(Refusal),
}

/// The result of a [`Run`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The exit code or signal.
    pub status: Status,
    /// Its standard output; bytes that are not UTF-8 are replaced by U+FFFD.
    pub stdout: String,
    /// Its standard error, in the same form.
    pub stderr: String,
    /// Whether one of them was truncated at [`MAX_RUN_OUTPUT_BYTES`].
    pub truncated: bool,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The program does not exist or cannot be executed.
    #[error("cannot run {program:?}: {why}")]
    NotExecutable {
        /// The program as requested.
        program: String,
        /// The system's error message.
        why: String,
        /// Whether the program does not exist.
        missing: bool,
    },
    /// The working directory cannot be entered.
    #[error("cannot enter {directory:?}: {why}")]
    NoDirectory {
        /// The directory as requested.
        directory: String,
        /// The system's error message.
        why: String,
    },
    /// The shed has no process, memory, terminal or descriptor left.
    #[error("cannot start a process in the shed: {0}")]
    NoResources(String),
    /// The request is invalid, such as an argument with a NUL byte, an empty command or a wrong number of descriptors.
    #[error("{0}")]
    Invalid(String),
    /// The command cannot be confined as requested, so it was not started.
    #[error("cannot confine the command: {0}")]
    CannotConfine(String),
    /// A [`Run`] exceeded its runtime limit.
    #[error("the command in the shed exceeded its runtime limit")]
    TimedOut,
    /// The request is unknown to this shed-init.
    #[error("this shed's shed-init is too old for this request; restart the shed to update it")]
    Unsupported,
}

/// The exit status of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The process exited with this code.
    Code(u8),
    /// The process was killed by the signal with this number.
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

/// A snapshot of tmux's state in the container, as printed by tmux. The server parses it (`shed-tmux`), so that shed-init
/// does not have to interpret it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmuxSnapshot {
    /// The state of tmux.
    pub tmux: Tmux,
    /// The time at which it was read, in milliseconds since 1970.
    pub at_ms: u64,
    /// The names of the foreground commands of workers, by the process id of their pane. tmux itself only sees the runner.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub foreground: BTreeMap<u32, String>,
}

/// The state of tmux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tmux {
    /// The image has no tmux.
    Missing,
    /// tmux does not work, for this reason.
    Down(String),
    /// The output of `shed_tmux::watch::list_argv`.
    Listing(String),
}

/// The only message of a runner to shed-init on the container's socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The token of the [`Op::Offer`] that the runner claims.
    pub token: String,
}

/// shed-init's answer to a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claimed {
    /// The command; the offered descriptor is sent with this message.
    Spawn(Box<Spawn>),
    /// The token is unknown, was used before or has expired.
    Unknown,
}

/// The message that `shed-init connect` sends on its standard input socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connected {
    /// It is connected; the connected socket is sent with this message.
    Socket,
    /// It could not connect, for this reason.
    Refused(String),
}

/// A message that `shed-init listen` sends on its standard input socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listened {
    /// It is listening; the first message.
    Listening {
        /// The TCP port; 0 for a unix socket.
        port: u16,
    },
    /// It accepted a connection; the accepted socket is sent with this message.
    Accepted {
        /// The peer's address; empty for a unix socket.
        host: String,
        /// The peer's port; 0 for a unix socket.
        port: u16,
    },
    /// It cannot listen, for this reason.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Server and shed-init of different versions read each other: names on the wire stay when names in the code change.
    #[test]
    fn names_on_the_wire_do_not_follow_renamed_types() {
        assert_eq!(serde_json::to_value(Io::OutputSocket).unwrap(), json!("tap"));
        let observe = serde_json::to_value(Op::Observe { seconds: 5 }).unwrap();
        assert_eq!(observe, json!({ "look": { "seconds": 5 } }));
        let tmux = Tmux::Listing(String::new());
        let snapshot = TmuxSnapshot { tmux, at_ms: 1, foreground: BTreeMap::new() };
        let message = serde_json::to_value(Message::TmuxSnapshot(snapshot)).unwrap();
        assert!(message["picture"]["at_ms"] == json!(1), "{message}");
    }
}
