//! Names on the command line, checked before anything else happens. The server checks them again.

use shed_api::name::NameError;
use shed_api::{SessionName, SessionRef, ShedName};

/// The name of a shed.
pub(crate) fn shed(given: &str) -> Result<String, NameError> {
    given.parse::<ShedName>().map(String::from)
}

/// The name of a session that is to be made.
pub(crate) fn new_session(given: &str) -> Result<String, NameError> {
    given.parse::<SessionName>().map(String::from)
}

/// A session, by name or `$ID`.
pub(crate) fn session(given: &str) -> Result<String, NameError> {
    given.parse::<SessionRef>().map(|session| session.to_string())
}

/// A worker, by name or id.
pub(crate) fn worker(given: &str) -> Result<String, NameError> {
    shed_api::name::worker(given)
}
