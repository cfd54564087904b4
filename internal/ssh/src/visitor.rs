//! Somebody who has logged in: who they are, where they go, and what their programs are told.

use shed_model::Rejection;
use std::net::SocketAddr;

use shed_api::{Problem, ShedName};
use shed_core::{Error, Person};

use crate::login::Login;

/// Variables a client may set, beside `LC_*`. `GIT_PROTOCOL` is how git asks for its second protocol.
const ALLOWED: &[&str] = &["LANG", "TERM", "COLORTERM", "GIT_PROTOCOL"];
/// The most variables of one channel.
const MAX_VARIABLES: usize = 32;
/// The longest value.
const MAX_VALUE_BYTES: usize = 256;

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// The client's.
    pub(crate) client: SocketAddr,
    /// Ours.
    pub(crate) server: SocketAddr,
}

/// Somebody with a proven key.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// Whose key it is.
    pub(crate) person: Person,
    /// Where they want to go. A name that is none is told on each channel: a login that fails would only be a refused key.
    pub(crate) login: Result<Login, Box<Problem>>,
    /// Where they come from.
    pub(crate) ends: Ends,
}

impl Visitor {
    /// The shed for forwards.
    pub(crate) fn shed(&self) -> Result<ShedName, Box<Problem>> {
        match &self.login {
            Ok(Login::Shed(shed) | Login::Session(shed, _)) => Ok(shed.clone()),
            Ok(Login::Api) => {
                let text = "there is nothing to forward here: log in as a shed";
                Err(Box::new(Error::Rejected(Rejection::Invalid(text.to_owned())).problem()))
            }
            Err(problem) => Err(problem.clone()),
        }
    }

    /// What sshd tells a program of its connection; many programs look whether they are remote.
    pub(crate) fn variables(&self) -> [(String, String); 2] {
        let Ends { client, server } = self.ends;
        let (from, to) = (client.ip().to_canonical(), server.ip().to_canonical());
        let (from_port, to_port) = (client.port(), server.port());
        [
            ("SSH_CLIENT".to_owned(), format!("{from} {from_port} {to_port}")),
            ("SSH_CONNECTION".to_owned(), format!("{from} {from_port} {to} {to_port}")),
        ]
    }
}

/// Adds a client's variable if it is one that may pass.
pub(crate) fn set_variable(env: &mut Vec<(String, String)>, name: &str, value: &str) -> bool {
    let locale = name.strip_prefix("LC_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 32
            && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    });
    let passes = (locale || ALLOWED.contains(&name))
        && value.len() <= MAX_VALUE_BYTES
        && !value.contains(char::is_control);
    if !passes {
        return false;
    }
    env.retain(|(known, _)| known != name);
    if env.len() >= MAX_VARIABLES {
        return false;
    }
    env.push((name.to_owned(), value.to_owned()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_about_language_and_terminal_pass() {
        let mut env = Vec::new();
        for (name, value) in [("LANG", "de_DE.UTF-8"), ("LC_ALL", "C"), ("COLORTERM", "truecolor")]
        {
            assert!(set_variable(&mut env, name, value), "{name}");
        }
        let long = "x".repeat(257);
        for (name, value) in [
            ("PATH", "/tmp"),
            ("LD_PRELOAD", "x"),
            ("LC_", "C"),
            ("LC_a=b", "C"),
            ("LANG", "a\0b"),
            ("TERM", &long),
        ] {
            assert!(!set_variable(&mut env, name, value), "{name}");
        }
        assert!(set_variable(&mut env, "LANG", "C"));
        assert_eq!(env.len(), 3);
        for letter in 'A'..='Z' {
            for second in ["", "X"] {
                set_variable(&mut env, &format!("LC_{letter}{second}"), "C");
            }
        }
        assert_eq!(env.len(), MAX_VARIABLES);
    }
}
