//! A worker's runner: what its command prints goes to the window and to the spool, what is typed comes from the window
//! and from the control socket, and the command's whole tree can be stopped, frozen and ended.
//!
//! ```text
//!   tmux window ◀──▶ runner ◀──▶ command (own terminal, own session) ── descendants, orphans too
//!                    │    ▲
//!                    ▼    └── control socket
//!                  spool
//! ```
//!
//! The runner is the subreaper of all that the command starts, so that a daemon belongs to the tree until the runner ends.
//! When the command ends by itself, what it left running is left alone.

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
use shed_link::control::{Ask, Reply, Report};
use shed_link::{Program, Spawn, Status, WorkerSpec};

use super::control::{ClientId, Clients};
use super::output::{Output, WINDOW_LIMIT};
use super::spool::{Home, LIMITS, Spool};
use super::window::Window;
use super::{END_LIMIT, hear_signals, start_command, time_until};
use crate::reaper::exit_of;
use crate::record::Body;
use crate::tree::{self, Frozen};

/// What is read of a prelude at once.
const READ_BYTES: usize = 64 << 10;
/// Input is taken while no more than this waits for the command.
const INPUT_AHEAD: usize = 64 << 10;
/// The longest prelude. The rest of a longer one is not shown.
const MAX_PRELUDE_BYTES: usize = 4 << 20;
/// How long the prelude may take to come.
const PRELUDE_LIMIT: Duration = Duration::from_secs(5);
/// Between two rounds of KILL: something may have been born in between.
const KILL_PAUSE: Duration = Duration::from_millis(20);

/// Shows the prelude, runs the command and says how it ended. `spawn` is without its worker's part.
pub(super) fn run(spawn: Spawn, spec: &WorkerSpec, prelude: &OwnedFd) -> Result<Status, String> {
    let signals = hear_signals()?;
    let window = Window::open();
    window.print(&read_prelude(prelude));
    if spawn.program == Program::Nothing {
        window.flush_until(Instant::now() + WINDOW_LIMIT);
        window.settle();
        window.restore();
        return Ok(Status::Code(0));
    }
    let started = Worker::start(spawn, spec, signals, window.clone());
    if let Err(why) = &started {
        // What was there before is read beside why there is no more.
        window.flush_until(Instant::now() + WINDOW_LIMIT);
        window.restore();
        // Where there is no spool, nothing else tells the server.
        send(prelude, why.as_bytes(), SendFlags::NOSIGNAL).ok();
    }
    started.map(Worker::run)
}

/// What came until the prelude's end or one of its limits.
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

/// What may become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Command,
    Input,
    /// All that the command printed is copied.
    Over,
    Listener,
    Client(ClientId),
}

struct Worker {
    pid: Pid,
    /// The command's terminal.
    master: Arc<OwnedFd>,
    signals: SignalFd,
    window: Window,
    spool: Arc<Spool>,
    /// `None` once all is copied.
    output: Option<Output>,
    clients: Clients,
    /// Held until we end.
    _lock: OwnedFd,
    /// What is typed and not taken yet.
    to_command: Vec<u8>,
    size: Option<Winsize>,
    exit: Option<Status>,
    /// No process of the tree is left.
    is_alone: bool,
    /// While the tree is frozen.
    frozen: Option<Frozen>,
    /// When the tree is killed; it has been asked to end.
    kill_at: Option<Instant>,
    /// The end is in the spool.
    is_told: bool,
    /// Keeps the terminal alive while a command has closed it and may open it again.
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
        let home = Home::create(spec)?;
        let failed = |error| format!("cannot begin the spool in {}: {error}", spec.spool);
        let spool = home.spool(LIMITS).map_err(failed)?;
        let (pid, master) = match start_command(spawn, spec.confine.clone()) {
            Ok(started) => started,
            Err(refusal) => {
                window.restore();
                let why = refusal.to_string();
                spool.finish(&Body::Refused(refusal));
                return Err(why);
            }
        };
        spool.started(number(pid));
        let (master, spool) = (Arc::new(master), Arc::new(spool));
        let output = Output::copy(Arc::clone(&master), window.clone(), Arc::clone(&spool));
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let mut worker = Self {
            pid,
            is_told: false,
            _terminal: ioctl_tiocgptpeer(&*master, flags).ok(),
            master,
            signals,
            window,
            spool,
            output: Some(output.map_err(|error| error.to_string())?),
            clients: Clients::new(home.listener),
            _lock: home.lock,
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

    /// Goes on until the command has ended and its output is copied, and when the tree is to end, until that has.
    fn run(mut self) -> Status {
        let status = loop {
            self.turn();
            let Some(status) = self.exit else {
                continue;
            };
            match &mut self.output {
                Some(output) => output.finish(),
                None if !self.is_told => {
                    self.spool.exited(status);
                    self.is_told = true;
                }
                None => {}
            }
            if self.is_told && (self.is_alone || self.kill_at.is_none()) {
                break status;
            }
        };
        self.clients.tell_end();
        self.window.flush_until(Instant::now() + WINDOW_LIMIT);
        self.window.settle();
        self.window.restore();
        status
    }

    /// Waits for something to happen and does it.
    fn turn(&mut self) {
        let ready = self.wait();
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_tree();
        }
        self.take_signals();
        for source in ready {
            match source {
                Source::Signals | Source::Command => {}
                Source::Input => self.copy_input(),
                Source::Over => self.output = None,
                Source::Listener => self.clients.accept(),
                Source::Client(client) => self.clients.move_bytes(client),
            }
        }
        self.flush_command();
        while let Some((client, ask)) = self.clients.next_ask(self.to_command.len() < INPUT_AHEAD) {
            self.answer(client, ask);
            self.flush_command();
        }
    }

    /// What is ready. A source that is not waited for is not in the set at all: one that has hung up would wake us for
    /// ever.
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
            sources.push((Source::Over, PollFd::new(output.over(), PollFlags::IN)));
        }
        for (client, fd, flags) in self.clients.interests() {
            let source = client.map_or(Source::Listener, Source::Client);
            sources.push((source, PollFd::from_borrowed_fd(fd, flags)));
        }
        let limit = self.kill_at.map(time_until);
        let (names, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = sources.into_iter().unzip();
        // An interrupted wait is a short one.
        poll(&mut fds, limit.as_ref()).ok();
        let ready = names.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(name, _)| name).collect()
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw) {
                Some(Signal::WINCH) => self.copy_size(),
                Some(Signal::CHILD) => self.reap(),
                None => {}
                // The window is being closed, or somebody asks the runner to end: it is the tree that is meant.
                Some(_) => self.end_tree(END_LIMIT),
            }
        }
    }

    /// Collects all that have ended, orphans of the tree among them.
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

    /// Asks the whole tree to end and has it killed after the grace. The shortest grace counts.
    fn end_tree(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        // What is frozen must run to be able to end.
        self.frozen = None;
        tree::signal(getpid(), &[Signal::HUP, Signal::TERM, Signal::CONT]);
    }

    fn kill_tree(&mut self) {
        // Stopped first: what is being forked must not escape for ever.
        tree::signal(getpid(), &[Signal::STOP]);
        tree::signal(getpid(), &[Signal::KILL]);
        self.kill_at = Some(Instant::now() + KILL_PAUSE);
    }

    fn answer(&mut self, client: ClientId, ask: Ask) {
        let reply = match ask {
            Ask::Input(bytes) => {
                if self.exit.is_none() {
                    self.to_command.extend(bytes);
                }
                return;
            }
            Ask::Stop { grace_ms } => {
                self.end_tree(Duration::from_millis(grace_ms.into()));
                return self.clients.wait_for_end(client);
            }
            Ask::Signal(number) => match Signal::from_named_raw(i32::from(number)) {
                Some(signal) => done(self.signal_foreground(signal)),
                None => Reply::Refused(format!("there is no signal {number}")),
            },
            Ask::Freeze => done(self.freeze()),
            Ask::Thaw => {
                if let Some(frozen) = self.frozen.take() {
                    tree::thaw(getpid(), frozen);
                }
                Reply::Done
            }
            Ask::Status => Reply::Status(self.report()),
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
            return Err("it is being stopped".to_owned());
        }
        // A part that stopped stays so, and is continued with the rest.
        tree::freeze(getpid(), self.frozen.get_or_insert_default())
    }

    fn report(&self) -> Report {
        let processes = tree::descendants(getpid());
        let n_processes = processes.iter().filter(|process| !process.has_ended()).count();
        Report {
            pid: number(self.pid),
            running: self.exit.is_none(),
            frozen: self.frozen.is_some(),
            n_processes: u32::try_from(n_processes).unwrap_or(u32::MAX),
            exit: self.exit,
        }
    }

    /// The command's terminal has the window's size.
    fn copy_size(&mut self) {
        let Ok(size) = tcgetwinsize(std::io::stdin()) else {
            return;
        };
        let is_new =
            self.size.is_none_or(|old| (old.ws_col, old.ws_row) != (size.ws_col, size.ws_row));
        if is_new {
            tcsetwinsize(&*self.master, size).ok();
            if !self.is_told {
                self.spool.size(size.ws_col, size.ws_row);
            }
        }
        self.size = Some(size);
    }

    /// What a person types in the window.
    fn copy_input(&mut self) {
        let mut bytes = [0; 4 << 10];
        match rustix::io::read(std::io::stdin(), &mut bytes) {
            Ok(n_read) if n_read > 0 => self.to_command.extend_from_slice(&bytes[..n_read]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.window.lose(),
        }
    }

    fn flush_command(&mut self) {
        while !self.to_command.is_empty() {
            match rustix::io::write(&*self.master, &self.to_command) {
                Ok(n_written) if n_written > 0 => drop(self.to_command.drain(..n_written)),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => return,
                // Nobody is there to read it.
                Err(_) => self.to_command.clear(),
            }
        }
    }
}

fn done(result: Result<(), String>) -> Reply {
    result.map_or_else(Reply::Refused, |()| Reply::Done)
}

fn number(pid: Pid) -> u32 {
    u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default()
}
