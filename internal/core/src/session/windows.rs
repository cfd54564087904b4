//! A worker's window: opened with a runner in it, which waits for its prelude's end before it starts the command. So the
//! window is marked and has its options before anything can happen in it.

use shed_model::Rejection;
use std::time::Duration;

use shed_api::ShedStatus;
use shed_api::stream::Exit;
use shed_api::worker::WorkerStatus;
use shed_link::spool::WorkerId;
use shed_link::{Confine, Io, Program, Run, Spawn, User, WorkerSpec};
use shed_model::worker::{Opening, WorkerChange, WorkerReport, WorkerRow};
use shed_tmux::argv::{self, Target, WorkerWindow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Error;
use crate::output::collector::blocking;
use crate::session::conversations::{self, Planned};
use crate::session::env::SessionOpEnv;
use crate::session::handle::{Message, WorkerMessage};
use crate::session::volume;
use shed_guest::Link;
use shed_guest::tmux::Command;
use shed_guest::{Connection, Runner};
use shed_model::session::plan::FIRST_EPOCH;
use shed_model::session::{Managed, confine, ports};

/// How long `stat` may take.
const STAT_LIMIT_MS: u64 = 10_000;
/// How long a command may take to be started, or refused.
const START_LIMIT: Duration = Duration::from_secs(15);
/// How long the end of a worker without a runner may take to be collected, if it is.
const COLLECT_LIMIT: Duration = Duration::from_secs(3);
/// A command that fails within this time after a restart failed to start again.
const STAY_LIMIT: Duration = Duration::from_millis(1500);
/// How long a runner takes its prelude.
const PRELUDE_LIMIT: Duration = Duration::from_secs(5);
/// How much of a worker's past is shown again in its window: what a person scrolls through, in bytes.
const PRELUDE_BYTES: u64 = 1 << 20;
/// Lines of it at most.
const PRELUDE_LINES: usize = 2_000;
/// A runner's word on why it could not begin.
const MAX_REFUSAL_BYTES: u64 = 4 << 10;
/// How long the processes of a worker have to end by themselves.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Opens a worker's window and returns when its command runs, has ended, or could not be started.
pub(crate) async fn open(env: &SessionOpEnv, worker: &str, opening: &Opening) -> Result<(), Error> {
    let link = env.link()?;
    let known = env.known()?;
    let before = find(&known, worker)?.clone();
    let prelude = prelude(env, &before, opening).await;
    // Its first start was written with it.
    let is_written = env.order.fresh && is_first(&before);
    let epoch = if is_written { before.epoch } else { before.epoch + 1 };
    let planned = match opening {
        Opening::Command { continues } => {
            conversations::plan(env, &link, &known, &before, *continues, epoch).await
        }
        Opening::Notice(_) => None,
    };
    let row = match opening {
        Opening::Command { .. } if is_written => before,
        Opening::Command { .. } => {
            let record = planned.as_ref().map(|planned| planned.record.clone());
            env.begin_epoch(worker, &link, record).await?
        }
        Opening::Notice(_) => before,
    };
    let placed = start(env, &link, &known, &row, opening, planned.as_ref()).await;
    if let (Err(error), Opening::Command { .. }, false) =
        (&placed, opening, link.gone().is_cancelled())
    {
        // Nothing else would ever say that it does not start. Of a shed that went it is said when it is back.
        tell_refused(env, worker, row.epoch, error.to_string()).await;
    }
    let mut socket = placed?;
    let shown = async {
        // A runner that is gone has said so in its window.
        socket.write_all(&prelude).await.ok();
        socket.shutdown().await.ok();
    };
    timeout(PRELUDE_LIMIT, shown).await.ok();
    if let Opening::Notice(_) = opening {
        return Ok(());
    }
    let started = tokio::select! {
        started = started(env, worker, row.epoch) => started,
        error = refusal(env, worker, row.epoch, &mut socket) => Err(error),
        () = env.shed_stops() => Err(Error::ShedUnreachable(env.shed.clone())),
    };
    match started {
        // Its runner could not create a spool.
        Err(Error::WorkerRefused { .. }) if volume::is_full(&link).await => {
            let (shed, directory) = (env.shed.clone(), link.hello().worktrees.clone());
            Err(Error::ShedDiskFull { shed, directory })
        }
        started => started,
    }
}

/// Opens the window with a runner in it; the socket is for its prelude.
async fn start(
    env: &SessionOpEnv,
    link: &Link,
    known: &Managed,
    row: &WorkerRow,
    opening: &Opening,
    planned: Option<&Planned>,
) -> Result<Connection, Error> {
    let mut spawn = spawn(env, link, known, row, opening, planned)?;
    if let Some(confine) = spawn.worker.as_mut().and_then(|worker| worker.confine.as_mut()) {
        confine.write = existing(link, &confine.write).await?;
    }
    let token = uuid::Uuid::new_v4().simple().to_string();
    let socket = link.offer(token.clone(), spawn).await?;
    let hello = link.hello();
    let window = WorkerWindow {
        name: row.name.clone(),
        mark: row.id.clone(),
        keep: row.spec.keep || row.spec.hook || matches!(opening, Opening::Notice(_)),
        command: vec![hello.program.clone(), "run".to_owned(), hello.socket.clone(), token],
    };
    let nothing_there = env.order.fresh && is_first(row);
    place(env, link, known, &window, nothing_there).await?;
    Ok(socket)
}

/// Waits for a runner that says that it could not begin, and passes that on: it has no spool from which it would come.
/// Never ready for any other reason than the server's end.
async fn refusal(env: &SessionOpEnv, worker: &str, epoch: u64, socket: &mut Connection) -> Error {
    let mut text = Vec::new();
    // What it said before it was lost counts.
    socket.take(MAX_REFUSAL_BYTES).read_to_end(&mut text).await.ok();
    if !text.is_empty() {
        let why = shed_api::name::printable(&String::from_utf8_lossy(&text));
        tell_refused(env, worker, epoch, why).await;
    }
    std::future::pending().await
}

/// Has it written that a start failed, unless the command is known to have ended.
async fn tell_refused(env: &SessionOpEnv, worker: &str, epoch: u64, why: String) {
    let at_ms = u64::try_from(env.now().timestamp_millis()).unwrap_or_default();
    let change = WorkerChange::Refused(why);
    let report = WorkerReport { worker: worker.to_owned(), epoch, at_ms, change };
    let (done, written) = oneshot::channel();
    // A keeper that is gone writes nothing more.
    let post = WorkerMessage { report, listed_over: None, done };
    if env.messages.send(Message::Worker(post)).await.is_ok() {
        written.await.map(drop).ok();
    }
}

/// Whether this is a worker's first start, written when the worker was.
fn is_first(row: &WorkerRow) -> bool {
    row.epoch == FIRST_EPOCH && row.status == WorkerStatus::Starting && row.started_at.is_none()
}

fn find<'a>(known: &'a Managed, worker: &str) -> Result<&'a WorkerRow, Error> {
    let found = known.workers.iter().find(|row| row.id == worker);
    found.ok_or_else(|| Error::NoWorker {
        session: known.row.name.clone(),
        worker: worker.to_owned(),
    })
}

/// Puts a runner into the worker's window: the one it has, a new one, or the first of a new session.
async fn place(
    env: &SessionOpEnv,
    link: &Link,
    known: &Managed,
    window: &WorkerWindow,
    nothing_there: bool,
) -> Result<(), Error> {
    let directory = Some(known.row.spec.directory.as_str());
    let table = env.shed_view.borrow().table.clone();
    let here = table.as_ref().and_then(|table| table.window_of(&window.mark));
    if let Some(id) = here {
        match tmux(env, link, argv::respawn_window(&id, &window.command)).await {
            // It was closed a moment ago.
            Err(Error::NoSession { .. }) => {}
            respawned => {
                respawned?;
                return tmux(env, link, argv::mark_worker(&id, window)).await.map(drop);
            }
        }
    }
    let listed = table.as_ref().and_then(|table| table.marked(&known.row.id)).map(|row| row.id);
    let target = match listed {
        Some(id) => Some(Target::Id(id)),
        // The first window of a session that is being made.
        None if nothing_there => None,
        // Made a moment ago, and not in the table yet.
        None => has_ours(env, link, &known.row.name, &known.row.id).await?,
    };
    if let Some(target) = target {
        match tmux_in(env, link, argv::marked_window(&target, window), directory).await {
            // Its last window was closed a moment ago.
            Err(Error::NoSession { .. }) => {}
            made => {
                let id = made?.trim().to_owned();
                return tmux(env, link, argv::mark_worker(&id, window)).await.map(drop);
            }
        }
    }
    env.expect_session(&known.row.name).await;
    let vars = session_env(&env.shed, known);
    let argv = argv::marked_session(&known.row.name, &known.row.id, &vars, window);
    tmux_in(env, link, argv, directory).await.map(drop)
}

/// The session of this name, if it has this mark.
pub(crate) async fn has_ours(
    env: &SessionOpEnv,
    link: &Link,
    name: &str,
    mark: &str,
) -> Result<Option<Target>, Error> {
    let target = Target::Name(name.to_owned());
    match tmux(env, link, argv::session_mark(&target)).await {
        Ok(found) if found.trim() == mark => Ok(Some(target)),
        Ok(_) | Err(Error::NoSession { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs a tmux command; one whose server went away is tried again.
pub(crate) async fn tmux(
    env: &SessionOpEnv,
    link: &Link,
    argv: Vec<String>,
) -> Result<String, Error> {
    tmux_in(env, link, argv, None).await
}

/// The same, from a directory: where tmux opens what is made of it.
pub(crate) async fn tmux_in(
    env: &SessionOpEnv,
    link: &Link,
    argv: Vec<String>,
    directory: Option<&str>,
) -> Result<String, Error> {
    let known = env.known()?;
    let ran = Command::new(argv).directory(directory).expects_server().run(link).await;
    ran.map_err(|failure| Error::tmux(&env.shed, &known.row.name, failure))
}

/// What every process of a session finds in its environment.
pub(crate) fn session_env(shed: &shed_api::ShedName, known: &Managed) -> Vec<(String, String)> {
    let row = &known.row;
    let spec = &row.spec;
    let mut env = vec![
        ("SHED_NAME", shed.to_string()),
        ("SHED_SESSION", row.name.clone()),
        ("SHED_SESSION_ID", row.id.clone()),
    ];
    if let Some(branch) = &spec.branch {
        env.push(("SHED_WORKTREE", spec.directory.clone()));
        env.push(("SHED_BRANCH", branch.clone()));
        env.push(("SHED_BASE", spec.base_commit.clone().unwrap_or_default()));
    }
    if let Some(block) = spec.port_block {
        env.push(("SHED_PORT", ports::port(block).to_string()));
        env.push(("SHED_PORTS", ports::PORTS.to_string()));
    }
    env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn spawn(
    env: &SessionOpEnv,
    link: &Link,
    known: &Managed,
    row: &WorkerRow,
    opening: &Opening,
    planned: Option<&Planned>,
) -> Result<Spawn, Error> {
    let spec = &row.spec;
    let program = match (opening, &spec.agent) {
        (Opening::Notice(_), _) => Program::Nothing,
        (Opening::Command { .. }, Some(agent)) => {
            let gone = || {
                Error::Rejected(Rejection::Invalid(format!(
                    "agent {agent:?} is not configured any more"
                )))
            };
            Program::Argv(planned.ok_or_else(gone)?.argv.clone())
        }
        (Opening::Command { .. }, None) if spec.command.is_empty() => Program::LoginShell,
        (Opening::Command { .. }, None) => Program::Argv(spec.command.clone()),
    };
    let directory = spec.directory.clone().unwrap_or_else(|| known.row.spec.directory.clone());
    let mut vars = session_env(&env.shed, known);
    vars.push(("SHED_WORKER".to_owned(), row.name.clone()));
    vars.push(("SHED_WORKER_ID".to_owned(), row.id.clone()));
    vars.extend(planned.into_iter().flat_map(|planned| planned.env.clone()));
    // What a person says stands before what shed says, and what is said of the worker before what is said of all.
    vars.extend(known.row.spec.env.clone());
    vars.extend(spec.env.clone());
    let confine = known
        .row
        .spec
        .confine
        .then(|| Confine { write: confine::writable(&known.row.spec, &link.hello().home) });
    let id: WorkerId = row
        .id
        .parse()
        .map_err(|_| Error::Rejected(Rejection::Invalid("invalid worker id".to_owned())))?;
    Ok(Spawn {
        program,
        env: vars,
        locale: Vec::new(),
        directory: Some(directory),
        user: User::Dev,
        io: Io::Prelude,
        detached: None,
        worker: Some(WorkerSpec { id, epoch: row.epoch, spool: link.spool_dir(), confine }),
    })
}

/// Those of the paths that are there: what is not cannot be allowed.
async fn existing(link: &Link, paths: &[String]) -> Result<Vec<String>, Error> {
    let mut argv = ["stat", "-c", "%n", "--"].map(str::to_owned).to_vec();
    argv.extend(paths.iter().cloned());
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: STAT_LIMIT_MS };
    // It complains of those that are not there, and names the others.
    let named = link.run(run).await?.stdout;
    Ok(paths.iter().filter(|path| named.lines().any(|line| line == *path)).cloned().collect())
}

/// What is shown before the command prints: the worker's past, and what happened to it.
async fn prelude(env: &SessionOpEnv, row: &WorkerRow, opening: &Opening) -> Vec<u8> {
    let (logs, shed, worker) = (env.resources.logs.clone(), env.shed.clone(), row.id.clone());
    let past = blocking(move || {
        let reader = logs.reader(shed.as_str(), &worker)?;
        Ok(shed_output::scrollback(&reader, PRELUDE_BYTES, PRELUDE_LINES)?)
    });
    let mut bytes =
        if row.epoch == 0 || is_first(row) { Vec::new() } else { past.await.unwrap_or_default() };
    if let Opening::Notice(text) = opening {
        bytes.extend(format!("\x1b[0m\r\n[shed: {text}]\r\n").into_bytes());
    }
    bytes
}

/// Waits until the collector has reported the result of a start.
async fn started(env: &SessionOpEnv, worker: &str, epoch: u64) -> Result<(), Error> {
    let mut view = env.view.clone();
    let id = env.id.clone();
    let find = |view: &crate::session::view::WorkView| {
        let known = view.sessions.get(&id)?;
        known.workers.iter().find(|row| row.id == worker).cloned()
    };
    let wait = async {
        loop {
            let row = find(&view.borrow_and_update());
            match row {
                Some(row) if row.epoch == epoch && row.status == WorkerStatus::Starting => {}
                Some(row) => return Ok(row),
                None => return Err(Error::ShuttingDown),
            }
            view.changed().await.map_err(|_| Error::ShuttingDown)?;
        }
    };
    let late = || Error::TimedOut("the worker's command did not start in time".to_owned());
    let row = timeout(START_LIMIT, wait).await.map_err(|_| late())??;
    match (&row.exit, &row.reason) {
        (None, Some(reason)) if row.status == WorkerStatus::Exited => {
            Err(Error::WorkerRefused { worker: row.name.clone(), why: reason.clone() })
        }
        _ => Ok(()),
    }
}

/// An error if a command that was started again fails at once.
pub(crate) async fn stays(env: &SessionOpEnv, worker: &str) -> Result<(), Error> {
    let mut view = env.view.clone();
    let find = |known: &Managed| known.workers.iter().find(|row| row.id == worker).cloned();
    let ended = view.wait_for(|view| {
        let row = view.sessions.get(&env.id).and_then(|known| find(known));
        row.is_none_or(|row| row.status == WorkerStatus::Exited)
    });
    timeout(STAY_LIMIT, ended).await.map(drop).ok();
    match find(&*env.known()?) {
        Some(row) if row.status == WorkerStatus::Exited && row.exit != Some(Exit::Code(0)) => {
            let why = row.end_note().unwrap_or_default();
            Err(Error::WorkerRefused { worker: row.name, why: format!("it ended at once: {why}") })
        }
        _ => Ok(()),
    }
}

/// Ends a worker's processes, and waits until their end is written.
pub(crate) async fn stop(
    env: &SessionOpEnv,
    worker: &WorkerRow,
    grace: Duration,
) -> Result<(), Error> {
    // Of a shed that is stopped nothing runs, even if its end could not be reported.
    let is_stopped = env.shed_view.borrow().status() == ShedStatus::Stopped;
    if worker.status == WorkerStatus::Exited || is_stopped {
        return Ok(());
    }
    let link = env.link()?;
    let limit = match Runner::connect(&link, &worker.id, worker.epoch).await {
        Ok(mut runner) => {
            runner.stop(grace).await?;
            START_LIMIT
        }
        // It is gone, and what it left is being collected; or it never began.
        Err(shed_guest::Error::Connect(_)) => COLLECT_LIMIT,
        Err(error) => return Err(error.into()),
    };
    let mut view = env.view.clone();
    let over = view.wait_for(|view| {
        let known = view.sessions.get(&env.id);
        known.is_none_or(|known| {
            let row = known.workers.iter().find(|row| row.id == worker.id);
            row.is_none_or(|row| row.status == WorkerStatus::Exited || row.epoch != worker.epoch)
        })
    });
    tokio::select! {
        // A spool that is not there any more tells nothing; the processes are gone all the same.
        over = timeout(limit, over) => drop(over),
        () = env.shed_stops() => {}
    }
    Ok(())
}
