//! Changes that `skip-worktree` and `assume-unchanged` hide from git are seen, saved and restored.

use std::fs;

use serde_json::json;
use shed_link::git::GitDone;

use crate::support::{Repo, done};

const MARKS: [&str; 2] = ["--skip-worktree", "--assume-unchanged"];

#[test]
fn changes_of_a_marked_file_are_seen_saved_and_restored() {
    for mark in MARKS {
        let repo = Repo::new();
        repo.snapshot();
        repo.git(&["update-index", mark, "a"]);
        repo.write("a", "MY-EDIT\n");
        assert_eq!(repo.numbers(&json!({"at": "HEAD"})).files, 1, "{mark}");
        let risk = json!({"risk": {"worktree": repo.top()}});
        let GitDone::Risk(risk) = done(risk) else { panic!() };
        assert_eq!((risk.dirty, risk.files), (1, vec!["a".to_owned()]), "{mark}");
        let index = fs::read(repo.top().join(".git/index")).unwrap();
        let restored = repo.restore(1);
        assert_eq!((restored.n_files, repo.read("a").as_str()), (1, "one\ntwo\n"), "{mark}");
        let saved = format!("refs/shed/ckpt/s/{}:a", restored.safety.n);
        assert_eq!(repo.git(&["show", &saved]), "MY-EDIT\n", "{mark}");
        assert_eq!(fs::read(repo.top().join(".git/index")).unwrap(), index, "{mark}");
    }
}

#[test]
fn a_sparse_checkout_is_not_a_deletion() {
    let repo = Repo::new();
    repo.git(&["update-index", "--skip-worktree", "a", "d/b"]);
    fs::remove_file(repo.top().join("a")).unwrap();
    assert_eq!(repo.numbers(&json!({"at": "HEAD"})).files, 0);
    // The index is the same when the file comes back.
    repo.write("a", "LATER\n");
    assert_eq!(repo.numbers(&json!({"at": "HEAD"})).files, 1);
    repo.snapshot();
    assert_eq!(repo.git(&["show", "refs/shed/ckpt/s/1:a"]), "LATER\n");
    assert_eq!(repo.git(&["ls-tree", "-r", "--name-only", "refs/shed/ckpt/s/1"]), "a\nd/b\n");
}
