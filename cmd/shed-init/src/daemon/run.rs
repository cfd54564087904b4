//! Short commands whose output is returned: tmux, and what the server runs with [`shed_link::Op::Run`].

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, kill_process_group};
use shed_link::{Io, MAX_RUN_OUTPUT_BYTES, Program, Ran, Refusal, Run, Spawn, User};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::state::State;
use crate::launch::{Started, launch};

/// How long output is still read after the command has ended. It suffices for what is in the pipe. Output of children that
/// go on running is not waited for.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

/// The size of the read buffer. It is on the heap, so that the futures stay small.
const READ_BYTES: usize = 8 << 10;

/// Runs a command until it ends and returns its output.
pub(super) async fn run(state: &State, run: Run) -> Result<Ran, Refusal> {
    let limit = Duration::from_millis(run.timeout_ms);
    let Piped { started: Started { pid, exit }, stdout, stderr } = start(state, run).await?;
    let mut out = Collected::new(stdout);
    let mut err = Collected::new(stderr);
    let whole = async {
        tokio::pin!(exit);
        loop {
            tokio::select! {
                status = &mut exit => break status,
                () = out.read() => {}
                () = err.read() => {}
            }
        }
    };
    let Ok(status) = timeout(limit, whole).await else {
        kill_process_group(pid, Signal::KILL).ok();
        return Err(Refusal::TimedOut);
    };
    let lost = |_| Refusal::NoResources("the command's exit status is unknown".to_owned());
    let status = status.map_err(lost)?;
    let drain = async {
        while !(out.ended && err.ended) {
            tokio::select! {
                () = out.read() => {}
                () = err.read() => {}
            }
        }
    };
    // A child of the command may keep the pipe open. What it prints later is not the command's output.
    timeout(DRAIN_LIMIT, drain).await.ok();
    Ok(Ran { status, truncated: out.cut || err.cut, stdout: out.text(), stderr: err.text() })
}

/// A command that was started with pipes for its output and without input.
pub(super) struct Piped {
    /// The process.
    pub(super) started: Started,
    /// The reading end of its standard output.
    pub(super) stdout: pipe::Receiver,
    /// The reading end of its standard error.
    pub(super) stderr: pipe::Receiver,
}

/// Starts a command as the session user. The caller applies the runtime limit.
pub(super) async fn start(state: &State, run: Run) -> Result<Piped, Refusal> {
    let (stdout, out_write) = output_pipe()?;
    let (stderr, err_write) = output_pipe()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let stdin = null.map_err(|error| Refusal::NoResources(error.to_string()))?;
    let spawn = Spawn {
        program: Program::Argv(run.argv),
        env: run.env,
        locale: Vec::new(),
        directory: run.directory,
        user: User::Dev,
        io: Io::Pipes,
        detached: None,
        worker: None,
    };
    let descriptors = vec![stdin, out_write, err_write];
    let started = launch(&state.settings, &state.stages, spawn, descriptors).await?;
    Ok(Piped { started, stdout, stderr })
}

fn output_pipe() -> Result<(pipe::Receiver, OwnedFd), Refusal> {
    let failed = |error: String| Refusal::NoResources(error);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.to_string()))?;
    let read = pipe::Receiver::from_owned_fd(read).map_err(|error| failed(error.to_string()))?;
    Ok((read, write))
}

/// The output read so far, up to its limit. Once the pipe has ended, [`Collected::read`] never returns.
struct Collected {
    pipe: pipe::Receiver,
    bytes: Vec<u8>,
    ended: bool,
    cut: bool,
}

impl Collected {
    fn new(pipe: pipe::Receiver) -> Self {
        Self { pipe, bytes: Vec::new(), ended: false, cut: false }
    }

    async fn read(&mut self) {
        if self.ended {
            return std::future::pending().await;
        }
        let mut buffer = vec![0; READ_BYTES];
        match self.pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => self.ended = true,
            Ok(n_read) => {
                let room = MAX_RUN_OUTPUT_BYTES - self.bytes.len();
                self.cut |= n_read > room;
                self.bytes.extend(&buffer[..n_read.min(room)]);
            }
        }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
