//! What new worktrees contain beside the branch, and what they say that they lack.

use std::fs;
use std::path::Path;

use serde_json::json;
use shed_link::git::{AddedWorktree, GitDone, MAX_INCLUDED_FILES};

use crate::support::{Repo, done, git_in};

fn add(repo: &Repo, branch: &str) -> AddedWorktree {
    let path = repo.beside("trees").join(branch);
    let request = json!({"repo": repo.top(), "path": path, "branch": branch, "base": "default"});
    match done(json!({"add-worktree": request})) {
        GitDone::Worktree(added) => added,
        other => panic!("{other:?}"),
    }
}

/// A repository with a commit of `file`, outside of the one that is tested.
fn other(repo: &Repo, name: &str) -> String {
    let path = repo.beside(name);
    fs::create_dir(&path).unwrap();
    git_in(&path, &["init", "-q", "-b", "main"]);
    fs::write(path.join("file"), name).unwrap();
    git_in(&path, &["add", "-A"]);
    git_in(&path, &["commit", "-q", "-m", "first"]);
    path.to_str().unwrap().to_owned()
}

const FILES: [&str; 2] = ["-c", "protocol.file.allow=always"];

fn add_submodule(top: &Path, url: &str, path: &str) {
    git_in(top, &[&FILES[..], &["submodule", "--quiet", "add", url, path]].concat());
    git_in(top, &["commit", "-q", "-m", path]);
}

#[test]
fn submodules_are_checked_out_from_the_repositorys_own_copies() {
    let repo = Repo::new();
    let (inner, outer) = (other(&repo, "inner"), other(&repo, "outer"));
    add_submodule(Path::new(&outer), &inner, "in");
    add_submodule(&repo.top(), &outer, "libs/outer");
    git_in(
        &repo.top(),
        &[&FILES[..], &["submodule", "update", "-q", "--init", "--recursive"]].concat(),
    );
    // What they were cloned from cannot be reached any more.
    for url in [&inner, &outer] {
        fs::rename(url, format!("{url}-moved")).unwrap();
    }
    let added = add(&repo, "x");
    assert_eq!(added.notes, Vec::<String>::new());
    let tree = repo.beside("trees/x/libs/outer");
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "outer");
    assert_eq!(fs::read_to_string(tree.join("in/file")).unwrap(), "inner");
    assert_eq!(git_in(&tree, &["remote", "get-url", "origin"]).trim(), outer, "not the copy");
}

#[test]
fn a_submodule_that_cannot_be_fetched_is_named_and_the_others_are_there() {
    let repo = Repo::new();
    let (gone, there) = (other(&repo, "gone"), other(&repo, "there"));
    add_submodule(&repo.top(), &gone, "a-gone");
    add_submodule(&repo.top(), &there, "there");
    fs::remove_dir_all(repo.top().join(".git/modules/a-gone")).unwrap();
    fs::remove_dir_all(&gone).unwrap();
    let added = add(&repo, "x");
    assert_eq!(added.notes.len(), 2, "{:?}", added.notes);
    assert!(added.notes[0].starts_with("submodule a-gone is empty: fatal: "), "{:?}", added.notes);
    assert!(added.notes[1].ends_with("git submodule update --init --recursive"));
    let tree = repo.beside("trees/x");
    assert_eq!(fs::read_to_string(tree.join("there/file")).unwrap(), "there");
    assert_eq!(git_in(&tree, &["status", "--porcelain"]), "");
}

#[test]
fn files_of_lfs_that_cannot_be_fetched_stay_pointers() {
    let repo = Repo::new();
    repo.write(".gitattributes", "*.bin filter=lfs\n");
    repo.write("big.bin", "version https://git-lfs.github.com/spec/v1\n");
    repo.commit("pointer");
    repo.git(&["config", "filter.lfs.clean", "cat"]);
    repo.git(&["config", "filter.lfs.smudge", "echo 'Smudge error' >&2; false"]);
    repo.git(&["config", "filter.lfs.required", "true"]);
    let added = add(&repo, "x");
    assert!(added.notes[0].contains("are pointers"), "{:?}", added.notes);
    let tree = repo.beside("trees/x");
    assert!(fs::read_to_string(tree.join("big.bin")).unwrap().starts_with("version "));
    assert_eq!(git_in(&tree, &["status", "--porcelain"]), "");
}

#[test]
fn another_filter_that_fails_still_fails() {
    let repo = Repo::new();
    repo.write(".gitattributes", "a filter=strict\n");
    repo.commit("filter");
    repo.git(&["config", "filter.strict.smudge", "false"]);
    repo.git(&["config", "filter.strict.required", "true"]);
    let path = repo.beside("trees/x");
    let request = json!({"repo": repo.top(), "path": path, "branch": "x", "base": "default"});
    crate::support::failed(json!({"add-worktree": request}));
    assert!(!path.exists());
}

#[test]
fn an_entry_that_does_not_fit_is_not_copied_at_all() {
    let repo = Repo::new();
    repo.write(".gitignore", "deps/\n.env\nconf/\n");
    repo.write(".worktreeinclude", "# for agents\ndeps/\n.env\nconf/*\n!conf/secret\n");
    repo.commit("ignore");
    for n in 0..=MAX_INCLUDED_FILES {
        repo.write(&format!("deps/{n}"), "");
    }
    repo.write(".env", "A=1\n");
    repo.write("conf/local", "x");
    repo.write("conf/secret", "x");
    let added = add(&repo, "x");
    assert_eq!(added.copied, [".env", "conf/local"]);
    let left: Vec<&str> = added.not_copied.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((left, added.n_not_copied), (vec!["deps/"], 1));
    let reason = &added.not_copied[0].reason;
    assert!(reason.starts_with("2001 files with 0 bytes; at most 2000 files"), "{reason}");
    assert!(!repo.beside("trees/x/deps").exists());
}
