//! Many sessions of one repository made and deleted at the same time. git does not wait for another git that changes the same
//! repository; shed's sessions do.
//!
//! `SHED_TOGETHER=30` makes more sessions than the default.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shed_api::session::{NewSession, PatchSession, SessionStatus, SessionType};
use shed_core::Error;
use shed_testing::TestApp;

use crate::support::{kept, repository, session, sh, shed};

/// How many sessions are made without `SHED_TOGETHER`.
const N_SESSIONS: usize = 8;

fn n_sessions() -> usize {
    match std::env::var("SHED_TOGETHER") {
        Ok(text) => text.parse().expect("SHED_TOGETHER is a number"),
        Err(_) => N_SESSIONS,
    }
}

async fn make(test: &TestApp, request: NewSession) -> Result<(), Error> {
    let made = test.app.sessions().create(&test.admin, &shed("a"), request).await?;
    assert_eq!(made.status, SessionStatus::Running);
    Ok(())
}

fn tree(name: &str) -> NewSession {
    NewSession { kind: Some(SessionType::Worktree), ..kept(name, &["cat"]) }
}

/// A session on a branch that only `origin` has: git writes the branch's upstream into the configuration.
fn of_origin(name: &str) -> NewSession {
    let branch = Some(format!("feature/{name}"));
    NewSession { branch, existing_branch: true, ..tree(name) }
}

fn failures(results: Vec<Result<(), Error>>) -> Vec<String> {
    results.into_iter().filter_map(|result| Some(result.err()?.to_string())).collect()
}

async fn together(test: &TestApp, requests: Vec<NewSession>) -> Duration {
    let start = Instant::now();
    let made = join_all(requests.into_iter().map(|request| make(test, request))).await;
    assert_eq!(failures(made), [""; 0]);
    start.elapsed()
}

async fn in_turn(test: &TestApp, requests: Vec<NewSession>) -> Duration {
    let start = Instant::now();
    for request in requests {
        make(test, request).await.unwrap();
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_repository_are_made_and_deleted_at_the_same_time() {
    let test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    let n = n_sessions();
    let names = |what: &str| -> Vec<String> { (0..n).map(|n| format!("{what}{n}")).collect() };
    let branches = names("o").join(" feature/");
    let fetched = format!(
        "for one in feature/{branches}; do git -C ../origin.git branch $one || exit; done; git fetch -q"
    );
    assert_eq!(sh(&test, "a", &fetched).await.exit, 0);
    let requests = |what: &str| names(what).iter().map(|name| tree(name)).collect();

    let alone = in_turn(&test, requests("s")).await;
    let at_once = together(&test, requests("t")).await;
    eprintln!("{n} sessions: {alone:?} one after the other, {at_once:?} at once");
    assert!(at_once <= 2 * alone, "{at_once:?} at once, {alone:?} one after the other");
    let listed = sh(&test, "a", "git worktree list | wc -l").await.stdout;
    assert_eq!(listed.trim(), (2 * n + 1).to_string());

    // Half of them are deleted while as many are made.
    let name = shed("a");
    let (app, admin) = (&test.app, &test.admin);
    let deleted = names("s").into_iter().map(|one| {
        let (name, target) = (name.clone(), session(&one));
        async move { app.sessions().delete(admin, &name, &target, false).await.map(drop) }
    });
    let existing = names("o").iter().map(|name| of_origin(name)).collect();
    let (deleted, _) = tokio::join!(join_all(deleted), together(&test, existing));
    assert_eq!(failures(deleted), [""; 0]);
    let done = sh(
        &test,
        "a",
        "git worktree list | wc -l; git branch --list 'shed/*' | wc -l; \
         git config --get-regexp 'branch.feature/o.*.merge' | wc -l; git fsck --no-dangling",
    )
    .await;
    assert_eq!(done.exit, 0, "{done:?}");
    let lines: Vec<&str> = done.stdout.split_whitespace().collect();
    assert_eq!(lines, [(2 * n + 1).to_string(), n.to_string(), n.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automatic_name_whose_directory_or_branch_is_there_is_followed_by_the_next() {
    let test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    let unnamed = || NewSession { name: None, title: Some("fix".to_owned()), ..tree("x") };
    let (sessions, a) = (test.app.sessions(), shed("a"));
    let create = |request| sessions.create(&test.admin, &a, request);
    let first = create(unnamed()).await.unwrap();
    // Its name is free again, its directory and branch are not.
    let patch = PatchSession { name: Some("other".to_owned()), ..PatchSession::default() };
    test.app.sessions().patch(&test.admin, &shed("a"), &session(&first.name), patch).await.unwrap();
    sh(&test, "a", "git branch shed/fix-2").await;
    let next = create(unnamed()).await.unwrap();
    assert_eq!((next.name.as_str(), next.branch.as_deref()), ("fix-3", Some("shed/fix-3")));
    assert!(next.directory.unwrap().ends_with("/worktrees/fix-3"));
    // A branch that was requested is not replaced, and a requested name neither.
    let branch = NewSession { branch: Some("shed/fix-2".to_owned()), ..unnamed() };
    assert!(create(branch).await.unwrap_err().to_string().contains("shed/fix-2"));
    let named = NewSession { name: Some("fix-2".to_owned()), ..unnamed() };
    assert!(create(named).await.unwrap_err().to_string().contains("shed/fix-2"));
}
