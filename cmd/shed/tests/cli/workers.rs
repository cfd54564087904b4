//! `shed workers`, and the operations on sessions.

use crate::support::TestEnv;
use shed_testing::eventually;

async fn with_work() -> TestEnv {
    let env = TestEnv::new().await;
    env.run(&["run", "a", "-d", "--name", "work", "--", "sleep", "1000"]).await.ok();
    env
}

/// The rows of a table without its head, split into words.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

async fn status(env: &TestEnv) -> String {
    let list = env.run(&["sessions", "a"]).await;
    rows(list.ok())[0][2].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_added_restarted_and_removed() {
    let env = with_work().await;
    let added = env.run(&["workers", "add", "a", "work", "--", "sh", "-c", "exit 3"]).await;
    assert_eq!((added.ok(), added.stderr.as_str()), ("sh\n", "worker a/work/sh was created\n"));
    let words = ["workers", "add", "a", "work", "-n", "named", "-e", "K=V", "-w", "/"];
    let line = ["--", "sh", "-c", "echo \"$K $PWD\"; exec sleep 1000"];
    env.run(&[&words[..], &line].concat()).await.ok();
    eventually("its output", async || {
        (env.run(&["output", "a", "work", "named"]).await.stdout == b"V /\r\n").then_some(())
    })
    .await;
    eventually("an end", async || {
        let list = env.run(&["workers", "list", "a", "work"]).await;
        let list = rows(list.ok());
        let names: Vec<&str> = list.iter().map(|row| row[0]).collect();
        assert_eq!(names, ["sleep", "sh", "named"]);
        (list[1][2..4] == ["exited", "(3)"]).then_some(())
    })
    .await;
    env.run(&["workers", "add", "a", "work", "-n", "named"]).await.fails(4);
    let again = env.run(&["workers", "restart", "a", "work", "named", "none", "--json"]).await;
    assert!(again.fails(3).contains("none"), "{again:?}");
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again[0]["name"], &again[0]["epoch"]), (&"named".into(), &2.into()), "{again}");
    env.run(&["workers", "remove", "a", "work", "sh", "named"]).await.ok();
    let list = env.run(&["workers", "list", "a", "work", "--json"]).await.json();
    assert_eq!(list["workers"].as_array().unwrap().len(), 1);
    env.run(&["workers", "remove", "a", "work", "sh"]).await.fails(3);
    env.run(&["workers", "list", "a", "none"]).await.fails(3);
    env.run(&["workers", "add", "a", "work", "-n", "../x"]).await.fails(2);
    env.run(&["workers", "add", "a", "work", "-p", "x"]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_frozen_terminated_restarted_and_deleted() {
    let env = with_work().await;
    env.run(&["sessions", "freeze", "a", "work"]).await.ok();
    assert_eq!(status(&env).await, "frozen");
    env.run(&["sessions", "thaw", "a", "work"]).await.ok();
    assert_eq!(status(&env).await, "detached");
    let ended = env.run(&["terminate", "a", "work", "--json"]).await.json();
    assert_eq!(ended[0]["status"], "ended", "{ended}");
    assert_eq!(status(&env).await, "ended");
    let again = env.run(&["sessions", "restart", "a", "work", "--continue"]).await;
    assert_eq!((again.ok(), again.stderr.as_str()), ("", "session a/work was restarted\n"));
    assert_eq!(status(&env).await, "detached");
    for words in [
        &["terminate", "a", "none"][..],
        &["sessions", "restart", "a", "none"],
        &["sessions", "freeze", "a", "none"],
        &["sessions", "adopt", "a", "none"],
        &["sessions", "show", "a", "none"],
        &["sessions", "set", "a", "none", "--title", "x"],
        &["sessions", "delete", "a", "none"],
    ] {
        env.run(words).await.fails(3);
    }
    let id = env.run(&["sessions", "show", "a", "work", "--json"]).await.json();
    env.run(&["sessions", "delete", "a", id["id"].as_str().unwrap()]).await.ok();
    assert_eq!(env.run(&["sessions", "a"]).await.ok(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn details_of_a_session_are_changed_and_shown() {
    let env = with_work().await;
    let title = "Fix: the 🚀 $(id) -x";
    let words = ["sessions", "set", "a", "work", "--title", title, "--tag", "x", "--tag", "y z"];
    let set = env.run(&[&words[..], &["--auto-respond", "safe", "--name", "play"]].concat()).await;
    assert_eq!((set.ok(), set.stderr.as_str()), ("", "session a/play was changed\n"));
    let shown = env.run(&["sessions", "show", "a", "play"]).await;
    for text in ["a/play", title, "x, y z", "safe", "quick", "sleep: running, sleep 1000"] {
        assert!(shown.ok().contains(text), "{text:?} in {shown:?}");
    }
    let long = env.run(&["sessions", "a", "--long"]).await;
    let head: Vec<&str> = long.ok().lines().next().unwrap().split_whitespace().collect();
    let expected =
        ["SHED", "SESSION", "STATUS", "CREATED", "WINDOWS", "TITLE", "BRANCH", "WORKERS"];
    assert_eq!(head, expected);
    assert!(long.ok().contains(title) && long.ok().contains("sleep: running"), "{long:?}");
    env.run(&["sessions", "set", "a", "play", "--title", "", "--no-tags"]).await.ok();
    let shown = env.run(&["sessions", "show", "a", "play", "--json"]).await.json();
    assert!(shown.get("title").is_none() && shown.get("tags").is_none(), "{shown}");
    let limits = ["--max-runtime", "8h", "--max-output", "5M"];
    env.run(&[&["sessions", "set", "a", "play"][..], &limits].concat()).await.ok();
    // Limits that are not given stay.
    env.run(&["sessions", "set", "a", "play", "--checkpoint-every", "5"]).await.ok();
    let shown = env.run(&["sessions", "show", "a", "play", "--json"]).await.json();
    let expected = serde_json::json!({
        "runtime_seconds": 28_800, "output_bytes": 5 << 20, "checkpoint_minutes": 5,
    });
    assert_eq!(shown["limits"], expected);
    env.run(&["sessions", "set", "a", "play", "--no-limits"]).await.ok();
    let shown = env.run(&["sessions", "show", "a", "play", "--json"]).await.json();
    assert!(shown.get("limits").is_none(), "{shown}");
    env.run(&["sessions", "set", "a", "play", "--max-runtime", "soon"]).await.fails(2);
    env.run(&["sessions", "set", "a", "play"]).await.fails(2);
    env.run(&["sessions", "set", "a", "play", "--auto-respond", "yes"]).await.fails(2);
    env.run(&["sessions", "set", "a", "play", "--title", "\x1b[31m"]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmanaged_session_is_adopted() {
    let env = TestEnv::new().await;
    env.run(&["exec", "a", "tmux", "new-session", "-d", "-s", "unmanaged", "cat"]).await.ok();
    eventually("the session", async || {
        (env.run(&["sessions", "show", "a", "unmanaged"]).await.status == 0).then_some(())
    })
    .await;
    let adopted = env.run(&["sessions", "adopt", "a", "unmanaged", "--json"]).await.json();
    assert_eq!(adopted[0]["id"].as_str().unwrap().len(), 32, "{adopted}");
    env.run(&["sessions", "set", "a", "unmanaged", "--title", "mine"]).await.ok();
    // The old name stays valid.
    env.run(&["sessions", "kill", "a", "unmanaged"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_names_are_completed() {
    let env = with_work().await;
    env.run(&["workers", "add", "a", "work", "-n", "second"]).await.ok();
    env.run(&["run", "a", "-d", "--name", "other", "--", "cat"]).await.ok();
    for words in [&["output", "a", "work"][..], &["workers", "remove", "a", "work"]] {
        let line = [&["--", "shed"], words, &[""]].concat();
        let mut command = env.shed(&line);
        let index = (line.len() - 2).to_string();
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
        command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true");
        let output = ended(&mut command).await;
        assert!(output.contains("second") && output.contains("sleep"), "{words:?}: {output}");
        assert!(!output.contains("cat"), "{words:?}: {output}");
    }
}

async fn ended(command: &mut tokio::process::Command) -> String {
    let output = command.stdin(std::process::Stdio::null()).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}
