//! `shed run`.

use crate::support::{TestEnv, ended, signal, started, until};
use rustix::process::Signal;
use shed_testing::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_run_prints_the_output_and_passes_the_status_on() {
    let env = TestEnv::new().await;
    let line = r"printf 'a\377b\n'; exit 7";
    let ran = env.run(&["run", "a", "--name", "work", "--", "sh", "-c", line]).await;
    assert_eq!((ran.status, ran.stdout.as_slice()), (7, &b"a\xffb\r\n"[..]), "{ran:?}");
    assert!(ran.stderr.contains("session a/work was created"), "{ran:?}");
    // The session and its output are kept.
    assert_eq!(env.run(&["output", "a", "work"]).await.stdout, b"a\xffb\r\n");
    let killed = env.run(&["run", "a", "--", "sh", "-c", "kill -TERM $$"]).await;
    assert_eq!(killed.status, 143, "{killed:?}");
    // More than one page of output.
    let ran = env.run(&["run", "a", "--", "seq", "1", "60000"]).await;
    let mut expected = (1..=60_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\r\n");
    expected += "\r\n";
    assert!(ran.ok() == expected, "{} bytes of {}", ran.stdout.len(), expected.len());
    let json = env.run(&["--json", "run", "a", "--", "echo", "x"]).await;
    let page: serde_json::Value = serde_json::from_str(json.ok().lines().next().unwrap()).unwrap();
    assert_eq!(page["text"], "x\r\n", "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_run_prints_the_session_and_exits() {
    let env = TestEnv::new().await;
    let words = ["run", "a", "-d", "--title", "Fix: the 🚀 #(id)", "--tag", "x", "--tag", "y"];
    let made = env.run(&[&words[..], &["--", "sleep", "1000"]].concat()).await;
    let name = made.ok().trim().to_owned();
    assert_eq!(made.stderr, format!("session a/{name} was created\n"));
    let shown = env.run(&["sessions", "show", "a", &name, "--json"]).await.json();
    assert_eq!(shown["title"], "Fix: the 🚀 #(id)");
    assert_eq!(shown["tags"], serde_json::json!(["x", "y"]));
    assert_eq!(shown["workers"][0]["command"], serde_json::json!(["sleep", "1000"]));
    let json = env.run(&["--json", "run", "a", "-d", "--name", "two", "-e", "K=V"]).await.json();
    assert_eq!((&json["name"], &json["shed_name"]), (&"two".into(), &"a".into()));
    env.run(&["run", "a", "-d", "--name", "two"]).await.fails(4);
    env.run(&["run", "none", "-d"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_options_are_refused_before_a_session_is_created() {
    let env = TestEnv::new().await;
    for words in [
        // A login shell without a terminal.
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
        std::fs::write(env.path("empty"), "\n").unwrap();
        let output = env.run(words).await;
        assert_eq!(output.status, 2, "{words:?}: {output:?}");
    }
    assert_eq!(env.run(&["run", "a", "-F", "none", "-d"]).await.status, 1);
    let list = env.run(&["sessions", "--json"]).await.json();
    assert_eq!(list["sessions"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_comes_from_an_option_a_file_or_standard_input() {
    let env = TestEnv::new().await;
    std::fs::write(env.path("task.md"), "from a\nfile $HOME\n\n").unwrap();
    // The agent is not installed, so the session may fail after it was created.
    let run = async |words: &[&str], input: &[u8]| {
        let words = [&["run", "a", "-d", "--agent", "claude"], words].concat();
        let output = env.run_with(&words, input).await;
        assert!(matches!(output.status, 0 | 1), "{output:?}");
        output
    };
    for (words, input) in [
        (&["-p", "from the line"][..], &b""[..]),
        (&["-p", "- a list"], b""),
        (&["--prompt", "--help"], b""),
        (&["-F", "task.md"], b""),
        (&["-"], b"from a pipe\n"),
        (&["-F", "-"], b"from a pipe\n"),
    ] {
        run(words, input).await;
    }
    let bad = env.run_with(&["run", "a", "-d", "--agent", "claude", "-"], b"\xff").await;
    assert!(bad.fails(2).contains("UTF-8"), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_terminal_run_attaches() {
    let env = TestEnv::new().await;
    let line = "read word; echo \"got-$word-once\"; exec cat";
    let mut terminal = env.terminal(&["run", "a", "--name", "work", "--", "sh", "-c", line]);
    terminal.until("[work]").await;
    terminal.keys("typed\r").await;
    terminal.until("got-typed-once").await;
    // tmux takes keys within a millisecond for a paste, not for a command.
    eventually("an attached client", async || {
        env.run(&["sessions", "a"]).await.ok().contains("attached").then_some(())
    })
    .await;
    // Ctrl-B D detaches.
    terminal.keys("\x02d").await;
    assert_eq!(terminal.end().await.1, Some(0));
    let shown = env.run(&["sessions", "show", "a", "work", "--json"]).await.json();
    assert_eq!(shown["workers"][0]["status"], "running", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_detaches_from_the_session() {
    let env = TestEnv::new().await;
    let line = "echo ready; exec sleep 1000";
    let mut child = started(env.shed(&["run", "a", "--name", "work", "--", "sh", "-c", line]));
    until(child.stdout.as_mut().unwrap(), "ready").await;
    signal(&child, Signal::INT);
    let output = ended(child).await;
    assert!(output.fails(130).contains("it keeps running"), "{output:?}");
    let shown = env.run(&["sessions", "show", "a", "work", "--json"]).await.json();
    assert_eq!(shown["workers"][0]["status"], "running", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_continues_after_a_restart_of_the_server() {
    let mut env = TestEnv::new().await;
    let line = "echo one; until [ -e go ]; do sleep 0.05; done; echo two; exit 5";
    let child = started(env.shed(&["run", "a", "--name", "work", "--", "sh", "-c", line]));
    eventually("the first line", async || {
        env.run(&["output", "a", "work"]).await.stdout.starts_with(b"one").then_some(())
    })
    .await;
    env.close().await;
    env.reopen().await;
    eventually("the shed", async || {
        (env.run(&["exec", "a", "touch", "go"]).await.status == 0).then_some(())
    })
    .await;
    let output = ended(child).await;
    assert_eq!(
        (output.status, output.stdout.as_slice()),
        (5, &b"one\r\ntwo\r\n"[..]),
        "{output:?}"
    );
}
