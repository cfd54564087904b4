//! Sessions: make, rename, end, type into, read.

use std::time::Duration;

use shed_api::session::{Input, NewSession, PatchSession, Session};
use shed_api::{Scope, SessionName, SessionRef, ShedName};
use shed_link::{Ran, Refusal, Run, Status};
use shed_tmux::TmuxError;
use shed_tmux::argv::{self, Target};

use super::App;
use crate::box_link::BoxLink;
use crate::keeper::{KeeperHandle, Post};
use crate::table::NoSessions;
use crate::{Error, Person};

/// How long tmux may take.
const TMUX_LIMIT: Duration = Duration::from_secs(10);
/// How long a change may take to show in the live table.
const SHOW_LIMIT: Duration = Duration::from_secs(2);
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
    /// Makes a session; an error if it exists.
    pub async fn new_session(
        &self,
        person: &Person,
        name: &ShedName,
        request: NewSession,
    ) -> Result<Session, Error> {
        let session: SessionName = request.name.parse()?;
        let place = self.enter(person, name, Scope::Drive, "to make a session").await?;
        place.needs_tmux()?;
        place.make(&session, &request, person).await?;
        place.shown(&SessionRef::Name(session)).await
    }

    /// One session.
    pub fn session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see a session")?;
        let view = handle.view.borrow();
        let session = view.sessions().iter().find(|row| match target {
            SessionRef::Name(name) => row.name == name.as_str(),
            SessionRef::Id(id) => row.id == format!("${id}"),
        });
        session.cloned().ok_or_else(|| no_session(name, target))
    }

    /// Ends a session and everything in it.
    pub async fn kill_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<(), Error> {
        let place = self.enter_awake(person, name, Scope::Drive, "to end a session").await?;
        place.needs_tmux()?;
        place.expect(target, person).await;
        place.tmux(argv::kill_session(&to_target(target)), target).await?;
        place.unshown(target).await;
        Ok(())
    }

    /// Renames a session.
    pub async fn rename_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        request: PatchSession,
    ) -> Result<Session, Error> {
        let new: SessionName = request.name.parse()?;
        let place = self.enter_awake(person, name, Scope::Drive, "to rename a session").await?;
        place.needs_tmux()?;
        let new_target = SessionRef::Name(new.clone());
        place.expect(&new_target, person).await;
        let argv = argv::rename_session(&to_target(target), new.as_str());
        match place.tmux(argv, target).await {
            Err(Error::SessionExists { shed, .. }) => {
                Err(Error::SessionExists { shed, session: new.to_string() })
            }
            Err(error) => Err(error),
            Ok(_) => place.shown(&new_target).await,
        }
    }

    /// Types text or presses keys in a session's active pane.
    pub async fn input(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        input: Input,
    ) -> Result<(), Error> {
        let commands = input_commands(&to_target(target), &input)?;
        let place = self.enter_awake(person, name, Scope::Drive, "to type into a session").await?;
        place.needs_tmux()?;
        for argv in commands {
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
        let text = place.tmux(argv::capture(&to_target(target), lines, ansi), target).await?;
        Ok(if ansi { only_colours(&text) } else { without_controls(&text) })
    }
}

fn input_commands(target: &Target, input: &Input) -> Result<Vec<Vec<String>>, Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.to_owned()));
    let mut commands = vec![argv::leave_modes(target)];
    match (&input.text, input.keys.as_slice()) {
        (Some(_), [_, ..]) => return invalid("give text or keys, not both"),
        (None, []) if !input.enter => return invalid("give text, keys or enter"),
        (None, []) => {}
        (Some(text), []) => {
            if text.len() > MAX_INPUT_BYTES {
                return Err(Error::TooLarge(format!("the text is over {MAX_INPUT_BYTES} bytes")));
            }
            if text.contains('\0') {
                return invalid("the text has a NUL byte in it");
            }
            commands.extend(argv::type_text(target, text));
        }
        (None, keys) => {
            if keys.len() > MAX_KEYS {
                return Err(Error::TooLarge(format!("more than {MAX_KEYS} keys")));
            }
            if let Some(bad) = keys.iter().find(|key| !argv::is_key_name(key)) {
                return Err(Error::Invalid(format!(
                    "{bad:?} is no key: use names like Enter, C-c, Up, F5"
                )));
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
        self.handle.posts.send(Post::Expect(name, person.actor.clone())).await.ok();
    }

    /// Makes a session.
    pub(crate) async fn make(
        &self,
        session: &SessionName,
        request: &NewSession,
        person: &Person,
    ) -> Result<(), Error> {
        let target = SessionRef::Name(session.clone());
        self.expect(&target, person).await;
        let env: Vec<(String, String)> = request.env.clone().into_iter().collect();
        let mut command = request.command.clone();
        if !command.is_empty() {
            // tmux gives a command of one word to a shell; two words it executes.
            let own = self.link.hello().program.clone();
            command.splice(0..0, [own, "exec".to_owned()]);
        }
        let argv = argv::new_session(session.as_str(), &env, &command);
        let limit = u64::try_from(TMUX_LIMIT.as_millis()).unwrap_or(u64::MAX);
        let directory = request.directory.clone();
        let run = Run { argv, env: Vec::new(), directory, timeout_ms: limit };
        self.run(run, &target).await.map(drop)
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
            return Err(Error::Invalid(text.to_owned()));
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
    async fn shown(&self, target: &SessionRef) -> Result<Session, Error> {
        let mut view = self.handle.view.clone();
        let find = |view: &crate::view::View| {
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
    async fn unshown(&self, target: &SessionRef) {
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
