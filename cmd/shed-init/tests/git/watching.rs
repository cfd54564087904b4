//! `watch-tree` tells of what counts, and of nothing else.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::json;
use shed_link::git::{TreeEvent, TreeNews};

use crate::support::{Repo, command, done};

/// How long a line may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// How long nothing is to be heard. Longer than any line is held back.
const SILENCE: Duration = Duration::from_millis(800);

struct Watch {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<TreeNews>,
}

impl Watch {
    fn start(repo: &Repo) -> Self {
        let mut child =
            command("watch-tree").arg(repo.top()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                tell.send(serde_json::from_str(&line.unwrap()).unwrap()).ok();
            }
        });
        let watch = Self { input: child.stdin.take(), child, lines };
        assert_eq!(watch.lines.recv_timeout(LIMIT).unwrap().news, TreeEvent::Watching);
        watch
    }

    /// A line comes; the ones that follow from the same change are passed over.
    fn hears(&self, what: &str) -> TreeNews {
        let news = self.lines.recv_timeout(LIMIT);
        let mut news = news.unwrap_or_else(|error| panic!("nothing of {what}: {error}"));
        assert_eq!(news.news, TreeEvent::Changed);
        while let Ok(more) = self.lines.recv_timeout(SILENCE) {
            news = more;
        }
        news
    }

    fn hears_nothing(&self, of: &str) {
        let heard = self.lines.recv_timeout(SILENCE);
        assert_eq!(heard, Err(RecvTimeoutError::Timeout), "{of} was told");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn files_directories_and_refs_are_told_and_ignored_files_are_not() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.log\ntarget/\n");
    repo.write("target/deep/x", "x");
    fs::create_dir(repo.top().join("empty")).unwrap();
    let watch = Watch::start(&repo);
    watch.hears_nothing("nothing");
    repo.write("a", "changed");
    let n_watches = watch.hears("a changed file").n_watches;
    repo.write("empty/file", "x");
    watch.hears("a file in what was an empty directory");
    repo.write("new/deep/file", "x");
    assert_eq!(watch.hears("new directories").n_watches, n_watches + 2);
    repo.write("new/deep/file", "y");
    watch.hears("a file in a new directory");
    repo.write("x.log", "x");
    repo.write("target/deep/y", "y");
    repo.write("target/other/y", "y");
    repo.write(":(top)y.log", "y");
    watch.hears_nothing("an ignored file");
    repo.write(":(exclude)a", "x");
    watch.hears("an odd name");
    repo.git(&["commit", "-q", "-am", "x"]);
    watch.hears("a commit");
    repo.git(&["branch", "feature/deep/x"]);
    watch.hears("a branch");
    repo.git(&["update-ref", "refs/heads/feature/deep/x", "HEAD~1"]);
    watch.hears("a ref in a new directory");
    fs::remove_dir_all(repo.top().join("new")).unwrap();
    assert_eq!(watch.hears("a removed directory").n_watches, n_watches + 2);
}

#[test]
fn our_own_work_is_not_told() {
    let repo = Repo::new();
    repo.write("a", "changed");
    let watch = Watch::start(&repo);
    repo.snapshot();
    repo.snapshot();
    repo.numbers(&json!({"at": "HEAD"}));
    done(json!({"diff": {"view": repo.view(), "from": "head", "to": "worktree"}}));
    done(json!({"risk": {"worktree": repo.top()}}));
    watch.hears_nothing("our own work");
}

#[test]
fn a_linked_worktree_is_watched_with_its_own_index() {
    let repo = Repo::new();
    let path = repo.beside("w");
    done(
        json!({"add-worktree": {"repo": repo.top(), "path": path, "branch": "x", "base": "default"}}),
    );
    let mut child = command("watch-tree").arg(&path).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("watching"));
    crate::support::git_in(&path, &["commit", "-q", "--allow-empty", "-m", "x"]);
    assert!(lines.next().unwrap().unwrap().contains("changed"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_no_repository_is_not_watched() {
    let repo = Repo::new();
    for directory in [repo.beside("").to_str().unwrap(), "relative", "/nonexistent"] {
        let mut watch = command("watch-tree");
        assert!(!watch.arg(directory).stderr(Stdio::null()).status().unwrap().success());
    }
}
