//! What a process in a shed is started with: its user, its terminal, its environment.

use shed_api::Scope;
use shed_api::stream::{AttachOpen, Tty};
use shed_guest::Link;
use shed_link::{Io, Run, Status, User};
use shed_model::env;

use crate::{Error, Person};

/// How long shed-init may take to look up a locale.
const LOCALE_LIMIT_MS: u64 = 5_000;

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
    let pixels = (tty.x_pixels, tty.y_pixels);
    Io::Tty { cols: or(tty.cols, 80), rows: or(tty.rows, 24), pixels }
}

pub(crate) fn terminal_env(mut env: Vec<(String, String)>, tty: &Tty) -> Vec<(String, String)> {
    env.retain(|(key, _)| key != "TERM");
    env.push(("TERM".to_owned(), tty.term.clone()));
    env
}

/// The variables of a caller, and of those the locale, which only the container can judge.
pub(crate) type CallerEnv = (Vec<(String, String)>, Vec<(String, String)>);

/// Separates the locale from the other variables of a caller who comes from another machine.
pub(crate) fn with_locale(env: Vec<(String, String)>) -> CallerEnv {
    env.into_iter().partition(|(name, _)| !env::is_locale(name))
}

pub(crate) fn env_value<'a>(env: &'a [(String, String)], name: &str) -> &'a str {
    env.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// The environment of a new session: what its creator gives, without `TERM`, which tmux sets, and with a locale that the
/// container has.
pub(crate) async fn session_env(
    link: &Link,
    open: &AttachOpen,
) -> Result<Vec<(String, String)>, Error> {
    let (mut env, locale) = with_locale(checked_env(open.env.clone().into_iter().collect())?);
    env.retain(|(key, _)| key != "TERM");
    if !locale.is_empty() {
        env.extend(settled(link, &locale).await?);
    }
    Ok(env)
}

/// The locale as the container has it. None from an older shed-init, which cannot tell: the container's own applies.
async fn settled(link: &Link, locale: &[(String, String)]) -> Result<Vec<(String, String)>, Error> {
    let mut argv = vec![link.hello().program.clone(), "locale".to_owned()];
    argv.extend(locale.iter().map(|(name, value)| format!("{name}={value}")));
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: LOCALE_LIMIT_MS };
    let ran = link.run(run).await?;
    if ran.status != Status::Code(0) {
        return Ok(Vec::new());
    }
    let pairs = ran.stdout.lines().filter_map(|line| line.split_once('='));
    let given = pairs.filter(|(name, value)| env::is_locale(name) && env::is_plain(value));
    Ok(given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The environment of the tmux client that joins a session, whether the session exists or is created: of the caller's
/// variables only those that describe the caller. The others belong to the session, and only if it is new.
pub(crate) fn joining_env(open: &AttachOpen) -> Vec<(String, String)> {
    let given = open.env.iter().filter(|(name, value)| env::describes_caller(name, value));
    terminal_env(given.map(|(name, value)| (name.clone(), value.clone())).collect(), &open.tty)
}
