//! The runner of a command that `shed exec` runs in a session: copies between the window, the command's terminal and the
//! output socket to the server.
//!
//! ```text
//!   tmux window ◀──▶ runner ◀──▶ command (own terminal, own process group)
//!                      └──▶ output socket: output and exit status, to the server
//! ```
//!
//! No output is lost: while the server reads too slowly the command waits, as with any pipe. When the server has closed the
//! socket the command goes on in the window.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use rustix::termios::{OptionalActions, Termios, tcgetwinsize, tcsetattr, tcsetwinsize};
use shed_link::output_socket::{Frame, MAX_PAYLOAD_BYTES, output_header};
use shed_link::{Spawn, Status};

use super::command::{block_signals, set_raw_mode, start_command};
use super::limits::{DRAIN_LIMIT, QUIET, STOP_GRACE};
use super::poll::ready;
use crate::reaper::exit_of;

/// The most bytes of one read from the command's terminal: the payload of one frame.
const READ_BYTES: usize = MAX_PAYLOAD_BYTES;

/// Runs the command until it has ended and returns its exit status.
pub(super) fn run(spawn: Spawn, output_socket: OwnedFd) -> Result<Status, String> {
    Ok(Runner::start(spawn, output_socket)?.run())
}

/// The descriptors that are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Command,
    Input,
    Window,
    OutputSocket,
}

/// What happened on the command's terminal in one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Terminal {
    Quiet,
    Printed,
    Ended,
}

/// A running command and its connections.
struct Runner {
    pid: Pid,
    /// The command's terminal.
    master: OwnedFd,
    signals: SignalFd,
    /// The socket to the server; `None` once the server has closed it.
    output_socket: Option<OwnedFd>,
    /// The window's previous terminal settings, which are restored at the end; `None` once the window is gone.
    window: Option<Termios>,
    /// Bytes that the window and the socket have not taken yet.
    to_window: Vec<u8>,
    to_server: Vec<u8>,
    /// When the command is killed, after the window was closed or the runner got a signal.
    kill_at: Option<Instant>,
}

impl Runner {
    fn start(spawn: Spawn, output_socket: OwnedFd) -> Result<Self, String> {
        let signals = block_signals()?;
        let (pid, master) = match start_command(spawn, None) {
            Ok(started) => started,
            Err(refusal) => {
                let error = refusal.to_string();
                send(&output_socket, &Frame::Refused(refusal).encode(), SendFlags::NOSIGNAL).ok();
                return Err(error);
            }
        };
        let window = set_raw_mode();
        let mut runner = Self {
            pid,
            master,
            signals,
            output_socket: Some(output_socket),
            window,
            to_window: Vec::new(),
            to_server: Frame::Started.encode(),
            kill_at: None,
        };
        runner.copy_size();
        Ok(runner)
    }

    /// Copies until the command has ended and all its output is written.
    fn run(mut self) -> Status {
        let status = loop {
            self.turn(None);
            if let Some(status) = self.ended() {
                break status;
            }
        };
        self.drain();
        self.to_server.extend(Frame::Exit(status).encode());
        while self.output_socket.is_some() && !self.to_server.is_empty() {
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

    /// Whether the window or the server has not taken all output yet.
    fn is_behind(&self) -> bool {
        !self.to_window.is_empty() || !self.to_server.is_empty()
    }

    /// Copies what is left in the command's terminal. Time spent waiting for a slow reader does not count.
    fn drain(&mut self) {
        let mut spent = Duration::ZERO;
        while spent < DRAIN_LIMIT {
            if self.is_behind() {
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

    /// Waits for events until the deadline and handles them. Returns what happened on the command's terminal.
    fn turn(&mut self, deadline: Option<Instant>) -> Terminal {
        let ready = self.wait(deadline);
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            kill_process_group(self.pid, Signal::KILL).ok();
        }
        self.handle_signals();
        let mut terminal = Terminal::Quiet;
        for source in ready {
            match source {
                Source::Signals | Source::Window => {}
                Source::Input => self.copy_input(),
                Source::OutputSocket => self.read_signals_from_server(),
                Source::Command => terminal = self.copy_output(),
            }
        }
        self.flush_window();
        self.flush_server();
        terminal
    }

    fn wait(&self, deadline: Option<Instant>) -> Vec<Source> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let mut sources = vec![(Source::Signals, PollFd::new(&self.signals, PollFlags::IN))];
        if !self.is_behind() {
            sources.push((Source::Command, PollFd::new(&self.master, PollFlags::IN)));
        }
        if self.window.is_some() {
            sources.push((Source::Input, PollFd::new(&stdin, PollFlags::IN)));
        }
        if !self.to_window.is_empty() {
            sources.push((Source::Window, PollFd::new(&stdout, PollFlags::OUT)));
        }
        if let Some(socket) = &self.output_socket {
            let flags = if self.to_server.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::IN | PollFlags::OUT
            };
            sources.push((Source::OutputSocket, PollFd::new(socket, flags)));
        }
        ready(sources, [deadline, self.kill_at].into_iter().flatten().min())
    }

    fn handle_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let Ok(number) = i32::try_from(info.ssi_signo) else {
                continue;
            };
            match Signal::from_named_raw(number) {
                Some(Signal::WINCH) => self.copy_size(),
                Some(Signal::CHILD) | None => {}
                Some(signal) => {
                    // The window is being closed or the runner is told to end; both are meant for the command.
                    kill_process_group(self.pid, signal).ok();
                    self.kill_at = self.kill_at.or(Some(Instant::now() + STOP_GRACE));
                }
            }
        }
    }

    /// Gives the command's terminal the size of the window.
    fn copy_size(&mut self) {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            tcsetwinsize(&self.master, size).ok();
        }
    }

    /// Passes on what is typed in the window. Input that the command does not read is dropped, as a terminal does.
    fn copy_input(&mut self) {
        let mut buffer = [0; 4 << 10];
        match rustix::io::read(std::io::stdin(), &mut buffer) {
            Ok(n_read) if n_read > 0 => {
                rustix::io::write(&self.master, &buffer[..n_read]).ok();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.forget_window(),
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
                if self.output_socket.is_some() {
                    self.to_server.extend(output_header(n_read));
                    self.to_server.extend(&buffer[..n_read]);
                }
                Terminal::Printed
            }
            Err(Errno::AGAIN | Errno::INTR) => Terminal::Quiet,
            // Reading fails once no process has the terminal open.
            Err(_) => Terminal::Ended,
        }
    }

    fn flush_window(&mut self) {
        while !self.to_window.is_empty() {
            match rustix::io::write(std::io::stdout(), &self.to_window) {
                Ok(n_written) => drop(self.to_window.drain(..n_written)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => self.forget_window(),
            }
        }
    }

    fn forget_window(&mut self) {
        self.window = None;
        self.to_window.clear();
    }

    fn flush_server(&mut self) {
        while let (Some(socket), false) = (&self.output_socket, self.to_server.is_empty()) {
            match send(socket, &self.to_server, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n_written) => drop(self.to_server.drain(..n_written)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => self.close_output_socket(),
            }
        }
    }

    /// Reads signal numbers for the command from the server, and notices when the server closes the socket.
    fn read_signals_from_server(&mut self) {
        let Some(socket) = &self.output_socket else {
            return;
        };
        let mut numbers = [0; 16];
        match recv(socket, &mut numbers[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.close_output_socket(),
            Ok((n_read, _)) => {
                for number in &numbers[..n_read] {
                    if let Some(signal) = Signal::from_named_raw(i32::from(*number)) {
                        kill_process_group(self.pid, signal).ok();
                    }
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.close_output_socket(),
        }
    }

    fn close_output_socket(&mut self) {
        self.output_socket = None;
        self.to_server.clear();
    }
}
