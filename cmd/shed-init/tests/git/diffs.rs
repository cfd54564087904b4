//! Counts of changes and diffs, for all kinds of bases.

use std::fs;

use serde_json::{Value, json};
use shed_api::git::FileStatus;
use shed_link::git::{DiffSummary, FailureKind, GitAnswer, GitDone};

use crate::support::{Repo, ask, assert_fails};

fn diff(request: &Value) -> (DiffSummary, String) {
    let (answer, patch) = ask(json!({"diff": request}));
    let GitAnswer::Done(done) = answer else { panic!("{answer:?}") };
    let GitDone::Diff(head) = *done else { panic!("{done:?}") };
    assert_eq!(head.patch_bytes, patch.len() as u64);
    (head, String::from_utf8_lossy(&patch).into_owned())
}

#[test]
fn untracked_files_are_counted_and_ignored_ones_are_not() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.log\n");
    repo.commit("ignore");
    repo.write("a", "one\nTWO\nthree\n");
    repo.write("new", "1\n2\n3\n");
    repo.write("bin", [0, 255]);
    repo.write("x.log", "x\n");
    fs::rename(repo.top().join("d/b"), repo.top().join("d/c")).unwrap();
    let numbers = repo.numbers(&json!({"at": "HEAD"}));
    assert_eq!((numbers.files, numbers.insertions, numbers.deletions), (4, 5, 1));
    assert_eq!(numbers.branch.as_deref(), Some("main"));
    // Again, with the existing index.
    assert_eq!(repo.numbers(&json!({"at": "HEAD"})), numbers);
}

#[test]
fn a_base_follows_its_ref() {
    let repo = Repo::cloned();
    repo.git(&["checkout", "-q", "-b", "work"]);
    repo.write("mine", "1\n");
    repo.commit("mine");
    let base = json!({"fork": "origin/main"});
    let numbers = repo.numbers(&base);
    assert_eq!((numbers.files, numbers.ahead, numbers.behind), (1, 1, 0));
    // After a push to main the files are still compared with the merge base.
    repo.git(&["checkout", "-q", "--detach", "origin/main"]);
    repo.write("theirs", "1\n");
    repo.commit("theirs");
    repo.git(&["push", "-q", "origin", "HEAD:main"]);
    repo.git(&["checkout", "-q", "work"]);
    let numbers = repo.numbers(&base);
    assert_eq!((numbers.files, numbers.ahead, numbers.behind), (1, 1, 1));
    repo.git(&["rebase", "-q", "origin/main"]);
    let numbers = repo.numbers(&base);
    assert_eq!((numbers.files, numbers.ahead, numbers.behind), (1, 1, 0));
    // A bare name is also looked up on origin.
    repo.git(&["branch", "-q", "-D", "main"]);
    assert_eq!(repo.numbers(&json!({"fork": "main"})).ahead, 1);
}

#[test]
fn counts_work_before_the_first_commit_and_with_a_detached_head() {
    let repo = Repo::empty();
    assert_eq!(repo.numbers(&json!("nothing")).files, 0);
    repo.write("x", "1\n2\n");
    let numbers = repo.numbers(&json!("nothing"));
    assert_eq!((numbers.files, numbers.insertions, numbers.ahead), (1, 2, 0));
    assert_eq!((numbers.head, numbers.base), (None, None));
    repo.commit("first");
    let numbers = repo.numbers(&json!("nothing"));
    assert_eq!((numbers.files, numbers.ahead), (1, 1));
    repo.git(&["checkout", "-q", "--detach"]);
    assert_eq!(repo.numbers(&json!({"at": "main"})).branch, None);
}

#[test]
fn a_missing_base_is_a_failure_of_its_own_kind() {
    let repo = Repo::new();
    for base in [
        json!({"at": "gone"}),
        json!({"fork": "gone"}),
        json!({"at": "1234567890123456789012345678901234567890"}),
    ] {
        let request = json!({"numbers": {"view": repo.view(), "base": base}});
        assert_fails(request, FailureKind::BaseGone, "does not exist");
    }
    repo.git(&["checkout", "-q", "--orphan", "other"]);
    repo.commit("unrelated");
    let request = json!({"numbers": {"view": repo.view(), "base": {"fork": "main"}}});
    assert_fails(request, FailureKind::BaseGone, "no commit in common");
}

#[test]
fn a_large_file_is_counted_but_not_read() {
    let repo = Repo::new();
    repo.write("large", vec![b'\n'; 5000]);
    let mut view = repo.view();
    view["max_file_bytes"] = json!(4096);
    let request = json!({"numbers": {"view": view, "base": {"at": "HEAD"}}});
    let GitDone::Numbers(numbers) = crate::support::done(request) else { panic!() };
    assert_eq!((numbers.files, numbers.insertions, numbers.skipped), (1, 0, 1));
}

#[test]
fn a_diff_lists_the_files_and_the_patch_of_any_two_sides() {
    let repo = Repo::new();
    repo.write("a", "one\n2\n");
    repo.snapshot();
    repo.write("a", "one\n3\n");
    fs::rename(repo.top().join("d/b"), repo.top().join("moved")).unwrap();
    repo.write("bin", [0, 1]);
    let (head, patch) = diff(&json!({"view": repo.view(), "from": "head", "to": "worktree"}));
    let seen: Vec<_> = head
        .files
        .iter()
        .map(|file| (file.status, file.path.as_str(), file.old_path.as_deref(), file.binary))
        .collect();
    assert_eq!(
        seen,
        [
            (FileStatus::Modified, "a", None, false),
            (FileStatus::Added, "bin", None, true),
            (FileStatus::Renamed, "moved", Some("d/b"), false),
        ]
    );
    assert!(patch.contains("-two\n+3\n") && patch.contains("rename from d/b"), "{patch}");
    let checkpoint = json!({"checkpoint": {"session": "s", "n": 1}});
    let (_, patch) =
        diff(&json!({"view": repo.view(), "from": checkpoint, "to": "worktree", "path": "a"}));
    assert!(patch.contains("-2\n+3\n") && !patch.contains("moved"), "{patch}");
    // The path of one side of a rename selects the whole rename.
    let (_, patch) =
        diff(&json!({"view": repo.view(), "from": "head", "to": "worktree", "path": "moved"}));
    assert!(patch.contains("rename from d/b") && !patch.contains("+3"), "{patch}");
    let (head, patch) = diff(
        &json!({"view": repo.view(), "from": {"base": {"at": "HEAD"}}, "to": checkpoint, "stat_only": true}),
    );
    assert_eq!((head.n_files, head.insertions, patch.as_str()), (1, 1, ""));
}

#[test]
fn the_users_settings_do_not_change_the_format_of_a_patch() {
    let repo = Repo::new();
    let trap = repo.beside("trap");
    for (key, value) in [
        ("diff.noprefix", "true"),
        ("diff.mnemonicPrefix", "true"),
        ("color.ui", "always"),
        ("diff.external", "touch"),
        ("diff.context", "0"),
        ("diff.renames", "false"),
        ("core.quotepath", "on"),
        ("diff.trap.textconv", "touch"),
    ] {
        repo.git(&["config", key, value]);
    }
    repo.git(&["config", "core.fsmonitor", &format!("touch {}", trap.display())]);
    repo.write(".git/info/attributes", "* diff=trap\n");
    repo.write("a", "one\n2\n");
    let (_, patch) = diff(&json!({"view": repo.view(), "from": "head", "to": "worktree"}));
    assert!(
        patch.starts_with("diff --git a/a b/a\n") && patch.ends_with(" one\n-two\n+2\n"),
        "{patch}"
    );
    assert!(!trap.exists(), "git ran a program from the repository's settings");
}
