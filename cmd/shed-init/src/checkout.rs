//! `checkout PROGRAM ARGS…`: clones into the current directory so that a failure leaves nothing behind.
//!
//! The clone is made in a staging directory, which is appended as the last argument and which only this program uses. When
//! the clone is complete its entries are moved to the current directory. Existing files are never touched.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::log;

/// The staging directory. It is in the workspace, so that moving an entry is a rename.
const STAGING: &str = ".shed-clone";
/// Exit status: the directory already has a checkout, which was kept.
const KEPT: u8 = 10;
/// Exit status: the directory has other files; nothing was done.
const NOT_EMPTY: u8 = 11;
/// Exit status: the program does not exist, as in shells.
const MISSING: u8 = 127;

/// Runs the clone. The exit status is the program's, or one of the constants above.
pub(crate) fn main(program: &str, args: &[String]) -> ExitCode {
    match occupied() {
        Ok(None) => {}
        Ok(Some(status)) => return ExitCode::from(status),
        Err(error) => {
            log::line(&format!("fatal: cannot read the workspace: {error}"));
            return ExitCode::FAILURE;
        }
    }
    let cloned = clone(program, args);
    let result = match cloned {
        Ok(0) => move_up().map(|()| 0),
        other => other,
    };
    // Fails after a successful move, which removes it. Otherwise the next attempt removes what is left.
    fs::remove_dir_all(STAGING).ok();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log::line(&format!("fatal: this image has no {program}"));
            ExitCode::from(MISSING)
        }
        Err(error) => {
            log::line(&format!("fatal: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The exit status if the directory is not empty. A staging directory that an interrupted clone left is removed.
fn occupied() -> io::Result<Option<u8>> {
    if Path::new(STAGING).exists() {
        fs::remove_dir_all(STAGING)?;
    }
    if Path::new(".git").exists() {
        return Ok(Some(KEPT));
    }
    let mut others =
        fs::read_dir(".")?.filter_map(Result::ok).filter(|entry| entry.file_name() != "lost+found");
    Ok(others.next().is_some().then_some(NOT_EMPTY))
}

/// Runs the program to its end. A signal to this process is passed on, so that the program can clean up.
fn clone(program: &str, args: &[String]) -> io::Result<u8> {
    // Started before the signals are blocked, since it would inherit the mask. If it ends before, the first check notices.
    let child = Command::new(program).args(args).arg(STAGING).stdin(Stdio::null()).spawn()?;
    let pid = Pid::from_child(&child);
    let mut signals = SigSet::empty();
    for signal in [NixSignal::SIGCHLD, NixSignal::SIGHUP, NixSignal::SIGTERM, NixSignal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    loop {
        if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG)? {
            let status = std::process::ExitStatus::from_raw(status.as_raw());
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        if let Ok(signal) = signals.wait()
            && signal != NixSignal::SIGCHLD
        {
            kill_process(pid, Signal::TERM).ok();
        }
    }
}

fn move_up() -> io::Result<()> {
    for entry in fs::read_dir(STAGING)? {
        let entry = entry?;
        fs::rename(entry.path(), entry.file_name())?;
    }
    fs::remove_dir(STAGING)
}
