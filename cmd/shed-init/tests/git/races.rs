//! git commands of others that change the repository at the same moment. git does not wait for them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use shed_link::git::{FailureKind, GitAnswer, GitOp};

use crate::support::{Repo, command, split};

/// A git that fails its first calls of a command as if another git were in its way, and then does its work.
struct Disturbed<'a> {
    repo: &'a Repo,
    bin: PathBuf,
}

impl<'a> Disturbed<'a> {
    fn new(repo: &'a Repo, of: &str, n_failures: usize, message: &str) -> Self {
        let found = Command::new("sh").args(["-c", "command -v git"]).output().unwrap();
        let git = String::from_utf8(found.stdout).unwrap();
        let (bin, git) = (repo.beside("bin"), git.trim());
        fs::create_dir(&bin).unwrap();
        let calls = repo.beside("calls");
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' {of} '*)\n  echo x >> {calls:?}\n  \
             if [ $(wc -l < {calls:?}) -le {n_failures} ]; then echo \"{message}\" >&2; exit 128; fi;;\n\
             esac\nexec {git} \"$@\"\n"
        );
        fs::write(bin.join("git"), script).unwrap();
        fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { repo, bin }
    }

    fn ask(&self, request: Value) -> GitAnswer {
        let op: GitOp = serde_json::from_value(request).unwrap();
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap());
        let mut child = command("git").env("PATH", path).spawn().unwrap();
        serde_json::to_writer(child.stdin.take().unwrap(), &op).unwrap();
        split(&child.wait_with_output().unwrap().stdout).0
    }

    fn n_calls(&self) -> usize {
        fs::read_to_string(self.repo.beside("calls")).unwrap().lines().count()
    }
}

fn add(repo: &Repo) -> Value {
    json!({"add-worktree": {"repo": repo.top(), "path": repo.beside("w"), "branch": "x",
        "base": "default"}})
}

#[test]
fn what_git_says_is_a_race_is_tried_again() {
    for (of, message) in [
        ("worktree add", "fatal: failed to read .git/worktrees/y/commondir: Success"),
        ("worktree list", "fatal: failed to read .git/worktrees/y/commondir: Success"),
        ("worktree add", "error: could not lock config file .git/config: File exists"),
        ("update-ref", "fatal: Unable to create '/r/.git/packed-refs.lock': File exists."),
        ("reset", "fatal: Unable to create '/r/.git/worktrees/w/index.lock': File exists."),
    ] {
        let repo = Repo::new();
        let git = Disturbed::new(&repo, of, 3, message);
        let answer = git.ask(add(&repo));
        assert!(matches!(answer, GitAnswer::Done(_)), "{of}: {answer:?}");
        assert!(git.n_calls() > 3, "{of}");
        assert!(repo.beside("w/a").exists());
    }
}

#[test]
fn other_failures_are_not_tried_again_and_races_not_for_ever() {
    let repo = Repo::new();
    let before = repo.state();
    let git = Disturbed::new(&repo, "worktree add", 1_000, "fatal: bad luck");
    assert!(matches!(git.ask(add(&repo)), GitAnswer::Failed(_)));
    assert_eq!(git.n_calls(), 1);
    assert_eq!(repo.state(), before);
    fs::remove_dir_all(&git.bin).unwrap();
    let message = "error: could not lock config file .git/config: File exists";
    let git = Disturbed::new(&repo, "worktree add", 1_000, message);
    match git.ask(add(&repo)) {
        GitAnswer::Failed(failure) => assert_eq!(failure.kind, FailureKind::Busy, "{failure:?}"),
        GitAnswer::Done(done) => panic!("{done:?}"),
    }
    assert_eq!(repo.state(), before);
}

/// git renames the branch first and its section of the configuration after that.
#[test]
fn a_branch_and_its_configuration_are_renamed_in_spite_of_a_lock() {
    let repo = Repo::new();
    repo.git(&["branch", "x"]);
    repo.git(&["config", "branch.x.description", "mine"]);
    // Another git has locked it until the next call but one.
    let lock = repo.top().join(".git/config.lock");
    fs::write(&lock, "").unwrap();
    let message = format!("error: could not lock config file: File exists $(rm {lock:?})");
    let git = Disturbed::new(&repo, "config", 1, &message);
    let rename = json!({"rename-branch": {"worktree": repo.top(), "from": "x", "to": "y"}});
    let answer = git.ask(rename);
    assert!(matches!(answer, GitAnswer::Done(_)), "{answer:?}");
    assert_eq!(repo.git(&["branch", "--list", "--format=%(refname:short)"]), "main\ny\n");
    assert_eq!(repo.git(&["config", "branch.y.description"]), "mine\n");
}
