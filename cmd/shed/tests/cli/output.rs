//! `shed output`.

use crate::support::{TestEnv, ended, started, until};
use shed_testing::eventually;

/// An environment with a session `work` whose worker has run this line and exited.
async fn with_output(line: &str) -> TestEnv {
    let env = TestEnv::new().await;
    let ran = env.run(&["run", "a", "--name", "work", "--", "sh", "-c", line]).await;
    assert_eq!(ran.status, 0, "{ran:?}");
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_printed_exactly_from_any_offset() {
    let env = with_output(r"printf 'one\ntwo\nthree\n\377'").await;
    let all = b"one\r\ntwo\r\nthree\r\n\xff";
    let printed = async |words: &[&str]| {
        let output = env.run(&[&["output", "a", "work"], words].concat()).await;
        assert_eq!(output.status, 0, "{output:?}");
        output.stdout
    };
    assert_eq!(printed(&[]).await, all);
    assert_eq!(printed(&["sh"]).await, all);
    assert_eq!(printed(&["sh", "--from", "5"]).await, all[5..]);
    assert_eq!(printed(&["--from", "1000"]).await, b"");
    assert_eq!(printed(&["-n", "2"]).await, all[10..]);
    assert_eq!(printed(&["-n", "0"]).await, b"");
    // The worker has exited: there is nothing to wait for.
    assert_eq!(printed(&["--follow"]).await, all);
    assert_eq!(printed(&["--follow", "-n", "2"]).await, all[10..]);
    let id = env.run(&["workers", "list", "a", "work", "--json"]).await.json();
    let id = id["workers"][0]["id"].as_str().unwrap();
    assert_eq!(printed(&[id]).await, all);
    let page = env.run(&["output", "a", "work", "--json"]).await.json();
    assert_eq!((&page["start"], &page["end"]), (&0.into(), &18.into()));
    assert!(page["base64"].is_string(), "{page}");
    env.run(&["output", "a", "work", "none"]).await.fails(3);
    env.run(&["output", "a", "none"]).await.fails(3);
    env.run(&["output", "a", "work", "../x"]).await.fails(2);
    for bad in [&["--follow", "--cast"][..], &["--lines", "1", "--from", "1"], &["--from", "-1"]] {
        env.run(&[&["output", "a", "work"], bad].concat()).await.fails(2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_prints_new_output_until_the_worker_exits() {
    let env = TestEnv::new().await;
    let line = "echo one; while read word; do echo \"got $word\"; done";
    env.run(&["run", "a", "-d", "--name", "work", "--", "sh", "-c", line]).await.ok();
    let mut child = started(env.shed(&["output", "a", "work", "--follow"]));
    let mut seen = until(child.stdout.as_mut().unwrap(), "one").await;
    env.run(&["sessions", "send", "a", "work", "--enter", "x"]).await.ok();
    seen += &until(child.stdout.as_mut().unwrap(), "got x\r\n").await;
    env.run(&["sessions", "send", "a", "work", "--keys", "C-d"]).await.ok();
    let output = ended(child).await;
    assert_eq!(output.status, 0, "{output:?}");
    seen += output.ok();
    assert_eq!(env.run(&["output", "a", "work"]).await.ok(), seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ends_when_the_session_is_deleted() {
    let env = TestEnv::new().await;
    let line = "echo one; exec sleep 1000";
    env.run(&["run", "a", "-d", "--name", "work", "--", "sh", "-c", line]).await.ok();
    let mut child = started(env.shed(&["output", "a", "work", "--follow"]));
    until(child.stdout.as_mut().unwrap(), "one").await;
    env.run(&["sessions", "delete", "a", "work"]).await.ok();
    assert_eq!(ended(child).await.status, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn search_ignores_escape_sequences() {
    let env = with_output(r"printf 'x\033[31mneedle\033[0m\nhay\nneedle 2\n'").await;
    let found = env.run(&["output", "a", "work", "--search", "needle"]).await;
    assert_eq!(found.ok(), "6\txneedle\n23\tneedle 2\n");
    let later = env.run(&["output", "a", "work", "--search", "needle", "--from", "23"]).await;
    assert_eq!(later.ok(), "23\tneedle 2\n");
    let json = env.run(&["output", "a", "work", "--search", "hay", "--json"]).await.json();
    assert_eq!(json["line"], "hay", "{json}");
    // Status 1 when nothing is found.
    let none = env.run(&["output", "a", "work", "--search", "absent"]).await;
    assert_eq!((none.status, none.stdout.len(), none.stderr.as_str()), (1, 0, ""));
    env.run(&["output", "a", "work", "--search", ""]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn cast_prints_a_recording() {
    let env = with_output("echo hello").await;
    let cast = env.run(&["output", "a", "work", "--cast"]).await;
    let mut lines = cast.ok().lines();
    let head: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(head["version"], 2, "{head}");
    let shown: Vec<serde_json::Value> =
        lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(shown.iter().any(|event| event[1] == "o" && event[2] == "hello\r\n"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_workers_has_no_output() {
    let env = TestEnv::new().await;
    env.run(&["exec", "a", "tmux", "new-session", "-d", "-s", "unmanaged", "cat"]).await.ok();
    eventually("the session", async || {
        (env.run(&["sessions", "show", "a", "unmanaged"]).await.status == 0).then_some(())
    })
    .await;
    let output = env.run(&["output", "a", "unmanaged"]).await;
    assert!(output.fails(3).contains("shed sessions capture a unmanaged"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_when_the_session_is_renamed() {
    let env = TestEnv::new().await;
    for (old, names_worker) in [("first", false), ("second", true)] {
        let line = format!("echo one; until test -e {old}; do sleep 0.02; done; echo two");
        env.run(&["run", "a", "--name", old, "-d", "--", "sh", "-c", &line]).await.ok();
        let session = env.run(&["sessions", "show", "a", old, "--json"]).await.json();
        let worker = session["workers"][0]["name"].as_str().unwrap();
        let mut words = vec!["output", "-f", "a", old];
        words.extend(names_worker.then_some(worker));
        let mut child = started(env.shed(&words));
        let mut output = child.stdout.take().unwrap();
        until(&mut output, "one").await;
        env.run(&["sessions", "rename", "a", old, &format!("new-{old}")]).await.ok();
        env.run(&["sessions", "new", "a", old]).await.ok();
        env.run(&["exec", "a", "touch", old]).await.ok();
        until(&mut output, "two").await;
        assert_eq!(ended(child).await.status, 0, "{words:?}");
    }
}
