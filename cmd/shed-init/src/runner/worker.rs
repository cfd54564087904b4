//! The runner of a worker. Output of the command goes to the window and to the spool, input comes from the window and from
//! the control socket. The command can be stopped, suspended and continued together with all its descendants.
//!
//! ```text
//!   tmux window ◀──▶ runner ◀──▶ command (own terminal, own session) ── descendants, orphans too
//!                    │    ▲
//!                    ▼    └── control socket
//!                  spool
//! ```
//!
//! The runner is the subreaper of all processes that the command starts, so that daemons among them remain its descendants
//! until the runner ends. When the command ends by itself, processes that it left running are not stopped.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, wait};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, tcgetpgrp, tcgetwinsize, tcsetwinsize};
use shed_link::control::{Reply, Report, RunnerRequest};
use shed_link::{Program, Spawn, Status, WorkerSpec};

use super::command::{block_signals, start_command};
use super::control::{ClientId, Clients};
use super::limits::STOP_GRACE;
use super::output::{Output, WINDOW_LIMIT};
use super::poll::ready;
use super::spool::{LIMITS, Spool, SpoolDirectory};
use super::window::Window;
use crate::clock::time_until;
use crate::process_tree::{self, Frozen, number};
use crate::reaper::exit_of;
use crate::spool_record::Body;

/// The most bytes of one read of the prelude.
const READ_BYTES: usize = 64 << 10;
/// Input is accepted while fewer bytes than this wait for the command.
const INPUT_AHEAD: usize = 64 << 10;
/// The longest prelude, in bytes. The rest of a longer one is not shown.
const MAX_PRELUDE_BYTES: usize = 4 << 20;
/// How long the server may take to send the prelude.
const PRELUDE_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two rounds of SIGKILL. Processes may have been created in between.
const KILL_PAUSE: Duration = Duration::from_millis(20);

/// Shows the prelude, runs the command and returns its exit status. `spec` was taken out of `spawn`.
pub(super) fn run(spawn: Spawn, spec: &WorkerSpec, prelude: &OwnedFd) -> Result<Status, String> {
    let signals = block_signals()?;
    let window = Window::open();
    window.print(&read_prelude(prelude));
    if spawn.program == Program::Nothing {
        window.flush_until(Instant::now() + WINDOW_LIMIT);
        window.settle();
        window.restore();
        return Ok(Status::Code(0));
    }
    let started = Worker::start(spawn, spec, signals, window.clone());
    if let Err(error) = &started {
        // The prelude shall be readable beside the error message.
        window.flush_until(Instant::now() + WINDOW_LIMIT);
        window.restore();
        // Without a spool the server has no other way to learn of the error.
        send(prelude, error.as_bytes(), SendFlags::NOSIGNAL).ok();
    }
    started.map(Worker::run)
}

/// Reads the prelude to its end or to one of its limits.
fn read_prelude(prelude: &OwnedFd) -> Vec<u8> {
    let deadline = Instant::now() + PRELUDE_LIMIT;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    while bytes.len() < MAX_PRELUDE_BYTES {
        let mut fds = [PollFd::new(prelude, PollFlags::IN)];
        if poll(&mut fds, Some(&time_until(deadline))) == Ok(0) {
            break;
        }
        let room = buffer.len().min(MAX_PRELUDE_BYTES - bytes.len());
        match rustix::io::read(prelude, &mut buffer[..room]) {
            Ok(n_read) if n_read > 0 => bytes.extend_from_slice(&buffer[..n_read]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => break,
        }
    }
    bytes
}

/// The descriptors that are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Command,
    Input,
    /// All output of the command is copied.
    OutputDone,
    Listener,
    Client(ClientId),
}

/// A running command and its connections.
struct Worker {
    pid: Pid,
    /// The command's terminal.
    master: Arc<OwnedFd>,
    signals: SignalFd,
    window: Window,
    spool: Arc<Spool>,
    /// `None` once all output is copied.
    output: Option<Output>,
    clients: Clients,
    /// Locked until the runner ends.
    _lock: OwnedFd,
    /// Input that the command's terminal has not taken yet.
    to_command: Vec<u8>,
    size: Option<Winsize>,
    exit: Option<Status>,
    /// No descendant is left.
    is_alone: bool,
    /// The suspended processes, while they are.
    frozen: Option<Frozen>,
    /// When all descendants are killed, once they have been asked to end.
    kill_at: Option<Instant>,
    /// The exit status is in the spool.
    is_recorded: bool,
    /// Keeps the terminal open for a command that closes it and opens it again.
    _terminal: Option<OwnedFd>,
}

impl Worker {
    fn start(
        spawn: Spawn,
        spec: &WorkerSpec,
        signals: SignalFd,
        window: Window,
    ) -> Result<Self, String> {
        rustix::process::set_child_subreaper(Some(getpid())).map_err(|error| error.to_string())?;
        let directory = SpoolDirectory::create(spec)?;
        let failed = |error| format!("cannot write to the spool in {}: {error}", spec.spool);
        let spool = Spool::create(&directory.dir, LIMITS).map_err(failed)?;
        let (pid, master) = match start_command(spawn, spec.confine.clone()) {
            Ok(started) => started,
            Err(refusal) => {
                window.restore();
                let error = refusal.to_string();
                spool.finish(&Body::Refused(refusal));
                return Err(error);
            }
        };
        spool.started(number(pid));
        let (master, spool) = (Arc::new(master), Arc::new(spool));
        let output = Output::copy(Arc::clone(&master), window.clone(), Arc::clone(&spool));
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let mut worker = Self {
            pid,
            is_recorded: false,
            _terminal: ioctl_tiocgptpeer(&*master, flags).ok(),
            master,
            signals,
            window,
            spool,
            output: Some(output.map_err(|error| error.to_string())?),
            clients: Clients::new(directory.listener),
            _lock: directory.lock,
            to_command: Vec::new(),
            size: None,
            exit: None,
            is_alone: false,
            frozen: None,
            kill_at: None,
        };
        worker.copy_size();
        Ok(worker)
    }

    /// Runs until the command has ended and its output is copied; after a request to stop also until all descendants have
    /// ended.
    fn run(mut self) -> Status {
        let status = loop {
            self.turn();
            let Some(status) = self.exit else {
                continue;
            };
            match &mut self.output {
                Some(output) => output.finish(),
                None if !self.is_recorded => {
                    self.spool.exited(status);
                    self.is_recorded = true;
                }
                None => {}
            }
            if self.is_recorded && (self.is_alone || self.kill_at.is_none()) {
                break status;
            }
        };
        self.clients.report_end();
        self.window.flush_until(Instant::now() + WINDOW_LIMIT);
        self.window.settle();
        self.window.restore();
        status
    }

    /// Waits for events and handles them.
    fn turn(&mut self) {
        let ready = self.wait();
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_all();
        }
        self.handle_signals();
        for source in ready {
            match source {
                Source::Signals | Source::Command => {}
                Source::Input => self.copy_input(),
                Source::OutputDone => self.output = None,
                Source::Listener => self.clients.accept(),
                Source::Client(client) => self.clients.move_bytes(client),
            }
        }
        self.flush_command();
        while let Some((client, request)) =
            self.clients.next_request(self.to_command.len() < INPUT_AHEAD)
        {
            self.answer(client, request);
            self.flush_command();
        }
    }

    fn wait(&self) -> Vec<Source> {
        let stdin = std::io::stdin();
        let mut sources = vec![(Source::Signals, PollFd::new(&self.signals, PollFlags::IN))];
        if !self.to_command.is_empty() {
            sources.push((Source::Command, PollFd::new(&self.master, PollFlags::OUT)));
        }
        if self.window.is_open() && self.to_command.len() < INPUT_AHEAD {
            sources.push((Source::Input, PollFd::new(&stdin, PollFlags::IN)));
        }
        if let Some(output) = &self.output {
            sources.push((Source::OutputDone, PollFd::new(output.done(), PollFlags::IN)));
        }
        for (client, fd, flags) in self.clients.interests() {
            let source = client.map_or(Source::Listener, Source::Client);
            sources.push((source, PollFd::from_borrowed_fd(fd, flags)));
        }
        ready(sources, self.kill_at)
    }

    fn handle_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw) {
                Some(Signal::WINCH) => self.copy_size(),
                Some(Signal::CHILD) => self.reap(),
                None => {}
                // The window is being closed or the runner is told to end; both are meant for the command.
                Some(_) => self.stop_all(STOP_GRACE),
            }
        }
    }

    /// Reaps all children that have ended, including adopted orphans.
    fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => {
                    self.exit = self.exit.or(exit_of(status));
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return,
                Err(_) => {
                    self.is_alone = true;
                    return;
                }
            }
        }
    }

    /// Asks all descendants to end and has them killed after the grace period. The shortest grace period wins.
    fn stop_all(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        // Suspended processes must run to be able to end.
        self.frozen = None;
        process_tree::signal(getpid(), &[Signal::HUP, Signal::TERM, Signal::CONT]);
    }

    fn kill_all(&mut self) {
        // SIGSTOP first, so that no process can escape by forking.
        process_tree::signal(getpid(), &[Signal::STOP]);
        process_tree::signal(getpid(), &[Signal::KILL]);
        self.kill_at = Some(Instant::now() + KILL_PAUSE);
    }

    fn answer(&mut self, client: ClientId, request: RunnerRequest) {
        let reply = match request {
            RunnerRequest::Input(bytes) => {
                if self.exit.is_none() {
                    self.to_command.extend(bytes);
                }
                return;
            }
            RunnerRequest::Stop { grace_ms } => {
                self.stop_all(Duration::from_millis(grace_ms.into()));
                return self.clients.wait_for_end(client);
            }
            RunnerRequest::Signal(number) => match Signal::from_named_raw(i32::from(number)) {
                Some(signal) => done(self.signal_foreground(signal)),
                None => Reply::Refused(format!("invalid signal number {number}")),
            },
            RunnerRequest::Freeze => done(self.freeze()),
            RunnerRequest::Thaw => {
                if let Some(frozen) = self.frozen.take() {
                    process_tree::thaw(getpid(), frozen);
                }
                Reply::Done
            }
            RunnerRequest::Status => Reply::Status(self.report()),
        };
        self.clients.reply(client, &reply);
    }

    fn signal_foreground(&self, signal: Signal) -> Result<(), String> {
        if self.exit.is_some() {
            return Err("the command has ended".to_owned());
        }
        let group = tcgetpgrp(&*self.master).unwrap_or(self.pid);
        kill_process_group(group, signal).map_err(|error| error.to_string())
    }

    fn freeze(&mut self) -> Result<(), String> {
        if self.kill_at.is_some() {
            return Err("the command is being stopped".to_owned());
        }
        // If only some stop, they stay suspended and are continued with the next thaw.
        process_tree::freeze(getpid(), self.frozen.get_or_insert_default())
    }

    fn report(&self) -> Report {
        let processes = process_tree::descendants(getpid());
        let n_processes = processes.iter().filter(|process| !process.has_ended()).count();
        Report {
            pid: number(self.pid),
            running: self.exit.is_none(),
            frozen: self.frozen.is_some(),
            n_processes: u32::try_from(n_processes).unwrap_or(u32::MAX),
            exit: self.exit,
        }
    }

    /// Gives the command's terminal the size of the window.
    fn copy_size(&mut self) {
        let Ok(size) = tcgetwinsize(std::io::stdin()) else {
            return;
        };
        let is_new =
            self.size.is_none_or(|old| (old.ws_col, old.ws_row) != (size.ws_col, size.ws_row));
        if is_new {
            tcsetwinsize(&*self.master, size).ok();
            if !self.is_recorded {
                self.spool.size(size.ws_col, size.ws_row);
            }
        }
        self.size = Some(size);
    }

    /// Reads what is typed in the window.
    fn copy_input(&mut self) {
        let mut bytes = [0; 4 << 10];
        match rustix::io::read(std::io::stdin(), &mut bytes) {
            Ok(n_read) if n_read > 0 => self.to_command.extend_from_slice(&bytes[..n_read]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.window.forget(),
        }
    }

    fn flush_command(&mut self) {
        while !self.to_command.is_empty() {
            match rustix::io::write(&*self.master, &self.to_command) {
                Ok(n_written) if n_written > 0 => drop(self.to_command.drain(..n_written)),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => return,
                // No process has the terminal open to read it.
                Err(_) => self.to_command.clear(),
            }
        }
    }
}

fn done(result: Result<(), String>) -> Reply {
    result.map_or_else(Reply::Refused, |()| Reply::Done)
}
