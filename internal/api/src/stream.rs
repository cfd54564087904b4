//! Streams over WebSocket: `attach`, `console`, `exec/stream` and `forward/{port}`.
//!
//! The client's first message is text: the opening object of the route. The server answers with a [`ServerFrame`]:
//! `started` or `problem`. After that, in both directions, bytes are binary messages, and everything else is a text message
//! with one JSON object. A binary message of the client is input; one of the server begins with a byte that names the
//! channel ([`STDOUT`] or [`STDERR`]). The server's last text message is `exit` or `problem`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// First byte of a binary message of the server: standard output, terminal output, or bytes of a connection.
pub const STDOUT: u8 = 1;
/// First byte of a binary message of the server: standard error.
pub const STDERR: u8 = 2;

/// The largest message of either side, in bytes. A larger one closes the stream.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The caller's terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Tty {
    /// Number of columns; 0 means 80.
    pub cols: u16,
    /// Number of rows; 0 means 24.
    pub rows: u16,
    /// Width in pixels; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub x_pixels: u16,
    /// Height in pixels; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub y_pixels: u16,
    /// Value of `$TERM`. If the image does not support it, a similar one is used.
    #[serde(default)]
    pub term: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecSpec {
    /// The command, one string for each argument. No shell interprets it.
    pub argv: Vec<String>,
    /// Variables added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory; `/workspace`, or the session's directory with `session`, when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Name or id of a session; the command runs in a background window of it.
    #[serde(default)]
    pub session: Option<String>,
    /// Run as root instead of `dev`. Needs scope admin; excludes `session`.
    #[serde(default)]
    pub root: bool,
}

/// The opening object of `exec/stream`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecOpen {
    /// The command to run.
    pub exec: ExecSpec,
    /// Terminal of the command, which combines standard output and standard error; without a terminal when absent.
    #[serde(default)]
    pub tty: Option<Tty>,
    /// Whether the client will send input. If not, the command reads end of file.
    #[serde(default)]
    pub stdin: bool,
    /// End the stream only when all output has ended, as sshd does, instead of when the command has exited.
    #[serde(default)]
    pub wait_for_output: bool,
    /// Do not stream: answer `detached` with an id and close the stream.
    #[serde(default)]
    pub detach: bool,
}

/// The opening object of `sessions/{s}/attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AttachOpen {
    /// The caller's terminal.
    pub tty: Tty,
    /// Fail if the session exists.
    #[serde(default)]
    pub new: bool,
    /// Fail if the session does not exist; for clients that reconnect.
    #[serde(default)]
    pub existing: bool,
    /// Attach read-only: input is dropped. Implied by scope read.
    #[serde(default)]
    pub read_only: bool,
    /// Detach all other clients.
    #[serde(default)]
    pub detach_others: bool,
    /// Variables added to the environment of a session that is created. When the session exists, only `LANG`, `LC_*`,
    /// `TERM` and `COLORTERM` have an effect.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// The opening object of `console`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConsoleOpen {
    /// The caller's terminal.
    pub tty: Tty,
    /// Run the shell as root instead of `dev`. Needs scope admin.
    #[serde(default)]
    pub root: bool,
    /// Variables added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A text message of the client after the opening object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientFrame {
    /// The client's terminal has a new size.
    Resize {
        /// Number of columns.
        cols: u16,
        /// Number of rows.
        rows: u16,
        /// Width in pixels; 0 if unknown.
        #[serde(default, skip_serializing_if = "is_zero")]
        x_pixels: u16,
        /// Height in pixels; 0 if unknown.
        #[serde(default, skip_serializing_if = "is_zero")]
        y_pixels: u16,
    },
    /// The client will send no more input.
    Eof,
    /// Send a signal to the command's process group.
    Signal {
        /// Name of the signal without `SIG`: `INT`, `TERM` and so on. Unknown names are ignored.
        name: String,
    },
}

/// A text message of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerFrame {
    /// The command, terminal or connection was started.
    Started {
        /// How often the server sends a ping, in milliseconds. A client that hears nothing for 2.5 times as long may consider the
        /// connection lost. Absent from older servers, which send one every 20 seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ping_ms: Option<u64>,
    },
    /// The command was started and runs in the background. The stream is closed after this.
    Detached {
        /// Id of the command, as in the events `exec.started` and `exec.ended`.
        id: String,
    },
    /// The other side of a connection will send no more; input is still accepted. Only `forward`.
    Eof,
    /// The command ended. The stream is closed after this.
    Exit {
        /// Exit status or signal of the command.
        exit: Exit,
    },
    /// The stream failed or could not start. The stream is closed after this.
    Problem {
        /// The error.
        problem: crate::Problem,
    },
}

/// How a process ended: `{"code": 0}` or `{"signal": "KILL"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It exited with this status, 0 to 255.
    Code(u8),
    /// It was ended by this signal: the name without `SIG`, or the number if it has no name.
    Signal(String),
}

impl Exit {
    /// The exit status as a shell reports it: the status, or 128 plus the signal's number.
    pub fn shell_status(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(name) => 128 + signal_number(name).unwrap_or(0),
        }
    }
}

/// The names of Linux signals, without `SIG`.
const SIGNALS: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal, given by its name without `SIG` or as a number from 1 to 64.
pub fn signal_number(name: &str) -> Option<u8> {
    let known = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known.or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)))
}

/// The name of a signal without `SIG`, or its number if it has no name.
pub fn signal_name(number: u8) -> String {
    let known = SIGNALS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// `POST /api/sheds/{n}/exec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The command, one string for each argument. No shell interprets it.
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub argv: Vec<String>,
    /// Variables added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory; `/workspace`, or the session's directory with `session`, when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Name or id of a session; the command runs in a background window of it, and `stdout` has the terminal's bytes.
    #[serde(default)]
    pub session: Option<String>,
    /// Run as root instead of `dev`. Needs scope admin; excludes `session`.
    #[serde(default)]
    pub root: bool,
    /// Standard input of the command, as text; excludes `stdin_base64`.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Standard input of the command, as base64; for bytes that are not UTF-8.
    #[serde(default)]
    pub stdin_base64: Option<String>,
    /// Time limit in seconds, at most 600, which is also the default. Then the command is ended (TERM, later KILL), and the
    /// response is the problem `timed-out`.
    #[serde(default)]
    pub timeout: Option<f64>,
}

/// The response to `POST /api/sheds/{n}/exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecResult {
    /// Exit status as a shell reports it: 128 plus the signal's number if a signal ended the command.
    pub exit: u8,
    /// Name, without `SIG`, of the signal that ended the command; absent if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// Standard output as base64; only if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// Standard error as base64; only if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// Whether output beyond the limit of 8 MiB for each stream was dropped.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal_number("TERM"), Some(15));
        assert_eq!(signal_number("34"), Some(34));
        assert_eq!(signal_number("SIGTERM"), None);
        assert_eq!(signal_name(9), "KILL");
        assert_eq!(signal_name(40), "40");
        assert_eq!(Exit::Signal("KILL".into()).shell_status(), 137);
        assert_eq!(Exit::Code(3).shell_status(), 3);
    }

    #[test]
    fn frames_have_the_documented_form() {
        let text = |frame: &ServerFrame| serde_json::to_string(frame).unwrap();
        assert_eq!(text(&ServerFrame::Started { ping_ms: None }), r#"{"type":"started"}"#);
        let started = ServerFrame::Started { ping_ms: Some(5_000) };
        assert_eq!(text(&started), r#"{"type":"started","ping_ms":5000}"#);
        let exit = ServerFrame::Exit { exit: Exit::Code(7) };
        assert_eq!(text(&exit), r#"{"type":"exit","exit":{"code":7}}"#);
        let resize: ClientFrame =
            serde_json::from_str(r#"{"type":"resize","cols":80,"rows":24}"#).unwrap();
        assert_eq!(resize, ClientFrame::Resize { cols: 80, rows: 24, x_pixels: 0, y_pixels: 0 });
        let extra = r#"{"type":"resize","cols":80,"rows":24,"x":1}"#;
        assert!(serde_json::from_str::<ClientFrame>(extra).is_err());
    }
}
