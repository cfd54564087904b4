//! Names of sheds, sessions and workers: parsed once where a request enters, and types from then on.
//!
//! Names are used in file systems, the container engine, SSH user names and tmux targets; the patterns here are safe in all
//! of them. tmux runs `#(…)` inside names, so only letters, digits, `_` and `-` are allowed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a shed or a session, in bytes. 63 is the limit of a DNS label.
pub const MAX_NAME_BYTES: usize = 63;

/// Why a name was refused. The text is meant to be shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} name {shown:?}; expected {rule}")]
pub struct NameError {
    /// `shed`, `session` or `worker`.
    kind: &'static str,
    /// The name as given, cut to [`MAX_SHOWN`] characters if it is too long.
    shown: String,
    /// The rule of this kind of name.
    rule: &'static str,
}

/// How much of a name that is too long is repeated in an error, in characters.
const MAX_SHOWN: usize = 16;

const SHED_RULE: &str = "1 to 63 characters of a-z, 0-9 and '-', \
    beginning with a letter and ending with a letter or digit";
const SESSION_RULE: &str = "1 to 63 characters of A-Z, a-z, 0-9, '_' and '-', \
    beginning with a letter or digit";

/// The name of a shed: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShedName(String);

/// The name of a session: `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionName(String);

impl ShedName {
    /// The name as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SessionName {
    /// The session that `attach` uses when none is named: `default`.
    pub fn default_session() -> Self {
        Self("default".to_owned())
    }

    /// The name as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NameError {
    fn new(kind: &'static str, given: &str, rule: &'static str) -> Self {
        let shown = if given.len() > MAX_NAME_BYTES {
            given.chars().take(MAX_SHOWN).chain(['…']).collect()
        } else {
            given.to_owned()
        };
        Self { kind, shown, rule }
    }
}

fn has_valid_length(given: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&given.len())
}

impl FromStr for ShedName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let bytes = given.as_bytes();
        let valid = has_valid_length(given)
            && bytes[0].is_ascii_lowercase()
            && bytes.iter().all(|b| inner(*b))
            && bytes[bytes.len() - 1] != b'-';
        if valid {
            Ok(Self(given.to_owned()))
        } else {
            Err(NameError::new("shed", given, SHED_RULE))
        }
    }
}

impl FromStr for SessionName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let bytes = given.as_bytes();
        let valid = has_valid_length(given)
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| inner(*b));
        if valid {
            Ok(Self(given.to_owned()))
        } else {
            Err(NameError::new("session", given, SESSION_RULE))
        }
    }
}

/// Parses a reference to a worker: its name, which has the pattern of a session's, or its id, which matches that pattern.
pub fn worker(given: &str) -> Result<String, NameError> {
    let name = given.parse::<SessionName>();
    name.map(String::from).map_err(|error| NameError { kind: "worker", ..error })
}

/// A reference to a session: its name, or tmux's id (`$3`) for unmanaged sessions whose names do not match our pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionRef {
    /// A valid name.
    Name(SessionName),
    /// The number in tmux's `$N`.
    Id(u32),
}

impl FromStr for SessionRef {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        if let Some(digits) = given.strip_prefix('$') {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if let (true, Ok(id)) = (plain, digits.parse()) {
                return Ok(Self::Id(id));
            }
        }
        given.parse().map(Self::Name)
    }
}

macro_rules! text_forms {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(given: String) -> Result<Self, NameError> {
                given.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}
text_forms!(ShedName);
text_forms!(SessionName);

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => write!(f, "${id}"),
        }
    }
}

/// Replaces characters that could control a terminal or a log (control characters including C1, line separators,
/// bidirectional controls) by `U+FFFD`.
///
/// Titles, commands and names of unmanaged sessions come from inside a shed and are untrusted until they went through here.
pub fn printable(text: &str) -> String {
    let controls = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if controls(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_do_not_match_the_pattern_are_refused() {
        let long = "a".repeat(64);
        for bad in
            ["", "..", "#(id)", "-x", "x-", "Ü", "a\0b", "A", "1a", "a b", "a/b", "_api", &long]
        {
            assert!(bad.parse::<ShedName>().is_err(), "{bad:?} passed as a shed name");
        }
        for bad in ["", "..", "#(id)", "-x", "_x", "Ü", "a\0b", "a b", "a.b", "a:b", "$1", &long] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad:?} passed as a session name");
        }
    }

    #[test]
    fn names_that_match_the_pattern_are_accepted() {
        let long = "a".repeat(63);
        for good in ["a", "a1", "my-proj", "a--b", &long] {
            assert!(good.parse::<ShedName>().is_ok(), "{good:?} was refused");
            assert!(good.parse::<SessionName>().is_ok(), "{good:?} was refused");
        }
        assert!("0_x-Y".parse::<SessionName>().is_ok());
    }

    #[test]
    fn a_session_is_addressed_by_name_or_id() {
        assert_eq!("$12".parse(), Ok(SessionRef::Id(12)));
        assert!("$".parse::<SessionRef>().is_err());
        assert!("$+1".parse::<SessionRef>().is_err());
        assert!("$99999999999".parse::<SessionRef>().is_err());
        assert_eq!("$7".parse::<SessionRef>().unwrap().to_string(), "$7");
    }

    #[test]
    fn errors_say_what_was_given_and_the_rule() {
        assert_eq!(
            "A".parse::<ShedName>().unwrap_err().to_string(),
            "invalid shed name \"A\"; expected 1 to 63 characters of a-z, 0-9 and '-', \
             beginning with a letter and ending with a letter or digit"
        );
        assert_eq!(
            "".parse::<SessionName>().unwrap_err().to_string(),
            "invalid session name \"\"; expected 1 to 63 characters of A-Z, a-z, 0-9, '_' and '-', \
             beginning with a letter or digit"
        );
        let long = "a".repeat(64).parse::<ShedName>().unwrap_err().to_string();
        assert!(
            long.starts_with("invalid shed name \"aaaaaaaaaaaaaaaa…\"; expected 1 to 63"),
            "{long}"
        );
    }

    #[test]
    fn an_invalid_worker_name_is_reported_as_one() {
        assert_eq!(worker("setup-2"), Ok("setup-2".to_owned()));
        for bad in ["", "#(id)", &"a".repeat(64)] {
            let refused = worker(bad).unwrap_err().to_string();
            assert!(refused.starts_with("invalid worker name "), "{refused}");
        }
    }

    #[test]
    fn control_characters_never_pass_printable() {
        assert_eq!(
            printable("a\x1b[31m\u{9b}\u{202e}b\n"),
            "a\u{fffd}[31m\u{fffd}\u{fffd}b\u{fffd}"
        );
        assert_eq!(printable("naïve 🚀"), "naïve 🚀");
    }

    proptest! {
        #[test]
        fn a_parsed_name_is_displayed_as_given(given in "\\PC{0,70}") {
            if let Ok(name) = given.parse::<ShedName>() {
                prop_assert_eq!(name.to_string(), given.clone());
                prop_assert!(given.len() <= MAX_NAME_BYTES && given.is_ascii());
            }
            if let Ok(name) = given.parse::<SessionName>() {
                prop_assert_eq!(name.to_string(), given.clone());
            }
        }
    }
}
