//! A terminal of this machine with a program in it, as a person has it.

use std::process::Stdio;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Nothing takes longer unless it hangs.
const LIMIT: Duration = Duration::from_secs(40);
/// The width and height of a character in pixels.
const CELL_PIXELS: (u16, u16) = (8, 16);
/// What is read at once.
const READ_BYTES: usize = 4 << 10;

/// The outer side of a terminal, and what runs in it. The program is killed when this is dropped.
pub struct Terminal {
    master: OwnedFd,
    keys: pipe::Sender,
    output: pipe::Receiver,
    /// Shown, and not yet looked at.
    ahead: Vec<u8>,
    /// The program.
    pub child: Child,
}

impl Terminal {
    /// Starts a program with a terminal of this size as its controlling one.
    pub fn start(command: Command, cols: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal's permissions");
        unlockpt(&master).expect("a terminal without lock");
        let name = ptsname(&master, Vec::new()).expect("a terminal's name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inner = rustix::fs::open(name, flags, Mode::empty()).expect("its inner side");
        let stdio = || Stdio::from(dup(&inner));
        let command = command.into_std();
        let mut in_terminal = Command::new("setsid");
        in_terminal.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        in_terminal.env_remove("SSH_AUTH_SOCK").env("TERM", "xterm-256color");
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => in_terminal.env(key, value),
                None => in_terminal.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            in_terminal.current_dir(dir);
        }
        in_terminal.stdin(stdio()).stdout(stdio()).stderr(stdio()).kill_on_drop(true);
        resize(&master, cols, rows);
        let child = in_terminal.spawn().expect("setsid");
        rustix::io::ioctl_fionbio(&master, true).expect("a terminal that does not block");
        let keys = pipe::Sender::from_file_unchecked(dup(&master).into()).expect("keys");
        let output = pipe::Receiver::from_file_unchecked(dup(&master).into()).expect("a screen");
        Self { master, keys, output, ahead: Vec::new(), child }
    }

    /// The person makes the window larger or smaller.
    pub fn resize(&self, cols: u16, rows: u16) {
        resize(&self.master, cols, rows);
    }

    /// Types.
    pub async fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("somebody to read what is typed");
    }

    /// Looks until `text` shows; what came until then, since the last look.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let wanted = text.as_bytes();
            if let Some(at) = self.ahead.windows(wanted.len()).position(|part| part == wanted) {
                let seen: Vec<u8> = self.ahead.drain(..at + wanted.len()).collect();
                return String::from_utf8_lossy(&seen).into_owned();
            }
            let more = timeout(LIMIT, self.read()).await;
            let more = more.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.ahead_text()));
            assert!(more, "it ended before {text:?} in {:?}", self.ahead_text());
        }
    }

    /// Looks until the end; what came until then, and the status.
    pub async fn end(&mut self) -> (String, Option<i32>) {
        while timeout(LIMIT, self.read())
            .await
            .unwrap_or_else(|_| panic!("no end after {:?}", self.ahead_text()))
        {}
        let seen = self.ahead_text();
        self.ahead.clear();
        let status = timeout(LIMIT, self.child.wait()).await.expect("an end").expect("a status");
        (seen, status.code())
    }

    /// Reads some more; false at the end.
    async fn read(&mut self) -> bool {
        let mut buffer = vec![0; READ_BYTES];
        let n_read = match self.output.read(&mut buffer).await {
            // How a terminal ends that no program holds any more.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => 0,
            read => read.expect("a screen"),
        };
        self.ahead.extend(&buffer[..n_read]);
        n_read > 0
    }

    fn ahead_text(&self) -> String {
        String::from_utf8_lossy(&self.ahead).into_owned()
    }
}

fn dup(fd: &OwnedFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).expect("a descriptor")
}

fn resize(master: &OwnedFd, cols: u16, rows: u16) {
    let (ws_xpixel, ws_ypixel) = (cols * CELL_PIXELS.0, rows * CELL_PIXELS.1);
    let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel, ws_ypixel };
    tcsetwinsize(master, size).expect("a size");
}
