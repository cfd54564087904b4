//! PID 1: reap, pass signals, keep the worker alive. It reads no message and parses nothing, so that nothing from outside
//! can bring it down; a crash of the worker costs some milliseconds and no tmux session.

use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

use crate::place::Place;
use crate::say;
use crate::tree::descendants;

/// How long processes may take to end after HUP and TERM. The engine is told to wait a little longer.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A worker that died younger than this is started again only after [`RESTART_PAUSE`].
const YOUNG: Duration = Duration::from_millis(200);
/// Keeps a worker that cannot start from eating a core.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Runs until it is told to stop. `args` are the flags of [`Place`].
pub(crate) fn main(args: &[String]) -> ExitCode {
    let place = match Place::from_args(args) {
        Ok(place) => place,
        Err(error) => {
            say(&format!("shed-init: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // Blocked signals wait in the descriptor; the worker clears the mask it inherits.
    let mut signals = SigSet::empty();
    for signal in [NixSignal::SIGCHLD, NixSignal::SIGTERM, NixSignal::SIGINT] {
        signals.add(signal);
    }
    let listen = signals.thread_block().and_then(|()| {
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    });
    let Ok(mut signals) = listen else {
        say("shed-init: the kernel gives no signal descriptor");
        return ExitCode::FAILURE;
    };
    if !is_pid_1() {
        // Orphans of a test come to us as they come to PID 1 in a container, and a test that dies takes us along.
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).ok();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
    }
    place.prepare();
    supervise(args, &mut signals)
}

fn is_pid_1() -> bool {
    rustix::process::getpid() == Pid::INIT
}

fn supervise(args: &[String], signals: &mut SignalFd) -> ExitCode {
    let mut worker = start_worker(args);
    let mut started = Instant::now();
    loop {
        let pause = if worker.is_none() { Some(RESTART_PAUSE) } else { None };
        wait_readable(signals, pause);
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo != NixSignal::SIGCHLD as u32 {
                return stop(signals);
            }
        }
        if reap().into_iter().any(|pid| Some(pid) == worker) {
            say("shed-init: the worker ended; starting it again");
            worker = None;
            if started.elapsed() < YOUNG {
                continue;
            }
        }
        if worker.is_none() {
            worker = start_worker(args);
            started = Instant::now();
        }
    }
}

fn start_worker(args: &[String]) -> Option<Pid> {
    let started =
        Command::new("/proc/self/exe").arg("worker").args(args).stdin(Stdio::null()).spawn();
    match started {
        Ok(child) => Some(Pid::from_child(&child)),
        Err(error) => {
            // No process left in the shed's limit: tried again when one has ended.
            say(&format!("shed-init: cannot start the worker: {error}"));
            None
        }
    }
}

/// Waits for a signal, at most so long.
fn wait_readable(signals: &SignalFd, limit: Option<Duration>) {
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    // An interrupted wait is a short one; every caller looks again.
    poll(&mut fds, limit.as_ref()).ok();
}

/// Collects every child that has ended.
fn reap() -> Vec<Pid> {
    let mut ended = Vec::new();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, _))) => ended.push(pid),
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// HUP and TERM together (shells ignore one, programs the other), then KILL for what is left.
fn stop(signals: &mut SignalFd) -> ExitCode {
    let deadline = Instant::now() + STOP_LIMIT;
    for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
        signal_everyone(signal);
    }
    while has_children() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            signal_everyone(Signal::KILL);
        }
        wait_readable(signals, Some(left.max(Duration::from_millis(100))));
        while let Ok(Some(_)) = signals.read_signal() {}
    }
    ExitCode::SUCCESS
}

fn has_children() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Signals every process of the shed but this one.
fn signal_everyone(signal: Signal) {
    if is_pid_1() {
        // kill(-1): all processes of this pid namespace.
        kill_process_group(Pid::INIT, signal).ok();
        return;
    }
    // Outside a container kill(-1) would reach the whole machine; walk the tree below us instead.
    for process in descendants(rustix::process::getpid()) {
        kill_process(process.pid, signal).ok();
    }
}
