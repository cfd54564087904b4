//! Attaching to sessions, as people do it: in a terminal.

use shed_testing::{Terminal, eventually};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Desk, ended, started};

/// Attaches, tells its status, and whether the terminal is as it was.
const AND_TELL: &str = r#"before=$(stty -g); "$SHED" $WORDS; status=$?
test "$before" = "$(stty -g)" && echo restored || stty -a
echo "status $status.""#;

/// With a shed whose tmux believes that somebody types who is faster than people are.
async fn desk() -> Desk {
    let desk = Desk::new().await;
    let words = ["exec", "a", "tmux", "set", "-g", "assume-paste-time", "0"];
    desk.run(&words).await.ok();
    desk
}

fn attach_and_tell(desk: &Desk, words: &str) -> Terminal {
    desk.script(&AND_TELL.replace("$WORDS", words))
}

async fn clients(desk: &Desk, session: &str) -> u64 {
    let list = desk.run(&["sessions", "a", "--json"]).await.json();
    let rows = list["sessions"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == session);
    row.map_or(0, |row| row["attached_clients"].as_u64().unwrap())
}

async fn attached(desk: &Desk, session: &str, n_clients: u64) {
    eventually(&format!("{n_clients} clients of {session}"), async || {
        (clients(desk, session).await == n_clients).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_entered_used_left_and_found_again() {
    let desk = desk().await;
    let mut terminal = attach_and_tell(&desk, "attach a");
    // tmux's own line shows that this is its screen.
    terminal.until("[default]").await;
    terminal.keys("VAR=kept; echo one-$((40 + 2)); pwd\r").await;
    terminal.until("one-42").await;
    terminal.until(&format!("{}\r\n", desk.test.engine.workspace("a").display())).await;
    attached(&desk, "default", 1).await;
    terminal.keys("\x02d").await;
    terminal.until("[detached (from session default)]").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    attached(&desk, "default", 0).await;

    let mut terminal = desk.terminal(&["attach", "a", "--session", "default"]);
    // What was there is there again.
    terminal.until("one-42").await;
    terminal.keys("echo \"again-$VAR\"\r").await;
    terminal.until("again-kept").await;
    // A shell that ends takes its session and us with it.
    terminal.keys("exit\r").await;
    let (seen, status) = terminal.end().await;
    assert!(status == Some(0) && seen.contains("[exited]"), "{status:?} {seen}");
    eventually("its end in the list", async || {
        let list = desk.run(&["sessions", "a", "--json"]).await.json();
        list["sessions"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_has_the_terminals_size_and_follows_it() {
    let desk = desk().await;
    let mut terminal = Terminal::start(desk.shed(&["attach", "a"]), 101, 33);
    terminal.keys("echo size-$(stty size)-$(tput cols)\r").await;
    // tmux keeps a line for its status.
    terminal.until("size-32 101-101").await;
    terminal.resize(66, 22);
    terminal
        .keys("clear; until test \"$(stty size)\" = '21 66'; do :; done; echo now-$(tput cols)\r")
        .await;
    terminal.until("now-66").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_shed_is_started() {
    let desk = desk().await;
    desk.run(&["stop", "a"]).await.ok();
    let mut terminal = desk.terminal(&["attach", "a"]);
    terminal.until("[default]").await;
    assert_eq!(desk.run(&["show", "a", "--json"]).await.json()["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn tilde_dot_leaves_and_the_session_goes_on() {
    let desk = desk().await;
    let mut terminal = attach_and_tell(&desk, "attach a -S work");
    terminal.until("[work]").await;
    // Not at the beginning of a line it is text.
    terminal.keys("echo x~.y-$((1))\r").await;
    terminal.until("x~.y-1").await;
    terminal.keys("\r~.").await;
    terminal.until("shed: left a/work; it goes on").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    attached(&desk, "work", 0).await;
    desk.run(&["sessions", "capture", "a", "work"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_session_is_refused_if_it_exists() {
    let desk = desk().await;
    let mut terminal = desk.terminal(&["attach", "a", "--new", "-S", "fresh"]);
    terminal.until("[fresh]").await;
    let mut second = attach_and_tell(&desk, "attach a --new -S fresh");
    let (seen, _) = second.end().await;
    assert!(seen.contains("fresh") && seen.contains("restored\r\nstatus 4."), "{seen}");
    // Nothing but words reached the terminal.
    assert!(!seen.contains("\x1b[?"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_entered_says_why() {
    let desk = desk().await;
    for (words, status) in [
        ("attach none", 3),
        ("attach Bad_Name", 2),
        ("attach a -S 'a b'", 2),
        ("attach a --new --read-only", 2),
    ] {
        let (seen, _) = attach_and_tell(&desk, words).end().await;
        assert!(seen.contains(&format!("restored\r\nstatus {status}.")), "{words}: {seen}");
        assert!(!seen.contains("\x1b[?"), "{words}: {seen:?}");
    }
    let piped = desk.run(&["attach", "a"]).await;
    assert!(piped.fails(2).contains("shed sessions capture"), "{piped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_only_looks_types_nothing() {
    let desk = desk().await;
    let mut writer = desk.terminal(&["attach", "a"]);
    writer.keys("echo from-$((1))-writer\r").await;
    writer.until("from-1-writer").await;
    let mut reader = desk.terminal(&["attach", "a", "--read-only"]);
    reader.until("from-1-writer").await;
    reader.keys("echo from-$((2))-reader\r").await;
    attached(&desk, "default", 2).await;
    // What the reader typed is older than this, so it would show before it.
    writer.keys("echo from-$((3))-writer\r").await;
    let seen = reader.until("from-3-writer").await;
    assert!(!seen.contains("reader"), "{seen}");
    reader.keys("\x02d").await;
    let (seen, status) = reader.end().await;
    assert!(status == Some(0) && seen.contains("left a/default"), "{status:?} {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_detached_when_asked_for() {
    let desk = desk().await;
    let mut first = attach_and_tell(&desk, "attach a");
    first.until("[default]").await;
    let mut second = desk.terminal(&["attach", "a"]);
    second.until("[default]").await;
    attached(&desk, "default", 2).await;
    let mut third = desk.terminal(&["attach", "-d", "a"]);
    third.until("[default]").await;
    let (seen, _) = first.end().await;
    assert!(
        seen.contains("[detached (from session default)]")
            && seen.contains("restored\r\nstatus 0."),
        "{seen}"
    );
    assert_eq!(second.end().await.1, Some(0));
    attached(&desk, "default", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_nobody_knows_falls_back() {
    let desk = desk().await;
    for term in ["xterm-ghostty", "no-such-terminal", ""] {
        let mut attach = desk.shed(&["attach", "a"]);
        attach.env("TERM", term).env("COLORTERM", "truecolor");
        let mut terminal = Terminal::start(attach, 80, 24);
        terminal.until("[default]").await;
        terminal.keys("\x02d").await;
        let (seen, status) = terminal.end().await;
        assert_eq!(status, Some(0), "{term}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again() {
    let mut desk = desk().await;
    let mut terminal = attach_and_tell(&desk, "attach a");
    terminal.keys("VAR=kept; echo ready-$((1))\r").await;
    terminal.until("ready-1").await;
    for round in 1..=2 {
        desk.close().await;
        terminal.until("reconnecting … (~. gives up)").await;
        desk.reopen().await;
        // The screen is drawn again, and what is typed arrives.
        terminal.until("[default]").await;
        terminal.keys(&format!("echo \"back-{round}-$VAR\"\r")).await;
        terminal.until(&format!("back-{round}-kept")).await;
    }
    terminal.keys("\x02d").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
}

/// A place between client and server that can break.
fn wire(desk: &Desk) -> JoinHandle<()> {
    let path = desk.path("wire.sock");
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).unwrap();
    let server = desk.path("run/shed/shed.sock");
    tokio::spawn(async move {
        // Its connections end with it.
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
async fn a_connection_that_breaks_without_a_word_is_made_again() {
    let desk = desk().await;
    let between = wire(&desk);
    let address = format!("unix:{}", desk.path("wire.sock").display());
    let mut terminal = attach_and_tell(&desk, &format!("attach -s {address} a"));
    terminal.keys("echo ready-$((1))\r").await;
    terminal.until("ready-1").await;
    between.abort();
    terminal.until("reconnecting").await;
    // What is typed now is for nobody.
    terminal.keys("echo lost-$((1))\r").await;
    attached(&desk, "default", 0).await;
    let between = wire(&desk);
    terminal.until("[default]").await;
    terminal.keys("echo back-$((1))\r").await;
    let seen = terminal.until("back-1").await;
    assert!(!seen.contains("lost"), "{seen}");
    terminal.keys("\x02d").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    between.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gives_up_a_lost_connection() {
    let mut desk = desk().await;
    let mut by_tilde = attach_and_tell(&desk, "attach a");
    let mut by_key = attach_and_tell(&desk, "attach a");
    let mut by_signal = desk.terminal(&["attach", "a"]);
    let mut at_once = attach_and_tell(&desk, "attach a --no-reconnect");
    for terminal in [&mut by_tilde, &mut by_key, &mut by_signal, &mut at_once] {
        terminal.until("[default]").await;
    }
    desk.close().await;
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
async fn a_session_that_is_gone_after_the_break_is_not_made_anew() {
    let mut desk = desk().await;
    let mut terminal = attach_and_tell(&desk, "attach a -S brief");
    terminal.keys("echo $TMUX\r").await;
    terminal.until("[brief]").await;
    desk.close().await;
    terminal.until("reconnecting").await;
    let mut kill = tokio::process::Command::new("tmux");
    kill.args(["kill-session", "-t", "=brief"]).env("TMUX_TMPDIR", desk.test.engine.tmux_dir("a"));
    ended(started(kill)).await.ok();
    desk.reopen().await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("brief") && seen.contains("restored\r\nstatus 3."), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_leaves_the_terminal_as_it_was() {
    let desk = desk().await;
    let mut terminal = attach_and_tell(&desk, "attach a");
    terminal.until("[default]").await;
    let shell = terminal.child.id().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let shed = rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(shed, rustix::process::Signal::TERM).unwrap();
    // Out of tmux's screen.
    terminal.until("\x1b[?1049l").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 143."), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_there_is_a_list_to_choose_from() {
    let desk = Desk::empty().await;
    let (seen, status) = desk.terminal(&["attach"]).end().await;
    assert!(status == Some(3) && seen.contains("shed create NAME"), "{status:?} {seen}");
    desk.test.shed("a").await;
    desk.run(&["sessions", "new", "a", "one"]).await.ok();
    // One is no choice.
    let mut terminal = desk.terminal(&["attach"]);
    terminal.until("[one]").await;
    terminal.keys("\x02d").await;
    assert_eq!(terminal.end().await.1, Some(0));

    desk.run(&["sessions", "new", "a", "two"]).await.ok();
    desk.test.shed("b").await;
    let mut terminal = desk.terminal(&["attach"]);
    let list = terminal.until("which?").await;
    for row in
        ["1  a/one  (detached", "2  a/two  (detached", "3  b/default  (new, shed is running)"]
    {
        assert!(list.contains(row), "{list}");
    }
    terminal.keys("2\r").await;
    terminal.until("[two]").await;
    let mut terminal = desk.terminal(&["attach"]);
    terminal.until("which?").await;
    terminal.keys("9\r").await;
    let (seen, status) = terminal.end().await;
    assert!(status == Some(2) && seen.contains("none of them"), "{status:?} {seen}");
}
