//! Failures of Docker requests and their translation into the port's errors. Pure.
//!
//! The HTTP status decides the kind of failure, not the text, which differs between versions. The one exception is a full
//! disk, which has no status of its own.

use std::error::Error as StdError;
use std::io::ErrorKind;

use bollard::errors::Error as ApiError;
use shed_engine::EngineError;

/// Longest part of Docker's error text that is passed on, in characters.
const MAX_CHARS: usize = 500;
/// The text that every storage driver uses for a full disk.
const NO_SPACE: &str = "no space left on device";

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The engine refused the request.
    #[error("docker: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason, one line.
        detail: String,
    },
    /// No engine answers, or it is not supported.
    #[error("{0}")]
    Unreachable(String),
    /// The engine did not answer within the limit.
    #[error("{0}")]
    TimedOut(String),
    /// The engine's response could not be understood.
    #[error("docker: {0}")]
    Unexpected(String),
}

impl Failure {
    /// Classifies an error of bollard about the engine at `host`.
    pub(crate) fn of(error: &ApiError, host: &str) -> Self {
        match error {
            ApiError::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: *status_code, detail: one_line(message) }
            }
            // An error in the middle of a response whose status was a success.
            ApiError::DockerStreamError { error } => {
                Self::Refused { status: 500, detail: one_line(error) }
            }
            ApiError::RequestTimeoutError
            | ApiError::HyperLegacyError { .. }
            | ApiError::HyperResponseError { .. }
            | ApiError::IOError { .. }
            | ApiError::SocketNotFoundError(_) => Self::Unreachable(unreachable(error, host)),
            error => Self::Unexpected(one_line(&error.to_string())),
        }
    }

    /// The HTTP status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Unexpected(_) => None,
        }
    }

    /// Whether the requested object does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the reason may be that a name is in use. Podman answers 500 then.
    pub(crate) fn may_be_taken(&self) -> bool {
        matches!(self.status(), Some(409 | 500))
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Refused { detail, .. } if detail.contains(NO_SPACE))
    }

    /// The error for a failed request about an image.
    pub(crate) fn about_image(self, image: &str) -> EngineError {
        match self {
            Self::Refused { ref detail, .. } if !self.is_full() => {
                EngineError::NoImage { image: image.to_owned(), why: detail.clone() }
            }
            Self::TimedOut(why) => EngineError::NoImage { image: image.to_owned(), why },
            failure => failure.into(),
        }
    }
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::Refused { .. } if failure.is_full() => Self::DiskFull(text),
            Failure::Refused { status: 404, .. } => Self::NoContainer(text),
            Failure::Refused { status: 409, .. } => Self::Conflict(text),
            Failure::Unreachable(_) => Self::Unreachable(text),
            Failure::Refused { .. } | Failure::TimedOut(_) | Failure::Unexpected(_) => {
                Self::Failed(text)
            }
        }
    }
}

fn unreachable(error: &ApiError, host: &str) -> String {
    let mut cause: &(dyn StdError + 'static) = match error {
        // This variant is transparent: its `source` is the source of `err`, not `err` itself.
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
                "cannot use Docker at {host}: permission denied; add the user of the server to the group docker: \
                 sudo usermod -aG docker $USER"
            );
        }
        (Some(ErrorKind::NotFound), _) | (_, ApiError::SocketNotFoundError(_)) => {
            "no such socket".to_owned()
        }
        _ => one_line(&cause.to_string()),
    };
    format!("cannot reach Docker at {host}: {why}; start it: sudo systemctl start docker")
}

/// The text as one line without control characters, cut at [`MAX_CHARS`], for tables and logs.
pub(crate) fn one_line(text: &str) -> String {
    // Errors of pulls name registries and proxies.
    let text = shed_api::redact::redact(text);
    let plain = text.split(|c: char| c.is_control()).map(str::trim).filter(|part| !part.is_empty());
    let line: String = plain.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status_code: u16, message: &str) -> Failure {
        let error =
            ApiError::DockerResponseServerError { status_code, message: message.to_owned() };
        Failure::of(&error, "/run/x.sock")
    }

    #[test]
    fn the_status_decides_and_a_full_disk_is_recognised_by_its_text() {
        let line = |text: &str| format!("docker: {text}");
        for (failure, expected) in [
            (refused(404, "gone"), EngineError::NoContainer(line("gone"))),
            (refused(409, "in use"), EngineError::Conflict(line("in use"))),
            (refused(500, "a\n\x1b[1mb "), EngineError::Failed(line("a [1mb"))),
            (
                refused(500, "mkdir: no space left on device"),
                EngineError::DiskFull(line("mkdir: no space left on device")),
            ),
        ] {
            assert_eq!(EngineError::from(failure), expected);
        }
        let denied = refused(404, "pull access denied").about_image("x");
        let why = "pull access denied".to_owned();
        assert_eq!(denied, EngineError::NoImage { image: "x".to_owned(), why });
        assert!(matches!(refused(500, NO_SPACE).about_image("x"), EngineError::DiskFull(_)));
    }

    #[test]
    fn an_unreachable_engine_is_reported_with_its_socket_and_a_fix() {
        let lost = |kind: ErrorKind| {
            let err = std::io::Error::from(kind);
            EngineError::from(Failure::of(&ApiError::IOError { err }, "/run/x.sock")).to_string()
        };
        let refused = lost(ErrorKind::ConnectionRefused);
        assert!(refused.contains("/run/x.sock") && refused.contains("systemctl"), "{refused}");
        assert!(lost(ErrorKind::PermissionDenied).contains("usermod -aG docker"));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let line = one_line(&"ü".repeat(MAX_CHARS + 1));
        assert_eq!(line.chars().count(), MAX_CHARS + 1);
        assert!(line.ends_with('…'));
    }
}
