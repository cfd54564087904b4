//! Checkpoints contain all files. Restores only touch files that differ, and lose nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use serde_json::json;
use shed_api::git::SkipReason;
use shed_link::git::{FailureKind, GitDone};

use crate::support::{Mount, Repo, assert_fails, done, failed, git_in, noise, os};

#[test]
fn a_checkpoint_contains_untracked_files_and_does_not_change_the_index() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.log\n");
    repo.write("new", "n");
    repo.write("x.log", "ignored");
    repo.write("a", "staged\n");
    repo.git(&["add", "a"]);
    repo.write("a", "later\n");
    let index = fs::read(repo.top().join(".git/index")).unwrap();
    let status = repo.git(&["--no-optional-locks", "status", "--short"]);
    let taken = repo.snapshot();
    assert_eq!((taken.checkpoint.n, taken.unchanged), (1, false));
    assert_eq!(fs::read(repo.top().join(".git/index")).unwrap(), index);
    assert_eq!(repo.git(&["--no-optional-locks", "status", "--short"]), status);
    let names = repo.git(&["ls-tree", "-r", "--name-only", "refs/shed/ckpt/s/1"]);
    assert_eq!(names, ".gitignore\na\nd/b\nnew\n");
    assert_eq!(repo.git(&["show", "refs/shed/ckpt/s/1:a"]), "later\n");
    let staged = taken.checkpoint.index_tree.unwrap();
    assert_eq!(repo.git(&["show", &format!("{staged}:a")]), "staged\n");
    assert_eq!(taken.checkpoint.branch.as_deref(), Some("main"));
    // The same state is the same checkpoint. Another state has it as a parent.
    assert!(repo.snapshot().unchanged);
    repo.write("new", "m");
    let second = repo.snapshot().checkpoint;
    assert_eq!(second.n, 2);
    let parents = repo.git(&["rev-parse", "refs/shed/ckpt/s/2^1", "refs/shed/ckpt/s/2^2"]);
    let head = repo.git(&["rev-parse", "HEAD"]);
    assert_eq!(parents, format!("{head}{}\n", taken.checkpoint.commit));
}

#[test]
fn a_file_that_becomes_ignored_is_not_in_the_next_checkpoint() {
    let repo = Repo::new();
    repo.write("x.log", "x");
    repo.snapshot();
    repo.write(".gitignore", "*.log\n");
    repo.snapshot();
    assert_eq!(
        repo.git(&["ls-tree", "-r", "--name-only", "refs/shed/ckpt/s/2"]),
        ".gitignore\na\nd/b\n"
    );
}

#[test]
fn a_change_of_the_same_size_and_time_as_the_index_is_noticed() {
    let repo = Repo::new();
    repo.git(&["config", "core.trustctime", "false"]);
    let then = SystemTime::now() - Duration::from_secs(60);
    let stamp = |name: &str| {
        let file = fs::File::options().append(true).open(repo.top().join(name)).unwrap();
        file.set_modified(then).unwrap();
    };
    repo.write("a", "000\n");
    stamp("a");
    repo.git(&["add", "a"]);
    repo.write("a", "111\n");
    stamp("a");
    stamp(".git/index");
    repo.snapshot();
    assert_eq!(repo.git(&["show", "refs/shed/ckpt/s/1:a"]), "111\n");
}

#[test]
fn files_over_the_limit_and_nested_repositories_are_skipped_and_reported() {
    let repo = Repo::new();
    repo.write("large", vec![0_u8; 4097]);
    repo.write("fits", vec![0_u8; 4096]);
    repo.write("a", "x".repeat(5000));
    fs::create_dir(repo.top().join("nested")).unwrap();
    git_in(&repo.top().join("nested"), &["init", "-q"]);
    let mut view = repo.view();
    view["max_file_bytes"] = json!(4096);
    let GitDone::Snapshot(taken) = done(json!({"snapshot": {"view": view, "kind": "timer"}}))
    else {
        panic!();
    };
    let skipped: Vec<_> =
        taken.skipped.iter().map(|file| (file.path.as_str(), file.bytes, file.reason)).collect();
    assert_eq!(
        skipped,
        [
            ("a", 5000, SkipReason::TooLarge),
            ("large", 4097, SkipReason::TooLarge),
            ("nested", 0, SkipReason::Repository)
        ]
    );
    assert_eq!(taken.checkpoint.skipped, 3);
    // The tracked file keeps its committed content.
    assert_eq!(repo.git(&["show", "refs/shed/ckpt/s/1:a"]), "one\ntwo\n");
    assert_eq!(repo.git(&["ls-tree", "-r", "--name-only", "refs/shed/ckpt/s/1"]), "a\nd/b\nfits\n");
    // A restore does not overwrite a file that is not in the safety checkpoint.
    repo.write("a", "small\n");
    repo.snapshot();
    repo.write("a", "y".repeat(5000));
    let restore = json!({"restore": {"view": view, "from": "s", "n": 2}});
    let GitDone::Restored(restored) = done(restore) else { panic!() };
    assert!(restored.kept.iter().any(|file| file.path == "a"), "{restored:?}");
    assert_eq!(repo.read("a"), "y".repeat(5000));
}

#[test]
fn a_restore_restores_every_kind_of_file() {
    let repo = Repo::new();
    repo.write(".gitignore", "ignored\n");
    repo.write("run.sh", "#!/bin/sh\n");
    fs::set_permissions(repo.top().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a", repo.top().join("link")).unwrap();
    repo.write("bin", [0, 1, 2, 255, 10, 0]);
    repo.write("will-be-directory", "file\n");
    repo.write("will-be-file/x", "x\n");
    repo.write("renamed", "some text that is long enough\n");
    fs::write(repo.top().join(os(b"\xff\n\"")), "odd").unwrap();
    let first = repo.snapshot().checkpoint;

    fs::set_permissions(repo.top().join("run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(repo.top().join("link")).unwrap();
    repo.write("link", "no link");
    fs::remove_file(repo.top().join("will-be-directory")).unwrap();
    repo.write("will-be-directory/y/z", "z");
    fs::remove_dir_all(repo.top().join("will-be-file")).unwrap();
    repo.write("will-be-file", "f");
    fs::rename(repo.top().join("renamed"), repo.top().join("other")).unwrap();
    fs::remove_file(repo.top().join(os(b"\xff\n\""))).unwrap();
    repo.write("bin", [9, 0]);
    repo.write("ignored", "kept");
    repo.write("d/new/deep", "x");
    repo.git(&["add", "d"]);
    let (head, index) =
        (repo.git(&["rev-parse", "HEAD"]), fs::read(repo.top().join(".git/index")).unwrap());

    let restored = repo.restore(1);
    assert_eq!(restored.n_kept, 0, "{restored:?}");
    assert_eq!(restored.safety.kind, "before-restore");
    let mode = fs::metadata(repo.top().join("run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    assert_eq!(fs::read_link(repo.top().join("link")).unwrap().to_str(), Some("a"));
    assert_eq!(fs::read(repo.top().join("bin")).unwrap(), [0, 1, 2, 255, 10, 0]);
    assert_eq!(repo.read("will-be-directory"), "file\n");
    assert_eq!(repo.read("will-be-file/x"), "x\n");
    assert!(!repo.top().join("other").exists() && !repo.top().join("d/new").exists());
    assert_eq!(fs::read(repo.top().join(os(b"\xff\n\""))).unwrap(), b"odd");
    assert_eq!(repo.read("ignored"), "kept");
    assert_eq!(repo.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(fs::read(repo.top().join(".git/index")).unwrap(), index);
    let again = repo.snapshot().checkpoint;
    assert_eq!(again.tree, first.tree);
    // The safety checkpoint restores the previous state.
    repo.restore(restored.safety.n);
    assert_eq!(repo.read("will-be-directory/y/z"), "z");
    assert_eq!(repo.read("link"), "no link");
}

#[test]
fn ignored_files_in_place_of_restored_ones_are_not_touched() {
    let repo = Repo::new();
    repo.write("cache", "a file\n");
    repo.write("dir/x", "x\n");
    repo.write("plain", "p\n");
    repo.snapshot();
    fs::remove_file(repo.top().join("cache")).unwrap();
    fs::remove_dir_all(repo.top().join("dir")).unwrap();
    fs::remove_file(repo.top().join("plain")).unwrap();
    let outside = repo.beside("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, repo.top().join("dir")).unwrap();
    repo.write("cache/precious", "p");
    repo.write("plain", "ignored now");
    repo.write(".gitignore", "cache\ndir\nplain\n");
    let restored = repo.restore(1);
    let kept: Vec<&str> = restored.kept.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(kept, ["cache", "dir/x", "plain"]);
    assert_eq!(repo.read("cache/precious"), "p");
    assert_eq!(repo.read("plain"), "ignored now");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn only_the_named_files_are_restored() {
    let repo = Repo::new();
    repo.write("d/c", "1");
    repo.snapshot();
    repo.write("a", "changed\n");
    repo.write("d/c", "2");
    repo.write("dd", "new");
    let request = json!({"restore": {"view": repo.view(), "from": "s", "n": 1, "paths": ["d"]}});
    let GitDone::Restored(restored) = done(request) else { panic!() };
    assert_eq!(restored.n_files, 1);
    assert_eq!(
        (repo.read("a"), repo.read("d/c"), repo.read("dd")),
        ("changed\n".into(), "1".into(), "new".into())
    );
}

#[test]
fn a_submodule_goes_back_to_its_commit_unless_something_would_be_lost() {
    let (repo, other) = (Repo::new(), Repo::new());
    let url = other.top();
    let words = [
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        url.to_str().unwrap(),
        "sub",
    ];
    repo.git(&words);
    repo.commit("submodule");
    repo.snapshot();
    // A submodule that did not change is a path of the checkpoint.
    let named = json!({"restore": {"view": repo.view(), "from": "s", "n": 1, "paths": ["sub"]}});
    assert!(matches!(done(named), GitDone::Restored(done) if done.n_files == 0));
    let sub = repo.top().join("sub");
    git_in(&sub, &["commit", "-q", "--allow-empty", "-m", "moved"]);
    let moved = git_in(&sub, &["rev-parse", "HEAD"]);
    repo.write("a", "x\n");
    let kept = |restored: shed_link::git::Restored| {
        assert_eq!(restored.kept[0].path, "sub");
        assert_eq!(git_in(&sub, &["rev-parse", "HEAD"]), moved);
        restored.kept[0].reason.clone()
    };
    repo.write("sub/new", "x");
    assert_eq!(kept(repo.restore(1)), "it is a submodule with changed files");
    assert_eq!(repo.read("a"), "one\ntwo\n");
    fs::remove_file(sub.join("new")).unwrap();
    git_in(&sub, &["checkout", "-q", "--detach"]);
    git_in(&sub, &["branch", "-q", "-D", "main"]);
    assert_eq!(kept(repo.restore(1)), "it is a submodule whose commit is on no branch");
    git_in(&sub, &["branch", "-q", "mine"]);
    let restored = repo.restore(1);
    assert_eq!((restored.n_kept, restored.files[0].path.as_str()), (0, "sub"));
    assert_ne!(git_in(&sub, &["rev-parse", "HEAD"]), moved);
    assert_eq!(git_in(&sub, &["rev-parse", "mine"]), moved);
}

#[test]
fn checkpoints_work_before_the_first_commit_and_with_a_detached_head() {
    let repo = Repo::empty();
    repo.write("x", "x");
    let taken = repo.snapshot().checkpoint;
    assert_eq!((taken.head, taken.branch.as_deref()), (None, Some("main")));
    fs::remove_file(repo.top().join("x")).unwrap();
    repo.restore(1);
    assert_eq!(repo.read("x"), "x");
    repo.commit("first");
    repo.git(&["checkout", "-q", "--detach"]);
    repo.write("x", "y");
    assert_eq!(repo.snapshot().checkpoint.branch, None);
}

#[test]
fn checkpoints_are_listed_with_kind_and_message() {
    let repo = Repo::new();
    let message = "before the rewrite\n\nShed-Kind: forged\u{1b}";
    done(json!({"snapshot": {"view": repo.view(), "kind": "prompt", "message": message}}));
    repo.git(&["update-ref", "refs/shed/ckpt/s/01", "HEAD"]);
    repo.git(&["update-ref", "refs/shed/ckpt/s/x", "HEAD"]);
    let list = done(json!({"checkpoints": {"repo": repo.top(), "session": "s"}}));
    let GitDone::Checkpoints(list) = list else { panic!() };
    let [one] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!((one.n, one.kind.as_str()), (1, "prompt"));
    assert_eq!(one.message, "before the rewrite\n\nShed-Kind: forged\u{fffd}");
    let missing = json!({"restore": {"view": repo.view(), "from": "s", "n": 9}});
    assert_fails(missing, FailureKind::NotFound, "no checkpoint 9");
}

#[test]
fn a_full_disk_is_reported_and_leaves_no_partial_checkpoint() {
    let repo = Repo::new();
    let work = repo.beside("small");
    let Some(_mount) = Mount::tmpfs(&work, "size=1m") else { return };
    git_in(&work, &["init", "-q", "-b", "main"]);
    fs::write(work.join("a"), "a").unwrap();
    git_in(&work, &["add", "a"]);
    git_in(&work, &["commit", "-q", "-m", "first"]);
    // The file fits on the disk, but not together with its object.
    fs::write(work.join("noise"), noise(600_000)).unwrap();
    let view = crate::support::view(&work);
    let failure = failed(json!({"snapshot": {"view": view, "kind": "manual"}}));
    assert_eq!(failure.kind, FailureKind::NoSpace, "{failure:?}");
    assert_eq!(git_in(&work, &["for-each-ref", "refs/shed"]), "");
    fs::remove_file(work.join("noise")).unwrap();
    let GitDone::Snapshot(taken) = done(json!({"snapshot": {"view": view, "kind": "manual"}}))
    else {
        panic!();
    };
    assert_eq!(taken.checkpoint.n, 1);
}

#[test]
fn a_path_that_no_state_has_is_refused() {
    let repo = Repo::new();
    repo.write("gone", "g");
    repo.snapshot();
    fs::remove_file(repo.top().join("gone")).unwrap();
    repo.write("a", "mine\n");
    repo.write("new", "n");
    let restore = |paths: &[&str]| json!({"restore": {"view": repo.view(), "from": "s", "n": 1, "paths": paths}});
    // All or nothing: the other path stays as it is.
    let failure = failed(restore(&["a", "nosuch"]));
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert!(failure.text.contains("nosuch"), "{failure:?}");
    assert_eq!(fs::read_to_string(repo.top().join("a")).unwrap(), "mine\n");
    // Unchanged, changed, removed and added files and directories are known.
    for (paths, expected) in [(&["d", "d/b"][..], 0), (&["a", "gone", "new"], 3)] {
        let GitDone::Restored(restored) = done(restore(paths)) else { panic!() };
        assert_eq!(restored.n_files, expected, "{paths:?}");
    }
}
