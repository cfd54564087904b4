//! Diffs and checkpoints over REST, with real git.

use serde_json::{Value, json};
use shed_api::Scope;
use shed_api::git::DiffNumbers;
use shed_testing::eventually;

use crate::support::{Door, ask, get, post};

const LIST: &str = "/api/sheds/a/sessions";
const FIX: &str = "/api/sheds/a/sessions/fix";

/// A shed with a repository and a session `fix` that has a worktree of it.
async fn with_worktree() -> (Door, Value) {
    let door = Door::with_shed().await;
    let line = "git init -q -b main . && git config user.name T && \
                git config user.email t@example.com && printf 'one\\ntwo\\n' > a.txt && \
                git add -A && git commit -qm first";
    run(&door, None, line).await;
    let body = json!({ "name": "fix", "type": "worktree", "command": ["sleep", "1000"] });
    let made = door.json(post(LIST, &body.to_string()), 201).await;
    (door, made)
}

async fn run(door: &Door, directory: Option<&str>, line: &str) {
    let body = json!({ "argv": ["sh", "-c", line], "directory": directory }).to_string();
    let done = door.json(post("/api/sheds/a/exec", &body), 200).await;
    assert_eq!(done["exit"], 0, "{line}: {done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_is_returned_as_an_object_a_patch_and_numbers() {
    let (door, made) = with_worktree().await;
    let directory = made["directory"].as_str();
    run(&door, directory, "printf 'one\\n2\\n' > a.txt; echo new > 'n w.txt'").await;
    let diff = door.json(get(&format!("{FIX}/diff")), 200).await;
    assert_eq!((&diff["n_files"], &diff["insertions"]), (&2.into(), &2.into()), "{diff}");
    assert_eq!(diff["patch"][0]["path"], "a.txt");
    assert_eq!(diff["patch"][0]["hunks"][0]["lines"][1]["kind"], "deleted");
    let stat = door.json(get(&format!("{FIX}/diff?stat=true")), 200).await;
    assert_eq!((&stat["n_files"], stat.get("patch")), (&2.into(), None));
    let one = door.json(get(&format!("{FIX}/diff?path=a.txt&from=head&to=worktree")), 200).await;
    assert_eq!(one["n_files"], 1, "{one}");
    let patch = door.ask(get(&format!("{FIX}/diff?format=patch&path=a.txt"))).await;
    assert_eq!(patch.header("content-type"), Some("text/x-patch"));
    assert_eq!(patch.header("x-shed-truncated"), Some("false"));
    assert!(patch.text().contains("-two\n+2\n"), "{}", patch.text());
    let numbers = door.json(get(&format!("{FIX}/diff/numbers")), 200).await;
    assert_eq!(
        (&numbers["files"], &numbers["insertions"], &numbers["deletions"]),
        (&2.into(), &2.into(), &1.into())
    );
    let invalid = (400, "invalid-request".to_owned());
    for bad in ["from=x", "from=-1", "to=--output%3D/x", "format=html", "stat=2", "paht=a"] {
        assert_eq!(door.refused(get(&format!("{FIX}/diff?{bad}"))).await, invalid, "{bad}");
    }
    for bad in ["..%2Fx", "%2Fetc%2Fpasswd", ".git%2Fconfig"] {
        let (status, code) = door.refused(get(&format!("{FIX}/diff?path={bad}"))).await;
        assert!(matches!(status, 400 | 422), "{bad}: {status} {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_numbers_are_reported() {
    let (door, made) = with_worktree().await;
    let mut news = door.client().watch_diff("a", "fix").await.unwrap();
    let next = async |news: &mut shed_client::EventStream<DiffNumbers>| {
        tokio::time::timeout(crate::support::LIMIT, news.next()).await.unwrap().unwrap().unwrap()
    };
    assert_eq!(next(&mut news).await.files, 0);
    run(&door, made["directory"].as_str(), "echo x > new.txt").await;
    assert_eq!(next(&mut news).await.files, 1);
    // Who comes later is told what is known at once.
    let mut second = door.client().watch_diff("a", "fix").await.unwrap();
    assert_eq!(next(&mut second).await.files, 1);
    // The stream is no reason for the server to stay.
    door.test.app.close().await;
    assert!(matches!(news.next().await, Ok(None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_created_shown_restored_and_forked() {
    let (door, made) = with_worktree().await;
    let directory = made["directory"].as_str();
    let list = format!("{FIX}/checkpoints");
    assert_eq!(door.json(get(&list), 200).await, json!({ "checkpoints": [] }));
    run(&door, directory, "echo kept > a.txt").await;
    let first = door.json(post(&list, r#"{"message":"before lunch"}"#), 201).await;
    assert_eq!((&first["checkpoint"]["n"], &first["unchanged"]), (&1.into(), &false.into()));
    assert_eq!(first["checkpoint"]["message"], "before lunch");
    // Nothing changed: it is the same.
    let same = door.json(ask("POST", &list), 200).await;
    assert_eq!((&same["checkpoint"]["n"], &same["unchanged"]), (&1.into(), &true.into()));
    run(&door, directory, "echo lost > a.txt").await;
    let diff = door.json(get(&format!("{FIX}/diff?from=1")), 200).await;
    assert_eq!(diff["n_files"], 1, "{diff}");
    let shown = door.json(get(&format!("{list}/1")), 200).await;
    assert_eq!(shown, first["checkpoint"]);
    let restore = post(&format!("{list}/1/restore"), r#"{"paths":["a.txt"]}"#);
    let restored = door.json(restore, 200).await;
    assert_eq!((&restored["n_files"], &restored["safety"]["n"]), (&1.into(), &2.into()));
    run(&door, directory, "grep -qx kept a.txt").await;
    let body = r#"{"name":"second","command":["sleep","1000"]}"#;
    let fork = door.json(post(&format!("{list}/2/fork"), body), 201).await;
    assert_eq!((&fork["name"], &fork["type"]), (&"second".into(), &"worktree".into()), "{fork}");
    run(&door, fork["directory"].as_str(), "grep -qx lost a.txt").await;
    let all = door.json(get(&list), 200).await;
    assert_eq!(all["checkpoints"].as_array().unwrap().len(), 2);
    for request in [
        get(&format!("{list}/9")),
        ask("POST", &format!("{list}/9/restore")),
        post(&format!("{list}/9/fork"), "{}"),
    ] {
        let (status, code) = door.refused(request.clone()).await;
        assert_eq!(status, 404, "{request:?}: {code}");
    }
    let bad = r#"{"paths":["../x"]}"#;
    let (status, _) = door.refused(post(&format!("{list}/1/restore"), bad)).await;
    assert!(matches!(status, 400 | 422), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_a_deletion_would_lose_is_reported_and_the_deletion_refused() {
    let (door, made) = with_worktree().await;
    let directory = made["directory"].as_str();
    let none = door.json(get(&format!("{FIX}/risk")), 200).await;
    assert_eq!((&none["dirty"], &none["unpushed"]), (&0.into(), &0.into()));
    run(&door, directory, "echo more >> a.txt; git commit -qam mine; echo x > new.txt").await;
    let token = door.token(Scope::Read, &[]).await;
    let risk = door.ask_tcp(get(&format!("{FIX}/risk")).token(&token)).await.json();
    assert_eq!((&risk["untracked"], &risk["unpushed"]), (&1.into(), &1.into()), "{risk}");
    assert_eq!(risk["commits"][0]["subject"], "mine");
    let lost = (409, "work-would-be-lost".to_owned());
    assert_eq!(door.refused(ask("DELETE", FIX)).await, lost);
    assert_eq!(door.ask(ask("DELETE", &format!("{FIX}?force=true"))).await.status, 204);
    eventually("its end", async || (door.ask(get(FIX)).await.status == 404).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_branch_names_are_refused() {
    let (door, _) = with_worktree().await;
    let canary = door.test.dir().join("canary");
    let evil = format!("x;touch${{IFS}}{}", canary.display());
    for branch in ["-x", "../x", "a..b", "a b", "x.lock", "@{1}", "", "a\u{1b}", evil.as_str()] {
        let body = json!({ "type": "worktree", "branch": branch }).to_string();
        let reply = door.ask(post(LIST, &body)).await;
        let patched =
            door.ask(ask("PATCH", FIX).json(&json!({ "branch": branch }).to_string())).await;
        if branch == evil {
            // git takes it; nobody else reads it.
            continue;
        }
        for reply in [reply, patched] {
            assert!(matches!(reply.status, 400 | 422), "{branch:?}: {}", reply.text());
        }
    }
    for base in ["--upload-pack=x", "pr/x", "pr/-1", "$(id)"] {
        let body = json!({ "name": "other", "type": "worktree", "base": base }).to_string();
        let reply = door.ask(post(LIST, &body)).await;
        assert!(matches!(reply.status, 400 | 404 | 422), "{base:?}: {}", reply.text());
        assert_eq!(door.ask(get(&format!("{LIST}/other"))).await.status, 404, "{base:?}");
    }
    assert!(!canary.exists());
}
