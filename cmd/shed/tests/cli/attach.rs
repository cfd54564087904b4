//! `shed attach`, in a terminal.

use shed_testing::{Terminal, eventually};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{TestEnv, ended, started};

/// Attaches, then prints the exit status and whether the terminal settings were restored.
const ATTACH_AND_REPORT: &str = r#"before=$(stty -g); "$SHED" $WORDS; status=$?
test "$before" = "$(stty -g)" && echo restored || stty -a
echo "status $status.""#;

/// An environment whose tmux does not take fast typing for a paste.
async fn env() -> TestEnv {
    let env = TestEnv::new().await;
    accept_fast_typing(&env).await;
    env
}

/// tmux takes keys within a millisecond for a paste, in which Ctrl-B is not its prefix key. Switches that off.
async fn accept_fast_typing(env: &TestEnv) {
    env.run(&["exec", "a", "tmux", "set", "-g", "assume-paste-time", "0"]).await.ok();
}

fn attach_and_report(env: &TestEnv, words: &str) -> Terminal {
    env.script(&ATTACH_AND_REPORT.replace("$WORDS", words))
}

async fn clients(env: &TestEnv, session: &str) -> u64 {
    let list = env.run(&["sessions", "a", "--json"]).await.json();
    let rows = list["sessions"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == session);
    row.map_or(0, |row| row["attached_clients"].as_u64().unwrap())
}

async fn attached(env: &TestEnv, session: &str, n_clients: u64) {
    eventually(&format!("{n_clients} clients of {session}"), async || {
        (clients(env, session).await == n_clients).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_detaching() {
    let env = env().await;
    let mut terminal = attach_and_report(&env, "attach a");
    // tmux's status line shows that this is its screen.
    terminal.until("[default]").await;
    terminal.keys("VAR=kept; echo one-$((40 + 2)); pwd\r").await;
    terminal.until("one-42").await;
    terminal.until(&format!("{}\r\n", env.test.engine.workspace("a").display())).await;
    attached(&env, "default", 1).await;
    terminal.keys("\x02d").await;
    terminal.until("[detached (from session default)]").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    attached(&env, "default", 0).await;

    let mut terminal = env.terminal(&["attach", "a", "--session", "default"]);
    // The screen is restored.
    terminal.until("one-42").await;
    terminal.keys("echo \"again-$VAR\"\r").await;
    terminal.until("again-kept").await;
    // When the shell exits, the session and the client end.
    terminal.keys("exit\r").await;
    let (seen, status) = terminal.end().await;
    assert!(status == Some(0) && seen.contains("[exited]"), "{status:?} {seen}");
    eventually("its end in the list", async || {
        let list = env.run(&["sessions", "a", "--json"]).await.json();
        list["sessions"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_follows_the_size_of_the_terminal() {
    let env = env().await;
    let mut terminal = Terminal::start(env.shed(&["attach", "a"]), 101, 33);
    terminal.keys("echo size-$(stty size)-$(tput cols)\r").await;
    // tmux uses one line for its status.
    terminal.until("size-32 101-101").await;
    terminal.resize(66, 22);
    terminal
        .keys("clear; until test \"$(stty size)\" = '21 66'; do :; done; echo now-$(tput cols)\r")
        .await;
    terminal.until("now-66").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_starts_a_stopped_shed() {
    let env = env().await;
    env.run(&["stop", "a"]).await.ok();
    let mut terminal = env.terminal(&["attach", "a"]);
    terminal.until("[default]").await;
    assert_eq!(env.run(&["show", "a", "--json"]).await.json()["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn tilde_dot_detaches() {
    let env = env().await;
    let mut terminal = attach_and_report(&env, "attach a -S work");
    terminal.until("[work]").await;
    // Elsewhere on a line it is text.
    terminal.keys("echo x~.y-$((1))\r").await;
    terminal.until("x~.y-1").await;
    terminal.keys("\r~.").await;
    terminal.until("shed: detached from a/work; it keeps running").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    attached(&env, "work", 0).await;
    env.run(&["sessions", "capture", "a", "work"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_fails_if_the_session_exists() {
    let env = env().await;
    let mut terminal = env.terminal(&["attach", "a", "--new", "-S", "fresh"]);
    terminal.until("[fresh]").await;
    let mut second = attach_and_report(&env, "attach a --new -S fresh");
    let (seen, _) = second.end().await;
    assert!(seen.contains("fresh") && seen.contains("restored\r\nstatus 4."), "{seen}");
    // No escape sequence reached the terminal.
    assert!(!seen.contains("\x1b[?"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_the_terminal_unchanged() {
    let env = env().await;
    for (words, status) in [
        ("attach none", 3),
        ("attach Bad_Name", 2),
        ("attach a -S 'a b'", 2),
        ("attach a --new --read-only", 2),
    ] {
        let (seen, _) = attach_and_report(&env, words).end().await;
        assert!(seen.contains(&format!("restored\r\nstatus {status}.")), "{words}: {seen}");
        assert!(!seen.contains("\x1b[?"), "{words}: {seen:?}");
    }
    let piped = env.run(&["attach", "a"]).await;
    assert!(piped.fails(2).contains("shed sessions capture"), "{piped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_sends_no_input() {
    let env = env().await;
    let mut writer = env.terminal(&["attach", "a"]);
    writer.keys("echo from-$((1))-writer\r").await;
    writer.until("from-1-writer").await;
    let mut reader = env.terminal(&["attach", "a", "--read-only"]);
    reader.until("from-1-writer").await;
    reader.keys("echo from-$((2))-reader\r").await;
    attached(&env, "default", 2).await;
    // The reader typed before this, so its input would appear first.
    writer.keys("echo from-$((3))-writer\r").await;
    let seen = reader.until("from-3-writer").await;
    assert!(!seen.contains("reader"), "{seen}");
    reader.keys("\x02d").await;
    let (seen, status) = reader.end().await;
    assert!(status == Some(0) && seen.contains("detached from a/default"), "{status:?} {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_others_detaches_all_other_clients() {
    let env = env().await;
    let mut first = attach_and_report(&env, "attach a");
    first.until("[default]").await;
    let mut second = env.terminal(&["attach", "a"]);
    second.until("[default]").await;
    attached(&env, "default", 2).await;
    let mut third = env.terminal(&["attach", "-d", "a"]);
    third.until("[default]").await;
    let (seen, _) = first.end().await;
    assert!(
        seen.contains("[detached (from session default)]")
            && seen.contains("restored\r\nstatus 0."),
        "{seen}"
    );
    assert_eq!(second.end().await.1, Some(0));
    attached(&env, "default", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_terminal_type_falls_back() {
    let env = env().await;
    for term in ["xterm-ghostty", "no-such-terminal", ""] {
        let mut attach = env.shed(&["attach", "a"]);
        attach.env("TERM", term).env("COLORTERM", "truecolor");
        let mut terminal = Terminal::start(attach, 80, 24);
        terminal.until("[default]").await;
        terminal.keys("\x02d").await;
        let (seen, status) = terminal.end().await;
        assert_eq!(status, Some(0), "{term}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reconnects_after_a_restart_of_the_server() {
    let mut env = env().await;
    let mut terminal = attach_and_report(&env, "attach a");
    terminal.keys("VAR=kept; echo ready-$((1))\r").await;
    terminal.until("ready-1").await;
    for round in 1..=2 {
        env.close().await;
        terminal.until("reconnecting … (~. detaches)").await;
        env.reopen().await;
        // The screen is drawn again, and input arrives.
        terminal.until("[default]").await;
        terminal.keys(&format!("echo \"back-{round}-$VAR\"\r")).await;
        terminal.until(&format!("back-{round}-kept")).await;
    }
    terminal.keys("\x02d").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
}

/// A proxy between client and server. Aborting it breaks its connections.
fn proxy(env: &TestEnv) -> JoinHandle<()> {
    let path = env.path("proxy.sock");
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).unwrap();
    let server = env.path("run/shed/shed.sock");
    tokio::spawn(async move {
        // Dropped with the task, which closes the connections.
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = UnixStream::connect(&server).await.unwrap();
            connections.spawn(async move {
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reconnects_after_a_broken_connection() {
    let env = env().await;
    let between = proxy(&env);
    let address = format!("unix:{}", env.path("proxy.sock").display());
    let mut terminal = attach_and_report(&env, &format!("attach -s {address} a"));
    terminal.keys("echo ready-$((1))\r").await;
    terminal.until("ready-1").await;
    between.abort();
    terminal.until("reconnecting").await;
    // Input waits while there is no connection.
    terminal.keys("echo kept-$((1))\r").await;
    attached(&env, "default", 0).await;
    let between = proxy(&env);
    terminal.until("kept-1").await;
    terminal.keys("\x02d").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    between.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_can_be_cancelled() {
    let mut env = env().await;
    let mut by_tilde = attach_and_report(&env, "attach a");
    let mut by_key = attach_and_report(&env, "attach a");
    let mut by_signal = env.terminal(&["attach", "a"]);
    let mut at_once = attach_and_report(&env, "attach a --no-reconnect");
    for terminal in [&mut by_tilde, &mut by_key, &mut by_signal, &mut at_once] {
        terminal.until("[default]").await;
    }
    env.close().await;
    let (seen, _) = at_once.end().await;
    assert!(seen.contains("restored\r\nstatus 5."), "{seen}");
    for terminal in [&mut by_tilde, &mut by_key, &mut by_signal] {
        terminal.until("reconnecting").await;
    }
    by_tilde.keys("\r~.").await;
    by_key.keys("\x03").await;
    crate::support::signal(&by_signal.child, rustix::process::Signal::TERM);
    for terminal in [&mut by_tilde, &mut by_key] {
        let (seen, _) = terminal.end().await;
        assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    }
    assert_eq!(by_signal.end().await.1, Some(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_does_not_create_the_session_again() {
    let mut env = env().await;
    let mut terminal = attach_and_report(&env, "attach a -S brief");
    terminal.keys("echo $TMUX\r").await;
    terminal.until("[brief]").await;
    env.close().await;
    terminal.until("reconnecting").await;
    let mut kill = tokio::process::Command::new("tmux");
    kill.args(["kill-session", "-t", "=brief"]).env("TMUX_TMPDIR", env.test.engine.tmux_dir("a"));
    ended(started(kill)).await.ok();
    env.reopen().await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("brief") && seen.contains("restored\r\nstatus 3."), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_restores_the_terminal() {
    let env = env().await;
    let mut terminal = attach_and_report(&env, "attach a");
    terminal.until("[default]").await;
    let shell = terminal.child.id().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let shed = rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(shed, rustix::process::Signal::TERM).unwrap();
    // The client leaves tmux's screen.
    terminal.until("\x1b[?1049l").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 143."), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_attach_offers_a_list() {
    let env = TestEnv::empty().await;
    let (seen, status) = env.terminal(&["attach"]).end().await;
    assert!(status == Some(3) && seen.contains("shed create demo"), "{status:?} {seen}");
    env.test.shed("a").await;
    env.run(&["sessions", "new", "a", "one"]).await.ok();
    accept_fast_typing(&env).await;
    // A single session is attached to without asking.
    let mut terminal = env.terminal(&["attach"]);
    terminal.until("[one]").await;
    terminal.keys("\x02d").await;
    assert_eq!(terminal.end().await.1, Some(0));

    env.run(&["sessions", "new", "a", "two"]).await.ok();
    env.test.shed("b").await;
    let mut terminal = env.terminal(&["attach"]);
    let list = terminal.until("session to attach to [1-3]:").await;
    for row in
        ["1  a/one  (detached", "2  a/two  (detached", "3  b/default  (new, shed is running)"]
    {
        assert!(list.contains(row), "{list}");
    }
    terminal.keys("2\r").await;
    terminal.until("[two]").await;
    let mut terminal = env.terminal(&["attach"]);
    terminal.until("session to attach to [1-3]:").await;
    terminal.keys("9\r").await;
    let (seen, status) = terminal.end().await;
    assert!(status == Some(2) && seen.contains("invalid choice \"9\""), "{status:?} {seen}");
}
