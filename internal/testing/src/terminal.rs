//! A terminal of this machine with a program in it, as a person has it.

use std::process::Stdio;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use shed_core::read_some;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long what is waited for may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The outer side of a terminal, and what runs in it.
pub struct Screen {
    master: OwnedFd,
    keys: pipe::Sender,
    output: pipe::Receiver,
    /// The program, under `setsid`.
    pub child: Child,
}

impl Screen {
    /// Starts a program with a terminal of this size as its controlling one.
    pub fn start(command: Command, cols: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal works");
        grantpt(&master).expect("a terminal works");
        unlockpt(&master).expect("a terminal works");
        let name = ptsname(&master, Vec::new()).expect("a terminal works");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inner = rustix::fs::open(name, flags, Mode::empty()).expect("a terminal works");
        let stdio =
            || Stdio::from(rustix::io::fcntl_dupfd_cloexec(&inner, 3).expect("a terminal works"));
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
        let child = in_terminal.spawn().expect("a terminal works");
        rustix::io::ioctl_fionbio(&master, true).expect("a terminal works");
        let dup = || rustix::io::fcntl_dupfd_cloexec(&master, 3).expect("a terminal works");
        let keys = pipe::Sender::from_file_unchecked(dup().into()).expect("a terminal works");
        let output = pipe::Receiver::from_file_unchecked(dup().into()).expect("a terminal works");
        Self { master, keys, output, child }
    }

    /// The person makes the window larger or smaller.
    pub fn resize(&self, cols: u16, rows: u16) {
        resize(&self.master, cols, rows);
    }

    /// Types.
    pub async fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("a terminal works");
    }

    /// Looks until `text` shows; what came until then.
    pub async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut buffer = vec![0; 4096];
        while !seen.contains(text) {
            let read = timeout(LIMIT, read_some(&mut self.output, &mut buffer)).await;
            let n_read = read
                .unwrap_or_else(|_| panic!("no {text:?} in {seen:?}"))
                .expect("a terminal works");
            assert!(n_read > 0, "it ended before {text:?} in {seen:?}");
            seen += &String::from_utf8_lossy(&buffer[..n_read]);
        }
        seen
    }

    /// Looks until the end; what came until then, and the status.
    pub async fn end(&mut self) -> (String, Option<i32>) {
        let mut seen = Vec::new();
        let mut buffer = vec![0; 4096];
        loop {
            match timeout(LIMIT, read_some(&mut self.output, &mut buffer)).await {
                Ok(Ok(0)) => break,
                read => seen
                    .extend(&buffer[..read.expect("the program ends").expect("a terminal works")]),
            }
        }
        let status = timeout(LIMIT, self.child.wait())
            .await
            .expect("a terminal works")
            .expect("a terminal works");
        (String::from_utf8_lossy(&seen).into_owned(), status.code())
    }
}

fn resize(master: &OwnedFd, cols: u16, rows: u16) {
    let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("a terminal works");
}
