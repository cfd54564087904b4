//! Starts the image's git: words only, no shell, nothing that asks a person, everything it says bounded.

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

/// The most git may print where a listing is expected: some hundred thousand files. More is a failure.
const MAX_LISTING_BYTES: usize = 64 << 20;
/// How much of standard error is kept.
const MAX_WORDS_BYTES: u64 = 64 << 10;
/// How long standard error may stay open after git's end. A shared SSH connection that git started keeps it.
const STRAGGLER_LIMIT: Duration = Duration::from_millis(200);

/// What whoever started us may have set, and what would make git work on something else.
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

/// Settings that hold whatever the user's configuration says: no hooks, no helpers in the background, no colours.
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

/// git in a directory, perhaps with an index of ours.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    directory: PathBuf,
    index: Option<PathBuf>,
}

impl Git {
    /// git in that directory.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), index: None }
    }

    /// The same with another index than the user's.
    pub(crate) fn with_index(&self, index: &Path) -> Self {
        Self { directory: self.directory.clone(), index: Some(index.to_owned()) }
    }

    /// Begins a call of one of git's commands.
    pub(crate) fn call(&self, verb: &str) -> Call {
        let mut command = Command::new("git");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.arg(verb).current_dir(&self.directory).env("LC_ALL", "C");
        for name in UNSET {
            command.env_remove(name);
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        // A file named `*` or `:(top)` is a file.
        command.env("GIT_LITERAL_PATHSPECS", "1");
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        Call { command, input: Vec::new(), limit: MAX_LISTING_BYTES }
    }
}

/// A call of git that is being put together.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    input: Vec<u8>,
    limit: usize,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Ended {
    /// git's exit status.
    pub(crate) status: ExitStatus,
    /// Standard output, up to the limit.
    pub(crate) output: Vec<u8>,
    /// Whether there was more.
    pub(crate) truncated: bool,
    /// Standard error, its beginning.
    pub(crate) words: Vec<u8>,
}

impl Call {
    /// Adds a word.
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    /// Adds words.
    pub(crate) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, words: I) -> Self {
        self.command.args(words);
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// What git reads.
    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Cuts the output after so many bytes; git is ended there.
    pub(crate) fn cut_at(mut self, n_bytes: usize) -> Self {
        self.limit = n_bytes;
        self
    }

    /// Runs it. Only a failure to run is one; the status is the caller's to judge.
    pub(crate) fn ended(mut self) -> Result<Ended, Failure> {
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::no_git(),
            _ => Failure::io("cannot start git", &error),
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = std::mem::take(&mut self.input);
            // Ends with git at the latest. That git did not want all of it shows in its status.
            thread::spawn(move || stdin.write_all(&input).ok());
        }
        let (tell, told) = mpsc::channel();
        if let Some(mut stderr) = child.stderr.take() {
            thread::spawn(move || {
                let mut words = Vec::new();
                stderr.by_ref().take(MAX_WORDS_BYTES).read_to_end(&mut words).ok();
                tell.send(words).ok();
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
        let words = told.recv_timeout(STRAGGLER_LIMIT).unwrap_or_default();
        Ok(Ended { status, output, truncated, words })
    }

    /// Runs it and gives its output; anything but success is a failure with that text.
    pub(crate) fn output(self, what: &str) -> Result<Vec<u8>, Failure> {
        let ended = self.ended()?;
        if ended.truncated {
            return Err(Failure::new(FailureKind::TooMuch, format!("{what}: too many files")));
        }
        ended.success(what)
    }

    /// Runs it for its effect.
    pub(crate) fn done(self, what: &str) -> Result<(), Failure> {
        self.output(what).map(|_| ())
    }

    /// Runs it and gives its one line of text; `None` when it did not succeed.
    pub(crate) fn line(self) -> Result<Option<String>, Failure> {
        let ended = self.ended()?;
        if !ended.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&ended.output);
        Ok(Some(text.trim_end_matches('\n').to_owned()))
    }

    /// Runs it and says whether it succeeded.
    pub(crate) fn succeeds(self) -> Result<bool, Failure> {
        Ok(self.ended()?.status.success())
    }
}

impl Ended {
    /// The output of a call that has to succeed.
    pub(crate) fn success(self, what: &str) -> Result<Vec<u8>, Failure> {
        if self.status.success() {
            return Ok(self.output);
        }
        Err(self.failure(what))
    }

    /// The failure of a call that did not succeed.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let ended = [Signal::HUP, Signal::INT, Signal::TERM].map(Signal::as_raw);
        if self.status.signal().is_some_and(|signal| ended.contains(&signal)) {
            return Failure::new(FailureKind::Interrupted, format!("{what}: git was interrupted"));
        }
        Failure::new(classify(&self.words), what.to_owned()).with_git(&self.words)
    }
}
