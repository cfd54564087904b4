//! The runner: the small parent of a command in a tmux window. It gives the command a terminal of its own, shows it in
//! the window, taps it for whoever asked, and knows exactly how it ended.
//!
//! ```text
//!   tmux window ◀──▶ runner ◀──▶ command (own terminal, own process group)
//!                      └──▶ tap: output and exit, to the server
//! ```
//!
//! The tap is lossless: while its reader is behind, the command waits, as with any pipe. When its reader is gone the
//! command goes on in the window. A worker's command has no tap but a spool and a control socket ([`worker`]).

mod control;
mod output;
mod spool;
mod window;
mod worker;

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with, socketpair,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use shed_link::tap::{Frame, MAX_PAYLOAD_BYTES, output_header};
use shed_link::{
    Claim, Claimed, Confine, Io, Refusal, Spawn, Status, recv_blocking, send_blocking,
};

use crate::child::Order;
use crate::launch::{launch_blocking, words_of};
use crate::reaper::exit_of;
use crate::say;

/// What is read at once; a frame's worth.
const READ_BYTES: usize = MAX_PAYLOAD_BYTES;
/// After a signal that asks the window to end, the command has so long.
const END_LIMIT: Duration = Duration::from_secs(5);
/// When the command has ended, what it left in its terminal is there at once; its children may print on for ever.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);
/// A terminal that is quiet for so long has nothing left in it: the kernel passes bytes on in the background.
const QUIET: Duration = Duration::from_millis(10);

/// Claims `token` at the box's socket and runs what it stands for.
pub(crate) fn main(socket: &str, token: &str) -> ExitCode {
    let ended = claim(socket, token).and_then(|(mut spawn, fd)| match spawn.worker.take() {
        Some(spec) => worker::run(spawn, &spec, &fd),
        None => Ok(Runner::start(spawn, fd)?.run()),
    });
    match ended {
        Ok(Status::Code(code)) => ExitCode::from(code),
        Ok(Status::Signal(signal)) => ExitCode::from(128_u8.saturating_add(signal)),
        Err(why) => {
            say(&format!("shed-init: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn claim(socket: &str, token: &str) -> Result<(Spawn, OwnedFd), String> {
    let dial = || -> Result<OwnedFd, Errno> {
        let stream =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&stream, &SocketAddrUnix::new(socket)?)?;
        Ok(stream)
    };
    let stream = dial().map_err(|error| format!("cannot reach {socket}: {error}"))?;
    let claim = Claim { token: token.to_owned() };
    send_blocking(stream.as_fd(), &claim, &[]).map_err(|error| error.to_string())?;
    match recv_blocking::<Claimed>(stream.as_fd()).map_err(|error| error.to_string())? {
        Some((Claimed::Spawn(spawn), fds)) => match <[OwnedFd; 1]>::try_from(fds) {
            Ok([tap]) => Ok((spawn, tap)),
            Err(_) => Err("the command came without its descriptor".to_owned()),
        },
        Some((Claimed::Unknown, _)) | None => {
            Err("nobody waits for this command any more".to_owned())
        }
    }
}

/// What may become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Command,
    Input,
    Window,
    Tap,
}

/// What the command's terminal did in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Terminal {
    Quiet,
    Printed,
    Ended,
}

struct Runner {
    pid: Pid,
    /// The command's terminal.
    master: OwnedFd,
    signals: SignalFd,
    /// To the server; `None` once its reader is gone.
    tap: Option<OwnedFd>,
    /// The window's own terminal settings, to be put back; `None` once the window is gone.
    window: Option<Termios>,
    /// Bytes for the window and for the tap that did not fit yet.
    to_window: Vec<u8>,
    to_tap: Vec<u8>,
    /// When the command is killed because the window was asked to end.
    kill_at: Option<Instant>,
}

impl Runner {
    fn start(spawn: Spawn, tap: OwnedFd) -> Result<Self, String> {
        let signals = hear_signals()?;
        let (pid, master) = match start_command(spawn, None) {
            Ok(started) => started,
            Err(refusal) => {
                let why = refusal.to_string();
                send(&tap, &Frame::Refused(refusal).encode(), SendFlags::NOSIGNAL).ok();
                return Err(why);
            }
        };
        let window = raw_mode();
        let mut runner = Self {
            pid,
            master,
            signals,
            tap: Some(tap),
            window,
            to_window: Vec::new(),
            to_tap: Frame::Started.encode(),
            kill_at: None,
        };
        runner.copy_size();
        Ok(runner)
    }

    /// Copies until the command has ended and its output is out.
    fn run(mut self) -> Status {
        let status = loop {
            self.turn(None);
            if let Some(status) = self.ended() {
                break status;
            }
        };
        self.drain();
        self.to_tap.extend(Frame::Exit(status).encode());
        while self.tap.is_some() && !self.to_tap.is_empty() {
            self.turn(None);
        }
        if let Some(window) = &self.window {
            tcsetattr(std::io::stdin(), OptionalActions::Now, window).ok();
        }
        status
    }

    fn ended(&self) -> Option<Status> {
        let (_, status) = waitpid(Some(self.pid), WaitOptions::NOHANG).ok()??;
        exit_of(status)
    }

    fn behind(&self) -> bool {
        !self.to_window.is_empty() || !self.to_tap.is_empty()
    }

    /// Copies what the command left in its terminal. Time spent waiting for a slow reader does not count.
    fn drain(&mut self) {
        let mut spent = Duration::ZERO;
        while spent < DRAIN_LIMIT {
            if self.behind() {
                self.turn(None);
                continue;
            }
            let start = Instant::now();
            if self.turn(Some(start + QUIET)) != Terminal::Printed {
                return;
            }
            spent += start.elapsed();
        }
    }

    /// Waits for something to happen (until the deadline) and does it. Says what the command's terminal did.
    fn turn(&mut self, deadline: Option<Instant>) -> Terminal {
        let ready = self.wait(deadline);
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            kill_process_group(self.pid, Signal::KILL).ok();
        }
        self.take_signals();
        let mut terminal = Terminal::Quiet;
        for source in ready {
            match source {
                Source::Signals | Source::Window => {}
                Source::Input => self.copy_input(),
                Source::Tap => self.hear_tap(),
                Source::Command => terminal = self.copy_output(),
            }
        }
        self.flush_window();
        self.flush_tap();
        terminal
    }

    /// What is ready. A source that is not waited for is not in the set at all: one that has hung up would wake us for
    /// ever.
    fn wait(&self, deadline: Option<Instant>) -> Vec<Source> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let mut sources = vec![(Source::Signals, PollFd::new(&self.signals, PollFlags::IN))];
        if !self.behind() {
            sources.push((Source::Command, PollFd::new(&self.master, PollFlags::IN)));
        }
        if self.window.is_some() {
            sources.push((Source::Input, PollFd::new(&stdin, PollFlags::IN)));
        }
        if !self.to_window.is_empty() {
            sources.push((Source::Window, PollFd::new(&stdout, PollFlags::OUT)));
        }
        if let Some(tap) = &self.tap {
            let flags =
                if self.to_tap.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            sources.push((Source::Tap, PollFd::new(tap, flags)));
        }
        let limit = [deadline, self.kill_at].into_iter().flatten().min().map(time_until);
        let (names, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = sources.into_iter().unzip();
        // An interrupted wait is a short one.
        poll(&mut fds, limit.as_ref()).ok();
        let ready = names.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(name, _)| name).collect()
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let Ok(number) = i32::try_from(info.ssi_signo) else {
                continue;
            };
            match Signal::from_named_raw(number) {
                Some(Signal::WINCH) => self.copy_size(),
                Some(Signal::CHILD) | None => {}
                Some(signal) => {
                    // The window is being closed, or somebody asks the runner to end: it is the command that is meant.
                    kill_process_group(self.pid, signal).ok();
                    self.kill_at = self.kill_at.or(Some(Instant::now() + END_LIMIT));
                }
            }
        }
    }

    /// The command's terminal has the window's size.
    fn copy_size(&mut self) {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            tcsetwinsize(&self.master, size).ok();
        }
    }

    /// What a person types in the window. Dropped when the command does not read it, as a terminal does.
    fn copy_input(&mut self) {
        let mut buffer = [0; 4 << 10];
        match rustix::io::read(std::io::stdin(), &mut buffer) {
            Ok(n_read) if n_read > 0 => {
                rustix::io::write(&self.master, &buffer[..n_read]).ok();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.lose_window(),
        }
    }

    fn copy_output(&mut self) -> Terminal {
        let mut buffer = vec![0; READ_BYTES];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => Terminal::Ended,
            Ok(n_read) => {
                if self.window.is_some() {
                    self.to_window.extend(&buffer[..n_read]);
                }
                if self.tap.is_some() {
                    self.to_tap.extend(output_header(n_read));
                    self.to_tap.extend(&buffer[..n_read]);
                }
                Terminal::Printed
            }
            Err(Errno::AGAIN | Errno::INTR) => Terminal::Quiet,
            // A terminal nobody holds any more says so by an error.
            Err(_) => Terminal::Ended,
        }
    }

    fn flush_window(&mut self) {
        while !self.to_window.is_empty() {
            match rustix::io::write(std::io::stdout(), &self.to_window) {
                Ok(n_written) => drop(self.to_window.drain(..n_written)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => self.lose_window(),
            }
        }
    }

    fn lose_window(&mut self) {
        self.window = None;
        self.to_window.clear();
    }

    fn flush_tap(&mut self) {
        while let (Some(tap), false) = (&self.tap, self.to_tap.is_empty()) {
            match send(tap, &self.to_tap, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n_written) => drop(self.to_tap.drain(..n_written)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => self.lose_tap(),
            }
        }
    }

    /// The server writes the numbers of signals for the command. Its end is noticed here too.
    fn hear_tap(&mut self) {
        let Some(tap) = &self.tap else {
            return;
        };
        let mut numbers = [0; 16];
        match recv(tap, &mut numbers[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.lose_tap(),
            Ok((n_read, _)) => {
                for number in &numbers[..n_read] {
                    if let Some(signal) = Signal::from_named_raw(i32::from(*number)) {
                        kill_process_group(self.pid, signal).ok();
                    }
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.lose_tap(),
        }
    }

    fn lose_tap(&mut self) {
        self.tap = None;
        self.to_tap.clear();
    }
}

fn time_until(at: Instant) -> Timespec {
    let left = at.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}

/// Signals come as bytes of a descriptor from here on.
fn hear_signals() -> Result<SignalFd, String> {
    let mut set = SigSet::empty();
    for signal in [
        NixSignal::SIGCHLD,
        NixSignal::SIGWINCH,
        NixSignal::SIGHUP,
        NixSignal::SIGTERM,
        NixSignal::SIGINT,
        NixSignal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set.thread_block().map_err(|error| error.to_string())?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&set, flags).map_err(|error| error.to_string())
}

/// Starts the command on a terminal of its own with the window's size. We are already the right user, in the window's
/// environment: only what was asked for is added.
fn start_command(spawn: Spawn, confine: Option<Confine>) -> Result<(Pid, OwnedFd), Refusal> {
    let resources = |error: Errno| Refusal::NoResources(error.to_string());
    let size = tcgetwinsize(std::io::stdin()).map_err(resources)?;
    let mut env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    for (key, value) in spawn.env {
        env.retain(|(known, _)| *known != key);
        env.push((key, value));
    }
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let (program, arg0, args) = words_of(&shell, "/proc/self/exe", spawn.program)?;
    let here = std::env::current_dir()
        .map_or_else(|_| "/".to_owned(), |dir| dir.to_string_lossy().into_owned());
    let order = Order {
        program,
        arg0,
        args,
        env,
        fallback_directory: spawn.directory.is_none().then(|| here.clone()),
        directory: spawn.directory.unwrap_or(here),
        become_user: None,
        io: Io::Tty { cols: size.ws_col, rows: size.ws_row },
        tied: false,
        confine,
    };
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(resources)?;
    let pid = launch_blocking(&order, &[theirs.as_fd()])?;
    drop(theirs);
    let sent = recv_blocking::<()>(ours.as_fd()).ok().flatten();
    let master = sent.and_then(|((), fds)| fds.into_iter().next());
    let master = master.ok_or_else(|| Refusal::NoResources("no terminal came back".to_owned()))?;
    rustix::io::ioctl_fionbio(&master, true).map_err(resources)?;
    Ok((pid, master))
}

/// What the person types goes to the command's terminal, which has its own rules; the window's must not add any.
fn raw_mode() -> Option<Termios> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
    Some(before)
}
