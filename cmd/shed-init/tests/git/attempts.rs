//! The creation of a session's worktree, asked for again after the server was killed.

use std::fs;

use serde_json::{Value, json};
use shed_link::git::{AddedWorktree, FailureKind, GitDone};

use crate::support::{Repo, done, failed, git_in};

fn request(repo: &Repo, session: &str) -> Value {
    json!({"add-worktree": {"repo": repo.top(), "path": repo.beside("trees/w"), "branch": "x",
        "base": "default", "session": session}})
}

fn added(request: Value) -> AddedWorktree {
    match done(request) {
        GitDone::Worktree(added) => added,
        other => panic!("{other:?}"),
    }
}

/// Turns the record of a session's attempt into that of an attempt that was killed before its end.
fn unfinish(repo: &Repo, session: &str) {
    let path = repo.top().join(format!(".git/shed/index/{session}.attempt"));
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(!record["added"].is_null(), "{record}");
    record["added"] = Value::Null;
    fs::write(&path, record.to_string()).unwrap();
}

#[test]
fn a_lost_answer_is_given_again() {
    let repo = Repo::new();
    let first = added(request(&repo, "s"));
    fs::write(repo.beside("trees/w/mine"), "").unwrap();
    for _ in 0..2 {
        assert_eq!(added(request(&repo, "s")), first);
        assert!(repo.beside("trees/w/mine").exists());
    }
    // It is not another session's.
    assert_eq!(failed(request(&repo, "t")).kind, FailureKind::Exists);
}

#[test]
fn what_a_killed_attempt_left_is_created_again() {
    let repo = Repo::new();
    let first = added(request(&repo, "s"));
    // Killed during the checkout; then before the directory; then before the branch.
    for what in ["trees/w/a", "trees", "work/.git/refs/heads/x"] {
        unfinish(&repo, "s");
        let path = repo.beside(what);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        let again = added(request(&repo, "s"));
        assert_eq!(again, first, "{what}");
        assert_eq!(
            git_in(&repo.beside("trees/w"), &["status", "--porcelain", "--branch"]),
            "## x\n"
        );
    }
}

#[test]
fn what_others_created_or_changed_is_kept() {
    let repo = Repo::new();
    repo.git(&["branch", "x"]);
    let before = repo.state();
    for _ in 0..2 {
        assert_eq!(failed(request(&repo, "s")).kind, FailureKind::Exists);
        assert_eq!(repo.state(), before);
    }
    repo.git(&["branch", "-D", "x"]);
    added(request(&repo, "s"));
    unfinish(&repo, "s");
    let tree = repo.beside("trees/w");
    git_in(&tree, &["commit", "-q", "--allow-empty", "-m", "mine"]);
    let before = repo.state();
    assert_eq!(failed(request(&repo, "s")).kind, FailureKind::Exists);
    assert_eq!(repo.state(), before);
}
