//! `checkout PROGRAM WORDS…`: clones into the current directory so that a failure leaves nothing behind.
//!
//! The clone goes into a directory of its own (the last word, added here), which only this program makes and removes;
//! when it is whole its entries move up. What a person has in the workspace is never touched.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::say;

/// Where the clone is made; in the workspace, so that moving up is a rename.
const STAGING: &str = ".shed-clone";
/// There is a checkout already; it was kept.
const KEPT: u8 = 10;
/// There is something else already; nothing was done.
const NOT_EMPTY: u8 = 11;
/// There is no such program.
const MISSING: u8 = 127;

/// Runs the clone. Its exit status is the program's, or one of the above.
pub(crate) fn main(program: &str, words: &[String]) -> ExitCode {
    match occupied() {
        Ok(None) => {}
        Ok(Some(status)) => return ExitCode::from(status),
        Err(error) => {
            say(&format!("fatal: cannot read the workspace: {error}"));
            return ExitCode::FAILURE;
        }
    }
    let cloned = clone(program, words);
    let result = match cloned {
        Ok(0) => move_up().map(|()| 0),
        other => other,
    };
    // Gone already if it moved up; what cannot be removed is removed by the next try.
    fs::remove_dir_all(STAGING).ok();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            say(&format!("fatal: there is no {program} in this image"));
            ExitCode::from(MISSING)
        }
        Err(error) => {
            say(&format!("fatal: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What is in the way, as an exit status. A clone that was cut off is removed.
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

/// Runs the program to its end. A signal to us goes on to it, and it tidies up itself.
fn clone(program: &str, words: &[String]) -> io::Result<u8> {
    // Started before signals are blocked, which it would inherit. An end that comes in between is seen by the first look.
    let child = Command::new(program).args(words).arg(STAGING).stdin(Stdio::null()).spawn()?;
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
