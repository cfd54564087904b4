//! `checkout PROGRAM ARGS…`: clones into the current directory, with submodules, so that a failure leaves nothing behind.
//! Submodules and files of Git LFS that cannot be fetched are no failure, nor is a repository whose `HEAD` names a branch that it
//! does not have: each is named in a line that begins with `incomplete: `.
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

use crate::git::{lfs, submodules};
use crate::log;

/// The staging directory. It is in the workspace, so that moving an entry is a rename.
const STAGING: &str = ".shed-clone";
/// Exit status: the directory already has a checkout, which was kept.
const KEPT: u8 = 10;
/// Exit status: the directory has other files; nothing was done.
const NOT_EMPTY: u8 = 11;
/// Exit status: the clone is complete but for what the lines on standard error say.
const INCOMPLETE: u8 = 12;
/// How many branches are named if none was checked out.
const MAX_BRANCHES: usize = 10;
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
    let result = match clone(program, args) {
        Ok((0, missing)) => move_up().map(|()| {
            for line in &missing {
                log::line(&format!("incomplete: {line}"));
            }
            if missing.is_empty() { 0 } else { INCOMPLETE }
        }),
        Ok((status, _)) => Ok(status),
        Err(error) => Err(error),
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

/// Clones with submodules. Returns the exit status and what is missing.
fn clone(program: &str, args: &[String]) -> io::Result<(u8, Vec<String>)> {
    // The options before the subcommand hold for the submodules too: they lend credentials.
    let options = args.iter().position(|word| word == "clone").unwrap_or_default();
    let options: Vec<&str> = args[..options].iter().map(String::as_str).collect();
    let git = |top: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(&options).arg("-C").arg(top).args(words);
        run(command.env("GIT_LITERAL_PATHSPECS", "1"))
    };
    let mut missing = Vec::new();
    let mut command = Command::new(program);
    let status = run(command.args(args).arg(STAGING))?;
    if status != 0 {
        // git keeps a clone whose files it cannot check out.
        let pointers: Vec<String> =
            lfs::POINTERS.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let settings = pointers.iter().flat_map(|setting| ["-c", setting]);
        let words: Vec<&str> = settings.chain(["reset", "--quiet", "--hard"]).collect();
        if !Path::new(STAGING).join(".git").is_dir() || git(Path::new(STAGING), &words)? != 0 {
            return Ok((status, missing));
        }
        missing.push(lfs::NOTE.to_owned());
    }
    let branch = args.iter().find_map(|word| word.strip_prefix("--branch="));
    if let Some(branch) = branch {
        // What new worktrees begin at. Fails for a tag, which leaves the repository's own default.
        git(Path::new(STAGING), &["remote", "set-head", "origin", branch])?;
    }
    missing.extend(unborn_head(program));
    let mut left = vec![(Path::new(STAGING).to_owned(), 0)];
    let mut n_empty = 0;
    while let Some((top, depth)) = left.pop() {
        for path in submodules::paths(&top) {
            let shown = path.to_string_lossy();
            let words = ["submodule", "update", "--init", "--progress", "--", &*shown];
            let within = top.join(&path);
            if git(&top, &words)? != 0 {
                n_empty += 1;
                let shown = within.strip_prefix(STAGING).unwrap_or(&within).to_string_lossy();
                missing.push(format!("submodule {shown:?} could not be fetched"));
            } else if depth < submodules::MAX_DEPTH {
                left.push((within, depth + 1));
            }
        }
    }
    if n_empty > 0 {
        missing.push(format!("to fetch submodules: {}", submodules::COMMAND));
    }
    Ok((0, missing))
}

/// What to say if nothing was checked out although the repository has branches: its `HEAD` names another one.
fn unborn_head(program: &str) -> Option<String> {
    let ask = |words: &[&str]| {
        let output = Command::new(program).args(["-C", STAGING]).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if ask(&["rev-parse", "--verify", "--quiet", "HEAD"]).is_some() {
        return None;
    }
    let listed = ask(&["for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin"])?;
    let branches: Vec<&str> = listed.lines().filter(|name| *name != "HEAD").collect();
    let first = branches.first()?;
    let shown = branches.iter().take(MAX_BRANCHES).copied().collect::<Vec<_>>().join(", ");
    let more = if branches.len() > MAX_BRANCHES { ", …" } else { "" };
    Some(format!(
        "nothing was checked out: HEAD of the repository names a branch that does not exist; its branches are {shown}{more}; to check one out: git switch {first}"
    ))
}

/// Runs a program to its end. A signal to this process is passed on, so that the program can clean up; it is an error then.
fn run(command: &mut Command) -> io::Result<u8> {
    // Started before the signals are blocked, since it would inherit the mask. If it ends before, the first check notices.
    let child = command.stdin(Stdio::null()).env("GIT_LFS_SKIP_DOWNLOAD_ERRORS", "1").spawn()?;
    let pid = Pid::from_child(&child);
    let mut signals = SigSet::empty();
    for signal in [NixSignal::SIGCHLD, NixSignal::SIGHUP, NixSignal::SIGTERM, NixSignal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let mut is_interrupted = false;
    loop {
        if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG)? {
            signals.thread_unblock()?;
            if is_interrupted {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            let status = std::process::ExitStatus::from_raw(status.as_raw());
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        if let Ok(signal) = signals.wait()
            && signal != NixSignal::SIGCHLD
        {
            is_interrupted = true;
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
