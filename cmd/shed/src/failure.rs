//! Why a command failed: what is printed and the exit status.

use shed_api::problem::exit;
use shed_client::ClientError;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Lower case, no full stop, names the thing. Nothing is said when it is empty.
    pub(crate) text: String,
    /// A command to paste.
    pub(crate) hint: Option<String>,
    /// See `shed_api::problem::exit`.
    pub(crate) status: u8,
}

/// The exit status of a program whose reader went away, as a shell tells death by SIGPIPE.
const UNREAD: u8 = 141;

/// What commands return: the exit status when nothing failed.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// It was tried and failed.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None, status: exit::FAILED }
    }

    /// What was asked makes no sense as it stands.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { status: exit::USAGE, ..Self::new(text) }
    }

    /// A named thing does not exist.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self { status: exit::NOT_FOUND, ..Self::new(text) }
    }

    /// Nobody reads what is printed any more.
    pub(crate) fn unread() -> Self {
        Self { status: UNREAD, ..Self::new("") }
    }

    /// The same with a command to paste.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what was being done to an error of the operating system.
    pub(crate) fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let status = error.exit_status();
        let hint = match &error {
            ClientError::Problem(problem) => problem.hint.clone(),
            ClientError::Unreachable { .. } => Some("shed doctor".to_owned()),
            ClientError::Lost { .. } | ClientError::Protocol { .. } => None,
        };
        Self { text: error.to_string(), hint, status }
    }
}
