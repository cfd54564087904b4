//! What a process in a shed is started with: its user, its terminal, its environment.

use shed_api::Scope;
use shed_api::stream::{AttachOpen, Tty};
use shed_link::{Io, User};
use shed_model::env;

use crate::{Error, Person};

pub(crate) fn checked_env(env: Vec<(String, String)>) -> Result<Vec<(String, String)>, Error> {
    env::check(env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    Ok(env)
}

pub(crate) fn user(person: &Person, root: bool) -> Result<User, Error> {
    if !root {
        return Ok(User::Dev);
    }
    person.may(Scope::Admin, "to be root in a shed")?;
    Ok(User::Root)
}

pub(crate) fn tty_io(tty: &Tty) -> Io {
    let or = |given: u16, usual: u16| if given == 0 { usual } else { given };
    Io::Tty { cols: or(tty.cols, 80), rows: or(tty.rows, 24) }
}

pub(crate) fn terminal_env(mut env: Vec<(String, String)>, tty: &Tty) -> Vec<(String, String)> {
    env.retain(|(key, _)| key != "TERM");
    env.push(("TERM".to_owned(), tty.term.clone()));
    env
}

pub(crate) fn env_value<'a>(env: &'a [(String, String)], name: &str) -> &'a str {
    env.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// The environment of a new session: what its creator gives, without `TERM`, which tmux sets.
pub(crate) fn session_env(open: &AttachOpen) -> Result<Vec<(String, String)>, Error> {
    let mut env = checked_env(open.env.clone().into_iter().collect())?;
    env.retain(|(key, _)| key != "TERM");
    Ok(env)
}

/// The environment of the tmux client that joins a session, whether the session exists or is created: of the caller's
/// variables only those that describe the caller. The others belong to the session, and only if it is new.
pub(crate) fn joining_env(open: &AttachOpen) -> Vec<(String, String)> {
    let given = open.env.iter().filter(|(name, value)| env::describes_caller(name, value));
    terminal_env(given.map(|(name, value)| (name.clone(), value.clone())).collect(), &open.tty)
}
