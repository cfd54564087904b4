//! What an SSH user name means. Pure.

use shed_api::{SessionRef, ShedName};
use shed_core::Error;
use shed_model::Rejection;

/// The server's own user whose channels reach the API.
const API_USER: &str = "_api";
/// The longest name repeated in an answer.
const MAX_SHOWN: usize = 32;

/// Where a connection goes.
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
    /// Reads a user name. Whether there is such a shed is not its business.
    pub(crate) fn parse(user: &str) -> Result<Self, Error> {
        if user == API_USER {
            return Ok(Self::Api);
        }
        if user.starts_with('_') {
            let shown: String = user.chars().take(MAX_SHOWN).collect();
            let text = format!("no user {shown:?}: names that begin with '_' are the server's own");
            return Err(Error::Rejected(Rejection::Invalid(text)));
        }
        match user.split_once(['+', '/']) {
            None => Ok(Self::Shed(user.parse()?)),
            Some((shed, session)) => Ok(Self::Session(shed.parse()?, session.parse()?)),
        }
    }
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
    fn anything_else_is_refused_in_words() {
        let long = "a".repeat(64);
        for bad in ["", "..", "#(id)", "-x", "Ü", "a\0b", "a b", "A", "a@b", &long] {
            assert!(parse(bad).is_err(), "{bad:?} passed");
            assert!(parse(&format!("{bad}+work")).is_err(), "{bad:?}+work passed");
        }
        for bad in ["", "..", "#(id)", "-x", "$", "a+b", "a/b", &long] {
            assert!(parse(&format!("a+{bad}")).is_err(), "a+{bad:?} passed");
        }
        let own = parse("_x").unwrap_err();
        assert_eq!(own, r#"no user "_x": names that begin with '_' are the server's own"#);
        assert!(parse(&format!("_{}", "x".repeat(1 << 20))).unwrap_err().len() < 200);
    }
}
