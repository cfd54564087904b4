//! A command in a session's own window: `exec --session`.
//!
//! ```text
//!   server ── offer(token, command, tap) ──▶ shed-init
//!   server ── tmux new-window -d … shed-init run SOCKET token ──▶ tmux ──▶ runner
//!   runner ── claim(token) ──▶ shed-init;  runner ◀── command, tap
//!   runner ── started, output, exit ──▶ server, on the tap
//! ```
//!
//! The tap is between runner and server: a worker of shed-init that dies in between takes nothing along.

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

use super::App;
use super::sessions::{Place, no_session};
use crate::session::control::Runner;
use crate::shed::view::View;
use crate::stream::{Control, ExitWait, Running, new_pipe, socket_pair, to_tokio};
use crate::{Error, Person};

/// How long a window may take to open and its runner to claim the command.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long the end of a command waits for its window to close.
const CLOSE_LIMIT: Duration = Duration::from_millis(250);
/// How long the system may take to tell a process's directory.
const READLINK_LIMIT_MS: u64 = 2_000;
/// Signals that wait for the runner.
const SIGNALS: usize = 16;
/// What is read from a tap at once.
const READ_BYTES: usize = 64 << 10;

impl App {
    /// Runs a command in a background window of a session.
    pub(crate) async fn exec_in_session(
        &self,
        person: &Person,
        place: &Place,
        session: &SessionRef,
        open: &ExecOpen,
    ) -> Result<Option<Running>, Error> {
        place.needs_tmux()?;
        if place.known(session).is_none() && !place.exists(session).await? {
            return Err(no_session(&place.shed, session));
        }
        let target = place.target(session).await?;
        let here = match worker_directory(place, session).await {
            Some(here) => here,
            None => place.tmux(argv::active_directory(&target), session).await?,
        };
        let here = here.trim_end_matches('\n').to_owned();
        let directory = open.exec.directory.clone().or((!here.is_empty()).then_some(here));
        // The session's own variables are its workers'; tmux does not know them.
        let mut env: Vec<(String, String)> = place
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
        place.link.offer(token.clone(), spawn, theirs).await?;
        let hello = place.link.hello();
        let command = [hello.program.clone(), "run".to_owned(), hello.socket.clone(), token];
        let window =
            place.tmux(argv::background_window(&target, "exec", &command), session).await?;
        tracing::debug!(shed = %place.shed, %session, actor = %person.actor, "a command was given a window");
        let tap = to_tokio(ours)?;
        match timeout(OPEN_LIMIT, claimed(tap)).await {
            Ok(opened) => Ok(Some(self.follow(place, opened?, window.trim_end().to_owned())?)),
            Err(_) => Err(Error::TimedOut("the window for the command did not open".to_owned())),
        }
    }

    /// Turns a tap into streams.
    fn follow(&self, place: &Place, tap: Tap, window: String) -> Result<Running, Error> {
        let (read, write) = new_pipe()?;
        let output = pipe::Receiver::from_owned_fd(read).map_err(Error::io("pipe"))?;
        let copy = pipe::Sender::from_owned_fd(write).map_err(Error::io("pipe"))?;
        let (signals, numbers) = mpsc::channel(SIGNALS);
        let (exit, exited) = oneshot::channel();
        let (shed, view) = (place.shed.clone(), place.handle.view.clone());
        self.server.tasks.spawn(async move {
            if let Some(status) = copy_tap(tap, copy, numbers).await {
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
}

/// The directory of a worker in the session's active window: tmux sees the runner's. `None` if there is none.
async fn worker_directory(place: &Place, session: &SessionRef) -> Option<String> {
    let known = place.known(session)?;
    let worker = {
        let view = place.handle.view.borrow();
        let listed = view.table.as_ref()?.marked(&known.row.id)?.windows.clone();
        listed.into_iter().find(|window| window.active)?.mark
    };
    let row = known.workers.iter().find(|row| row.id == worker)?;
    let mut runner = Runner::connect(&place.link, &row.id, row.epoch).await.ok()?;
    let pid = runner.status().await.ok()?.pid;
    let argv = vec!["readlink".to_owned(), format!("/proc/{pid}/cwd")];
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: READLINK_LIMIT_MS };
    let ran = place.link.run_with(run).await.ok()?;
    (ran.status == Status::Code(0)).then_some(ran.stdout)
}

/// Waits until the picture has no such window: whoever looks when the command has ended does not see it any more.
async fn window_closed(mut view: watch::Receiver<View>, window: &str) {
    let is_gone = |view: &View| {
        let mut rows = view.table.iter().flat_map(|table| table.rows());
        !rows.any(|row| row.windows.iter().any(|it| it.id == window))
    };
    // A window that its session keeps when its command has ended is looked at for ever.
    timeout(CLOSE_LIMIT, view.wait_for(is_gone)).await.map(drop).ok();
}

/// A tap and what was read of it.
struct Tap {
    socket: UnixStream,
    bytes: Vec<u8>,
}

impl Tap {
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
async fn claimed(socket: UnixStream) -> Result<Tap, Error> {
    let mut tap = Tap { socket, bytes: Vec::with_capacity(tap::HEADER_BYTES) };
    match tap.next().await {
        Some(Frame::Started) => Ok(tap),
        Some(Frame::Refused(refusal)) => Err(Error::Refused(refusal)),
        Some(Frame::Output(_) | Frame::Exit(_)) | None => {
            Err(Error::Connect("the window of the command closed before it ran".to_owned()))
        }
    }
}

/// Copies output until the exit. When nobody reads any more the command gets HUP, as one without a window does.
async fn copy_tap(
    mut tap: Tap,
    mut copy: pipe::Sender,
    mut numbers: mpsc::Receiver<u8>,
) -> Option<Status> {
    loop {
        let frame = tokio::select! {
            frame = tap.next() => frame?,
            number = numbers.recv() => {
                let hang_up = number.is_none();
                tap.socket.write_all(&[number.unwrap_or(crate::box_link::HUP)]).await.ok()?;
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
                        tap.socket.write_all(&[crate::box_link::HUP]).await.ok()?;
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
