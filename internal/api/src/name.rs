//! The names people give to things, checked once at the door and a type ever after.
//!
//! A name reaches file systems, the container engine, SSH user names and tmux targets; the patterns here are what is
//! safe in all of them. tmux runs `#(…)` inside names, which is why nothing but letters, digits, `_` and `-` passes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a shed or a session, in bytes. 63 is the limit of a DNS label.
pub const MAX_NAME_BYTES: usize = 63;

/// Why a string is not a name. Its text is shown to people as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a {0} name must not be empty")]
    Empty(&'static str),
    /// More than [`MAX_NAME_BYTES`].
    #[error("{kind} name {shown:?} is {n_bytes} bytes long; the limit is {MAX_NAME_BYTES}")]
    TooLong {
        /// `shed`, `session` or `worker`.
        kind: &'static str,
        /// The beginning of what was given.
        shown: String,
        /// Its whole length.
        n_bytes: usize,
    },
    /// A character or a place that the pattern does not allow.
    #[error("{kind} name {given:?} is not valid: {rule}")]
    Pattern {
        /// `shed`, `session` or `worker`.
        kind: &'static str,
        /// What was given.
        given: String,
        /// The rule in words.
        rule: &'static str,
    },
}

const SHED_RULE: &str = "use a-z, 0-9 and '-', begin with a letter and end with a letter or digit";
const SESSION_RULE: &str = "use A-Z, a-z, 0-9, '_' and '-', and begin with a letter or digit";

/// The name of a shed: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShedName(String);

/// The name of a session: `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionName(String);

impl ShedName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SessionName {
    /// The session that `attach` and plain SSH use when none is named.
    pub fn default_session() -> Self {
        Self("default".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_length(kind: &'static str, given: &str) -> Result<(), NameError> {
    if given.is_empty() {
        return Err(NameError::Empty(kind));
    }
    if given.len() > MAX_NAME_BYTES {
        let shown = given.chars().take(16).collect::<String>() + "…";
        return Err(NameError::TooLong { kind, shown, n_bytes: given.len() });
    }
    Ok(())
}

impl FromStr for ShedName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        check_length("shed", given)?;
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let bytes = given.as_bytes();
        let fits = bytes[0].is_ascii_lowercase()
            && bytes.iter().all(|b| inner(*b))
            && bytes[bytes.len() - 1] != b'-';
        if fits {
            Ok(Self(given.to_owned()))
        } else {
            Err(NameError::Pattern { kind: "shed", given: given.to_owned(), rule: SHED_RULE })
        }
    }
}

impl FromStr for SessionName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        check_length("session", given)?;
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let bytes = given.as_bytes();
        if bytes[0].is_ascii_alphanumeric() && bytes.iter().all(|b| inner(*b)) {
            Ok(Self(given.to_owned()))
        } else {
            Err(NameError::Pattern { kind: "session", given: given.to_owned(), rule: SESSION_RULE })
        }
    }
}

/// Checks how a request points at a worker: by its name, whose pattern is a session's, or by its id, which fits it.
pub fn worker(given: &str) -> Result<String, NameError> {
    let kind = "worker";
    given.parse::<SessionName>().map(String::from).map_err(|error| match error {
        NameError::Empty(_) => NameError::Empty(kind),
        NameError::TooLong { shown, n_bytes, .. } => NameError::TooLong { kind, shown, n_bytes },
        NameError::Pattern { given, rule, .. } => NameError::Pattern { kind, given, rule },
    })
}

/// How a request points at a session: by its name, or by tmux's id (`$3`) for names made by hand that do not fit our
/// pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionRef {
    /// A checked name.
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

/// Replaces what could steer a terminal or a log (control characters, also C1 and the line separators) by `U+FFFD`.
///
/// Titles, commands and session names made by hand come from inside a shed and are hostile until they went through
/// here.
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_outside_the_pattern_are_refused() {
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
    fn names_inside_the_pattern_pass() {
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
    fn a_worker_that_is_refused_is_called_one() {
        assert_eq!(worker("setup-2"), Ok("setup-2".to_owned()));
        for bad in ["", "#(id)", &"a".repeat(64)] {
            let refused = worker(bad).unwrap_err().to_string();
            assert!(refused.contains("worker name"), "{refused}");
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
        fn what_parses_prints_back(given in "\\PC{0,70}") {
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
