//! Streams over WebSocket: `attach`, `console`, `exec/stream` and `forward/{port}`.
//!
//! The client's first message is text: the opening object of the route. The server answers with a [`ServerFrame`]:
//! `started` or `problem`. Then, in both directions, bytes are binary messages and everything else is a text message
//! with one JSON object. A binary message of the client is input as it is; one of the server begins with one byte that
//! names the channel ([`STDOUT`] or [`STDERR`]). The last text message of the server is `exit` or `problem`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// First byte of a binary message of the server: standard output, or the terminal, or the connection.
pub const STDOUT: u8 = 1;
/// First byte of a binary message of the server: standard error.
pub const STDERR: u8 = 2;

/// The largest message either side sends, in bytes. A larger one closes the stream.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A terminal of the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Tty {
    /// Columns; 0 is taken as 80.
    pub cols: u16,
    /// Rows; 0 is taken as 24.
    pub rows: u16,
    /// `$TERM`. One the image does not know falls back to a similar one.
    #[serde(default)]
    pub term: String,
}

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecSpec {
    /// The command, word by word. No shell reads it.
    pub argv: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it runs; `/workspace` (or the session's directory) when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Run in a background window of this session.
    #[serde(default)]
    pub session: Option<String>,
    /// Run as root. Needs admin; excludes `session`.
    #[serde(default)]
    pub root: bool,
}

/// The opening object of `exec/stream`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecOpen {
    /// What to run.
    pub exec: ExecSpec,
    /// With a terminal, where stderr and stdout are one.
    #[serde(default)]
    pub tty: Option<Tty>,
    /// Whether input will come; without it the command reads end of file.
    #[serde(default)]
    pub stdin: bool,
    /// End the stream only when the output ends, as sshd does, instead of when the command has exited.
    #[serde(default)]
    pub wait_for_output: bool,
    /// Do not stream: answer `detached` with an id and close.
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
    /// Refuse if the session exists.
    #[serde(default)]
    pub new: bool,
    /// Refuse if it does not: what a reconnecting client asks.
    #[serde(default)]
    pub existing: bool,
    /// Look, do not touch. Implied by a read scope.
    #[serde(default)]
    pub read_only: bool,
    /// Detach everyone else.
    #[serde(default)]
    pub detach_others: bool,
    /// Added to the environment of a session that is made; `COLORTERM` also tells what the terminal can show.
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
    /// As root. Needs admin.
    #[serde(default)]
    pub root: bool,
    /// Added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A text message of the client after the opening object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientFrame {
    /// The terminal has a new size.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// No more input.
    Eof,
    /// Send a signal to the command's process group, by name without `SIG`: `INT`, `TERM`, …
    Signal {
        /// The name.
        name: String,
    },
}

/// A text message of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerFrame {
    /// The command, terminal or connection is there.
    Started,
    /// It was started and goes on by itself.
    Detached {
        /// Named in the `exec.started` and `exec.ended` events.
        id: String,
    },
    /// The other side will send no more; input is still taken. Only `forward`.
    Eof,
    /// It ended. The stream is closed after this.
    Exit {
        /// How.
        exit: Exit,
    },
    /// It failed or could not start. The stream is closed after this.
    Problem {
        /// Why.
        problem: crate::Problem,
    },
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// By itself, with this status (0 to 255).
    Code(u8),
    /// By this signal, named without `SIG` (`KILL`), or by number where it has no name.
    Signal(String),
}

impl Exit {
    /// What a shell would show: the status, or 128 plus the signal's number.
    pub fn shell_status(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(name) => 128 + signal_number(name).unwrap_or(0),
        }
    }
}

/// Signals by the names SSH and shells use, on Linux.
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

/// The number of a signal named without `SIG`, or given as a number from 1 to 64.
pub fn signal_number(name: &str) -> Option<u8> {
    let known = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known.or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)))
}

/// The name of a signal, without `SIG`; its number where it has none.
pub fn signal_name(number: u8) -> String {
    let known = SIGNALS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// `POST /api/sheds/{n}/exec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The command, word by word. No shell reads it.
    pub argv: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it runs; `/workspace` when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Run in a background window of this session; `stdout` then has the terminal's bytes.
    #[serde(default)]
    pub session: Option<String>,
    /// Run as root. Needs admin; excludes `session`.
    #[serde(default)]
    pub root: bool,
    /// Given to the command as its input.
    #[serde(default)]
    pub stdin: Option<String>,
    /// The same as base64, for bytes that are no text.
    #[serde(default)]
    pub stdin_base64: Option<String>,
    /// After so many seconds it is ended (TERM, then KILL) and the answer is `timed-out`. At most, and by default, 600.
    #[serde(default)]
    pub timeout: Option<f64>,
}

/// The answer to `POST /api/sheds/{n}/exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecResult {
    /// Its exit status, as a shell would show it: 128 plus the signal's number if a signal ended it.
    pub exit: u8,
    /// The signal that ended it, named without `SIG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Standard output as base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// Standard error as base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// Whether output beyond the limit (8 MiB each) was dropped.
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
        assert_eq!(text(&ServerFrame::Started), r#"{"type":"started"}"#);
        let exit = ServerFrame::Exit { exit: Exit::Code(7) };
        assert_eq!(text(&exit), r#"{"type":"exit","exit":{"code":7}}"#);
        let resize: ClientFrame =
            serde_json::from_str(r#"{"type":"resize","cols":80,"rows":24}"#).unwrap();
        assert_eq!(resize, ClientFrame::Resize { cols: 80, rows: 24 });
        let extra = r#"{"type":"resize","cols":80,"rows":24,"x":1}"#;
        assert!(serde_json::from_str::<ClientFrame>(extra).is_err());
    }
}
