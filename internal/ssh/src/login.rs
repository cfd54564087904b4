//! Parses SSH user names. Pure.

use shed_api::{SessionRef, ShedName};
use shed_core::Error;
use shed_model::Rejection;

/// The reserved user whose channels are connected to the API.
const API_USER: &str = "_api";
/// Longest part of a name that is repeated in an error, in characters.
const MAX_SHOWN: usize = 32;

/// The target of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// `NAME`: a shed.
    Shed(ShedName),
    /// `NAME+SESSION` or `NAME/SESSION`: a session of a shed.
    Session(ShedName, SessionRef),
    /// `_api`.
    Api,
}

impl Login {
    /// Parses a user name. It does not check that the shed exists.
    pub(crate) fn parse(user: &str) -> Result<Self, Error> {
        if user == API_USER {
            return Ok(Self::Api);
        }
        if user.starts_with('_') {
            let shown: String = user.chars().take(MAX_SHOWN).collect();
            let text = format!(
                "invalid user {shown:?}; expected SHED, SHED+SESSION or _api (other names with '_' are reserved)"
            );
            return Err(invalid(text));
        }
        match user.split_once(['+', '/']) {
            None => Ok(Self::Shed(user.parse()?)),
            Some((shed, session)) => Ok(Self::Session(shed.parse()?, session.parse()?)),
        }
    }
}

/// The error for a request that the login or its target does not allow.
pub(crate) fn invalid(text: impl Into<String>) -> Error {
    Error::Rejected(Rejection::Invalid(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(user: &str) -> Result<Login, String> {
        Login::parse(user).map_err(|error| error.problem().detail)
    }

    #[test]
    fn a_user_is_a_shed_a_session_or_the_server_itself() {
        let shed: ShedName = "my-proj".parse().unwrap();
        let session: SessionRef = "w_1".parse().unwrap();
        assert_eq!(parse("my-proj"), Ok(Login::Shed(shed.clone())));
        assert_eq!(parse("my-proj+w_1"), Ok(Login::Session(shed.clone(), session.clone())));
        assert_eq!(parse("my-proj/w_1"), Ok(Login::Session(shed.clone(), session)));
        assert_eq!(parse("my-proj+$3"), Ok(Login::Session(shed, SessionRef::Id(3))));
        assert_eq!(parse("_api"), Ok(Login::Api));
    }

    #[test]
    fn any_other_user_is_refused_with_a_reason() {
        let long = "a".repeat(64);
        for bad in ["", "..", "#(id)", "-x", "Ü", "a\0b", "a b", "A", "a@b", &long] {
            assert!(parse(bad).is_err(), "{bad:?} passed");
            assert!(parse(&format!("{bad}+work")).is_err(), "{bad:?}+work passed");
        }
        for bad in ["", "..", "#(id)", "-x", "$", "a+b", "a/b", &long] {
            assert!(parse(&format!("a+{bad}")).is_err(), "a+{bad:?} passed");
        }
        let reserved = parse("_x").unwrap_err();
        let expected = r#"invalid user "_x"; expected SHED, SHED+SESSION or _api (other names with '_' are reserved)"#;
        assert_eq!(reserved, expected);
        assert!(parse(&format!("_{}", "x".repeat(1 << 20))).unwrap_err().len() < 200);
    }
}
