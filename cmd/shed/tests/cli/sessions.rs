//! Sessions: listed, made, ended, renamed, typed into, read, watched.

use crate::support::{Desk, started, until};
use shed_testing::eventually;

/// What is no name of a session.
const HOSTILE: &[&str] =
    &["", "..", "#(id)", "a b", "a:b", "a.b", "-x", "_x", "ü", "a\nb", "=a", "@1", "%1", "x;id"];

async fn names(desk: &Desk) -> Vec<String> {
    let list = desk.run(&["sessions", "--json"]).await.json();
    let rows = list["sessions"].as_array().unwrap();
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_made_listed_renamed_and_ended() {
    let desk = Desk::new().await;
    let none = desk.run(&["sessions"]).await;
    assert_eq!((none.ok(), none.errors.as_str()), ("", "no sessions; try: shed attach NAME\n"));
    let made = desk.run(&["sessions", "new", "a", "foo"]).await;
    assert_eq!((made.ok(), made.errors.as_str()), ("", "session a/foo was made\n"));
    let made = desk.run(&["--json", "sessions", "new", "a", "foobar"]).await.json();
    for (key, value) in [("name", "foobar"), ("shed_name", "a")] {
        assert_eq!(made[key], value, "{made}");
    }
    assert_eq!((&made["attached_clients"], &made["window_count"]), (&0.into(), &1.into()));
    desk.run(&["sessions", "new", "a", "foo"]).await.fails(4);

    let list = desk.run(&["sessions", "a"]).await;
    let lines: Vec<Vec<&str>> =
        list.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SHED", "SESSION", "STATUS", "CREATED", "WINDOWS"]);
    assert_eq!(lines[1][..3], ["a", "foo", "detached"]);
    assert_eq!(lines[2][..3], ["a", "foobar", "detached"]);
    assert_eq!(lines.len(), 3);

    desk.run(&["sessions", "a", "kill", "a", "foo"]).await.fails(2);
    // A part of a name is no name.
    desk.run(&["sessions", "kill", "a", "foo"]).await.ok();
    assert_eq!(names(&desk).await, ["foobar"]);
    assert!(desk.run(&["sessions", "kill", "a", "foo"]).await.fails(3).contains("foo"));
    let renamed = desk.run(&["sessions", "rename", "a", "foobar", "bar"]).await;
    renamed.ok();
    assert_eq!(renamed.errors, "session a/foobar is a/bar now\n");
    desk.run(&["sessions", "rename", "a", "foobar", "bar"]).await.fails(3);
    desk.run(&["sessions", "new", "a", "other"]).await.ok();
    desk.run(&["sessions", "rename", "a", "bar", "other"]).await.fails(4);

    // Of several all are tried.
    let ended = desk.run(&["sessions", "kill", "a", "bar", "none", "other"]).await;
    assert!(ended.fails(3).contains("none"), "{ended:?}");
    assert_eq!(names(&desk).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_refused() {
    let desk = Desk::new().await;
    desk.run(&["sessions", "new", "a", "safe"]).await.ok();
    let long = "x".repeat(64);
    for name in HOSTILE.iter().copied().chain([long.as_str()]) {
        for words in [
            &["sessions", "new", "a", name][..],
            &["sessions", "rename", "a", "safe", name],
            &["sessions", "kill", "a", name],
            &["sessions", "send", "a", name, "text"],
            &["sessions", "capture", "a", name],
            &["exec", "-S", name, "a", "true"],
        ] {
            assert_eq!(desk.run(words).await.status, 2, "{words:?}");
        }
    }
    assert_eq!(names(&desk).await, ["safe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_keys_are_typed_and_the_screen_is_read() {
    let desk = Desk::new().await;
    desk.run(&["sessions", "new", "a", "s", "-e", "K=V", "--", "sh", "-c", "echo $K; exec cat"])
        .await
        .ok();
    shows(&desk, "V").await;
    desk.run(&["sessions", "send", "a", "s", "one   two", "$HOME", "--enter"]).await.ok();
    // The words after the first are text, also those that look like flags.
    shows(&desk, "one   two $HOME --enter").await;
    desk.run(&["sessions", "send", "--keys", "a", "s", "Enter"]).await.ok();
    desk.run(&["sessions", "send", "--enter", "a", "s", "ünï"]).await.ok();
    // Once typed, once from cat.
    shows(&desk, "ünï\nünï").await;
    let json =
        desk.run(&["sessions", "capture", "a", "s", "--lines", "100", "--json"]).await.json();
    assert!(json["output"].as_str().unwrap().contains("ünï"), "{json}");
    desk.run(&["sessions", "send", "a", "s"]).await.fails(2);
    desk.run(&["sessions", "send", "--keys", "a", "s", "NoKey"]).await.fails(2);
    desk.run(&["sessions", "send", "a", "none", "x"]).await.fails(3);
    desk.run(&["sessions", "capture", "a", "none"]).await.fails(3);

    let line = r"printf '\033[31mred\033[0m'; exec cat";
    desk.run(&["sessions", "new", "a", "colours", "sh", "-c", line]).await.ok();
    eventually("colours", async || {
        let ansi = desk.run(&["sessions", "capture", "a", "colours", "--ansi"]).await;
        ansi.ok().contains("\x1b[31mred").then_some(())
    })
    .await;
    assert!(desk.run(&["sessions", "capture", "a", "colours"]).await.ok().starts_with("red\n"));
}

async fn shows(desk: &Desk, text: &str) {
    eventually(text, async || {
        desk.run(&["sessions", "capture", "a", "s"]).await.ok().contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_made_by_hand_is_addressed_by_its_id() {
    let desk = Desk::new().await;
    desk.run(&["exec", "a", "tmux", "new-session", "-d", "-s", "an odd (name)", "cat"]).await.ok();
    eventually("the session", async || (names(&desk).await == ["an odd (name)"]).then_some(()))
        .await;
    let list = desk.run(&["sessions", "--json"]).await.json();
    let id = list["sessions"][0]["id"].as_str().unwrap();
    desk.run(&["sessions", "send", "a", id, "typed"]).await.ok();
    eventually("what was typed", async || {
        desk.run(&["sessions", "capture", "a", id]).await.ok().contains("typed").then_some(())
    })
    .await;
    let mut terminal = desk.terminal(&["attach", "a", "-S", id]);
    terminal.until("typed").await;
    desk.run(&["sessions", "rename", "a", id, "even"]).await.ok();
    assert_eq!(names(&desk).await, ["even"]);
    desk.run(&["sessions", "kill", "a", id]).await.ok();
    assert_eq!(terminal.end().await.1, Some(0));
    desk.run(&["sessions", "kill", "a", "$99"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_list_follows() {
    let desk = Desk::new().await;
    desk.run(&["sessions", "new", "a", "one"]).await.ok();
    let mut text = started(desk.shed(&["sessions", "--watch"]));
    let mut text = text.stdout.take().unwrap();
    let mut json = started(desk.shed(&["sessions", "a", "--watch", "--json"]));
    let mut json = json.stdout.take().unwrap();
    until(&mut text, "one").await;
    let first = until(&mut json, "\n").await;
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["sessions"][0]["name"], "one");
    assert_eq!(first["warnings"], serde_json::json!([]));
    desk.run(&["sessions", "new", "a", "two"]).await.ok();
    until(&mut text, "two").await;
    until(&mut json, "\"two\"").await;
    // Somebody's hand in the shed is seen as well.
    desk.run(&["exec", "a", "tmux", "rename-session", "-t", "=two", "three"]).await.ok();
    until(&mut text, "three").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_without_sessions_to_show_is_a_row_with_its_reason() {
    let desk = Desk::new().await;
    desk.run(&["sessions", "new", "a", "one"]).await.ok();
    desk.test.shed("b").await;
    desk.run(&["stop", "b"]).await.ok();
    // Among all sheds one that was stopped is no news; asked for by name it is.
    assert_eq!(desk.run(&["sessions", "--strict"]).await.ok().lines().count(), 2);
    let list = desk.run(&["sessions", "b", "--strict"]).await;
    assert!(
        list.ok().lines().any(|line| line.starts_with("b ") && line.contains("stopped")),
        "{list:?}"
    );
    let json = desk.run(&["sessions", "b", "--json"]).await.json();
    assert_eq!(json["sessions"], serde_json::json!([]));
    assert_eq!(json["warnings"][0]["shed"], "b");
    // One that should answer and does not is a failure for those who want one.
    desk.run(&["pause", "a"]).await.ok();
    let list = desk.run(&["sessions", "a"]).await;
    assert!(list.ok().contains("paused"), "{list:?}");
}
