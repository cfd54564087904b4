//! A command in a session's own window: `exec --session`.
//!
//! ```text
//!   server ── offer(token, command, output socket) ──▶ shed-init
//!   server ── tmux new-window -d … shed-init run SOCKET token ──▶ tmux ──▶ runner
//!   runner ── claim(token) ──▶ shed-init;  runner ◀── command, output socket
//!   runner ── started, output, exit ──▶ server, over the output socket
//! ```
//!
//! The output socket connects runner and server, so a restart of shed-init loses nothing.

use std::time::Duration;

use shed_api::SessionRef;
use shed_api::stream::ExecOpen;
use shed_link::{Io, Program, Run, Spawn, Status, User};
use shed_tmux::argv;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Error;
use crate::access::Caller;
use crate::server::Server;
use crate::shed::entered::{Entered, no_session};
use crate::shed::view::View;
use shed_guest::{Runner, SessionCommand, Stream};

/// How long a window may take to open and its runner to claim the command.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long the end of a command waits for its window to close.
const CLOSE_LIMIT: Duration = Duration::from_millis(250);
/// How long reading a process's directory may take.
const READLINK_LIMIT_MS: u64 = 2_000;

/// Runs a command in a background window of a session.
pub(crate) async fn exec_in_session(
    server: &Server,
    caller: &Caller<'_>,
    entered: &Entered,
    session: &SessionRef,
    open: &ExecOpen,
) -> Result<Option<Stream>, Error> {
    entered.needs_tmux()?;
    if entered.known(session).is_none() && !entered.exists(session).await? {
        return Err(no_session(&entered.shed, session));
    }
    let target = entered.target(session).await?;
    let here = match worker_directory(entered, session).await {
        Some(here) => here,
        None => entered.tmux(argv::active_directory(&target), session).await?,
    };
    let here = here.trim_end_matches('\n').to_owned();
    let directory = open.exec.directory.clone().or((!here.is_empty()).then_some(here));
    // The session's own variables are its workers'; tmux does not know them.
    let mut env: Vec<(String, String)> = entered
        .known(session)
        .map(|known| known.row.spec.env.clone().into_iter().collect())
        .unwrap_or_default();
    env.extend(open.exec.env.clone());
    let spawn = Spawn {
        program: Program::Argv(open.exec.argv.clone()),
        env,
        locale: Vec::new(),
        directory,
        user: User::Dev,
        io: Io::OutputSocket,
        detached: None,
        worker: None,
    };
    let token = uuid::Uuid::new_v4().simple().to_string();
    let mut command = SessionCommand::offer(&entered.link, token.clone(), spawn).await?;
    let hello = entered.link.hello();
    let words = [hello.program.clone(), "run".to_owned(), hello.socket.clone(), token];
    let window = entered.tmux(argv::background_window(&target, "exec", &words), session).await?;
    tracing::debug!(shed = %entered.shed, %session, actor = %caller.person.actor, "a command was given a window");
    let started = timeout(OPEN_LIMIT, command.started()).await;
    let late = || Error::TimedOut("the window for the command did not open".to_owned());
    started.map_err(|_| late())??;
    let (view, window) = (entered.handle.view.clone(), window.trim_end().to_owned());
    let before_exit = async move { window_closed(view, &window).await };
    let (stream, copying) = command.follow(before_exit)?;
    server.tasks.spawn(copying);
    Ok(Some(stream))
}

/// The directory of a worker in the session's active window: tmux sees the runner's. `None` if there is none.
async fn worker_directory(entered: &Entered, session: &SessionRef) -> Option<String> {
    let known = entered.known(session)?;
    let worker = {
        let view = entered.handle.view.borrow();
        let listed = view.table.as_ref()?.marked(&known.row.id)?.windows.clone();
        listed.into_iter().find(|window| window.active)?.mark
    };
    let row = known.workers.iter().find(|row| row.id == worker)?;
    let mut runner = Runner::connect(&entered.link, &row.id, row.epoch).await.ok()?;
    let pid = runner.status().await.ok()?.pid;
    let argv = vec!["readlink".to_owned(), format!("/proc/{pid}/cwd")];
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: READLINK_LIMIT_MS };
    let ran = entered.link.run(run).await.ok()?;
    (ran.status == Status::Code(0)).then_some(ran.stdout)
}

/// Waits until the live table does not show the window: a list after the command's end must not show it.
async fn window_closed(mut view: watch::Receiver<View>, window: &str) {
    let is_gone = |view: &View| {
        let mut rows = view.table.iter().flat_map(|table| table.rows());
        !rows.any(|row| row.windows.iter().any(|it| it.id == window))
    };
    // A session may be set to keep the windows of ended commands.
    timeout(CLOSE_LIMIT, view.wait_for(is_gone)).await.map(drop).ok();
}
