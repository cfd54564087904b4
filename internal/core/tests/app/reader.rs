//! What a read-only terminal changes in a shed: nothing.

use std::collections::BTreeMap;

use shed_api::Scope;
use shed_api::stream::{AttachOpen, Tty};
use shed_core::{Attach, Person, Stream, WindowSize};
use shed_testing::{TestApp, eventually};

use crate::support::{attach, kept, session, sh, shed, until};

/// Attaches to `work` with a terminal of this size.
async fn look(test: &TestApp, person: &Person, cols: u16, rows: u16, open: AttachOpen) -> Stream {
    let tty = Tty { cols, rows, ..open.tty.clone() };
    let attach = Attach { open: AttachOpen { tty, ..open }, connection: Vec::new() };
    test.app.streams().attach(person, &shed("a"), &session("work"), attach).await.unwrap()
}

/// Somebody who may only look.
fn reader(test: &TestApp) -> Person {
    Person { scope: Scope::Read, ..test.admin.clone() }
}

/// A shed with the session `work`, which nobody is attached to.
async fn with_work() -> TestApp {
    let test = TestApp::start().await;
    test.shed("a").await;
    let request = kept("work", &["sh", "-c", "echo visible; exec cat"]);
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    test
}

/// The size of the window of `work`, as tmux has it.
async fn window(test: &TestApp) -> String {
    let line = "tmux list-windows -t =work -F '#{window_width}x#{window_height}'";
    sh(test, "a", line).await.stdout.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_terminal_sets_no_size() {
    let test = with_work().await;
    let reader = reader(&test);
    let before = window(&test).await;
    let mut alone = look(&test, &reader, 12, 4, attach().open).await;
    until(&mut alone, "visible").await;
    assert_eq!(window(&test).await, before);
    let by_wish = AttachOpen { read_only: true, ..attach().open };
    let mut second = look(&test, &test.admin, 200, 60, by_wish).await;
    until(&mut second, "visible").await;
    second.control.resize(WindowSize { cols: 20, rows: 5, ..WindowSize::default() });
    // Somebody who works there has their own size, which stays when they leave.
    let mut owner = look(&test, &test.admin, 90, 31, attach().open).await;
    until(&mut owner, "visible").await;
    eventually("the owner's size", async || (window(&test).await == "90x30").then_some(())).await;
    drop(owner);
    let clients = "tmux list-clients -t =work -F '#{client_readonly}'";
    eventually("the owner's end", async || {
        (sh(&test, "a", clients).await.stdout == "1\n1\n").then_some(())
    })
    .await;
    assert_eq!(window(&test).await, "90x30");
    // The companion session that keeps the size is not listed, and ends with them.
    let listed = test.app.sessions().list(&test.admin, None).unwrap().sessions;
    assert_eq!(listed.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["work"]);
    drop((alone, second));
    eventually("the end of the companions", async || {
        (sh(&test, "a", "tmux list-sessions -F '#{session_name}'").await.stdout == "work\n")
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_joins_a_session_sets_only_locale_and_terminal() {
    let test = with_work().await;
    let hostile = ["LD_PRELOAD", "HOME", "PATH", "SSH_AUTH_SOCK", "DISPLAY", "MALLOC_PERTURB_"];
    let env: BTreeMap<String, String> = hostile
        .iter()
        .map(|name| ((*name).to_owned(), "/of/the/caller".to_owned()))
        .chain([("COLORTERM".to_owned(), "truecolor".to_owned())])
        .collect();
    let reader = reader(&test);
    for (person, read_only) in [(&reader, "1"), (&test.admin, "0")] {
        let mut joined =
            look(&test, person, 80, 24, AttachOpen { env: env.clone(), ..attach().open }).await;
        until(&mut joined, "visible").await;
        let find = format!(
            "tmux list-clients -t =work -F '#{{client_readonly}} #{{client_pid}}' | sed -n 's/^{read_only} //p'"
        );
        let client = sh(&test, "a", &find).await.stdout;
        let found =
            sh(&test, "a", &format!("tr '\\0' '\\n' < /proc/{}/environ", client.trim())).await;
        assert!(found.stdout.contains("COLORTERM=truecolor\n"), "{}", found.stdout);
        assert!(!found.stdout.contains("/of/the/caller"), "{}", found.stdout);
        let of_session = sh(&test, "a", "tmux show-environment -t =work").await.stdout;
        assert!(!of_session.contains("/of/the/caller"), "{of_session}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_leaves_the_environment_of_a_session_alone() {
    let test = with_work().await;
    let set = "tmux set-environment -t =work SSH_AUTH_SOCK /of/the/owner";
    assert_eq!(sh(&test, "a", set).await.exit, 0);
    let reader = reader(&test);
    let mut joined = look(&test, &reader, 80, 24, attach().open).await;
    until(&mut joined, "visible").await;
    let kept = sh(&test, "a", "tmux show-environment -t =work SSH_AUTH_SOCK").await.stdout;
    assert_eq!(kept, "SSH_AUTH_SOCK=/of/the/owner\n");
}
