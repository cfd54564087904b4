//! Sessions on real tmux.

use std::collections::BTreeMap;
use std::time::Instant;

use shed_api::session::{Input, NewSession, PatchSession};
use shed_api::{Code, EventKind, Scope, ShedStatus};
use shed_core::{Person, WindowSize};
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};
use tokio::io::AsyncWriteExt as _;

use crate::support::{attach, by_hand, problem, session, shed, until, words};

fn new(name: &str) -> NewSession {
    NewSession { name: Some(name.to_owned()), ..NewSession::default() }
}

fn names(test: &TestApp) -> Vec<String> {
    let list = test.app.sessions().list(&test.admin, None).unwrap();
    list.sessions.into_iter().map(|row| row.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_created_listed_renamed_and_ended() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let name = shed("a");
    let made = test.app.sessions().create(&test.admin, &name, new("work")).await.unwrap();
    assert_eq!((made.name.as_str(), made.attached, made.window_count), ("work", false, 1));
    let twice = test.app.sessions().create(&test.admin, &name, new("work")).await;
    assert_eq!(problem(twice).code, Code::SessionExists);
    test.app.sessions().create(&test.admin, &name, new("workshop")).await.unwrap();
    let prefix = test.app.sessions().delete(&test.admin, &name, &session("wor"), false).await;
    assert_eq!(problem(prefix).code, Code::SessionNotFound);
    let patch = PatchSession { name: Some("play".to_owned()), ..PatchSession::default() };
    let renamed =
        test.app.sessions().patch(&test.admin, &name, &session("work"), patch).await.unwrap();
    assert_eq!(renamed.id, made.id);
    test.app.sessions().delete(&test.admin, &name, &session(&made.id), false).await.unwrap();
    assert_eq!(names(&test), ["workshop"]);
    let bad = test.app.sessions().create(&test.admin, &name, new("#(id)")).await;
    assert_eq!(problem(bad).code, Code::InvalidName);
    let events = test.app.events().list(&test.admin, 0, Some(&name)).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .filter(|event| {
            let of_tmux =
                [EventKind::SessionCreated, EventKind::SessionClosed, EventKind::SessionRenamed];
            of_tmux.contains(&event.kind)
        })
        .map(|event| (event.kind, event.session.as_deref().unwrap(), event.actor.as_str()))
        .collect();
    let me = "local:tester";
    let expected = [
        (EventKind::SessionCreated, "work", me),
        (EventKind::SessionCreated, "workshop", me),
        (EventKind::SessionRenamed, "play", me),
        (EventKind::SessionClosed, "play", me),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_session_gets_its_directory_environment_and_command() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let request = NewSession {
        directory: Some("/".to_owned()),
        command: words(&["sh", "-c", "pwd; echo $X; exec cat"]),
        env: BTreeMap::from([("X".to_owned(), "y;".to_owned())]),
        ..new("work")
    };
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    eventually("the output", async || {
        let output = test
            .app
            .sessions()
            .screen(&test.admin, &shed("a"), &session("work"), None, false)
            .await
            .unwrap();
        output.starts_with("/\ny;\n").then_some(())
    })
    .await;
}

/// A tmux command, and what shows that it was noticed.
type Step<'a> = (&'a [&'a str], fn(&TestApp) -> bool);

#[tokio::test(flavor = "multi_thread")]
async fn changes_made_in_tmux_show_within_100_ms() {
    let test = TestApp::start().await;
    test.shed("a").await;
    // The first session by hand, so that the watch is surely up.
    by_hand(&test, &["new-session", "-d", "-s", "zero"]);
    eventually("zero", async || (names(&test) == ["zero"]).then_some(())).await;
    let mut bell = test.app.sheds().bell();
    let steps: [Step<'_>; 5] = [
        (&["new-session", "-d", "-s", "one.two"], |test| {
            names(test).contains(&"one_two".to_owned())
        }),
        (&["rename-session", "-t", "=zero", "null"], |test| {
            names(test).contains(&"null".to_owned())
        }),
        (&["new-window", "-d", "-t", "=null:", "-n", "win"], |test| windows(test) == 2),
        (&["split-window", "-d", "-t", "=null:"], |test| panes(test) == 3),
        (&["kill-session", "-t", "=null"], |test| names(test) == ["one_two"]),
    ];
    for (args, shows) in steps {
        by_hand(&test, args);
        let start = Instant::now();
        while !shows(&test) {
            bell.changed().await.unwrap();
        }
        let took = start.elapsed().as_millis();
        assert!(took < 100, "{args:?} showed after {took} ms");
    }
}

fn windows(test: &TestApp) -> u32 {
    let list = test.app.sessions().list(&test.admin, None).unwrap();
    list.sessions.iter().find(|row| row.name == "null").map_or(0, |row| row.window_count)
}

fn panes(test: &TestApp) -> usize {
    let list = test.app.sessions().list(&test.admin, None).unwrap();
    let session = list.sessions.iter().find(|row| row.name == "null");
    session.map_or(0, |row| row.windows.iter().map(|window| window.panes.len()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_tmux_server_is_noticed_and_the_watch_goes_on() {
    let test = TestApp::start().await;
    test.shed("a").await;
    test.app.sessions().create(&test.admin, &shed("a"), new("one")).await.unwrap();
    by_hand(&test, &["kill-server"]);
    eventually("the end of all sessions", async || names(&test).is_empty().then_some(())).await;
    test.app.sessions().create(&test.admin, &shed("a"), new("two")).await.unwrap();
    assert_eq!(names(&test), ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_a_reload_removes_are_set_again() {
    let test = TestApp::start().await;
    test.shed("a").await;
    test.app.sessions().create(&test.admin, &shed("a"), new("one")).await.unwrap();
    by_hand(&test, &["set-hook", "-g", "window-linked", "display-message hi"]);
    // Noticed by itself; the listing that follows repairs the hook.
    by_hand(&test, &["new-session", "-d", "-s", "two"]);
    eventually("two", async || (names(&test).len() == 2).then_some(())).await;
    by_hand(&test, &["new-window", "-d", "-t", "=one:"]);
    eventually("the window", async || {
        let list = test.app.sessions().list(&test.admin, None).unwrap();
        (list.sessions[0].window_count == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_keys_are_typed() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, work) = (shed("a"), session("work"));
    let request = NewSession { command: words(&["cat"]), ..new("work") };
    test.app.sessions().create(&test.admin, &name, request).await.unwrap();
    let text = "-n $(id) 'q' ;";
    let input = Input { text: Some(text.to_owned()), enter: true, ..Input::default() };
    test.app.sessions().input(&test.admin, &name, &work, input).await.unwrap();
    eventually("the echo", async || {
        let output =
            test.app.sessions().screen(&test.admin, &name, &work, Some(100), false).await.unwrap();
        (output.matches(text).count() == 2).then_some(())
    })
    .await;
    let keys = Input { keys: words(&["C-c"]), ..Input::default() };
    test.app.sessions().input(&test.admin, &name, &work, keys).await.unwrap();
    eventually("the end", async || names(&test).is_empty().then_some(())).await;
    let gone = test
        .app
        .sessions()
        .input(&test.admin, &name, &work, Input { enter: true, ..Input::default() })
        .await;
    assert_eq!(problem(gone).code, Code::SessionNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_creates_shows_and_leaves_a_session() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, work) = (shed("a"), session("work"));
    let mut running = test.app.streams().attach(&test.admin, &name, &work, attach()).await.unwrap();
    let input = running.input.as_mut().unwrap();
    input.write_all(b"echo so-$((40+2)); stty size\r").await.unwrap();
    let seen = until(&mut running, "so-42").await;
    // One row is the status line.
    let seen =
        if seen.contains("23 80") { seen } else { seen + &until(&mut running, "23 80").await };
    assert!(seen.contains("23 80"));
    eventually("attached", async || {
        test.app
            .sessions()
            .get(&test.admin, &name, &work)
            .ok()
            .filter(|row| row.attached_clients == 1)
    })
    .await;
    running.control.resize(WindowSize { cols: 100, rows: 30, ..WindowSize::default() });
    running.input.as_mut().unwrap().write_all(b"stty size\r").await.unwrap();
    until(&mut running, "29 100").await;
    // Detach by tmux's own key.
    running.input.as_mut().unwrap().write_all(b"\x02d").await.unwrap();
    until(&mut running, "[detached (from session work)]").await;
    assert_eq!(running.exit.wait().await, Some(shed_api::stream::Exit::Code(0)));
    eventually("detached", async || {
        test.app.sessions().get(&test.admin, &name, &work).ok().filter(|row| !row.attached)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_attaches_with_new_is_refused() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, work) = (shed("a"), session("work"));
    let mut new = attach();
    new.open.new = true;
    let (one, two) = tokio::join!(
        test.app.streams().attach(&test.admin, &name, &work, new.clone()),
        test.app.streams().attach(&test.admin, &name, &work, new.clone())
    );
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    let refused = if one.is_ok() { problem(two) } else { problem(one) };
    assert_eq!(refused.code, Code::SessionExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_and_cannot_type() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, work) = (shed("a"), session("work"));
    let reader = Person::holder(shed_api::Actor::Key("r".to_owned()), Scope::Read, Vec::new());
    let missing = test.app.streams().attach(&reader, &name, &work, attach()).await;
    assert_eq!(problem(missing).code, Code::SessionNotFound);
    let request =
        NewSession { command: words(&["sh", "-c", "echo visible; exec cat"]), ..new("work") };
    test.app.sessions().create(&test.admin, &name, request).await.unwrap();
    let mut running = test.app.streams().attach(&reader, &name, &work, attach()).await.unwrap();
    assert!(running.input.is_none());
    until(&mut running, "visible").await;
    let typed = test
        .app
        .sessions()
        .input(&reader, &name, &work, Input { enter: true, ..Input::default() })
        .await;
    assert_eq!(problem(typed).code, Code::Forbidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_activity_are_current_while_somebody_watches() {
    let test = TestApp::start().await;
    test.shed("a").await;
    test.app.sessions().create(&test.admin, &shed("a"), new("work")).await.unwrap();
    by_hand(&test, &["set-option", "-g", "automatic-rename", "off"]);
    let input = Input { text: Some("exec sleep 1000".to_owned()), enter: true, ..Input::default() };
    test.app.sessions().input(&test.admin, &shed("a"), &session("work"), input).await.unwrap();
    eventually("the command", async || {
        test.app.sessions().observe(&test.admin);
        let list = test.app.sessions().list(&test.admin, None).unwrap();
        (list.sessions[0].command.as_deref() == Some("sleep")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_a_session_does_not_start_a_stopped_shed() {
    let test = TestApp::start().await;
    test.shed("a").await;
    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    let (name, work) = (shed("a"), session("work"));
    let read = problem(test.app.sessions().screen(&test.admin, &name, &work, None, false).await);
    let ended = problem(test.app.sessions().delete(&test.admin, &name, &work, false).await);
    assert_eq!((read.code, ended.code), (Code::NotRunning, Code::NotRunning));
    assert_eq!(test.app.sheds().get(&test.admin, &name).unwrap().status, ShedStatus::Stopped);
    // Making one does.
    test.app.sessions().create(&test.admin, &name, new("work")).await.unwrap();
    assert_eq!(test.app.sheds().get(&test.admin, &name).unwrap().status, ShedStatus::Running);
}
