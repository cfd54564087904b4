//! Why something in a container was not done.

use shed_api::ShedName;
use shed_engine::EngineError;
use shed_link::Refusal;
use shed_link::git::FailureKind;

/// Why something in a container was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shed runs, but its shed-init does not answer.
    #[error("shed {0:?} runs, but its shed-init does not answer")]
    Unreachable(ShedName),
    /// shed-init refused the request.
    #[error("{0}")]
    Refused(Refusal),
    /// The request or the answer is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The answer is longer than its limit.
    #[error("{0}")]
    TooLarge(String),
    /// Nothing in the shed answers there.
    #[error("{0}")]
    Connect(String),
    /// It took longer than its limit.
    #[error("{0}")]
    TimedOut(String),
    /// git refused.
    #[error("{text}")]
    Git {
        /// The kind of failure.
        kind: FailureKind,
        /// git's reason, printable, on one line.
        text: String,
    },
    /// The engine failed to check who is at the other end of a link.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The operating system refused the server something.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's reason.
        error: std::io::Error,
    },
}

impl Error {
    /// Adds what was being done to an error of the operating system.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}
