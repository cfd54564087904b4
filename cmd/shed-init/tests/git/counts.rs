//! Counting changes: it agrees with the diff and writes nothing into the repository.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use shed_api::git::{DiffNumbers, FileStatus};
use shed_link::git::{DiffSummary, GitDone};

use crate::support::{Repo, done, git_in, try_git};

fn diff(repo: &Repo, base: &Value) -> DiffSummary {
    let op = json!({"diff": {"view": repo.view(), "from": {"base": base}, "to": "worktree"}});
    match done(op) {
        GitDone::Diff(diff) => diff,
        other => panic!("{other:?}"),
    }
}

fn objects(repo: &Repo) -> Vec<String> {
    let output = repo.git(&["cat-file", "--batch-all-objects", "--batch-check"]);
    output.lines().map(str::to_owned).collect()
}

/// Counts twice, before and after a diff has written the files into the private index, and compares with the diff.
fn agree(repo: &Repo, base: &Value, what: &str) -> DiffNumbers {
    let before = objects(repo);
    let first = repo.numbers(base);
    assert_eq!(objects(repo), before, "{what}: the count wrote objects");
    let diff = diff(repo, base);
    for numbers in [&first, &repo.numbers(base)] {
        let counted = (numbers.files, numbers.insertions, numbers.deletions);
        assert_eq!(counted, (diff.n_files, diff.insertions, diff.deletions), "{what}: {diff:?}");
    }
    first
}

#[test]
fn a_count_agrees_with_the_diff_and_writes_no_objects() {
    let repo = Repo::new();
    let (main, top) = (json!({"fork": "main"}), repo.top());
    repo.write("c", "1\n2\n3\n4\n5\n6\n7\n8\n");
    repo.write(".gitignore", "ignored\n");
    repo.commit("more");
    repo.git(&["switch", "-q", "-c", "work"]);
    let path = |name: &str| top.join(name);
    let states: [(&str, &dyn Fn()); 14] = [
        ("nothing", &|| {}),
        ("changed", &|| repo.write("a", "one\n2\n")),
        ("new", &|| repo.write("new dir/n\u{e9}w\n", "x\ny\n")),
        ("same content, new time", &|| repo.write("c", "1\n2\n3\n4\n5\n6\n7\n8\n")),
        ("executable", &|| {
            fs::set_permissions(path("c"), PermissionsExt::from_mode(0o755)).unwrap();
        }),
        ("renamed", &|| fs::rename(path("c"), path("moved")).unwrap()),
        ("committed, then changed back", &|| {
            repo.write("d/b", "other\n");
            repo.commit("other");
            repo.write("d/b", "b\n");
        }),
        ("a directory in place of a file", &|| {
            fs::remove_file(path("a")).unwrap();
            repo.write("a/x", "x\n");
        }),
        ("a link in place of a directory", &|| {
            fs::remove_dir_all(path("d")).unwrap();
            symlink("moved", path("d")).unwrap();
        }),
        ("binary", &|| repo.write("bin", [0, 1, 2, 0])),
        ("staged and deleted", &|| {
            repo.write("staged", "s\n");
            repo.git(&["add", "staged"]);
            fs::remove_file(path("staged")).unwrap();
        }),
        ("to be added", &|| {
            repo.write("later", "l\n");
            repo.git(&["add", "-N", "later"]);
        }),
        ("ignored from now on", &|| repo.write(".gitignore", "ignored\nbin\n")),
        ("everything committed", &|| repo.commit("all")),
    ];
    for (what, change) in states {
        change();
        agree(&repo, &main, what);
        agree(&repo, &json!("nothing"), what);
    }
}

#[test]
fn conflicts_submodules_and_skipped_files_are_counted() {
    let repo = Repo::new();
    let main = json!({"fork": "main"});
    repo.write("large", "small\n");
    repo.commit("large");
    repo.git(&["switch", "-q", "-c", "work"]);
    repo.write("a", "mine\n");
    repo.git(&["commit", "-qam", "mine"]);
    repo.git(&["switch", "-q", "-c", "other", "main"]);
    repo.write("a", "theirs\nalso\n");
    repo.git(&["commit", "-qam", "theirs"]);
    repo.git(&["switch", "-q", "work"]);
    assert!(!try_git(&repo.top(), &["merge", "-q", "other"]).status.success());
    agree(&repo, &main, "a conflict");
    fs::remove_file(repo.top().join("a")).unwrap();
    agree(&repo, &main, "a conflict without a file");
    repo.git(&["checkout", "-q", "-f", "work"]);

    let inner = repo.top().join("inner");
    fs::create_dir(&inner).unwrap();
    git_in(&inner, &["init", "-q"]);
    git_in(&inner, &["commit", "-q", "--allow-empty", "-m", "x"]);
    agree(&repo, &main, "a repository inside");
    repo.git(&["-c", "advice.addEmbeddedRepo=false", "add", "inner"]);
    agree(&repo, &main, "a submodule");
    git_in(&inner, &["commit", "-q", "--allow-empty", "-m", "y"]);
    agree(&repo, &main, "a changed submodule");

    let view = json!({"worktree": repo.top(), "session": "s", "max_file_bytes": 100});
    let request = json!({"numbers": {"view": view, "base": main}});
    let count = || match done(request.clone()) {
        GitDone::Numbers(numbers) => numbers,
        other => panic!("{other:?}"),
    };
    let before = count();
    repo.write("large", "x\n".repeat(100));
    repo.write("huge", "x\n".repeat(100));
    let (after, objects_before) = (count(), objects(&repo));
    assert_eq!(after.files, before.files + 2);
    assert_eq!((after.skipped, after.insertions), (2, before.insertions), "{after:?}");
    assert_eq!(objects(&repo), objects_before);
}

#[test]
fn a_file_that_changes_all_the_time_does_not_fill_the_repository() {
    let repo = Repo::new();
    let main = json!({"fork": "main"});
    repo.numbers(&main);
    let before = objects(&repo);
    for n in 1..5 {
        repo.write("a", format!("{n}\n").repeat(1_000));
        repo.write("new", format!("{n}\n").repeat(500 + n));
        let numbers = repo.numbers(&main);
        assert_eq!((numbers.files, numbers.insertions), (2, 1_500 + n as u64));
    }
    assert_eq!(objects(&repo), before);
}

/// More names than fit on a command line.
#[test]
fn a_patch_of_a_directory_may_have_any_number_of_names() {
    const N_FILES: usize = 1_600;
    let repo = Repo::new();
    let part = "x".repeat(240);
    let name = |top: &str, n: usize| format!("{top}/{part}/{part}/{part}{n}");
    for n in 0..N_FILES {
        repo.write(&name("old", n), format!("line {n}\nof a file\nwith text\n"));
    }
    repo.commit("many");
    repo.git(&["switch", "-q", "-c", "work"]);
    fs::rename(repo.top().join("old"), repo.top().join("new")).unwrap();
    repo.write(&name("new", 7), "line 7\nof a file\nwith text\nand more\n");
    repo.write("elsewhere", "not in the patch\n");
    let op = json!({"diff": {"view": repo.view(), "from": {"base": {"fork": "main"}},
        "to": "worktree", "path": Path::new("new")}});
    let (answer, patch) = crate::support::ask(op);
    let patch = String::from_utf8(patch).unwrap();
    assert!(matches!(answer, shed_link::git::GitAnswer::Done(_)), "{answer:?}");
    assert_eq!(patch.matches("\nrename from old/").count(), N_FILES);
    assert_eq!(patch.matches("\n+and more\n").count(), 1);
    assert!(!patch.contains("elsewhere"));
    // A single file is shown as renamed too.
    let op = json!({"diff": {"view": repo.view(), "from": {"base": {"fork": "main"}},
        "to": "worktree", "path": name("new", 7)}});
    match done(op) {
        GitDone::Diff(diff) => assert_eq!(diff.files[0].status, FileStatus::Renamed),
        other => panic!("{other:?}"),
    }
}
