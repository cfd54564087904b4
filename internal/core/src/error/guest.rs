//! What the errors of a container become.

use shed_api::ShedName;
use shed_guest::Error as GuestError;
use shed_guest::tmux::TmuxFailure;
use shed_link::Refusal;
use shed_model::Rejection;

use super::Error;

impl Error {
    /// The same error with the shed's name, if the shed's shed-init does not know the request: then there is a hint.
    pub(crate) fn of_shed(self, shed: &ShedName) -> Self {
        match self {
            Self::Refused(Refusal::Unsupported) => Self::OldShedInit(shed.clone()),
            error => error,
        }
    }

    /// A tmux command about a session failed.
    pub(crate) fn tmux(
        shed: &ShedName,
        session: impl std::fmt::Display,
        failure: TmuxFailure,
    ) -> Self {
        let (shed, session) = (shed.clone(), session.to_string());
        match failure {
            TmuxFailure::Missing => Self::NoTmux(shed),
            TmuxFailure::Lost => Self::TmuxLost(shed),
            TmuxFailure::NoSession(said) => {
                tracing::debug!(%shed, %session, %said, "no session");
                Self::NoSession { shed, session }
            }
            TmuxFailure::Duplicate(_) => Self::SessionExists { shed, session },
            TmuxFailure::TooLong => Self::Rejected(Rejection::Invalid(
                "the output exceeds 1 MiB; request fewer lines".to_owned(),
            )),
            TmuxFailure::Other(text) => Self::Tmux { shed, text },
            TmuxFailure::Guest(error) => error.into(),
        }
    }
}

impl From<GuestError> for Error {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::Unreachable(shed) => Self::ShedUnreachable(shed),
            GuestError::Refused(refusal) => Self::Refused(refusal),
            GuestError::Invalid(text) => Self::Rejected(Rejection::Invalid(text)),
            GuestError::TooLarge(text) => Self::Rejected(Rejection::TooLarge(text)),
            GuestError::Connect(text) => Self::Connect(text),
            GuestError::TimedOut(text) => Self::TimedOut(text),
            GuestError::Git { kind, text } => Self::Git { kind, text },
            GuestError::Engine(error) => Self::Engine(error),
            GuestError::Io { what, error } => Self::Io { what, error },
        }
    }
}
