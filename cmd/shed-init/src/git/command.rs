//! Runs the image's git: without a shell and without prompts, and with limits on its output.

use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use shed_link::git::FailureKind;

use super::failure::{Failure, classify};

/// The longest listing, in bytes: several hundred thousand files. A longer one is a failure.
const MAX_LISTING_BYTES: usize = 64 << 20;
/// The most bytes of standard error that are kept.
const MAX_STDERR_BYTES: u64 = 64 << 10;
/// How long standard error may stay open after git has ended. A shared SSH connection that git started keeps it open.
const STRAGGLER_LIMIT: Duration = Duration::from_millis(200);

/// Variables of our environment that would make git use other files or behave differently. They are removed.
const UNSET: [&str; 17] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_ATTR_SOURCE",
    "GIT_DEFAULT_HASH",
    "GIT_QUARANTINE_PATH",
    "GIT_REFLOG_ACTION",
];

/// Settings that override the user's configuration: no hooks, no background processes, no colours.
const SETTINGS: [&str; 9] = [
    "core.quotepath=off",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.splitIndex=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "color.ui=false",
    "log.showSignature=false",
    "submodule.recurse=false",
];

/// git in a directory, optionally with a private index or a git directory that is not the one it would find there.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    directory: PathBuf,
    repository: Option<PathBuf>,
    index: Option<PathBuf>,
}

impl Git {
    /// git in this directory, with the user's index.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), repository: None, index: None }
    }

    /// git with this directory as the working tree of a git directory that does not know it.
    pub(crate) fn through(git_dir: &Path, directory: &Path) -> Self {
        Self { repository: Some(git_dir.to_owned()), ..Self::at(directory) }
    }

    /// The same with another index.
    pub(crate) fn with_index(&self, index: &Path) -> Self {
        Self { index: Some(index.to_owned()), ..self.clone() }
    }

    /// Prepares a call of one of git's commands, such as `status`.
    pub(crate) fn call(&self, name: &str) -> Call {
        let mut command = Command::new("git");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.arg(name).current_dir(&self.directory).env("LC_ALL", "C");
        for name in UNSET {
            command.env_remove(name);
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        // `*` and `:(top)` are file names, not patterns.
        command.env("GIT_LITERAL_PATHSPECS", "1");
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        if let Some(git_dir) = &self.repository {
            command.env("GIT_DIR", git_dir).env("GIT_WORK_TREE", &self.directory);
        }
        Call { command, input: Vec::new(), limit: MAX_LISTING_BYTES }
    }
}

/// A call of git that is being prepared.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    input: Vec<u8>,
    limit: usize,
}

/// The result of a call.
#[derive(Debug)]
pub(crate) struct Ended {
    /// git's exit status.
    pub(crate) status: ExitStatus,
    /// Standard output, cut at the limit.
    pub(crate) output: Vec<u8>,
    /// Whether standard output was cut.
    pub(crate) truncated: bool,
    /// The beginning of standard error.
    pub(crate) stderr: Vec<u8>,
}

impl Call {
    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets git's standard input.
    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Cuts standard output after this many bytes. git is killed then.
    pub(crate) fn cut_at(mut self, n_bytes: usize) -> Self {
        self.limit = n_bytes;
        self
    }

    /// Runs git. Fails only if git cannot be run; the caller checks the exit status.
    pub(crate) fn ended(mut self) -> Result<Ended, Failure> {
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::no_git(),
            _ => Failure::io("cannot start git", &error),
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = std::mem::take(&mut self.input);
            // The thread ends with git at the latest. If git does not read everything, its exit status says why.
            thread::spawn(move || stdin.write_all(&input).ok());
        }
        let (sender, receiver) = mpsc::channel();
        if let Some(mut stderr) = child.stderr.take() {
            thread::spawn(move || {
                let mut beginning = Vec::new();
                stderr.by_ref().take(MAX_STDERR_BYTES).read_to_end(&mut beginning).ok();
                sender.send(beginning).ok();
                io::copy(&mut stderr, &mut io::sink()).ok();
            });
        }
        let mut output = Vec::new();
        let limit = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
        let read =
            child.stdout.take().map_or(Ok(0), |out| out.take(limit).read_to_end(&mut output));
        let truncated = output.len() > self.limit;
        if truncated {
            output.truncate(self.limit);
            child.kill().ok();
        }
        let status = child.wait().map_err(|error| Failure::io("cannot wait for git", &error))?;
        read.map_err(|error| Failure::io("cannot read from git", &error))?;
        let stderr = receiver.recv_timeout(STRAGGLER_LIMIT).unwrap_or_default();
        Ok(Ended { status, output, truncated, stderr })
    }

    /// Runs git and returns its output. If git fails, the failure has the text `what`.
    pub(crate) fn output(self, what: &str) -> Result<Vec<u8>, Failure> {
        let ended = self.ended()?;
        if ended.truncated {
            return Err(Failure::new(FailureKind::TooMuch, format!("{what}: too many files")));
        }
        ended.success(what)
    }

    /// Runs git for its effect. If git fails, the failure has the text `what`.
    pub(crate) fn done(self, what: &str) -> Result<(), Failure> {
        self.output(what).map(|_| ())
    }

    /// Runs git and returns its output of one line; `None` if git fails.
    pub(crate) fn line(self) -> Result<Option<String>, Failure> {
        let ended = self.ended()?;
        if !ended.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&ended.output);
        Ok(Some(text.trim_end_matches('\n').to_owned()))
    }

    /// Runs git and returns whether it succeeded.
    pub(crate) fn succeeds(self) -> Result<bool, Failure> {
        Ok(self.ended()?.status.success())
    }
}

impl Ended {
    /// The output of a successful call. If git failed, the failure has the text `what`.
    pub(crate) fn success(self, what: &str) -> Result<Vec<u8>, Failure> {
        if self.status.success() {
            return Ok(self.output);
        }
        Err(self.failure(what))
    }

    /// Whether a signal that interrupts operations ended git.
    pub(crate) fn is_interrupted(&self) -> bool {
        let interrupts = [Signal::HUP, Signal::INT, Signal::TERM].map(Signal::as_raw);
        self.status.signal().is_some_and(|signal| interrupts.contains(&signal))
    }

    /// The failure of an unsuccessful call, with the text `what`.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        if self.is_interrupted() {
            return Failure::new(FailureKind::Interrupted, format!("{what}: git was interrupted"));
        }
        Failure::new(classify(&self.stderr), what.to_owned()).with_git(&self.stderr)
    }
}
