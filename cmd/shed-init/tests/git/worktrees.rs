//! Worktrees are created completely or not at all, and their commits are saved to the trash when they are removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shed_link::git::{AddedWorktree, FailureKind, GitAnswer, GitDone, RemovedWorktree};

use crate::support::{Mount, Repo, assert_fails, command, done, failed, git_in, noise, split};

fn request(repo: &Repo, path: &Path, branch: &str, base: &Value) -> Value {
    json!({"add-worktree": {"repo": repo.top(), "path": path, "branch": branch, "base": base}})
}

fn add(repo: &Repo, branch: &str, base: &Value) -> AddedWorktree {
    match done(request(repo, &repo.beside("trees/w"), branch, base)) {
        GitDone::Worktree(added) => added,
        other => panic!("{other:?}"),
    }
}

fn remove(repo: &Repo, path: &Path, branch: &str) -> RemovedWorktree {
    match done(removal(repo, path, branch)) {
        GitDone::Removed(removed) => removed,
        other => panic!("{other:?}"),
    }
}

fn removal(repo: &Repo, path: &Path, branch: &str) -> Value {
    json!({"remove-worktree": {"repo": repo.top(), "path": path, "branch": branch, "delete_branch": true,
        "trash": "w", "session": "s"}})
}

#[test]
fn a_worktree_starts_at_the_default_branch_as_fetched() {
    let repo = Repo::cloned();
    // The local main is ahead of it.
    repo.write("a", "local\n");
    repo.commit("local");
    let added = add(&repo, "shed/#(id)", &json!("default"));
    assert_eq!(added.base_ref.as_deref(), Some("refs/remotes/origin/main"));
    let tree = repo.beside("trees/w");
    assert_eq!(git_in(&tree, &["symbolic-ref", "HEAD"]), "refs/heads/shed/#(id)\n");
    assert_eq!(git_in(&tree, &["rev-parse", "HEAD"]).trim(), added.base_commit);
    assert_eq!(fs::read_to_string(tree.join("a")).unwrap(), "one\ntwo\n");
    assert_eq!(git_in(&tree, &["status", "--porcelain"]), "");
}

#[test]
fn fetching_first_starts_at_the_newest_commit() {
    let repo = Repo::cloned();
    repo.write("a", "newer\n");
    repo.commit("newer");
    let head = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["push", "-q", "origin", "main"]);
    repo.git(&["update-ref", "refs/remotes/origin/main", "HEAD~1"]);
    let mut request = request(&repo, &repo.beside("w"), "x", &json!("default"));
    request["add-worktree"]["fetch"] = json!(true);
    let GitDone::Worktree(added) = done(request) else { panic!() };
    assert_eq!(added.base_commit, head.trim());
    assert!(
        !repo.top().join(".git/FETCH_HEAD").exists() || repo.git(&["status"]).contains("clean")
    );
}

#[test]
fn a_pull_request_is_fetched() {
    let repo = Repo::cloned();
    repo.write("pr", "1\n");
    repo.commit("pr");
    let head = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["push", "-q", "origin", "HEAD:refs/pull/7/head"]);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(add(&repo, "review", &json!({"pull": 7})).base_commit, head.trim());
    let before = repo.state();
    let missing = request(&repo, &repo.beside("x"), "y", &json!({"pull": 8}));
    assert_fails(missing, FailureKind::Fetch, "pull request 8");
    assert_eq!(repo.state(), before);
}

#[test]
fn an_existing_branch_is_used_locally_or_from_origin() {
    let repo = Repo::cloned();
    repo.git(&["push", "-q", "origin", "main:refs/heads/theirs"]);
    let mut ask = request(&repo, &repo.beside("w"), "theirs", &json!("default"));
    ask["add-worktree"]["existing"] = json!(true);
    done(ask.clone());
    assert_eq!(repo.git(&["config", "branch.theirs.merge"]), "refs/heads/theirs\n");
    ask["add-worktree"]["path"] = json!(repo.beside("v"));
    let failure = failed(ask.clone());
    assert_eq!(failure.kind, FailureKind::BranchInUse);
    assert!(failure.text.contains(repo.beside("w").to_str().unwrap()), "{failure:?}");
    ask["add-worktree"]["branch"] = json!("main");
    assert_fails(ask.clone(), FailureKind::BranchInUse, "work");
    ask["add-worktree"]["branch"] = json!("none");
    assert_fails(ask, FailureKind::NotFound, "does not exist");
}

#[test]
fn existing_branches_and_directories_are_refused_and_kept() {
    let repo = Repo::new();
    let before = repo.state();
    let taken = request(&repo, &repo.beside("w"), "main", &json!("default"));
    assert_fails(taken, FailureKind::Exists, "branch");
    fs::create_dir(repo.beside("w")).unwrap();
    let taken = request(&repo, &repo.beside("w"), "x", &json!("default"));
    assert_fails(taken, FailureKind::Exists, "already exists");
    for inside in [repo.top().join("w"), repo.top().join(".git/w"), repo.top().join("d/e/w")] {
        assert_fails(
            request(&repo, &inside, "x", &json!("default")),
            FailureKind::Invalid,
            "inside",
        );
        assert!(!inside.exists());
    }
    let gone = request(&repo, &repo.beside("v"), "x", &json!({"rev": "gone"}));
    assert_fails(gone, FailureKind::NotFound, "\"gone\" does not exist");
    // A branch cannot be below another branch.
    let below = request(&repo, &repo.beside("v"), "main/x", &json!("default"));
    assert_fails(below, FailureKind::Git, "cannot create branch");
    assert_eq!(repo.state(), before);
    let empty = Repo::empty();
    assert_fails(
        request(&empty, &empty.beside("w"), "x", &json!("default")),
        FailureKind::NoCommit,
        "no commit",
    );
}

#[test]
fn a_failed_checkout_is_undone() {
    let repo = Repo::cloned();
    repo.write(".gitattributes", "a filter=broken\n");
    repo.commit("filter");
    repo.git(&["config", "filter.broken.smudge", "false"]);
    repo.git(&["config", "filter.broken.required", "true"]);
    let before = repo.state();
    let failure = failed(request(&repo, &repo.beside("new/deep/w"), "x", &json!({"rev": "main"})));
    assert!(failure.text.contains("worktree") && !failure.git.is_empty(), "{failure:?}");
    assert_eq!(repo.state(), before);
    assert!(!repo.beside("new").exists());
}

#[test]
fn a_failure_on_a_read_only_file_system_is_undone() {
    let repo = Repo::new();
    let Some(_mount) = Mount::tmpfs(&repo.beside("ro"), "ro") else { return };
    let before = repo.state();
    let failure = failed(request(&repo, &repo.beside("ro/w"), "x", &json!("default")));
    assert_eq!(failure.kind, FailureKind::ReadOnly, "{failure:?}");
    assert_eq!(repo.state(), before);
}

#[test]
fn a_failure_on_a_full_disk_is_undone() {
    let repo = Repo::new();
    repo.write("big", vec![7; 900_000]);
    repo.commit("big");
    repo.write(".env", vec![7; 400_000]);
    repo.write(".worktreeinclude", ".env\n");
    let before = repo.state();
    // Too small for the files of the branch; then large enough for those, and not for `.env` as well.
    for size in ["size=512k", "size=1100k"] {
        let Some(_mount) = Mount::tmpfs(&repo.beside("small"), size) else { return };
        let failure = failed(request(&repo, &repo.beside("small/w"), "x", &json!("default")));
        assert_eq!(failure.kind, FailureKind::NoSpace, "{failure:?}");
        assert_eq!(repo.state(), before);
        assert_eq!(fs::read_dir(repo.beside("small")).unwrap().count(), 0);
    }
}

#[test]
fn an_interrupted_creation_is_undone() {
    let repo = Repo::new();
    let mark = repo.beside("mark");
    repo.write(".gitattributes", "a filter=slow\n");
    repo.commit("filter");
    // Signals that it runs and waits until it is killed.
    let filter = format!("touch {}; exec sleep 60", mark.display());
    repo.git(&["config", "filter.slow.smudge", &filter]);
    let before = repo.state();
    let request = request(&repo, &repo.beside("new/w"), "x", &json!("default"));
    let mut child = command("git").process_group(0).spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &request).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !mark.exists() {
        assert!(Instant::now() < deadline, "the checkout did not begin");
        std::thread::yield_now();
    }
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let (GitAnswer::Failed(failure), _) = split(&output.stdout) else { panic!() };
    assert_eq!(failure.kind, FailureKind::Interrupted, "{failure:?}");
    assert_eq!(repo.state(), before);
    assert!(!repo.beside("new").exists());
}

#[test]
fn listed_files_are_copied_but_not_through_symlinks() {
    let repo = Repo::new();
    repo.write(".gitignore", ".env\nconf/\nlinked\nout\n");
    repo.write(".worktreeinclude", ".env\nconf/*.local\nlinked\n/a\nout\n");
    repo.write("tracked-link-target", "");
    repo.commit("ignore");
    repo.write(".env", "SECRET=1\n");
    repo.write("conf/x.local", "x");
    repo.write("conf/y", "y");
    symlink("/etc/passwd", repo.top().join("linked")).unwrap();
    // On the branch, `out` is a symlink to somewhere else.
    let outside = repo.beside("outside");
    fs::create_dir(&outside).unwrap();
    repo.git(&["checkout", "-q", "-b", "odd"]);
    symlink(&outside, repo.top().join("out")).unwrap();
    repo.git(&["add", "-f", "out"]);
    repo.git(&["commit", "-q", "-m", "odd"]);
    repo.git(&["checkout", "-q", "main"]);
    repo.write("out/file", "x");
    let added = add(&repo, "w", &json!({"rev": "odd"}));
    assert_eq!(added.copied, [".env", "conf/x.local"]);
    assert_eq!((added.n_copied, added.copied_bytes), (2, 10));
    let passed: Vec<&str> = added.not_copied.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(passed, ["linked", "out/file"]);
    let tree = repo.beside("trees/w");
    assert_eq!(fs::read_to_string(tree.join(".env")).unwrap(), "SECRET=1\n");
    assert!(fs::symlink_metadata(tree.join("linked")).is_err() && !tree.join("conf/y").exists());
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn a_removed_worktree_can_be_restored_from_the_trash() {
    let repo = Repo::new();
    add(&repo, "x", &json!("default"));
    let tree = repo.beside("trees/w");
    fs::write(tree.join("a"), "mine\n").unwrap();
    git_in(&tree, &["commit", "-q", "-am", "mine"]);
    let tip = git_in(&tree, &["rev-parse", "HEAD"]);
    fs::write(tree.join("dirty"), "d\n").unwrap();
    let risk = done(json!({"risk": {"worktree": tree, "base": "main"}}));
    let GitDone::Risk(risk) = risk else { panic!() };
    assert_eq!((risk.dirty, risk.untracked, risk.unpushed, risk.merged), (0, 1, 1, Some(false)));
    assert_eq!(risk.commits[0].subject, "mine");
    done(json!({"snapshot": {"view": crate::support::view(&tree), "kind": "before-terminate"}}));
    let removed = remove(&repo, &tree, "x");
    assert!(removed.directory && removed.branch_deleted);
    assert!(!tree.exists() && !repo.top().join(".git/worktrees").exists());
    assert_eq!(repo.git(&["branch", "--list", "x"]), "");
    assert_eq!(repo.git(&["for-each-ref", "refs/shed/ckpt"]), "");
    let GitDone::Trash(trash) = done(json!({"trash": {"repo": repo.top()}})) else { panic!() };
    assert_eq!(trash.len(), 2);
    assert_eq!(trash[0].commit, tip.trim());
    assert_eq!(repo.git(&["show", &format!("{}:dirty", trash[1].name)]), "d\n");
    // A second entry of the same name gets a number.
    repo.git(&["branch", "x"]);
    add(&repo, "y", &json!("default"));
    assert!(remove(&repo, &tree, "y").trash[0].ends_with("/w-2"));
    let restore =
        json!({"restore-trash": {"repo": repo.top(), "ref": trash[0].name, "branch": "back"}});
    done(restore.clone());
    assert_eq!(repo.git(&["rev-parse", "back"]), tip);
    assert_fails(restore, FailureKind::NotFound, "in the trash");
    let names: Vec<String> = repo
        .git(&["for-each-ref", "--format=%(refname)", "refs/shed"])
        .lines()
        .map(str::to_owned)
        .collect();
    done(json!({"drop-refs": {"repo": repo.top(), "refs": names}}));
    assert_eq!(repo.git(&["for-each-ref", "refs/shed"]), "");
}

#[test]
fn a_missing_or_broken_worktree_is_removed() {
    let repo = Repo::new();
    let tree = repo.beside("trees/w");
    add(&repo, "gone", &json!("default"));
    fs::remove_dir_all(&tree).unwrap();
    let removed = remove(&repo, &tree, "gone");
    assert!(!removed.directory && removed.branch_deleted);
    add(&repo, "broken", &json!("default"));
    fs::remove_dir_all(repo.top().join(".git/worktrees")).unwrap();
    assert!(remove(&repo, &tree, "broken").branch_deleted);
    add(&repo, "broken2", &json!("default"));
    fs::remove_file(tree.join(".git")).unwrap();
    assert!(remove(&repo, &tree, "broken2").directory);
    assert_eq!(repo.git(&["worktree", "list"]).lines().count(), 1);
    // Removing it again is no error.
    assert!(!remove(&repo, &tree, "broken2").directory);
}

#[test]
fn the_commit_of_a_detached_head_is_saved_to_the_trash() {
    let repo = Repo::new();
    add(&repo, "x", &json!("default"));
    let tree = repo.beside("trees/w");
    git_in(&tree, &["checkout", "-q", "--detach"]);
    git_in(&tree, &["commit", "-q", "--allow-empty", "-m", "lost"]);
    let head = git_in(&tree, &["rev-parse", "HEAD"]);
    let removed = remove(&repo, &tree, "x");
    let names: Vec<&str> = removed.trash.iter().map(String::as_str).collect();
    let [_, name] = names[..] else { panic!("{names:?}") };
    assert_eq!(repo.git(&["rev-parse", name]), head);
}

#[test]
fn only_worktrees_are_removed() {
    let repo = Repo::new();
    add(&repo, "x", &json!("default"));
    fs::create_dir_all(repo.beside("other/full")).unwrap();
    for (path, text) in [
        (repo.top(), "contains"),
        (repo.top().join("d"), "not a worktree"),
        (repo.beside(""), "contains"),
        (repo.beside("trees"), "not a worktree"),
        (repo.beside("other"), "not a worktree"),
        ("/".into(), "contains"),
    ] {
        assert_fails(removal(&repo, &path, "x"), FailureKind::Invalid, text);
    }
    repo.git(&["worktree", "lock", repo.beside("trees/w").to_str().unwrap()]);
    assert_fails(removal(&repo, &repo.beside("trees/w"), "x"), FailureKind::Locked, "locked");
    assert!(repo.beside("other/full").exists() && repo.beside("trees/w/a").exists());
}

#[test]
fn a_branch_that_is_checked_out_elsewhere_is_kept() {
    let repo = Repo::new();
    add(&repo, "x", &json!("default"));
    let removed = remove(&repo, &repo.beside("trees/w"), "main");
    assert!(!removed.branch_deleted && removed.branch_kept.is_some());
    assert_ne!(repo.git(&["branch", "--list", "main"]), "");
}

#[test]
fn a_checked_out_branch_can_be_renamed() {
    let repo = Repo::new();
    add(&repo, "x", &json!("default"));
    let tree = repo.beside("trees/w");
    done(json!({"rename-branch": {"worktree": tree, "from": "x", "to": "feature/y"}}));
    assert_eq!(git_in(&tree, &["branch", "--show-current"]), "feature/y\n");
    let taken = json!({"rename-branch": {"worktree": tree, "from": "feature/y", "to": "main"}});
    assert_fails(taken, FailureKind::Exists, "main");
    let gone = json!({"rename-branch": {"worktree": tree, "from": "x", "to": "z"}});
    assert_fails(gone, FailureKind::NotFound, "\"x\"");
}

#[test]
fn sizes_count_objects_that_only_checkpoints_reach() {
    let repo = Repo::new();
    repo.write("noise", noise(100_000));
    repo.snapshot();
    let ask = || match done(json!({"sizes": {"repo": repo.top(), "worktrees": [repo.top()]}})) {
        GitDone::Sizes(sizes) => sizes,
        other => panic!("{other:?}"),
    };
    let sizes = ask();
    assert!(
        sizes.checkpoint_bytes.unwrap() > 100_000 && sizes.worktrees[0].bytes > 200_000,
        "{sizes:?}"
    );
    assert_eq!(sizes.trash_bytes, Some(0));
    repo.commit("noise is work now");
    assert!(ask().checkpoint_bytes.unwrap() < 10_000);
}
