//! A terminal of this machine with `ssh` in it, as a person has it.

use std::process::Stdio;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use shed_core::read_some;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::LIMIT;

/// The outer side of a terminal, and what runs in it.
pub(crate) struct Screen {
    master: OwnedFd,
    keys: pipe::Sender,
    output: pipe::Receiver,
    pub(crate) child: Child,
}

impl Screen {
    /// Starts a program with a terminal of this size as its controlling one.
    pub(crate) fn start(command: Command, cols: u16, rows: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inner = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        let stdio = || Stdio::from(rustix::io::fcntl_dupfd_cloexec(&inner, 3).unwrap());
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
        in_terminal.stdin(stdio()).stdout(stdio()).stderr(stdio()).kill_on_drop(true);
        resize(&master, cols, rows);
        let child = in_terminal.spawn().unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let dup = || rustix::io::fcntl_dupfd_cloexec(&master, 3).unwrap();
        let keys = pipe::Sender::from_file_unchecked(dup().into()).unwrap();
        let output = pipe::Receiver::from_file_unchecked(dup().into()).unwrap();
        Self { master, keys, output, child }
    }

    /// The person makes the window larger or smaller.
    pub(crate) fn resize(&self, cols: u16, rows: u16) {
        resize(&self.master, cols, rows);
    }

    /// Types.
    pub(crate) async fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Looks until `text` shows; what came until then.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut buffer = vec![0; 4096];
        while !seen.contains(text) {
            let read = timeout(LIMIT, read_some(&mut self.output, &mut buffer)).await;
            let n_read = read.unwrap_or_else(|_| panic!("no {text:?} in {seen:?}")).unwrap();
            assert!(n_read > 0, "it ended before {text:?} in {seen:?}");
            seen += &String::from_utf8_lossy(&buffer[..n_read]);
        }
        seen
    }

    /// Looks until the end; what came until then, and the status.
    pub(crate) async fn end(&mut self) -> (String, Option<i32>) {
        let mut seen = Vec::new();
        let mut buffer = vec![0; 4096];
        loop {
            match timeout(LIMIT, read_some(&mut self.output, &mut buffer)).await {
                Ok(Ok(0)) => break,
                read => seen.extend(&buffer[..read.expect("no end").unwrap()]),
            }
        }
        let status = timeout(LIMIT, self.child.wait()).await.unwrap().unwrap();
        (String::from_utf8_lossy(&seen).into_owned(), status.code())
    }
}

fn resize(master: &OwnedFd, cols: u16, rows: u16) {
    let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}
