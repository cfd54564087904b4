//! Running things in a shed: attach, console, commands, sftp.

use shed_model::{Rejection, env};
use std::time::Duration;

use shed_api::stream::{AttachOpen, ConsoleOpen, ExecOpen, ExecRequest, ExecResult, Exit, Tty};
use shed_api::{EventKind, Scope, SessionRef, ShedName, ShedStatus};
use shed_link::{Io, Program, Refusal, Spawn, User};
use shed_model::NewEvent;
use shed_tmux::argv::{self, Join};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::App;
use super::sessions::{Place, no_session};
use crate::shed::handle::KeeperHandle;
use crate::shed::handle::Order;
use crate::stream::{Running, n_readable, read_some, start};
use crate::{Error, Person};
use shed_model::shed::life::Request;

/// How long somebody who wants to enter waits for a shed that is coming up.
const ENTER_LIMIT: Duration = Duration::from_secs(60);
/// How long they wait for a running shed's link: the server or the worker in the box was just restarted.
const LINK_LIMIT: Duration = Duration::from_secs(10);
/// How long they wait for what comes back with the shed.
const COMPARE_LIMIT: Duration = Duration::from_secs(5);
/// The most output of each kind that `POST …/exec` returns.
const MAX_RESULT_BYTES: usize = 8 << 20;
/// The longest a `POST …/exec` may run.
const MAX_RUN: Duration = Duration::from_secs(600);
/// Between TERM and KILL at the end of that time.
const TERM_LIMIT: Duration = Duration::from_secs(2);
/// When a command has ended, what its children still print is not waited for longer than this.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);

/// What to run, for doors that have no JSON: SSH.
#[derive(Debug, Clone)]
pub struct Exec {
    /// What.
    pub kind: ExecKind,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// With a terminal.
    pub tty: Option<Tty>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecKind {
    /// The user's login shell.
    Shell,
    /// A line for the user's login shell: what `ssh host LINE` means.
    Line(String),
    /// The file transfer of SSH.
    Sftp,
}

/// How to attach.
#[derive(Debug, Clone)]
pub struct Attach {
    /// What the caller asked.
    pub open: AttachOpen,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
}

/// A command that was started.
#[derive(Debug)]
pub enum Started {
    /// Its streams.
    Running(Box<Running>),
    /// It goes on by itself; the id in its events.
    Detached(String),
}

impl App {
    /// A shed the person may do this with, running and answering. One that is stopped is started for somebody who may.
    pub(crate) async fn enter(
        &self,
        person: &Person,
        name: &ShedName,
        needed: Scope,
        what: &str,
    ) -> Result<Place, Error> {
        let handle = self.keeper(person, name, needed, what)?;
        let entered = timeout(ENTER_LIMIT, self.wait_to_enter(person, name, &handle));
        let link = entered.await.map_err(|_| {
            let status = handle.view.borrow().status();
            Error::TimedOut(format!("shed {name:?} is still {status}"))
        })??;
        let mut work = handle.work.view.clone();
        // What comes back with the shed comes before what somebody wants of it now.
        timeout(COMPARE_LIMIT, work.wait_for(|view| view.reconciled)).await.map(drop).ok();
        Ok(Place { shed: name.clone(), link, handle })
    }

    /// The same for what is done with a session that exists: a stopped shed has none, and is not started to find that out.
    pub(crate) async fn enter_awake(
        &self,
        person: &Person,
        name: &ShedName,
        needed: Scope,
        what: &str,
    ) -> Result<Place, Error> {
        let status = self.keeper(person, name, needed, what)?.view.borrow().status();
        if status == ShedStatus::Stopped {
            return Err(Error::Rejected(Rejection::NotRunning { shed: name.clone(), status }));
        }
        self.enter(person, name, needed, what).await
    }

    async fn wait_to_enter(
        &self,
        person: &Person,
        name: &ShedName,
        handle: &KeeperHandle,
    ) -> Result<crate::box_link::BoxLink, Error> {
        let mut view = handle.view.clone();
        loop {
            let now = view.borrow_and_update().clone();
            let status = now.status();
            if let (true, Some(link)) = (now.can_be_entered(), now.link) {
                return Ok(link);
            }
            match status {
                ShedStatus::Stopped if person.scope >= Scope::Drive => {
                    handle.request(Request::Start, person.actor.clone(), Order::default()).await?;
                }
                ShedStatus::Stopped
                | ShedStatus::Paused
                | ShedStatus::Failed
                | ShedStatus::Removing => {
                    return Err(Error::Rejected(Rejection::NotRunning {
                        shed: name.clone(),
                        status,
                    }));
                }
                ShedStatus::Running => {
                    let changed = timeout(LINK_LIMIT, view.changed()).await;
                    changed
                        .map_err(|_| Error::ShedUnreachable(name.clone()))?
                        .map_err(|_| Error::ShuttingDown)?;
                }
                ShedStatus::Creating | ShedStatus::Starting | ShedStatus::Stopping => {
                    view.changed().await.map_err(|_| Error::ShuttingDown)?;
                }
            }
        }
    }

    /// Attaches to a session, making it if need be.
    pub async fn attach(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        attach: Attach,
    ) -> Result<Running, Error> {
        let open = &attach.open;
        let read_only = open.read_only || person.scope == Scope::Read;
        if open.new && (open.existing || read_only) {
            return Err(Error::Rejected(Rejection::Invalid(
                "a new session cannot be attached to read-only".to_owned(),
            )));
        }
        let needed = if open.detach_others { Scope::Drive } else { Scope::Read };
        let place = self.enter(person, name, needed, "to detach others").await?;
        place.needs_tmux()?;
        let known = place.known(session).is_some();
        let exists = known || place.exists(session).await?;
        let session_env = session_env(&attach.open)?;
        let join = match session {
            _ if read_only => Join::ReadOnly,
            _ if exists || open.existing => Join::Existing,
            SessionRef::Id(_) => Join::Existing,
            SessionRef::Name(_) => Join::CreateOrAttach,
        };
        if let (true, SessionRef::Name(name)) = (open.new, session) {
            // tmux itself refuses a second one: of two callers only one makes it.
            if known {
                let (shed, session) = (place.shed.clone(), name.to_string());
                return Err(Error::SessionExists { shed, session });
            }
            place.make(name, &session_env, person).await?;
        } else if !exists && join != Join::CreateOrAttach {
            return Err(no_session(name, session));
        } else if !exists {
            place.expect(session, person).await;
        }
        let join = if open.new { Join::Existing } else { join };
        let colorterm = env_value(&attach.env, "COLORTERM");
        let true_colour = argv::has_true_colour(&open.tty.term, colorterm);
        let target = place.target(session).await?;
        let argv = argv::attach(&target, join, open.detach_others, true_colour, &session_env);
        let spawn = Spawn {
            program: Program::Argv(argv),
            env: terminal_env(attach.env, &open.tty),
            directory: None,
            user: User::Dev,
            io: tty_io(&open.tty),
            detached: None,
            worker: None,
        };
        let mut running = start(&place.link, spawn).await.map_err(|error| place.no_tmux(error))?;
        if read_only {
            // tmux ignores keys of a read-only client; the server does not even pass them.
            running.input = None;
        }
        Ok(running)
    }

    /// A login shell without tmux.
    pub async fn console(
        &self,
        person: &Person,
        name: &ShedName,
        open: ConsoleOpen,
    ) -> Result<Running, Error> {
        let user = user(person, open.root)?;
        let place = self.enter(person, name, Scope::Drive, "to run commands").await?;
        let env = checked_env(open.env.into_iter().collect())?;
        let spawn = Spawn {
            program: Program::LoginShell,
            env: terminal_env(env, &open.tty),
            directory: None,
            user,
            io: tty_io(&open.tty),
            detached: None,
            worker: None,
        };
        start(&place.link, spawn).await
    }

    /// What SSH asks for: a shell, a line for a shell, sftp.
    pub async fn exec_ssh(
        &self,
        person: &Person,
        name: &ShedName,
        exec: Exec,
    ) -> Result<Running, Error> {
        let place = self.enter(person, name, Scope::Drive, "to run commands").await?;
        let (program, directory) = match exec.kind {
            ExecKind::Shell => (Program::LoginShell, None),
            ExecKind::Line(line) => (Program::ShellLine(line), None),
            // Clients take the place where it starts for `~`.
            ExecKind::Sftp => {
                (Program::Own(vec!["sftp".to_owned()]), Some(place.link.hello().home.clone()))
            }
        };
        let io = exec.tty.as_ref().map_or(Io::Pipes, tty_io);
        let env = match &exec.tty {
            Some(tty) => terminal_env(exec.env, tty),
            None => exec.env,
        };
        let spawn = Spawn {
            program,
            env: checked_env(env)?,
            directory,
            user: User::Dev,
            io,
            detached: None,
            worker: None,
        };
        start(&place.link, spawn).await
    }

    /// Runs a command, in a session's window if one is named.
    pub async fn exec(
        &self,
        person: &Person,
        name: &ShedName,
        open: ExecOpen,
    ) -> Result<Started, Error> {
        let user = user(person, open.exec.root)?;
        check_exec(&open)?;
        let place = self.enter(person, name, Scope::Drive, "to run commands").await?;
        let tag = open.detach.then(short_id);
        let started = match &open.exec.session {
            Some(session) => self.exec_in_session(person, &place, &session.parse()?, &open).await?,
            None => exec_plain(&place, &open, user, tag.clone()).await?,
        };
        let Some(tag) = tag else {
            return started
                .ok_or_else(|| Error::ShedUnreachable(name.clone()))
                .map(|r| Started::Running(Box::new(r)));
        };
        let now = self.server.clock.now();
        let note = format!("{tag} {}", shed_api::name::printable(&open.exec.argv[0]));
        let event = NewEvent::new(now, EventKind::ExecStarted, person.actor.clone());
        self.server.store.add_events(vec![event.shed(name.as_str()).note(note)]).await?;
        if let Some(running) = started {
            let task = watch_detached(self.clone(), name.clone(), tag.clone(), running);
            self.server.tasks.spawn(task);
        }
        Ok(Started::Detached(tag))
    }

    /// Runs a command to its end and returns what it printed.
    pub async fn exec_to_end(
        &self,
        person: &Person,
        name: &ShedName,
        request: ExecRequest,
        stdin: Vec<u8>,
    ) -> Result<ExecResult, Error> {
        let limit = match request.timeout.map(Duration::try_from_secs_f64) {
            None => MAX_RUN,
            Some(Ok(limit)) => limit.min(MAX_RUN),
            Some(Err(error)) => {
                return Err(Error::Rejected(Rejection::Invalid(format!("timeout: {error}"))));
            }
        };
        let spec = shed_api::stream::ExecSpec {
            argv: request.argv,
            env: request.env,
            directory: request.directory,
            session: request.session,
            root: request.root,
        };
        let open = ExecOpen { exec: spec, stdin: !stdin.is_empty(), ..ExecOpen::default() };
        let Started::Running(mut running) = self.exec(person, name, open).await? else {
            return Err(Error::ShedUnreachable(name.clone()));
        };
        let input = running.input.take();
        let feed = async move {
            if let Some(mut input) = input {
                // A command that does not read its input to the end is its own affair.
                input.write_all(&stdin).await.ok();
            }
        };
        let ((), collected) = tokio::join!(feed, collect(&mut running, limit));
        collected.ok_or_else(|| Error::ShedUnreachable(name.clone()))?
    }
}

/// What a command printed, until its end; an error when it had to be ended. `None` if the shed went away.
async fn collect(running: &mut Running, limit: Duration) -> Option<Result<ExecResult, Error>> {
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    let (mut stdout, mut stderr) = (Output::default(), Output::default());
    let mut late = false;
    let mut drained = None;
    let mut exit = None;
    loop {
        // On a busy machine that time may be over before its own last words are read.
        let owed = stdout.owed > 0 || stderr.owed > 0;
        let drain_limit = async {
            match drained {
                Some(at) if !owed => tokio::time::sleep_until(at).await,
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stdout.read(Some(&mut running.output)) => {}
            () = stderr.read(running.errors.as_mut()) => {}
            ended = running.exit.wait(), if exit.is_none() => {
                exit = Some(ended?);
                stdout.owed = n_readable(&running.output);
                stderr.owed = running.errors.as_ref().map_or(0, n_readable);
                drained = Some(tokio::time::Instant::now() + DRAIN_LIMIT);
            }
            () = drain_limit => break,
            () = &mut deadline, if exit.is_none() => {
                running.control.signal(if late { 9 } else { 15 });
                late = true;
                deadline.as_mut().reset(tokio::time::Instant::now() + TERM_LIMIT);
            }
        }
        let no_errors = stderr.ended || running.errors.is_none();
        if exit.is_some() && stdout.ended && no_errors {
            break;
        }
    }
    if late {
        let text =
            format!("the command did not end within {} seconds and was ended", limit.as_secs_f64());
        return Some(Err(Error::TimedOut(text)));
    }
    let exit = exit?;
    let truncated = stdout.cut || stderr.cut;
    let ((stdout, stdout_base64), (stderr, stderr_base64)) = (stdout.text(), stderr.text());
    let status = exit.shell_status();
    let signal = match exit {
        Exit::Code(_) => None,
        Exit::Signal(name) => Some(name),
    };
    Some(Ok(ExecResult {
        exit: status,
        signal,
        stdout,
        stderr,
        stdout_base64,
        stderr_base64,
        truncated,
    }))
}

/// Output as it comes, up to its limit; the rest is read and dropped, so that the command can end.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    ended: bool,
    cut: bool,
    /// What was there at the command's end and is not read yet.
    owed: usize,
}

impl Output {
    async fn read(&mut self, pipe: Option<&mut tokio::net::unix::pipe::Receiver>) {
        let Some(pipe) = pipe.filter(|_| !self.ended) else {
            return std::future::pending().await;
        };
        let mut buffer = vec![0; 64 << 10];
        match read_some(pipe, &mut buffer).await {
            Ok(0) | Err(_) => {
                self.ended = true;
                self.owed = 0;
            }
            Ok(n_read) => {
                self.owed = self.owed.saturating_sub(n_read);
                let room = MAX_RESULT_BYTES - self.bytes.len();
                self.cut |= n_read > room;
                self.bytes.extend(&buffer[..n_read.min(room)]);
            }
        }
    }

    fn text(self) -> (String, Option<String>) {
        use base64::Engine as _;
        match String::from_utf8(self.bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let bytes = error.as_bytes();
                let exact = base64::engine::general_purpose::STANDARD.encode(bytes);
                (String::from_utf8_lossy(bytes).into_owned(), Some(exact))
            }
        }
    }
}

/// Reads away the output of a detached command in a session and writes its end. Ends with the command or the server.
async fn watch_detached(app: App, shed: ShedName, tag: String, mut running: Running) {
    let mut buffer = vec![0; 64 << 10];
    let stop = app.stopping();
    loop {
        let read = tokio::select! {
            read = read_some(&mut running.output, &mut buffer) => read,
            () = stop.cancelled() => return,
        };
        if matches!(read, Ok(0) | Err(_)) {
            break;
        }
    }
    let note = match running.exit.wait().await {
        Some(Exit::Code(code)) => format!("{tag} exit {code}"),
        Some(Exit::Signal(name)) => format!("{tag} signal {name}"),
        None => format!("{tag} lost"),
    };
    let actor = shed_api::Actor::Shed(shed.clone());
    let event = NewEvent::new(app.server.clock.now(), EventKind::ExecEnded, actor);
    if let Err(error) =
        app.server.store.add_events(vec![event.shed(shed.as_str()).note(note)]).await
    {
        tracing::error!(%shed, %error, "the end of a detached command was not written");
    }
}

/// `None` for a detached one: it has no streams.
async fn exec_plain(
    place: &Place,
    open: &ExecOpen,
    user: User,
    tag: Option<String>,
) -> Result<Option<Running>, Error> {
    let io = match (&tag, &open.tty) {
        (Some(_), _) => Io::Null,
        (None, Some(tty)) => tty_io(tty),
        (None, None) => Io::Pipes,
    };
    let env: Vec<(String, String)> = open.exec.env.clone().into_iter().collect();
    let env = match &open.tty {
        Some(tty) => terminal_env(checked_env(env)?, tty),
        None => checked_env(env)?,
    };
    let spawn = Spawn {
        program: Program::Argv(open.exec.argv.clone()),
        env,
        directory: open.exec.directory.clone(),
        user,
        io,
        detached: tag.clone(),
        worker: None,
    };
    if tag.is_some() {
        place.link.spawn(spawn, Vec::new()).await?;
        return Ok(None);
    }
    let mut running = start(&place.link, spawn).await?;
    if !open.stdin && open.tty.is_none() {
        running.input = None;
    }
    Ok(Some(running))
}

fn check_exec(open: &ExecOpen) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
    let spec = &open.exec;
    if spec.argv.first().is_none_or(String::is_empty) {
        return invalid("the command is empty");
    }
    if spec.argv.iter().any(|word| word.contains('\0')) {
        return invalid("a word of the command has a NUL byte in it");
    }
    if spec.directory.as_ref().is_some_and(|dir| !dir.starts_with('/') || dir.contains('\0')) {
        return invalid("the directory must be an absolute path");
    }
    if spec.session.is_some() && spec.root {
        return invalid("a session belongs to its user: --root and --session exclude each other");
    }
    if spec.session.is_some() && open.stdin {
        return invalid(
            "a command in a session's window has that window's input: it takes none from here",
        );
    }
    Ok(())
}

fn checked_env(env: Vec<(String, String)>) -> Result<Vec<(String, String)>, Error> {
    env::check(env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    Ok(env)
}

fn user(person: &Person, root: bool) -> Result<User, Error> {
    if !root {
        return Ok(User::Dev);
    }
    person.may(Scope::Admin, "to be root in a shed")?;
    Ok(User::Root)
}

fn tty_io(tty: &Tty) -> Io {
    let or = |given: u16, usual: u16| if given == 0 { usual } else { given };
    Io::Tty { cols: or(tty.cols, 80), rows: or(tty.rows, 24) }
}

fn terminal_env(mut env: Vec<(String, String)>, tty: &Tty) -> Vec<(String, String)> {
    env.retain(|(key, _)| key != "TERM");
    env.push(("TERM".to_owned(), tty.term.clone()));
    env
}

fn env_value<'a>(env: &'a [(String, String)], name: &str) -> &'a str {
    env.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// What a new session is given of its maker's environment. `TERM` is tmux's own there.
fn session_env(open: &AttachOpen) -> Result<Vec<(String, String)>, Error> {
    let mut env = checked_env(open.env.clone().into_iter().collect())?;
    env.retain(|(key, _)| key != "TERM");
    Ok(env)
}

fn short_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..12].to_owned()
}

impl Place {
    /// A terminal that could not be started because there is no tmux.
    fn no_tmux(&self, error: Error) -> Error {
        match error {
            Error::Refused(Refusal::NotExecutable { program, missing: true, .. })
                if program == "tmux" =>
            {
                Error::NoTmux(self.shed.clone())
            }
            error => error,
        }
    }
}
