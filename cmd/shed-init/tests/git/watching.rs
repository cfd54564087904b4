//! `watch-tree` as a program. What it reports is tested beside its code, with shorter times.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::json;
use shed_link::git::{TreeEvent, TreeNews};

use crate::support::{Repo, command, done};

/// How long a report may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// How long to wait for a report that must not come. Longer than any report is delayed.
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
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                sender.send(serde_json::from_str(&line.unwrap()).unwrap()).ok();
            }
        });
        let watch = Self { input: child.stdin.take(), child, lines };
        assert_eq!(watch.lines.recv_timeout(LIMIT).unwrap().news, TreeEvent::Watching);
        watch
    }

    fn expect_nothing(&self, what: &str) {
        let report = self.lines.recv_timeout(SILENCE);
        assert_eq!(report, Err(RecvTimeoutError::Timeout), "{what} was reported");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn operations_of_shed_are_not_reported() {
    let repo = Repo::new();
    repo.write("a", "changed");
    let watch = Watch::start(&repo);
    repo.snapshot();
    repo.snapshot();
    repo.numbers(&json!({"at": "HEAD"}));
    done(json!({"diff": {"view": repo.view(), "from": "head", "to": "worktree"}}));
    done(json!({"risk": {"worktree": repo.top()}}));
    watch.expect_nothing("an operation of shed");
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
fn without_inotify_the_server_is_told_that_nothing_is_watched() {
    let repo = Repo::new();
    // A user namespace has a limit of its own.
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    let watch = command("watch-tree");
    let mut child = std::process::Command::new("unshare")
        .args(["--map-root-user", "sh", "-c", script, "sh"])
        .arg(watch.get_program())
        .args(watch.get_args())
        .arg(repo.top())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let report: TreeNews = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((report.news, report.partial), (TreeEvent::Watching, true));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn only_repositories_are_watched() {
    let repo = Repo::new();
    for directory in [repo.beside("").to_str().unwrap(), "relative", "/nonexistent"] {
        let mut watch = command("watch-tree");
        assert!(!watch.arg(directory).stderr(Stdio::null()).status().unwrap().success());
    }
}
