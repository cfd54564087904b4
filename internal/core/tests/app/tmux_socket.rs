//! tmux's socket is removed or replaced while its server runs.

use std::process::Command;

use shed_api::session::NewSession;
use shed_testing::{TestApp, wait};

use crate::support::{attach, by_hand, crash_daemon, session, shed, until};

async fn create(test: &TestApp, name: &str) {
    let request = NewSession { name: Some(name.to_owned()), ..NewSession::default() };
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
}

/// A shed with the session `first`, and the process id of its tmux server.
async fn with_server() -> (TestApp, String) {
    let test = TestApp::start().await;
    test.shed("a").await;
    create(&test, "first").await;
    let server = server(&test);
    (test, server)
}

/// The process id of the server that answers.
fn server(test: &TestApp) -> String {
    by_hand(test, &["display-message", "-p", "#{pid}"])
}

fn sessions(test: &TestApp) -> String {
    by_hand(test, &["list-sessions", "-F", "#S"])
}

/// Empties the directory of tmux's socket.
fn remove_socket(test: &TestApp) {
    for entry in std::fs::read_dir(test.engine.tmux_dir("a")).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_reached_after_the_socket_was_removed() {
    let (test, before) = with_server().await;
    remove_socket(&test);
    create(&test, "second").await;
    assert_eq!(server(&test), before);
    remove_socket(&test);
    let (name, third) = (shed("a"), session("third"));
    let attached = test.app.streams().attach(&test.admin, &name, &third, attach());
    let mut attached = attached.await.unwrap();
    until(&mut attached, "third").await;
    assert_eq!(server(&test), before);
    remove_socket(&test);
    crash_daemon(&test).await;
    create(&test, "fourth").await;
    assert_eq!((server(&test), sessions(&test)), (before, "first\nfourth\nsecond\nthird".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_created_again_while_nobody_uses_it() {
    let (test, before) = with_server().await;
    remove_socket(&test);
    let dir = test.engine.tmux_dir("a");
    wait::eventually("the socket", async || {
        let mut found = std::fs::read_dir(&dir).unwrap().flatten();
        found.any(|entry| entry.path().join("default").exists()).then_some(())
    })
    .await;
    assert_eq!(server(&test), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_does_not_replace_the_first() {
    let (test, before) = with_server().await;
    remove_socket(&test);
    by_hand(&test, &["-f", "/dev/null", "new-session", "-d", "-s", "stray"]);
    let stray = server(&test);
    create(&test, "second").await;
    let after = (server(&test), sessions(&test));
    let killed = Command::new("kill").args(["-KILL", &stray]).status().unwrap();
    assert!(killed.success() && stray != before);
    assert_eq!(after, (before, "first\nsecond".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_person_starts_again_is_watched() {
    let (test, before) = with_server().await;
    by_hand(&test, &["kill-server"]);
    wait::eventually("the end of the session", async || {
        let list = test.app.sessions().list(&test.admin, None).unwrap();
        list.sessions.is_empty().then_some(())
    })
    .await;
    create(&test, "second").await;
    let second = server(&test);
    assert_ne!(second, before);
    remove_socket(&test);
    create(&test, "third").await;
    assert_eq!((server(&test), sessions(&test)), (second, "second\nthird".into()));
}
