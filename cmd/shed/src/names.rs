//! Checks of names on the command line, made before any request. The server repeats them.

use shed_api::name::NameError;
use shed_api::{SessionName, SessionRef, ShedName};

/// Checks the name of a shed.
pub(crate) fn shed(given: &str) -> Result<String, NameError> {
    given.parse::<ShedName>().map(String::from)
}

/// Checks the name of a session to create.
pub(crate) fn new_session(given: &str) -> Result<String, NameError> {
    given.parse::<SessionName>().map(String::from)
}

/// Checks a reference to a session: name, id or tmux id (`$3`).
pub(crate) fn session(given: &str) -> Result<String, NameError> {
    given.parse::<SessionRef>().map(|session| session.to_string())
}

/// Checks a reference to a worker: name or id.
pub(crate) fn worker(given: &str) -> Result<String, NameError> {
    shed_api::name::worker(given)
}
