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
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, wait};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use shed_link::control::{Ask, Reply, Report};
use shed_link::{Program, Spawn, Status, WorkerSpec};

use super::control::{ClientId, Clients};
use super::spool::{Home, LIMITS, Spool};
use super::{DRAIN_LIMIT, END_LIMIT, QUIET, hear_signals, raw_mode, start_command, time_until};
use crate::reaper::exit_of;
use crate::record::Body;
use crate::tree::{self, Frozen};

/// What is read of a terminal in a turn.
const READ_BYTES: usize = 64 << 10;
/// The command is read while no more than this waits for the window.
const WINDOW_AHEAD: usize = 64 << 10;
/// A window that is full is tried again after so long, and only if that was in vain is it waited for. Its terminal holds
/// 12 KiB and would wake us for each little piece that tmux takes; so it takes all at once, and tmux always has some.
const WINDOW_PAUSE: Duration = Duration::from_micros(100);
/// Input is taken while no more than this waits for the command.
const INPUT_AHEAD: usize = 64 << 10;
/// The longest prelude. The rest of a longer one is not shown.
const MAX_PRELUDE_BYTES: usize = 4 << 20;
/// How long the prelude may take to come.
const PRELUDE_LIMIT: Duration = Duration::from_secs(5);
/// At the end the window has so long to take what was printed.
const WINDOW_LIMIT: Duration = Duration::from_secs(5);
/// After that tmux has so long to say that it has read it.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// The question for a terminal's state, and the answer. They show nothing, and end whatever sequence was not whole.
const ARE_YOU_THERE: &[u8] = b"\x1b[5n";
const I_AM: &[u8] = b"\x1b[0n";
/// Between two rounds of KILL: something may have been born in between.
const KILL_PAUSE: Duration = Duration::from_millis(20);

/// Shows the prelude, runs the command and says how it ended. `spawn` is without its worker's part.
pub(super) fn run(spawn: Spawn, spec: &WorkerSpec, prelude: &OwnedFd) -> Result<Status, String> {
    let signals = hear_signals()?;
    let mut window = Window::open();
    window.print(&read_prelude(prelude));
    if spawn.program == Program::Nothing {
        window.flush_until(Instant::now() + WINDOW_LIMIT);
        window.settle();
        window.restore();
        return Ok(Status::Code(0));
    }
    let started = Worker::start(spawn, spec, signals, window);
    if let Err(why) = &started {
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

/// The tmux window, on our standard input and output.
#[derive(Debug)]
struct Window {
    /// Its own settings, to be put back; `None` once it is gone.
    before: Option<Termios>,
    /// What did not fit yet, from `written` on.
    waiting: Vec<u8>,
    written: usize,
    /// The last attempt to write was in vain.
    is_stuck: bool,
}

impl Window {
    fn open() -> Self {
        let window = Self { before: raw_mode(), waiting: Vec::new(), written: 0, is_stuck: false };
        // A window that is not read must not keep us from everything else.
        rustix::io::ioctl_fionbio(std::io::stdout(), true).ok();
        window
    }

    fn is_open(&self) -> bool {
        self.before.is_some()
    }

    fn n_waiting(&self) -> usize {
        self.waiting.len() - self.written
    }

    fn print(&mut self, bytes: &[u8]) {
        if !self.is_open() {
            return;
        }
        let mut rest = bytes;
        if self.n_waiting() == 0 {
            match write_some(bytes) {
                Some(n_written) => rest = &bytes[n_written..],
                None => return self.lose(),
            }
        }
        // What is written goes before more comes, or a window that is never empty would grow for ever.
        if self.written >= WINDOW_AHEAD {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
        self.waiting.extend_from_slice(rest);
        self.flush_some();
        self.is_stuck = false;
    }

    fn flush(&mut self) {
        let before = self.n_waiting();
        self.flush_some();
        self.is_stuck = before > 0 && self.n_waiting() == before;
    }

    fn flush_some(&mut self) {
        while self.n_waiting() > 0 {
            match write_some(&self.waiting[self.written..]) {
                Some(0) => return,
                Some(n_written) => self.written += n_written,
                None => return self.lose(),
            }
        }
        self.waiting.clear();
        self.written = 0;
        // A long prelude must not hold its memory for ever.
        self.waiting.shrink_to(2 * WINDOW_AHEAD);
    }

    fn flush_until(&mut self, deadline: Instant) {
        while self.n_waiting() > 0 && Instant::now() < deadline {
            let stdout = std::io::stdout();
            let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
            poll(&mut fds, Some(&time_until(deadline))).ok();
            self.flush();
        }
    }

    fn lose(&mut self) {
        self.before = None;
        self.waiting = Vec::new();
        self.written = 0;
    }

    /// Waits until tmux has read everything. It forgets what is left in the terminal of a window whose program has ended,
    /// so it is asked for a word that it says only after all that was printed before.
    fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE_LIMIT;
        self.print(ARE_YOU_THERE);
        self.flush_until(deadline);
        let mut heard = Vec::new();
        while self.is_open() && Instant::now() < deadline {
            let stdin = std::io::stdin();
            let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
            poll(&mut fds, Some(&time_until(deadline))).ok();
            let mut bytes = [0; 256];
            match rustix::io::read(std::io::stdin(), &mut bytes) {
                Ok(n_read) if n_read > 0 => heard.extend_from_slice(&bytes[..n_read]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(_) | Err(_) => return self.lose(),
            }
            if heard.windows(I_AM.len()).any(|window| window == I_AM) {
                return;
            }
            // What a person types meanwhile is nobody's.
            heard.drain(..heard.len().saturating_sub(I_AM.len()));
        }
    }

    fn restore(&self) {
        rustix::io::ioctl_fionbio(std::io::stdout(), false).ok();
        if let Some(before) = &self.before {
            tcsetattr(std::io::stdin(), OptionalActions::Now, before).ok();
        }
    }
}

/// How much of it fits; `None` when there is no window any more.
fn write_some(bytes: &[u8]) -> Option<usize> {
    match rustix::io::write(std::io::stdout(), bytes) {
        Ok(n_written) => Some(n_written),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}

/// What may become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Command,
    Input,
    Window,
    Listener,
    Client(ClientId),
}

/// What the command's terminal did in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Terminal {
    Quiet,
    Printed,
    Ended,
}

struct Worker {
    pid: Pid,
    /// The command's terminal.
    master: OwnedFd,
    signals: SignalFd,
    window: Window,
    /// `None` once the end is written.
    spool: Option<Spool>,
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
    /// The kernel took the terminal away from all who held it: the command has ended, or is about to.
    is_hung_up: bool,
    /// Keeps the terminal alive while a command has closed it and may open it again.
    _terminal: Option<OwnedFd>,
    buffer: Vec<u8>,
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
        let mut spool = home.spool(LIMITS).map_err(failed)?;
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
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let mut worker = Self {
            pid,
            is_hung_up: false,
            _terminal: ioctl_tiocgptpeer(&master, flags).ok(),
            master,
            signals,
            window,
            spool: Some(spool),
            clients: Clients::new(home.listener),
            _lock: home.lock,
            to_command: Vec::new(),
            size: None,
            exit: None,
            is_alone: false,
            frozen: None,
            kill_at: None,
            buffer: vec![0; READ_BYTES],
        };
        worker.copy_size();
        Ok(worker)
    }

    /// Copies until the command has ended, and when the tree is to end, until that has.
    fn run(mut self) -> Status {
        let status = loop {
            self.turn(None);
            if self.spool.is_some()
                && let Some(status) = self.exit
            {
                self.drain();
                if let Some(spool) = self.spool.take() {
                    spool.exited(status);
                }
            }
            if let Some(status) = self.exit
                && (self.is_alone || self.kill_at.is_none())
            {
                break status;
            }
        };
        self.clients.tell_end();
        self.window.flush_until(Instant::now() + WINDOW_LIMIT);
        self.window.settle();
        self.window.restore();
        status
    }

    /// Copies what the command left in its terminal. Time spent waiting for a slow window does not count, up to a limit.
    fn drain(&mut self) {
        let deadline = Instant::now() + WINDOW_LIMIT;
        let mut spent = Duration::ZERO;
        while spent < DRAIN_LIMIT && Instant::now() < deadline && !self.is_hung_up {
            if self.window.n_waiting() > WINDOW_AHEAD {
                self.turn(Some(deadline));
                continue;
            }
            let start = Instant::now();
            let terminal = self.turn(Some(start + QUIET));
            // Somebody else may have woken us: only time says that it is quiet.
            if self.is_hung_up || terminal == Terminal::Quiet && start.elapsed() >= QUIET {
                return;
            }
            spent += start.elapsed();
        }
    }

    /// Waits for something to happen (until the deadline) and does it. Says what the command's terminal did.
    fn turn(&mut self, deadline: Option<Instant>) -> Terminal {
        let ready = self.wait(deadline);
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_tree();
        }
        self.take_signals();
        let mut terminal = Terminal::Quiet;
        if self.is_pausing() {
            self.window.flush();
            if self.window.n_waiting() <= WINDOW_AHEAD && self.may_be_read() {
                terminal = self.copy_output();
            }
        }
        for source in ready {
            match source {
                Source::Signals => {}
                Source::Window => self.window.flush(),
                Source::Input => self.copy_input(),
                Source::Listener => self.clients.accept(),
                Source::Client(client) => self.clients.move_bytes(client),
                Source::Command => terminal = self.copy_output(),
            }
        }
        self.flush_command();
        while let Some((client, ask)) = self.clients.next_ask(self.to_command.len() < INPUT_AHEAD) {
            self.answer(client, ask);
            self.flush_command();
        }
        terminal
    }

    /// What is ready. A source that is not waited for is not in the set at all: one that has hung up would wake us for
    /// ever.
    fn wait(&self, deadline: Option<Instant>) -> Vec<Source> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let mut sources = vec![(Source::Signals, PollFd::new(&self.signals, PollFlags::IN))];
        let mut command = PollFlags::empty();
        let has_room = self.window.n_waiting() <= WINDOW_AHEAD;
        command.set(PollFlags::IN, has_room && self.may_be_read() && !self.is_pausing());
        command.set(PollFlags::OUT, !self.to_command.is_empty());
        if !command.is_empty() {
            sources.push((Source::Command, PollFd::new(&self.master, command)));
        }
        if self.window.is_open() && self.to_command.len() < INPUT_AHEAD {
            sources.push((Source::Input, PollFd::new(&stdin, PollFlags::IN)));
        }
        if self.window.n_waiting() > 0 && !self.is_pausing() {
            sources.push((Source::Window, PollFd::new(&stdout, PollFlags::OUT)));
        }
        for (client, fd, flags) in self.clients.interests() {
            let source = client.map_or(Source::Listener, Source::Client);
            sources.push((source, PollFd::from_borrowed_fd(fd, flags)));
        }
        let pause = self.is_pausing().then(|| Instant::now() + WINDOW_PAUSE);
        let limit = [deadline, self.kill_at, pause].into_iter().flatten().min().map(time_until);
        let (names, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = sources.into_iter().unzip();
        // An interrupted wait is a short one.
        poll(&mut fds, limit.as_ref()).ok();
        let ready = names.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(name, _)| name).collect()
    }

    /// Whether the window is full and was not when it was tried last.
    fn is_pausing(&self) -> bool {
        self.window.n_waiting() > 0 && !self.window.is_stuck
    }

    /// Whether the command's terminal has a reader: its output is not over.
    fn may_be_read(&self) -> bool {
        !self.is_hung_up && self.spool.is_some()
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
        let group = tcgetpgrp(&self.master).unwrap_or(self.pid);
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
            tcsetwinsize(&self.master, size).ok();
            if let Some(spool) = &mut self.spool {
                spool.size(size.ws_col, size.ws_row);
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
            match rustix::io::write(&self.master, &self.to_command) {
                Ok(n_written) if n_written > 0 => drop(self.to_command.drain(..n_written)),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => return,
                // Nobody is there to read it.
                Err(_) => self.to_command.clear(),
            }
        }
    }

    /// A terminal gives some kilobytes at a time; what is there is taken together.
    fn copy_output(&mut self) -> Terminal {
        let mut n_bytes = 0;
        let mut terminal = Terminal::Printed;
        while n_bytes < self.buffer.len() {
            match rustix::io::read(&self.master, &mut self.buffer[n_bytes..]) {
                Ok(n_read) if n_read > 0 => n_bytes += n_read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // A terminal nobody holds any more says so by an error.
                Ok(_) | Err(_) => {
                    self.is_hung_up = true;
                    terminal = Terminal::Ended;
                    break;
                }
            }
        }
        let bytes = &self.buffer[..n_bytes];
        if n_bytes > 0 {
            self.window.print(bytes);
            if let Some(spool) = &mut self.spool {
                spool.output(bytes);
            }
        } else if terminal == Terminal::Printed {
            return Terminal::Quiet;
        }
        terminal
    }
}

fn done(result: Result<(), String>) -> Reply {
    result.map_or_else(Reply::Refused, |()| Reply::Done)
}

fn number(pid: Pid) -> u32 {
    u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default()
}
