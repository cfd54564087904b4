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
use shed_link::tap::{self, Frame};
use shed_link::{Io, Program, Run, Spawn, Status, User};
use shed_tmux::argv;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::Error;
use crate::access::Caller;
use crate::server::Server;
use crate::session::control::Runner;
use crate::shed::entered::{Entered, no_session};
use crate::shed::view::View;
use crate::stream::{Control, ExitWait, Running, new_pipe, socket_pair, to_tokio};

/// How long a window may take to open and its runner to claim the command.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long the end of a command waits for its window to close.
const CLOSE_LIMIT: Duration = Duration::from_millis(250);
/// How long reading a process's directory may take.
const READLINK_LIMIT_MS: u64 = 2_000;
/// Signals that wait for the runner.
const SIGNALS: usize = 16;
/// The most bytes read from an output socket at once.
const READ_BYTES: usize = 64 << 10;

/// Runs a command in a background window of a session.
pub(crate) async fn exec_in_session(
    server: &Server,
    caller: &Caller<'_>,
    entered: &Entered,
    session: &SessionRef,
    open: &ExecOpen,
) -> Result<Option<Running>, Error> {
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
        directory,
        user: User::Dev,
        io: Io::Tap,
        detached: None,
        worker: None,
    };
    let token = uuid::Uuid::new_v4().simple().to_string();
    let (ours, theirs) = socket_pair()?;
    entered.link.offer(token.clone(), spawn, theirs).await?;
    let hello = entered.link.hello();
    let command = [hello.program.clone(), "run".to_owned(), hello.socket.clone(), token];
    let window = entered.tmux(argv::background_window(&target, "exec", &command), session).await?;
    tracing::debug!(shed = %entered.shed, %session, actor = %caller.person.actor, "a command was given a window");
    let socket = to_tokio(ours)?;
    match timeout(OPEN_LIMIT, claimed(socket)).await {
        Ok(opened) => Ok(Some(follow(server, entered, opened?, window.trim_end().to_owned())?)),
        Err(_) => Err(Error::TimedOut("the window for the command did not open".to_owned())),
    }
}

/// Makes streams of an output socket.
fn follow(
    server: &Server,
    entered: &Entered,
    socket: OutputSocket,
    window: String,
) -> Result<Running, Error> {
    let (read, write) = new_pipe()?;
    let output = pipe::Receiver::from_owned_fd(read).map_err(Error::io("pipe"))?;
    let copy = pipe::Sender::from_owned_fd(write).map_err(Error::io("pipe"))?;
    let (signals, numbers) = mpsc::channel(SIGNALS);
    let (exit, exited) = oneshot::channel();
    let (shed, view) = (entered.shed.clone(), entered.handle.view.clone());
    server.tasks.spawn(async move {
        if let Some(status) = copy_output(socket, copy, numbers).await {
            window_closed(view, &window).await;
            // Nobody waits for it any more.
            exit.send(status).ok();
        } else {
            tracing::debug!(%shed, "a runner went away without an exit");
        }
    });
    Ok(Running {
        input: None,
        output,
        errors: None,
        control: Control::of_runner(signals),
        exit: ExitWait::new(exited),
    })
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
    let ran = entered.link.run_with(run).await.ok()?;
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

/// An output socket and what was read from it and not decoded yet.
struct OutputSocket {
    socket: UnixStream,
    bytes: Vec<u8>,
}

impl OutputSocket {
    /// The next frame; `None` at the end, or when the runner breaks the rules.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, n_bytes)) = Frame::decode(&self.bytes).ok()? {
                self.bytes.drain(..n_bytes);
                return Some(frame);
            }
            let mut buffer = vec![0; READ_BYTES];
            let n_read = self.socket.read(&mut buffer).await.ok()?;
            if n_read == 0 {
                return None;
            }
            self.bytes.extend(&buffer[..n_read]);
        }
    }
}

/// Waits until the runner has started the command.
async fn claimed(socket: UnixStream) -> Result<OutputSocket, Error> {
    let mut output = OutputSocket { socket, bytes: Vec::with_capacity(tap::HEADER_BYTES) };
    match output.next().await {
        Some(Frame::Started) => Ok(output),
        Some(Frame::Refused(refusal)) => Err(Error::Refused(refusal)),
        Some(Frame::Output(_) | Frame::Exit(_)) | None => {
            Err(Error::Connect("the window of the command closed before it ran".to_owned()))
        }
    }
}

/// Copies output until the exit. When nobody reads any more the command gets HUP, as one without a window does.
async fn copy_output(
    mut output: OutputSocket,
    mut copy: pipe::Sender,
    mut numbers: mpsc::Receiver<u8>,
) -> Option<Status> {
    loop {
        let frame = tokio::select! {
            frame = output.next() => frame?,
            number = numbers.recv() => {
                let hang_up = number.is_none();
                output.socket.write_all(&[number.unwrap_or(crate::box_link::HUP)]).await.ok()?;
                if hang_up {
                    return None;
                }
                continue;
            }
        };
        match frame {
            Frame::Output(bytes) => {
                let write = copy.write_all(&bytes);
                tokio::select! {
                    written = write => written.ok()?,
                    () = numbers_closed(&mut numbers) => {
                        output.socket.write_all(&[crate::box_link::HUP]).await.ok()?;
                        return None;
                    }
                }
            }
            Frame::Exit(status) => return Some(status),
            Frame::Started | Frame::Refused(_) => return None,
        }
    }
}

/// Ends when the caller's [`Control`] is gone. Signals that come meanwhile are for a command whose output nobody takes.
async fn numbers_closed(numbers: &mut mpsc::Receiver<u8>) {
    while numbers.recv().await.is_some() {}
}
