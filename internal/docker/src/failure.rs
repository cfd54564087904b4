//! What Docker answers when it does not do something, and how the port says it. Pure.
//!
//! What kind of failure it was is told by the status, not by the words, which differ between versions. The one exception
//! is a full disk, which has no status of its own.

use std::error::Error as StdError;
use std::io::ErrorKind;

use bollard::errors::Error as ApiError;
use shed_engine::EngineError;

/// The most of Docker's words that are passed on, in characters.
const MAX_WORDS: usize = 500;
/// How every storage driver says it.
const NO_SPACE: &str = "no space left on device";

/// Why an answer is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// The engine answered with this status, for this reason.
    #[error("docker: {words}")]
    Refused {
        /// HTTP's.
        status: u16,
        /// One line.
        words: String,
    },
    /// There is no engine at the other end, or the wrong one.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("{0}")]
    Late(String),
    /// It answered something else.
    #[error("docker: {0}")]
    Strange(String),
}

impl Trouble {
    /// What bollard says, of the engine at `host`.
    pub(crate) fn of(error: &ApiError, host: &str) -> Self {
        match error {
            ApiError::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: *status_code, words: one_line(message) }
            }
            // The answer had begun well.
            ApiError::DockerStreamError { error } => {
                Self::Refused { status: 500, words: one_line(error) }
            }
            ApiError::RequestTimeoutError
            | ApiError::HyperLegacyError { .. }
            | ApiError::HyperResponseError { .. }
            | ApiError::IOError { .. }
            | ApiError::SocketNotFoundError(_) => Self::Unreachable(unreachable(error, host)),
            error => Self::Strange(one_line(&error.to_string())),
        }
    }

    /// The status the engine answered with.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable(_) | Self::Late(_) | Self::Strange(_) => None,
        }
    }

    /// Whether it does not know what was asked for.
    pub(crate) fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether a name may be taken. Podman has 500 for that.
    pub(crate) fn may_be_taken(&self) -> bool {
        matches!(self.status(), Some(409 | 500))
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Refused { words, .. } if words.contains(NO_SPACE))
    }

    /// The same about an image that is not here.
    pub(crate) fn about_image(self, image: &str) -> EngineError {
        match self {
            Self::Refused { ref words, .. } if !self.is_full() => {
                EngineError::NoImage { image: image.to_owned(), why: words.clone() }
            }
            Self::Late(why) => EngineError::NoImage { image: image.to_owned(), why },
            trouble => trouble.into(),
        }
    }
}

impl From<Trouble> for EngineError {
    fn from(trouble: Trouble) -> Self {
        let text = trouble.to_string();
        match trouble {
            Trouble::Refused { .. } if trouble.is_full() => Self::DiskFull(text),
            Trouble::Refused { status: 404, .. } => Self::NoBox(text),
            Trouble::Refused { status: 409, .. } => Self::Conflict(text),
            Trouble::Unreachable(_) => Self::Unreachable(text),
            Trouble::Refused { .. } | Trouble::Late(_) | Trouble::Strange(_) => Self::Failed(text),
        }
    }
}

fn unreachable(error: &ApiError, host: &str) -> String {
    let mut cause: &(dyn StdError + 'static) = match error {
        // Transparent: it shows its cause's cause as its own.
        ApiError::IOError { err } => err,
        error => error,
    };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let why = match (kind, error) {
        (Some(ErrorKind::PermissionDenied), _) => {
            return format!(
                "may not use Docker at {host}: permission denied; let this user in: sudo usermod -aG docker $USER"
            );
        }
        (Some(ErrorKind::NotFound), _) | (_, ApiError::SocketNotFoundError(_)) => {
            "there is no such socket".to_owned()
        }
        _ => one_line(&cause.to_string()),
    };
    format!("cannot reach Docker at {host}: {why}; start it: sudo systemctl start docker")
}

/// Fit for a table or a log: one line, no control character, not endless.
pub(crate) fn one_line(text: &str) -> String {
    let plain = text.split(|c: char| c.is_control()).map(str::trim).filter(|part| !part.is_empty());
    let line: String = plain.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status_code: u16, message: &str) -> Trouble {
        let error =
            ApiError::DockerResponseServerError { status_code, message: message.to_owned() };
        Trouble::of(&error, "/run/x.sock")
    }

    #[test]
    fn the_status_decides_and_a_full_disk_is_known_by_its_words() {
        let line = |text: &str| format!("docker: {text}");
        for (trouble, expected) in [
            (refused(404, "gone"), EngineError::NoBox(line("gone"))),
            (refused(409, "in use"), EngineError::Conflict(line("in use"))),
            (refused(500, "a\n\x1b[1mb "), EngineError::Failed(line("a [1mb"))),
            (
                refused(500, "mkdir: no space left on device"),
                EngineError::DiskFull(line("mkdir: no space left on device")),
            ),
        ] {
            assert_eq!(EngineError::from(trouble), expected);
        }
        let denied = refused(404, "pull access denied").about_image("x");
        let why = "pull access denied".to_owned();
        assert_eq!(denied, EngineError::NoImage { image: "x".to_owned(), why });
        assert!(matches!(refused(500, NO_SPACE).about_image("x"), EngineError::DiskFull(_)));
    }

    #[test]
    fn a_lost_engine_is_named_with_its_socket_and_what_to_do() {
        let lost = |kind: ErrorKind| {
            let err = std::io::Error::from(kind);
            EngineError::from(Trouble::of(&ApiError::IOError { err }, "/run/x.sock")).to_string()
        };
        let refused = lost(ErrorKind::ConnectionRefused);
        assert!(refused.contains("/run/x.sock") && refused.contains("systemctl"), "{refused}");
        assert!(lost(ErrorKind::PermissionDenied).contains("usermod -aG docker"));
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let line = one_line(&"ü".repeat(MAX_WORDS + 1));
        assert_eq!(line.chars().count(), MAX_WORDS + 1);
        assert!(line.ends_with('…'));
    }
}
