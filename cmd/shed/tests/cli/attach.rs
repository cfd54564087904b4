//! `shed attach`, in a terminal.

use shed_testing::{Terminal, eventually};

use crate::support::TestEnv;

/// Attaches, then prints the exit status and whether the terminal settings were restored.
const ATTACH_AND_REPORT: &str = r#"before=$(stty -g); "$SHED" $WORDS; status=$?
test "$before" = "$(stty -g)" && echo restored || stty -a
echo "status $status.""#;

/// An environment whose tmux does not take fast typing for a paste.
pub(crate) async fn env() -> TestEnv {
    let env = TestEnv::new().await;
    accept_fast_typing(&env).await;
    env
}

/// tmux takes keys within a millisecond for a paste, in which Ctrl-B is not its prefix key. Switches that off.
pub(crate) async fn accept_fast_typing(env: &TestEnv) {
    env.run(&["exec", "a", "tmux", "set", "-g", "assume-paste-time", "0"]).await.ok();
}

pub(crate) fn attach_and_report(env: &TestEnv, words: &str) -> Terminal {
    env.script(&ATTACH_AND_REPORT.replace("$WORDS", words))
}

async fn clients(env: &TestEnv, session: &str) -> u64 {
    let list = env.run(&["sessions", "a", "--json"]).await.json();
    let rows = list["sessions"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == session);
    row.map_or(0, |row| row["attached_clients"].as_u64().unwrap())
}

pub(crate) async fn attached(env: &TestEnv, session: &str, n_clients: u64) {
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
async fn the_escape_character_can_be_changed_or_switched_off() {
    let env = env().await;
    let mut terminal = attach_and_report(&env, "attach a --escape none");
    terminal.until("[default]").await;
    terminal.keys("\r~.").await;
    terminal.until("~.").await;
    terminal.keys("\x03\x02d").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("[detached (from session default)]"), "{seen}");
    let mut terminal = attach_and_report(&env, "attach a --escape %");
    terminal.until("[default]").await;
    terminal.keys("\r%.").await;
    terminal.until("shed: detached from a/default").await;
    assert!(terminal.end().await.0.contains("status 0."));
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
