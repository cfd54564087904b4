//! `shed output`: all of it, parts of it, as it comes, as hits, as a recording.

use crate::support::{Desk, ended, started, until};
use shed_testing::eventually;

/// A session `work` whose worker has printed this and ended.
async fn with_output(line: &str) -> Desk {
    let desk = Desk::new().await;
    let ran = desk.run(&["run", "a", "--name", "work", "--", "sh", "-c", line]).await;
    assert_eq!(ran.status, 0, "{ran:?}");
    desk
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_printed_exactly_from_anywhere() {
    let desk = with_output(r"printf 'one\ntwo\nthree\n\377'").await;
    let all = b"one\r\ntwo\r\nthree\r\n\xff";
    let printed = async |words: &[&str]| {
        let said = desk.run(&[&["output", "a", "work"], words].concat()).await;
        assert_eq!(said.status, 0, "{said:?}");
        said.out
    };
    assert_eq!(printed(&[]).await, all);
    assert_eq!(printed(&["sh"]).await, all);
    assert_eq!(printed(&["sh", "--from", "5"]).await, all[5..]);
    assert_eq!(printed(&["--from", "1000"]).await, b"");
    assert_eq!(printed(&["-n", "2"]).await, all[10..]);
    assert_eq!(printed(&["-n", "0"]).await, b"");
    // It has ended: there is nothing to wait for.
    assert_eq!(printed(&["--follow"]).await, all);
    assert_eq!(printed(&["--follow", "-n", "2"]).await, all[10..]);
    let id = desk.run(&["workers", "list", "a", "work", "--json"]).await.json();
    let id = id["workers"][0]["id"].as_str().unwrap();
    assert_eq!(printed(&[id]).await, all);
    let page = desk.run(&["output", "a", "work", "--json"]).await.json();
    assert_eq!((&page["start"], &page["end"]), (&0.into(), &18.into()));
    assert!(page["base64"].is_string(), "{page}");
    desk.run(&["output", "a", "work", "none"]).await.fails(3);
    desk.run(&["output", "a", "none"]).await.fails(3);
    desk.run(&["output", "a", "work", "../x"]).await.fails(2);
    for bad in [&["--follow", "--cast"][..], &["--lines", "1", "--from", "1"], &["--from", "-1"]] {
        desk.run(&[&["output", "a", "work"], bad].concat()).await.fails(2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_comes_and_ends_with_the_worker() {
    let desk = Desk::new().await;
    let line = "echo one; while read word; do echo \"got $word\"; done";
    desk.run(&["run", "a", "-d", "--name", "work", "--", "sh", "-c", line]).await.ok();
    let mut child = started(desk.shed(&["output", "a", "work", "--follow"]));
    let mut seen = until(child.stdout.as_mut().unwrap(), "one").await;
    desk.run(&["sessions", "send", "a", "work", "--enter", "x"]).await.ok();
    seen += &until(child.stdout.as_mut().unwrap(), "got x\r\n").await;
    desk.run(&["sessions", "send", "a", "work", "--keys", "C-d"]).await.ok();
    let said = ended(child).await;
    assert_eq!(said.status, 0, "{said:?}");
    seen += said.ok();
    assert_eq!(desk.run(&["output", "a", "work"]).await.ok(), seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_session_that_is_deleted_is_done() {
    let desk = Desk::new().await;
    let line = "echo one; exec sleep 1000";
    desk.run(&["run", "a", "-d", "--name", "work", "--", "sh", "-c", line]).await.ok();
    let mut child = started(desk.shed(&["output", "a", "work", "--follow"]));
    until(child.stdout.as_mut().unwrap(), "one").await;
    desk.run(&["sessions", "delete", "a", "work"]).await.ok();
    assert_eq!(ended(child).await.status, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_searched_as_text() {
    let desk = with_output(r"printf 'x\033[31mneedle\033[0m\nhay\nneedle 2\n'").await;
    let found = desk.run(&["output", "a", "work", "--search", "needle"]).await;
    assert_eq!(found.ok(), "6\txneedle\n23\tneedle 2\n");
    let later = desk.run(&["output", "a", "work", "--search", "needle", "--from", "23"]).await;
    assert_eq!(later.ok(), "23\tneedle 2\n");
    let json = desk.run(&["output", "a", "work", "--search", "hay", "--json"]).await.json();
    assert_eq!(json["line"], "hay", "{json}");
    // As grep tells it.
    let none = desk.run(&["output", "a", "work", "--search", "absent"]).await;
    assert_eq!((none.status, none.out.len(), none.errors.as_str()), (1, 0, ""));
    desk.run(&["output", "a", "work", "--search", ""]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_a_recording() {
    let desk = with_output("echo hello").await;
    let cast = desk.run(&["output", "a", "work", "--cast"]).await;
    let mut lines = cast.ok().lines();
    let head: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(head["version"], 2, "{head}");
    let shown: Vec<serde_json::Value> =
        lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(shown.iter().any(|event| event[1] == "o" && event[2] == "hello\r\n"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_workers_has_no_output_and_says_what_else_there_is() {
    let desk = Desk::new().await;
    desk.run(&["exec", "a", "tmux", "new-session", "-d", "-s", "hand", "cat"]).await.ok();
    eventually("the session", async || {
        (desk.run(&["sessions", "show", "a", "hand"]).await.status == 0).then_some(())
    })
    .await;
    let said = desk.run(&["output", "a", "hand"]).await;
    assert!(said.fails(3).contains("shed sessions capture a hand"), "{said:?}");
}
