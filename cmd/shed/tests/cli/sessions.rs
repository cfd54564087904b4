//! `shed sessions`.

use crate::support::{TestEnv, started, until};
use shed_testing::eventually;

/// Invalid session names.
const INVALID_NAMES: &[&str] =
    &["", "..", "#(id)", "a b", "a:b", "a.b", "-x", "_x", "ü", "a\nb", "=a", "@1", "%1", "x;id"];

async fn names(env: &TestEnv) -> Vec<String> {
    let list = env.run(&["sessions", "--json"]).await.json();
    let rows = list["sessions"].as_array().unwrap();
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_created_listed_renamed_and_deleted() {
    let env = TestEnv::new().await;
    let none = env.run(&["sessions"]).await;
    assert_eq!((none.ok(), none.stderr.as_str()), ("", "no sessions; try: shed attach NAME\n"));
    let made = env.run(&["sessions", "new", "a", "foo"]).await;
    assert_eq!((made.ok(), made.stderr.as_str()), ("", "session a/foo was created\n"));
    let made = env.run(&["--json", "sessions", "new", "a", "foobar"]).await.json();
    for (key, value) in [("name", "foobar"), ("shed_name", "a")] {
        assert_eq!(made[key], value, "{made}");
    }
    assert_eq!((&made["attached_clients"], &made["window_count"]), (&0.into(), &1.into()));
    env.run(&["sessions", "new", "a", "foo"]).await.fails(4);

    let list = env.run(&["sessions", "a"]).await;
    let lines: Vec<Vec<&str>> =
        list.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SHED", "SESSION", "STATUS", "CREATED", "WINDOWS"]);
    assert_eq!(lines[1][..3], ["a", "foo", "detached"]);
    assert_eq!(lines[2][..3], ["a", "foobar", "detached"]);
    assert_eq!(lines.len(), 3);

    env.run(&["sessions", "a", "kill", "a", "foo"]).await.fails(2);
    // Names match exactly, not by prefix.
    env.run(&["sessions", "kill", "a", "foo"]).await.ok();
    assert_eq!(names(&env).await, ["foobar"]);
    assert!(env.run(&["sessions", "kill", "a", "foo"]).await.fails(3).contains("foo"));
    let renamed = env.run(&["sessions", "rename", "a", "foobar", "bar"]).await;
    renamed.ok();
    assert_eq!(renamed.stderr, "session a/foobar was renamed to bar\n");
    env.run(&["sessions", "rename", "a", "foobar", "bar"]).await.fails(3);
    env.run(&["sessions", "new", "a", "other"]).await.ok();
    env.run(&["sessions", "rename", "a", "bar", "other"]).await.fails(4);

    // All are tried.
    let ended = env.run(&["sessions", "kill", "a", "bar", "none", "other"]).await;
    assert!(ended.fails(3).contains("none"), "{ended:?}");
    assert_eq!(names(&env).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_names_are_refused() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "safe"]).await.ok();
    let long = "x".repeat(64);
    for name in INVALID_NAMES.iter().copied().chain([long.as_str()]) {
        for words in [
            &["sessions", "new", "a", name][..],
            &["sessions", "rename", "a", "safe", name],
            &["sessions", "kill", "a", name],
            &["sessions", "send", "a", name, "text"],
            &["sessions", "capture", "a", name],
            &["exec", "-S", name, "a", "true"],
        ] {
            assert_eq!(env.run(words).await.status, 2, "{words:?}");
        }
    }
    assert_eq!(names(&env).await, ["safe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_keys_are_sent_and_the_screen_is_captured() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "s", "-e", "K=V", "--", "sh", "-c", "echo $K; exec cat"])
        .await
        .ok();
    shows(&env, "V").await;
    // Options stand anywhere; what looks like one and is text follows `--`.
    env.run(&["sessions", "send", "a", "s", "one   two", "$HOME", "--enter"]).await.ok();
    shows(&env, "one   two $HOME\none   two $HOME").await;
    env.run(&["sessions", "send", "a", "s", "--", "- three", "--enter"]).await.ok();
    shows(&env, "- three --enter").await;
    env.run(&["sessions", "send", "a", "s", "--oops"]).await.fails(2);
    env.run(&["sessions", "send", "--keys", "a", "s", "Enter"]).await.ok();
    env.run(&["sessions", "send", "--enter", "a", "s", "ünï"]).await.ok();
    // Once from the terminal's echo, once from cat.
    shows(&env, "ünï\nünï").await;
    let json = env.run(&["sessions", "capture", "a", "s", "--lines", "100", "--json"]).await.json();
    assert!(json["output"].as_str().unwrap().contains("ünï"), "{json}");
    env.run(&["sessions", "send", "a", "s"]).await.fails(2);
    env.run(&["sessions", "send", "--keys", "a", "s", "NoKey"]).await.fails(2);
    env.run(&["sessions", "send", "a", "none", "x"]).await.fails(3);
    env.run(&["sessions", "capture", "a", "none"]).await.fails(3);

    let line = r"printf '\033[31mred\033[0m'; exec cat";
    env.run(&["sessions", "new", "a", "colours", "sh", "-c", line]).await.ok();
    eventually("colours", async || {
        let ansi = env.run(&["sessions", "capture", "a", "colours", "--ansi"]).await;
        ansi.ok().contains("\x1b[31mred").then_some(())
    })
    .await;
    assert!(env.run(&["sessions", "capture", "a", "colours"]).await.ok().starts_with("red\n"));
}

async fn shows(env: &TestEnv, text: &str) {
    eventually(text, async || {
        env.run(&["sessions", "capture", "a", "s"]).await.ok().contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmanaged_session_is_addressed_by_its_id() {
    let env = TestEnv::new().await;
    env.run(&["exec", "a", "tmux", "new-session", "-d", "-s", "an odd (name)", "cat"]).await.ok();
    eventually("the session", async || (names(&env).await == ["an odd (name)"]).then_some(()))
        .await;
    let list = env.run(&["sessions", "--json"]).await.json();
    let id = list["sessions"][0]["id"].as_str().unwrap();
    env.run(&["sessions", "send", "a", id, "typed"]).await.ok();
    eventually("the typed text", async || {
        env.run(&["sessions", "capture", "a", id]).await.ok().contains("typed").then_some(())
    })
    .await;
    let mut terminal = env.terminal(&["attach", "a", "-S", id]);
    terminal.until("typed").await;
    env.run(&["sessions", "rename", "a", id, "even"]).await.ok();
    assert_eq!(names(&env).await, ["even"]);
    env.run(&["sessions", "kill", "a", id]).await.ok();
    assert_eq!(terminal.end().await.1, Some(0));
    env.run(&["sessions", "kill", "a", "$99"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_changes() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "one"]).await.ok();
    let mut text = started(env.shed(&["sessions", "--watch"]));
    let mut text = text.stdout.take().unwrap();
    let mut json = started(env.shed(&["sessions", "a", "--watch", "--json"]));
    let mut json = json.stdout.take().unwrap();
    until(&mut text, "one").await;
    let first = until(&mut json, "\n").await;
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["sessions"][0]["name"], "one");
    assert_eq!(first["warnings"], serde_json::json!([]));
    env.run(&["sessions", "new", "a", "two"]).await.ok();
    until(&mut text, "two").await;
    until(&mut json, "\"two\"").await;
    // Changes made with tmux are shown as well.
    env.run(&["exec", "a", "tmux", "rename-session", "-t", "=two", "three"]).await.ok();
    until(&mut text, "three").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_that_cannot_be_asked_is_a_row_with_the_reason() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "one"]).await.ok();
    env.test.shed("b").await;
    env.run(&["stop", "b"]).await.ok();
    // A stopped shed is listed only when it is named.
    assert_eq!(env.run(&["sessions", "--strict"]).await.ok().lines().count(), 2);
    let list = env.run(&["sessions", "b", "--strict"]).await;
    let lines: Vec<&str> = list.ok().lines().collect();
    let row = |line: &&str| line.starts_with("b ") && line.contains("not-running");
    assert!(lines.iter().any(row) && lines.contains(&"b: it is stopped"), "{list:?}");
    let json = env.run(&["sessions", "b", "--json"]).await.json();
    assert_eq!(json["sessions"], serde_json::json!([]));
    assert_eq!(json["warnings"][0]["shed"], "b");
    // A paused shed is listed with its status.
    env.run(&["pause", "a"]).await.ok();
    let list = env.run(&["sessions", "a"]).await;
    assert!(list.ok().contains("paused"), "{list:?}");
}
