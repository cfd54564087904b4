//! What is done with a session through tmux: type into it, read it, and find out whether it is there.

use shed_model::Rejection;
use std::sync::Arc;
use std::time::Duration;

use shed_api::session::{Input, Session, SessionStatus};
use shed_api::{Scope, SessionName, SessionRef, ShedName};
use shed_link::{Ran, Refusal, Run, Status};
use shed_tmux::TmuxError;
use shed_tmux::argv::{self, Target};

use super::App;
use crate::box_link::BoxLink;
use crate::session::table::NoSessions;
use crate::shed::handle::{KeeperHandle, Message};
use crate::{Error, Person};
use shed_model::session::Managed;
use shed_model::session::life::Denial;

/// How long tmux may take.
const TMUX_LIMIT: Duration = Duration::from_secs(10);
/// How long a change may take to show in the live table.
const SHOW_LIMIT: Duration = Duration::from_secs(2);
/// How long a session that is being made or brought back is waited for.
const COME_LIMIT: Duration = Duration::from_secs(20);
/// How often a command is tried whose tmux server went away: somebody restarted it.
const TRIES: u32 = 4;
/// Between two tries; shed-init starts a server within milliseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The most text typed at once.
const MAX_INPUT_BYTES: usize = 256 << 10;
/// The most keys pressed at once.
const MAX_KEYS: usize = 256;

/// A session of a shed that can be entered.
pub(crate) struct Place {
    pub(crate) shed: ShedName,
    pub(crate) link: BoxLink,
    pub(crate) handle: KeeperHandle,
}

impl App {
    /// Types text or presses keys in a session's active pane.
    pub async fn input(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        input: Input,
    ) -> Result<(), Error> {
        // Checked before anybody is asked.
        input_commands(&to_target(target), &input)?;
        let place = self.enter_awake(person, name, Scope::Drive, "to type into a session").await?;
        place.needs_tmux()?;
        let there = place.target(target).await?;
        for argv in input_commands(&there, &input)? {
            place.tmux(argv, target).await?;
        }
        Ok(())
    }

    /// The active pane's screen with so many lines of history.
    pub async fn output(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        lines: Option<u32>,
        ansi: bool,
    ) -> Result<String, Error> {
        let place = self.enter_awake(person, name, Scope::Read, "to read a session").await?;
        place.needs_tmux()?;
        let there = place.target(target).await?;
        let text = place.tmux(argv::capture(&there, lines, ansi), target).await?;
        Ok(if ansi { only_colours(&text) } else { without_controls(&text) })
    }
}

fn input_commands(target: &Target, input: &Input) -> Result<Vec<Vec<String>>, Error> {
    let invalid = |text: &str| Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
    let mut commands = vec![argv::leave_modes(target)];
    match (&input.text, input.keys.as_slice()) {
        (Some(_), [_, ..]) => return invalid("give text or keys, not both"),
        (None, []) if !input.enter => return invalid("give text, keys or enter"),
        (None, []) => {}
        (Some(text), []) => {
            if text.len() > MAX_INPUT_BYTES {
                return Err(Error::Rejected(Rejection::TooLarge(format!(
                    "the text is over {MAX_INPUT_BYTES} bytes"
                ))));
            }
            if text.contains('\0') {
                return invalid("the text has a NUL byte in it");
            }
            commands.extend(argv::type_text(target, text));
        }
        (None, keys) => {
            if keys.len() > MAX_KEYS {
                return Err(Error::Rejected(Rejection::TooLarge(format!(
                    "more than {MAX_KEYS} keys"
                ))));
            }
            if let Some(bad) = keys.iter().find(|key| !argv::is_key_name(key)) {
                return Err(Error::Rejected(Rejection::Invalid(format!(
                    "{bad:?} is no key: use names like Enter, C-c, Up, F5"
                ))));
            }
            commands.push(argv::press_keys(target, keys));
        }
    }
    if input.enter {
        commands.push(argv::press_keys(target, &["Enter".to_owned()]));
    }
    Ok(commands)
}

impl Place {
    /// An error if the image has no tmux, as far as is known.
    pub(crate) fn needs_tmux(&self) -> Result<(), Error> {
        let table = self.handle.view.borrow().table.clone();
        match table.as_ref().map(|table| &table.sessions) {
            Some(Err(NoSessions::NoTmux)) => Err(Error::NoTmux(self.shed.clone())),
            Some(Err(NoSessions::Down(_)) | Ok(_)) | None => Ok(()),
        }
    }

    /// Whatever happens to this session next is this person's doing.
    pub(crate) async fn expect(&self, target: &SessionRef, person: &Person) {
        let name = self
            .handle
            .view
            .borrow()
            .table
            .as_ref()
            .and_then(|table| table.find(target).map(|row| row.name.clone()));
        let name = name.unwrap_or_else(|| target.to_string());
        // A keeper that has ended writes no events.
        self.handle.messages.send(Message::Expect(name, person.actor.clone())).await.ok();
    }

    /// Makes a session by hand, as somebody in the shed would: tmux has it, and nothing else.
    pub(crate) async fn make(
        &self,
        session: &SessionName,
        env: &[(String, String)],
        person: &Person,
    ) -> Result<(), Error> {
        let target = SessionRef::Name(session.clone());
        self.expect(&target, person).await;
        self.tmux(argv::new_session(session.as_str(), env, &[]), &target).await.map(drop)
    }

    /// The session that shed remembers under this name or id.
    pub(crate) fn known(&self, target: &SessionRef) -> Option<Arc<Managed>> {
        let table = self.handle.view.borrow().table.clone();
        self.handle.work.view.borrow().resolve(table.as_deref(), target).cloned()
    }

    /// What tmux knows the session by. One that shed remembers is waited for while it is being made or brought back; one
    /// that has ended is not there.
    pub(crate) async fn target(&self, target: &SessionRef) -> Result<Target, Error> {
        let Some(known) = self.known(target) else {
            return Ok(to_target(target));
        };
        let id = known.row.id.clone();
        let (mut view, mut work) = (self.handle.view.clone(), self.handle.work.view.clone());
        let there = async {
            loop {
                let table = view.borrow_and_update().table.clone();
                if let Some(listed) = table.as_ref().and_then(|table| table.marked(&id)) {
                    return Ok(Target::Id(listed.id));
                }
                let row = work.borrow_and_update().sessions.get(&id).map(|known| known.row.clone());
                let Some(row) = row else {
                    return Err(no_session(&self.shed, target));
                };
                if let Some(denial) = not_there(row.status) {
                    let (shed, session) = (self.shed.clone(), row.name);
                    return Err(Error::Rejected(Rejection::Session { shed, session, denial }));
                }
                tokio::select! {
                    changed = view.changed() => changed.map_err(|_| Error::ShuttingDown)?,
                    changed = work.changed() => changed.map_err(|_| Error::ShuttingDown)?,
                }
            }
        };
        match tokio::time::timeout(COME_LIMIT, there).await {
            Ok(there) => there,
            Err(_) => Err(no_session(&self.shed, target)),
        }
    }

    /// Runs a tmux command that concerns a session and returns what it printed.
    pub(crate) async fn tmux(
        &self,
        argv: Vec<String>,
        target: &SessionRef,
    ) -> Result<String, Error> {
        let limit = u64::try_from(TMUX_LIMIT.as_millis()).unwrap_or(u64::MAX);
        self.run(Run { argv, env: Vec::new(), directory: None, timeout_ms: limit }, target).await
    }

    async fn run(&self, run: Run, target: &SessionRef) -> Result<String, Error> {
        for _ in 1..TRIES {
            match self.read(self.link.run_with(run.clone()).await, target) {
                Err(Error::TmuxLost(_)) => tokio::time::sleep(RETRY_PAUSE).await,
                result => return result,
            }
        }
        self.read(self.link.run_with(run).await, target)
    }

    fn read(&self, ran: Result<Ran, Error>, target: &SessionRef) -> Result<String, Error> {
        let ran = match ran {
            Err(Error::Refused(Refusal::NotExecutable { program, missing: true, .. }))
                if program == "tmux" =>
            {
                return Err(Error::NoTmux(self.shed.clone()));
            }
            ran => ran?,
        };
        if ran.truncated {
            let text = "that is more than 1 MiB of text; ask for fewer lines";
            return Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
        }
        if ran.status == Status::Code(0) {
            return Ok(ran.stdout);
        }
        match TmuxError::parse(&ran.stderr) {
            TmuxError::NoServer | TmuxError::NoSession => {
                tracing::debug!(shed = %self.shed, session = %target, said = %ran.stderr.trim(), "no session");
                Err(no_session(&self.shed, target))
            }
            TmuxError::Lost => Err(Error::TmuxLost(self.shed.clone())),
            TmuxError::Duplicate => {
                let session = target.to_string();
                Err(Error::SessionExists { shed: self.shed.clone(), session })
            }
            TmuxError::Other(text) => {
                Err(Error::Tmux { shed: self.shed.clone(), text: shed_api::name::printable(&text) })
            }
        }
    }

    /// Whether the session exists. The table is asked first; what is not in it may be too new for it.
    pub(crate) async fn exists(&self, target: &SessionRef) -> Result<bool, Error> {
        let known = self
            .handle
            .view
            .borrow()
            .table
            .as_ref()
            .is_some_and(|table| table.find(target).is_some());
        if known {
            return Ok(true);
        }
        match self.tmux(argv::has_session(&to_target(target)), target).await {
            Ok(_) => Ok(true),
            Err(Error::NoSession { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until the live table shows the session, so that whoever made it can list it.
    pub(crate) async fn shown(&self, target: &SessionRef) -> Result<Session, Error> {
        let mut view = self.handle.view.clone();
        let find = |view: &crate::shed::view::View| {
            view.table.as_ref().and_then(|table| table.find(target).cloned())
        };
        let wait = async {
            loop {
                if let Some(session) = find(&view.borrow_and_update()) {
                    return Some(session);
                }
                view.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(SHOW_LIMIT, wait).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => Err(Error::ShuttingDown),
            // It ended at once, or the table cannot be read; either way there is nothing to show.
            Err(_) => Err(no_session(&self.shed, target)),
        }
    }

    /// Waits until the live table does not show the session any more.
    pub(crate) async fn unshown(&self, target: &SessionRef) {
        let mut view = self.handle.view.clone();
        let gone = view
            .wait_for(|view| view.table.as_ref().is_none_or(|table| table.find(target).is_none()));
        // A table that lags does not make the kill undone.
        tokio::time::timeout(SHOW_LIMIT, gone).await.ok();
    }
}

pub(crate) fn to_target(session: &SessionRef) -> Target {
    match session {
        SessionRef::Name(name) => Target::Name(name.to_string()),
        SessionRef::Id(id) => Target::Id(*id),
    }
}

/// Why a session of this status has nothing in tmux, if it has not and will not by itself.
fn not_there(status: SessionStatus) -> Option<Denial> {
    match status {
        SessionStatus::Running | SessionStatus::Frozen | SessionStatus::Creating => None,
        SessionStatus::Waiting => Some(Denial::Waiting),
        SessionStatus::Ended | SessionStatus::Stopped => Some(Denial::Ended),
        SessionStatus::Failed => Some(Denial::Failed),
        SessionStatus::Removing => Some(Denial::Removing),
        SessionStatus::Orphaned => Some(Denial::Orphaned),
    }
}

pub(crate) fn no_session(shed: &ShedName, target: &SessionRef) -> Error {
    Error::NoSession { shed: shed.clone(), session: target.to_string() }
}

/// Keeps lines and tabs, drops whatever else steers a terminal.
fn without_controls(text: &str) -> String {
    let kept = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().filter(|c| kept(*c)).collect()
}

/// Keeps SGR sequences (`ESC [ … m`) too.
fn only_colours(text: &str) -> String {
    static SEQUENCE: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new("\x1b\\[[0-9;:]*m").expect("a constant pattern")
    });
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for colour in SEQUENCE.find_iter(text) {
        kept += &without_controls(&text[at..colour.start()]);
        kept += colour.as_str();
        at = colour.end();
    }
    kept + &without_controls(&text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_text_steers_nothing() {
        assert_eq!(without_controls("a\x1b]52;c;eA==\x07b\r\n\tc\u{9b}"), "a]52;c;eA==b\n\tc");
        assert_eq!(
            only_colours("\x1b[31mred\x1b[0m\x1b[2J\x1b]0;t\x07"),
            "\x1b[31mred\x1b[0m[2J]0;t"
        );
    }

    #[test]
    fn input_is_text_or_keys() {
        let target = Target::Id(1);
        let input = |text: Option<&str>, keys: &[&str], enter| Input {
            text: text.map(str::to_owned),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            enter,
        };
        assert_eq!(input_commands(&target, &input(Some("x"), &[], true)).unwrap().len(), 3);
        assert_eq!(input_commands(&target, &input(None, &["C-c", "Up"], false)).unwrap().len(), 2);
        assert_eq!(input_commands(&target, &input(None, &[], true)).unwrap().len(), 2);
        for bad in [
            input(None, &[], false),
            input(Some("x"), &["Up"], false),
            input(None, &["rm -rf"], false),
            input(Some("\0"), &[], false),
        ] {
            assert!(input_commands(&target, &bad).is_err(), "{bad:?}");
        }
    }
}
