//! Process 1: reaps processes, forwards signals and keeps the daemon running. It reads no message and parses nothing, so
//! that no input can crash it. When the daemon crashes it is restarted within milliseconds, and tmux sessions go on.

use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

use crate::clock::timespec;
use crate::process_tree::descendants;
use crate::settings::Settings;
use crate::{daemon, log};

/// How long processes may take to end after SIGHUP and SIGTERM. The container engine waits a little longer than this.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// A daemon that ran for less than this is restarted only after [`RESTART_PAUSE`].
const YOUNG: Duration = Duration::from_millis(200);
/// Limits how often a daemon that cannot start is restarted.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Runs until it is told to stop. `args` are the flags of [`Settings`].
pub(crate) fn main(args: &[String]) -> ExitCode {
    let Some(settings) = Settings::from_args_or_log(args) else {
        return ExitCode::FAILURE;
    };
    // Blocked signals are read from the descriptor. The daemon clears the mask that it inherits.
    let mut signals = SigSet::empty();
    for signal in [NixSignal::SIGCHLD, NixSignal::SIGTERM, NixSignal::SIGINT] {
        signals.add(signal);
    }
    let listen = signals.thread_block().and_then(|()| {
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    });
    let Ok(mut signals) = listen else {
        log::line("shed-init: cannot create a signal descriptor");
        return ExitCode::FAILURE;
    };
    if !is_pid_1() {
        // In a test: adopt orphans as process 1 of a container does, and end with the test.
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).ok();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
    }
    settings.prepare();
    supervise(args, &mut signals)
}

fn is_pid_1() -> bool {
    rustix::process::getpid() == Pid::INIT
}

fn supervise(args: &[String], signals: &mut SignalFd) -> ExitCode {
    let mut daemon = start_daemon(args);
    let mut started = Instant::now();
    loop {
        let pause = if daemon.is_none() { Some(RESTART_PAUSE) } else { None };
        wait_readable(signals, pause);
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo != NixSignal::SIGCHLD as u32 {
                return stop(signals);
            }
        }
        if reap().into_iter().any(|pid| Some(pid) == daemon) {
            log::line("shed-init: the daemon ended and is restarted");
            daemon = None;
            if started.elapsed() < YOUNG {
                continue;
            }
        }
        if daemon.is_none() {
            daemon = start_daemon(args);
            started = Instant::now();
        }
    }
}

fn start_daemon(args: &[String]) -> Option<Pid> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(daemon::SUBCOMMAND).args(args).stdin(Stdio::null());
    match command.spawn() {
        Ok(child) => Some(Pid::from_child(&child)),
        Err(error) => {
            // The shed's limit of processes is reached. It is tried again.
            log::line(&format!("shed-init: cannot start the daemon: {error}"));
            None
        }
    }
}

/// Waits for a signal, or until the limit.
fn wait_readable(signals: &SignalFd, limit: Option<Duration>) {
    let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    // An interrupted wait ends early; every caller checks its condition again.
    poll(&mut fds, limit.map(timespec).as_ref()).ok();
}

/// Reaps all children that have ended.
fn reap() -> Vec<Pid> {
    let mut ended = Vec::new();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, _))) => ended.push(pid),
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// Sends SIGHUP and SIGTERM (shells ignore SIGTERM, many programs ignore SIGHUP), then SIGKILL to those that remain.
fn stop(signals: &mut SignalFd) -> ExitCode {
    let deadline = Instant::now() + STOP_LIMIT;
    for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
        signal_all(signal);
    }
    while has_children() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            signal_all(Signal::KILL);
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

/// Signals every process of the shed except this one.
fn signal_all(signal: Signal) {
    if is_pid_1() {
        // kill(-1): all processes of this pid namespace.
        kill_process_group(Pid::INIT, signal).ok();
        return;
    }
    // In a test kill(-1) would reach the whole machine, so only our descendants are signalled.
    for process in descendants(rustix::process::getpid()) {
        kill_process(process.pid, signal).ok();
    }
}
