//! Names that look like options, formats, paths or commands, and invalid requests.

use std::fs;

use serde_json::{Value, json};
use shed_link::git::{FailureKind, GitAnswer, GitDone, GitFailure, MAX_GIT_REQUEST_BYTES};

use crate::support::{Repo, ask_bytes, done, os, split};

fn refused(request: &[u8]) -> GitFailure {
    match split(&ask_bytes(request)).0 {
        GitAnswer::Failed(failure) => failure,
        GitAnswer::Done(done) => panic!("{done:?}"),
    }
}

#[test]
fn an_invalid_request_is_refused_with_a_message() {
    for request in [b"".as_slice(), b"{", b"null\n", b"{\"run\":{}}", b"\xff\n"] {
        assert_eq!(refused(request).kind, FailureKind::Invalid);
    }
    let long = vec![b' '; MAX_GIT_REQUEST_BYTES + 1];
    assert!(refused(&long).text.contains("at most"));
}

#[test]
fn names_that_look_like_options_or_leave_their_directory_never_reach_git() {
    let repo = Repo::new();
    let before = repo.state();
    let top = repo.top();
    let view = repo.view();
    for bad in
        ["-x", "--upload-pack=touch", "../x", "a..b", "a\nb", "a\0b", "a b", "x.lock", "@{u}", ""]
    {
        let mut session = view.clone();
        session["session"] = json!(bad);
        let requests: [Value; 9] = [
            json!({"add-worktree": {"repo": top, "path": "/nonexistent/w", "branch": bad, "base": "default"}}),
            json!({"add-worktree": {"repo": top, "path": "/nonexistent/w", "branch": "x", "base": {"rev": bad}}}),
            json!({"rename-branch": {"worktree": top, "from": "main", "to": bad}}),
            json!({"numbers": {"view": view, "base": {"at": bad}}}),
            json!({"numbers": {"view": session, "base": {"at": "HEAD"}}}),
            json!({"snapshot": {"view": view, "kind": bad}}),
            json!({"checkpoints": {"repo": top, "session": bad}}),
            json!({"drop-refs": {"repo": top, "refs": [format!("refs/shed/{bad}")]}}),
            json!({"risk": {"worktree": top, "base": bad}}),
        ];
        for request in requests {
            // A dash is only special at the start of the name.
            if bad.starts_with('-') && request.get("drop-refs").is_some() {
                continue;
            }
            let failure = refused(&serde_json::to_vec(&request).unwrap());
            assert_eq!(failure.kind, FailureKind::Invalid, "{request}: {failure:?}");
        }
    }
    for bad in ["refs/heads/main", "main", "refs/shed/../heads/main"] {
        let request = json!({"drop-refs": {"repo": top, "refs": [bad]}});
        assert_eq!(refused(&serde_json::to_vec(&request).unwrap()).kind, FailureKind::Invalid);
    }
    for bad in ["relative", "/a/../b", "", "/a\nb"] {
        let request = json!({"facts": {"directory": bad}});
        assert_eq!(refused(&serde_json::to_vec(&request).unwrap()).kind, FailureKind::Invalid);
    }
    assert_eq!(repo.state(), before);
}

#[test]
fn files_with_any_name_are_saved_listed_and_restored() {
    let repo = Repo::new();
    let names: [&[u8]; 10] = [
        b"-x",
        b"#(touch pwned)",
        b"$(touch pwned)",
        b"a\nb",
        b"\"q\"",
        b"'",
        b"\xff\xfe",
        b":(top)x",
        b"*",
        b"\x1b[31m",
    ];
    for name in names {
        fs::write(repo.top().join(os(name)), name).unwrap();
    }
    let taken = repo.snapshot();
    assert_eq!(taken.n_skipped, 0);
    let request =
        json!({"diff": {"view": repo.view(), "from": "head", "to": "worktree", "stat_only": true}});
    let GitDone::Diff(head) = done(request) else { panic!() };
    assert_eq!(head.n_files, names.len() as u64);
    let shown: Vec<&str> = head.files.iter().map(|file| file.path.as_str()).collect();
    assert!(
        shown.contains(&"\"\\377\\376\"")
            && shown.contains(&"-x")
            && shown.contains(&"\"\\033[31m\""),
        "{shown:?}"
    );
    // Each file can be selected by the name under which it is listed.
    for path in &shown {
        let request =
            json!({"diff": {"view": repo.view(), "from": "head", "to": "worktree", "path": path}});
        let GitDone::Diff(one) = done(request) else { panic!() };
        assert_eq!(one.n_files, 1, "{path}");
    }
    for name in names {
        fs::remove_file(repo.top().join(os(name))).unwrap();
    }
    assert_eq!(repo.restore(1).n_files, names.len() as u64);
    for name in names {
        assert_eq!(fs::read(repo.top().join(os(name))).unwrap(), name);
    }
    assert!(!repo.top().join("pwned").exists());
}

#[test]
fn operations_run_no_hooks_of_the_repository() {
    let repo = Repo::new();
    for hook in ["post-checkout", "reference-transaction", "pre-commit", "post-index-change"] {
        let path = repo.top().join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\ntouch {}\n", repo.beside("ran").display())).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    repo.write("a", "x");
    repo.snapshot();
    let path = repo.beside("w");
    done(
        json!({"add-worktree": {"repo": repo.top(), "path": path, "branch": "x", "base": "default"}}),
    );
    assert!(!repo.beside("ran").exists());
}

#[test]
fn the_facts_of_a_directory_without_a_repository_say_so() {
    let repo = Repo::new();
    let GitDone::Facts(facts) = done(json!({"facts": {"directory": repo.beside("")}})) else {
        panic!()
    };
    assert!(!facts.repository);
    let GitDone::Facts(facts) = done(json!({"facts": {"directory": repo.top().join("d")}})) else {
        panic!()
    };
    assert_eq!(facts.toplevel.as_deref(), repo.top().to_str());
    assert_eq!(facts.default_branch.as_deref(), Some("refs/heads/main"));
    repo.git(&["remote", "add", "origin", "https://me:secret@example.com/x.git"]);
    let GitDone::Facts(facts) = done(json!({"facts": {"directory": repo.top()}})) else { panic!() };
    assert_eq!(facts.remotes[0].url, "https://example.com/x.git");
}
