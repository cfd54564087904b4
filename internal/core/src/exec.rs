//! Processes in a shed: attach, console, commands, sftp; and connections into it and out of it.

pub(crate) mod attach;
mod collect;
pub(crate) mod forward;
mod read_only;
mod spawn;
mod window;

use std::sync::Arc;
use std::time::Duration;

use shed_api::stream::{AttachOpen, ConsoleOpen, ExecOpen, ExecRequest, ExecResult, Exit, Tty};
use shed_api::{EventKind, ShedName};
use shed_link::{Io, Program, Spawn, User};
use shed_model::{NewEvent, Rejection};
use tokio::io::AsyncWriteExt as _;

use self::collect::collect;
use self::spawn::{checked_env, terminal_env, tty_io, user, with_locale};
use crate::Error;
use crate::access::Caller;
use crate::server::Server;
use crate::shed::entered::Entered;
use crate::shed::registry::Registry;
use shed_guest::{Chunks, Main, Stream};

/// When a command without a terminal has ended, how long the end of its output is waited for while other processes hold it
/// open. It suffices for what the command has piped through `tee` or a filter; a process that was left in the background does
/// not keep the caller for longer.
pub const OUTPUT_WAIT: Duration = Duration::from_secs(2);

/// The longest a `POST …/exec` may run.
const MAX_RUN: Duration = Duration::from_secs(600);

/// What to run, for doors that have no JSON: SSH.
#[derive(Debug, Clone)]
pub struct Exec {
    /// A shell, a line for one, or file transfer.
    pub kind: ExecKind,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// The terminal it runs in; pipes when absent.
    pub tty: Option<Tty>,
}

/// What SSH clients ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecKind {
    /// The user's login shell.
    Shell,
    /// A line for the user's shell, bytes that need not be UTF-8: what `ssh host LINE` means.
    Line(Vec<u8>),
    /// The file transfer of SSH.
    Sftp,
}

/// How to attach to a session.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The options of the request, as the caller gave them.
    pub open: AttachOpen,
    /// What the door says about the connection, such as `SSH_CONNECTION`. A reader's is not passed on.
    pub connection: Vec<(String, String)>,
}

/// A command that was started, and what its caller gets of it.
#[derive(Debug)]
pub enum Started {
    /// It runs as long as its streams are held.
    Running(Box<Stream>),
    /// It runs on by itself. The id stands in its events.
    Detached(String),
}

/// A login shell without tmux.
pub(crate) async fn console(
    registry: &Registry,
    caller: &Caller<'_>,
    open: ConsoleOpen,
) -> Result<Stream, Error> {
    let user = user(caller.person, open.root)?;
    let entered = registry.enter(caller).await?;
    let (env, locale) = with_locale(checked_env(open.env.into_iter().collect())?);
    let spawn = Spawn {
        program: Program::LoginShell,
        env: terminal_env(env, &open.tty),
        locale,
        directory: None,
        user,
        io: tty_io(&open.tty),
        detached: None,
        worker: None,
    };
    Ok(entered.link.start(spawn).await?)
}

/// What SSH asks for: a shell, a line for a shell, sftp.
pub(crate) async fn ssh(
    registry: &Registry,
    caller: &Caller<'_>,
    exec: Exec,
) -> Result<Stream, Error> {
    let entered = registry.enter(caller).await?;
    let (program, directory) = match exec.kind {
        ExecKind::Shell => (Program::LoginShell, None),
        ExecKind::Line(line) => match String::from_utf8(line) {
            Ok(line) => (Program::ShellLine(line), None),
            Err(error) => (Program::ShellLineBytes(error.into_bytes()), None),
        },
        // Clients take the directory it starts in for `~`: OpenSSH's scp sends `~/x` as `x`.
        ExecKind::Sftp => {
            (Program::Own(vec!["sftp".to_owned()]), Some(entered.link.hello().home.clone()))
        }
    };
    let io = exec.tty.as_ref().map_or(Io::Pipes, tty_io);
    let (env, locale) = with_locale(checked_env(exec.env)?);
    let env = match &exec.tty {
        Some(tty) => terminal_env(env, tty),
        None => env,
    };
    let spawn = Spawn {
        program,
        env,
        locale,
        directory,
        user: User::Dev,
        io,
        detached: None,
        worker: None,
    };
    Ok(entered.link.start(spawn).await?)
}

/// Runs a command, in a session's window if one is named.
pub(crate) async fn run(
    server: &Arc<Server>,
    registry: &Registry,
    caller: &Caller<'_>,
    open: ExecOpen,
) -> Result<Started, Error> {
    let (user, name) = (user(caller.person, open.exec.root)?, caller.shed);
    check_exec(&open)?;
    let entered = registry.enter(caller).await?;
    let tag = open.detach.then(short_id);
    let started = match &open.exec.session {
        Some(session) => {
            window::exec_in_session(server, caller, &entered, &session.parse()?, &open).await?
        }
        None => exec_plain(&entered, &open, user, tag.clone()).await?,
    };
    let Some(tag) = tag else {
        return started
            .ok_or_else(|| Error::ShedUnreachable(name.clone()))
            .map(|r| Started::Running(Box::new(r)));
    };
    let now = server.clock.now();
    let note = format!("{tag} {}", shed_api::name::printable(&open.exec.argv[0]));
    let event = NewEvent::new(now, EventKind::ExecStarted, caller.actor());
    server.store.add_events(vec![event.shed(name.as_str()).note(note)]).await?;
    if let Some(running) = started {
        let task = watch_detached(Arc::clone(server), name.clone(), tag.clone(), running);
        server.tasks.spawn(task);
    }
    Ok(Started::Detached(tag))
}

/// Runs a command to its end and returns what it printed.
pub(crate) async fn run_to_end(
    server: &Arc<Server>,
    registry: &Registry,
    caller: &Caller<'_>,
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
    let Started::Running(mut running) = run(server, registry, caller, open).await? else {
        return Err(Error::ShedUnreachable(caller.shed.clone()));
    };
    let input = running.input.take();
    let feed = async move {
        if let Some(mut input) = input {
            // A command that does not read its input to the end is its own affair.
            input.write_all(&stdin).await.ok();
        }
    };
    let ((), collected) = tokio::join!(feed, collect(&mut running, limit));
    collected.ok_or_else(|| Error::ShedUnreachable(caller.shed.clone()))?
}

/// Reads and drops the output of a detached command in a session and records its end. Ends with the command or the
/// server.
async fn watch_detached(server: Arc<Server>, shed: ShedName, tag: String, running: Stream) {
    let Stream { output, errors, control: _control, mut exit, .. } = running;
    let mut chunks = Chunks::new(output, errors, Main::Output);
    let read = async { while chunks.next().await.is_some() {} };
    let stop = server.door_stop.clone();
    tokio::select! {
        () = read => {}
        () = stop.cancelled() => return,
    }
    let note = match exit.wait().await {
        Some(Exit::Code(code)) => format!("{tag} exit {code}"),
        Some(Exit::Signal(name)) => format!("{tag} signal {name}"),
        None => format!("{tag} lost"),
    };
    let actor = shed_api::Actor::Shed(shed.clone());
    let event = NewEvent::new(server.clock.now(), EventKind::ExecEnded, actor);
    if let Err(error) = server.store.add_events(vec![event.shed(shed.as_str()).note(note)]).await {
        tracing::error!(%shed, %error, "the end of a detached command was not written");
    }
}

/// `None` for a detached one: it has no streams.
async fn exec_plain(
    entered: &Entered,
    open: &ExecOpen,
    user: User,
    tag: Option<String>,
) -> Result<Option<Stream>, Error> {
    let io = match (&tag, &open.tty) {
        (Some(_), _) => Io::Null,
        (None, Some(tty)) => tty_io(tty),
        (None, None) => Io::Pipes,
    };
    let env = checked_env(open.exec.env.clone().into_iter().collect())?;
    let (env, locale) = match &open.tty {
        Some(tty) => {
            // The client adds the locale of its own terminal.
            let (env, locale) = with_locale(env);
            (terminal_env(env, tty), locale)
        }
        None => (env, Vec::new()),
    };
    let spawn = Spawn {
        program: Program::Argv(open.exec.argv.clone()),
        env,
        locale,
        directory: open.exec.directory.clone(),
        user,
        io,
        detached: tag.clone(),
        worker: None,
    };
    if tag.is_some() {
        entered.link.start_detached(spawn).await?;
        return Ok(None);
    }
    let mut running = entered.link.start(spawn).await?;
    if !open.stdin && open.tty.is_none() {
        running.input = None;
    }
    Ok(Some(running))
}

fn check_exec(open: &ExecOpen) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
    let spec = &open.exec;
    if spec.argv.first().is_none_or(String::is_empty) {
        return invalid("invalid command \"\"; expected a program as its first word");
    }
    if spec.argv.iter().any(|word| word.contains('\0')) {
        return invalid("invalid command; expected words without NUL bytes");
    }
    shed_model::session::check_directory(spec.directory.as_deref())?;
    if spec.session.is_some() && spec.root {
        return invalid(
            "root and session exclude each other: a command in a session runs as the session's user",
        );
    }
    if spec.session.is_some() && open.stdin {
        return invalid(
            "a command in a session's window reads the window's input: it takes none from here",
        );
    }
    Ok(())
}

fn short_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..12].to_owned()
}
