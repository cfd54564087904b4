//! Short commands whose output is wanted: tmux and git, run as `dev`.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use shed_link::{Io, MAX_RUN_OUTPUT_BYTES, Program, Ran, Refusal, Run, Spawn, User};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::launch::{Stages, Started, launch};
use crate::place::Place;

/// How long output may trickle in after the command itself has ended: what it left in the pipe, not what a child that
/// lives on prints.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

/// What is read at once. On the heap: futures that hold it stay small.
const READ_BYTES: usize = 8 << 10;

/// Runs `run` to its end.
pub(crate) async fn run(place: &Place, stages: &Stages, run: Run) -> Result<Ran, Refusal> {
    let limit = Duration::from_millis(run.timeout_ms);
    let (out_read, out_write) = output_pipe()?;
    let (err_read, err_write) = output_pipe()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let stdin = null.map_err(|error| Refusal::NoResources(error.to_string()))?;
    let spawn = Spawn {
        program: Program::Argv(run.argv),
        env: run.env,
        directory: run.directory,
        user: User::Dev,
        io: Io::Pipes,
        detached: None,
        worker: None,
    };
    let Started { pid, ended } =
        launch(place, stages, spawn, vec![stdin, out_write, err_write]).await?;
    let mut out = Collected::new(out_read);
    let mut err = Collected::new(err_read);
    let whole = async {
        tokio::pin!(ended);
        loop {
            tokio::select! {
                status = &mut ended => break status,
                () = out.read() => {}
                () = err.read() => {}
            }
        }
    };
    let Ok(status) = timeout(limit, whole).await else {
        end_group(pid);
        return Err(Refusal::TimedOut);
    };
    let status = status.map_err(|_| Refusal::NoResources("its end was not seen".to_owned()))?;
    let drain = async {
        while !(out.ended && err.ended) {
            tokio::select! {
                () = out.read() => {}
                () = err.read() => {}
            }
        }
    };
    // A child of the command may hold the pipe open; what it prints later is not the command's output.
    timeout(DRAIN_LIMIT, drain).await.ok();
    Ok(Ran { status, truncated: out.cut || err.cut, stdout: out.text(), stderr: err.text() })
}

fn end_group(pid: Pid) {
    kill_process_group(pid, Signal::KILL).ok();
}

pub(crate) fn output_pipe() -> Result<(pipe::Receiver, OwnedFd), Refusal> {
    let failed = |error: String| Refusal::NoResources(error);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.to_string()))?;
    let read = pipe::Receiver::from_owned_fd(read).map_err(|error| failed(error.to_string()))?;
    Ok((read, write))
}

/// Output as it comes, up to its limit. Never ready again once it has ended.
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
