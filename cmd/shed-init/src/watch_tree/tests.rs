//! What a watch reports and what it ignores, in a repository of the installed git, with shorter times than the program's.

use std::fs;
use std::io::{BufRead as _, BufReader, PipeWriter, pipe};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use super::*;

/// The times of the program, divided by ten.
const FAST: Times = Times {
    period: Duration::from_millis(50),
    quiet: Duration::from_millis(10),
    gather: Duration::from_millis(5),
};
/// How long a report may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// How long to wait for a report that must not come. Longer than any report is delayed.
const SILENCE: Duration = Duration::from_millis(250);

struct Repo {
    dir: tempfile::TempDir,
}

impl Repo {
    /// A repository with a commit of `a`.
    fn new() -> Self {
        let repo = Self { dir: tempfile::tempdir().unwrap() };
        repo.git(&["init", "-q", "-b", "main"]);
        repo.write("a", "one\n");
        repo.git(&["add", "a"]);
        repo.git(&["commit", "-q", "-m", "first"]);
        repo
    }

    fn top(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.top().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t"];
        let mut git = Command::new("git");
        git.args(identity).args(args).current_dir(self.dir.path());
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        assert!(git.status().unwrap().success(), "{args:?}");
    }
}

/// A running watch. It ends when `input` is dropped.
struct Watch {
    input: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    reports: Receiver<TreeNews>,
}

impl Watch {
    fn start(directory: &Path) -> Self {
        let (input, input_writer) = pipe().unwrap();
        let (output, mut output_writer) = pipe().unwrap();
        let directory = directory.to_str().unwrap().to_owned();
        let thread = thread::spawn(move || {
            watch(&directory, input.as_fd(), &mut output_writer, FAST).unwrap();
        });
        let (sender, reports) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                sender.send(serde_json::from_str(&line.unwrap()).unwrap()).ok();
            }
        });
        let watch = Self { input: Some(input_writer), thread: Some(thread), reports };
        assert_eq!(watch.reports.recv_timeout(LIMIT).unwrap().news, TreeEvent::Watching);
        watch
    }

    /// Waits for a report of a change, and then for the further ones of the same change. Returns the last one.
    fn expect(&self, what: &str) -> TreeNews {
        let report = self.reports.recv_timeout(LIMIT);
        let mut report = report.unwrap_or_else(|error| panic!("no report of {what}: {error}"));
        assert_eq!(report.news, TreeEvent::Changed);
        while let Ok(further) = self.reports.recv_timeout(SILENCE) {
            report = further;
        }
        report
    }

    fn expect_nothing(&self, what: &str) {
        let report = self.reports.recv_timeout(SILENCE);
        assert_eq!(report, Err(RecvTimeoutError::Timeout), "{what} was reported");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn files_directories_and_refs_are_reported_and_ignored_files_are_not() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.log\ntarget/\n");
    repo.write("target/deep/x", "x");
    fs::create_dir(repo.top().join("empty")).unwrap();
    let watch = Watch::start(&repo.top());
    watch.expect_nothing("no change");
    repo.write("a", "changed");
    let n_watches = watch.expect("a changed file").n_watches;
    repo.write("empty/file", "x");
    watch.expect("a file in a directory that was empty");
    repo.write("new/deep/file", "x");
    assert_eq!(watch.expect("new directories").n_watches, n_watches + 2);
    repo.write("new/deep/file", "y");
    watch.expect("a file in a new directory");
    repo.write("x.log", "x");
    repo.write("target/deep/y", "y");
    repo.write("target/other/y", "y");
    repo.write(":(top)y.log", "y");
    watch.expect_nothing("an ignored file");
    repo.write(":(exclude)a", "x");
    watch.expect("a file named like a pathspec");
    repo.git(&["commit", "-q", "-am", "x"]);
    watch.expect("a commit");
    repo.git(&["branch", "feature/deep/x"]);
    watch.expect("a branch");
    repo.git(&["update-ref", "refs/heads/feature/deep/x", "HEAD~1"]);
    watch.expect("a ref in a new directory");
    fs::remove_dir_all(repo.top().join("new")).unwrap();
    assert_eq!(watch.expect("a removed directory").n_watches, n_watches + 2);
}
