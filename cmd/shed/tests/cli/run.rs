//! `shed run`: in a terminal, without one, and left alone.

use crate::support::{Desk, ended, signal, started, until};
use rustix::process::Signal;
use shed_testing::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_output_is_exact_and_the_status_is_passed_on() {
    let desk = Desk::new().await;
    let line = r"printf 'a\377b\n'; exit 7";
    let ran = desk.run(&["run", "a", "--name", "work", "--", "sh", "-c", line]).await;
    assert_eq!((ran.status, ran.out.as_slice()), (7, &b"a\xffb\r\n"[..]), "{ran:?}");
    assert!(ran.errors.contains("session a/work was made"), "{ran:?}");
    // It is there still, with what it printed.
    assert_eq!(desk.run(&["output", "a", "work"]).await.out, b"a\xffb\r\n");
    let killed = desk.run(&["run", "a", "--", "sh", "-c", "kill -TERM $$"]).await;
    assert_eq!(killed.status, 143, "{killed:?}");
    // More than a page of it, and nothing lost.
    let ran = desk.run(&["run", "a", "--", "seq", "1", "60000"]).await;
    let mut expected = (1..=60_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\r\n");
    expected += "\r\n";
    assert!(ran.ok() == expected, "{} bytes of {}", ran.out.len(), expected.len());
    let json = desk.run(&["--json", "run", "a", "--", "echo", "x"]).await;
    let page: serde_json::Value = serde_json::from_str(json.ok().lines().next().unwrap()).unwrap();
    assert_eq!(page["text"], "x\r\n", "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_it_prints_the_session_and_returns() {
    let desk = Desk::new().await;
    let words = ["run", "a", "-d", "--title", "Fix: the 🚀 #(id)", "--tag", "x", "--tag", "y"];
    let made = desk.run(&[&words[..], &["--", "sleep", "1000"]].concat()).await;
    let name = made.ok().trim().to_owned();
    assert_eq!(made.errors, format!("session a/{name} was made\n"));
    let shown = desk.run(&["sessions", "show", "a", &name, "--json"]).await.json();
    assert_eq!(shown["title"], "Fix: the 🚀 #(id)");
    assert_eq!(shown["tags"], serde_json::json!(["x", "y"]));
    assert_eq!(shown["workers"][0]["command"], serde_json::json!(["sleep", "1000"]));
    let json = desk.run(&["--json", "run", "a", "-d", "--name", "two", "-e", "K=V"]).await.json();
    assert_eq!((&json["name"], &json["shed_name"]), (&"two".into(), &"a".into()));
    desk.run(&["run", "a", "-d", "--name", "two"]).await.fails(4);
    desk.run(&["run", "none", "-d"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_before_anything_is_made() {
    let desk = Desk::new().await;
    for words in [
        // A shell for nobody.
        &["run", "a"][..],
        &["run", "a", "--worktree", "--quick", "-d"],
        &["run", "a", "--quick", "--branch", "x", "-d"],
        &["run", "a", "--agent", "claude", "-d", "--", "true"],
        &["run", "a", "-p", "x", "-F", "y", "-d"],
        &["run", "a", "-p", "x", "-d"],
        &["run", "a", "-F", "empty", "-d"],
        &["run", "a", "-", "-d", "--agent", "claude"],
        &["run", "a", "--agent", "nobody", "-d"],
        &["run", "a", "--name", "../x", "-d"],
        &["run", "a", "-e", "NOT_HERE", "-d"],
        &["run", "a", "true"],
    ] {
        std::fs::write(desk.path("empty"), "\n").unwrap();
        let said = desk.run(words).await;
        assert_eq!(said.status, 2, "{words:?}: {said:?}");
    }
    assert_eq!(desk.run(&["run", "a", "-F", "none", "-d"]).await.status, 1);
    let list = desk.run(&["sessions", "--json"]).await.json();
    assert_eq!(list["sessions"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_comes_from_the_line_a_file_or_a_pipe() {
    let desk = Desk::new().await;
    std::fs::write(desk.path("task.md"), "from a\nfile $HOME\n\n").unwrap();
    // The agent is not in the image: what it would be told is in its worker all the same.
    let told = async |words: &[&str], input: &[u8]| {
        let words = [&["run", "a", "-d", "--agent", "claude"], words].concat();
        let said = desk.run_with(&words, input).await;
        assert!(matches!(said.status, 0 | 1), "{said:?}");
        said
    };
    for (words, input) in [
        (&["-p", "from the line"][..], &b""[..]),
        (&["-F", "task.md"], b""),
        (&["-"], b"from a pipe\n"),
        (&["-F", "-"], b"from a pipe\n"),
    ] {
        told(words, input).await;
    }
    let bad = desk.run_with(&["run", "a", "-d", "--agent", "claude", "-"], b"\xff").await;
    assert!(bad.fails(2).contains("UTF-8"), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_terminal_it_is_attached() {
    let desk = Desk::new().await;
    let line = "read word; echo \"got-$word-once\"; exec cat";
    let mut terminal = desk.terminal(&["run", "a", "--name", "work", "--", "sh", "-c", line]);
    terminal.until("[work]").await;
    terminal.keys("typed\r").await;
    terminal.until("got-typed-once").await;
    // Keys that come within a millisecond of each other are a paste to tmux, and no command.
    eventually("somebody there", async || {
        desk.run(&["sessions", "a"]).await.ok().contains("attached").then_some(())
    })
    .await;
    // Ctrl-B D: it goes on.
    terminal.keys("\x02d").await;
    assert_eq!(terminal.end().await.1, Some(0));
    let shown = desk.run(&["sessions", "show", "a", "work", "--json"]).await.json();
    assert_eq!(shown["workers"][0]["status"], "running", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_and_ends_nothing() {
    let desk = Desk::new().await;
    let line = "echo ready; exec sleep 1000";
    let mut child = started(desk.shed(&["run", "a", "--name", "work", "--", "sh", "-c", line]));
    until(child.stdout.as_mut().unwrap(), "ready").await;
    signal(&child, Signal::INT);
    let said = ended(child).await;
    assert!(said.fails(130).contains("it goes on"), "{said:?}");
    let shown = desk.run(&["sessions", "show", "a", "work", "--json"]).await.json();
    assert_eq!(shown["workers"][0]["status"], "running", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_goes_on_where_it_was_when_the_server_is_back() {
    let mut desk = Desk::new().await;
    let line = "echo one; until [ -e go ]; do sleep 0.05; done; echo two; exit 5";
    let child = started(desk.shed(&["run", "a", "--name", "work", "--", "sh", "-c", line]));
    eventually("the first line", async || {
        desk.run(&["output", "a", "work"]).await.out.starts_with(b"one").then_some(())
    })
    .await;
    desk.close().await;
    desk.reopen().await;
    eventually("the shed", async || {
        (desk.run(&["exec", "a", "touch", "go"]).await.status == 0).then_some(())
    })
    .await;
    let said = ended(child).await;
    assert_eq!((said.status, said.out.as_slice()), (5, &b"one\r\ntwo\r\n"[..]), "{said:?}");
}
