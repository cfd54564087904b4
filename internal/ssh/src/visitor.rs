//! An authenticated client: its person, its target, and the environment of its programs.

use std::net::SocketAddr;

use shed_api::{Problem, ShedName};
use shed_core::Person;
use shed_model::env::{describes_caller, is_plain};

use crate::login::{Login, invalid};

/// The variable with which git requests its second protocol.
const GIT_PROTOCOL: &str = "GIT_PROTOCOL";
/// Variables that a client may set on one channel.
const MAX_VARIABLES: usize = 32;

/// The two addresses of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoints {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// An authenticated client.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// The owner of the key.
    pub(crate) person: Person,
    /// The target. An invalid one is reported on each channel: if the login failed instead, the client would see only a
    /// refused key.
    pub(crate) login: Result<Login, Box<Problem>>,
    pub(crate) endpoints: Endpoints,
}

impl Visitor {
    /// The shed that forwards are made in.
    pub(crate) fn shed(&self) -> Result<ShedName, Box<Problem>> {
        match &self.login {
            Ok(Login::Shed(shed) | Login::Session(shed, _)) => Ok(shed.clone()),
            Ok(Login::Api) => {
                let text = "_api has no forwards; log in as a shed";
                Err(Box::new(invalid(text).problem()))
            }
            Err(problem) => Err(problem.clone()),
        }
    }

    /// The variables by which sshd describes the connection. Many programs use them to detect a remote session.
    pub(crate) fn variables(&self) -> [(String, String); 2] {
        let Endpoints { client, server } = self.endpoints;
        let (from, to) = (client.ip().to_canonical(), server.ip().to_canonical());
        let (from_port, to_port) = (client.port(), server.port());
        [
            ("SSH_CLIENT".to_owned(), format!("{from} {from_port} {to_port}")),
            ("SSH_CONNECTION".to_owned(), format!("{from} {from_port} {to} {to_port}")),
        ]
    }
}

/// Adds a variable of the client; `false` if it is not allowed. Allowed are those that describe the caller at every door,
/// and git's.
pub(crate) fn set_variable(env: &mut Vec<(String, String)>, name: &str, value: &str) -> bool {
    let of_git = name == GIT_PROTOCOL && is_plain(value);
    if !of_git && !describes_caller(name, value) {
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
    fn only_variables_of_locale_terminal_and_git_are_allowed() {
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
