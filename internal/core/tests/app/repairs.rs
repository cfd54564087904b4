//! Operations that a killed server or engine interrupted, and sheds that were frozen.

use shed_api::session::{Input, NewSession, SessionType};
use shed_api::shed::{CreateShed, RebuildShed, Shed};
use shed_api::{Code, ShedStatus};
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};

use crate::support::{kept, problem, repository, session, sh, shed};

/// Begins a request on shed `a` that the engine does not carry out, and returns when it is under way.
async fn begin_hanging(test: &TestApp, request: Request) {
    test.engine.hang_stops(true);
    let (app, admin) = (test.app.clone(), test.admin.clone());
    tokio::spawn(async move { app.sheds().request(&admin, &shed("a"), request).await.map(drop) });
    with_status(test, ShedStatus::Stopping).await;
}

async fn with_status(test: &TestApp, status: ShedStatus) -> Shed {
    eventually("the status", async || {
        let now = test.app.sheds().get(&test.admin, &shed("a")).unwrap();
        if now.status == status { Ok(now) } else { Err((now.status, now.reason)) }
    })
    .await
}

/// Waits until session `work` in shed `a` has printed that it is ready.
async fn is_ready(test: &TestApp) {
    eventually("its trap", async || {
        let (name, work) = (shed("a"), session("work"));
        let page = test.app.output().page(&test.admin, &name, &work, "sh", 0, None).await.ok()?;
        page.text.contains("ready").then_some(())
    })
    .await;
}

/// Waits until the database has a restart of the only session.
async fn restart_is_stored(test: &TestApp) {
    let store = shed_store::Store::open(test.dir()).unwrap();
    eventually("the restart to be stored", async || {
        let stored = store.stored_sessions("a".to_owned()).await.unwrap();
        stored.sessions[0].spec.restarting.clone()
    })
    .await;
}

/// The process of the collector in shed `a`.
fn collector(test: &TestApp) -> Option<u32> {
    let mut left = vec![test.engine.pid("a").unwrap()];
    while let Some(pid) = left.pop() {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if words.split(|byte| *byte == 0).any(|word| word == b"collect") {
            return Some(pid);
        }
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        left.extend(children.unwrap_or_default().split_whitespace().flat_map(str::parse::<u32>));
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_is_lost_when_the_collector_is_stopped_or_killed() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let request = NewSession { command: vec!["cat".to_owned()], ..kept("work", &["cat"]) };
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    let (name, work) = (shed("a"), session("work"));
    for (n, signal) in ["-STOP", "-KILL", "-STOP"].into_iter().enumerate() {
        let pid = eventually("the collector", async || collector(&test)).await.to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        let text = format!("line-{n}");
        let input = Input { text: Some(text.clone()), enter: true, ..Input::default() };
        test.app.sessions().input(&test.admin, &name, &work, input).await.unwrap();
        eventually("what was printed", async || {
            let page = test.app.output().page(&test.admin, &name, &work, "cat", 0, None).await;
            let printed = page.map(|page| page.text).unwrap_or_default();
            let lines = (0..=n).all(|n| printed.matches(&format!("line-{n}")).count() == 2);
            if lines { Ok(()) } else { Err(printed) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_a_worker_that_the_servers_end_interrupted_is_finished() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    // It takes as long to end as a sign is missing.
    let signs = test.engine.workspace("a").join("may-end");
    let line = format!(
        "trap 'until test -e {0}; do sleep 0.02; done; exit' HUP TERM; echo ready; \
         while true; do sleep 0.02; done",
        signs.display()
    );
    let line = ["sh", "-c", &line];
    test.app.sessions().create(&test.admin, &shed("a"), kept("work", &line)).await.unwrap();
    let (name, work) = (shed("a"), session("work"));
    let workers = test.app.workers().clone();
    is_ready(&test).await;
    let admin = test.admin.clone();
    tokio::spawn(async move {
        let restart = shed_api::worker::Restart::default();
        workers.restart(&admin, &shed("a"), &session("work"), "sh", restart).await.map(drop)
    });
    restart_is_stored(&test).await;
    test.restart_after(|_| std::fs::write(&signs, "").unwrap()).await;
    eventually("its next start", async || {
        let row = test.app.workers().get(&test.admin, &name, &work, "sh").unwrap();
        let runs = row.epoch == 2 && row.status == shed_api::worker::WorkerStatus::Running;
        if runs { Ok(()) } else { Err(row) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_a_session_that_its_sheds_end_interrupted_is_finished() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let line = ["sh", "-c", "trap '' HUP TERM; echo ready; while true; do sleep 0.02; done"];
    test.app.sessions().create(&test.admin, &shed("a"), kept("work", &line)).await.unwrap();
    let (name, work) = (shed("a"), session("work"));
    is_ready(&test).await;
    let (sessions, admin) = (test.app.sessions().clone(), test.admin.clone());
    let restart = tokio::spawn(async move {
        let restart = shed_api::worker::Restart::default();
        sessions.restart(&admin, &shed("a"), &session("work"), restart).await.map(drop)
    });
    restart_is_stored(&test).await;
    test.engine.kill("a");
    assert!(restart.await.unwrap().is_err());
    with_status(&test, ShedStatus::Stopped).await;
    test.app.sheds().request(&test.admin, &name, Request::Start).await.unwrap();
    eventually("its next start", async || {
        let row = test.app.workers().get(&test.admin, &name, &work, "sh").unwrap();
        let runs = row.epoch >= 2 && row.status == shed_api::worker::WorkerStatus::Running;
        if runs { Ok(()) } else { Err(row) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_the_servers_end_interrupted_is_finished() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    begin_hanging(&test, Request::Stop).await;
    let engine = test.engine.clone();
    test.restart_after(|_| engine.hang_stops(false)).await;
    let stopped = with_status(&test, ShedStatus::Stopped).await;
    assert_eq!((stopped.reason, test.engine.pid("a")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ended_during_an_interrupted_stop_ended_as_it_was_asked_to() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    begin_hanging(&test, Request::Stop).await;
    let engine = test.engine.clone();
    test.restart_after(|_| {
        engine.hang_stops(false);
        engine.kill("a");
        shed_testing::wait::eventually_blocking("its end", || {
            engine.pid("a").is_none().then_some(())
        });
    })
    .await;
    assert_eq!(with_status(&test, ShedStatus::Stopped).await.reason, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_the_servers_end_interrupted_is_finished() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    let first = test.engine.pid("a");
    begin_hanging(&test, Request::Restart).await;
    let engine = test.engine.clone();
    test.restart_after(|_| engine.hang_stops(false)).await;
    with_status(&test, ShedStatus::Running).await;
    assert!(test.engine.pid("a").is_some_and(|pid| Some(pid) != first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_never_started_and_cannot_is_made_again() {
    let test = TestApp::start().await;
    for request in [Request::Start, Request::Restart] {
        let create = CreateShed { name: "a".to_owned(), no_start: true, ..CreateShed::default() };
        test.app.sheds().create(&test.admin, create).await.unwrap();
        test.app.sheds().created(&test.admin, &shed("a")).await.unwrap();
        test.engine.break_start("a");
        let (_, started) =
            test.app.sheds().request(&test.admin, &shed("a"), request).await.unwrap();
        assert_eq!(started.status, ShedStatus::Running);
        let removal = shed_core::Removal::Everything;
        test.app.sheds().delete(&test.admin, &shed("a"), removal).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ran_is_not_made_again_without_being_asked() {
    let test = TestApp::start().await;
    test.shed("a").await;
    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    test.engine.break_start("a");
    let refused = problem(test.app.sheds().request(&test.admin, &shed("a"), Request::Start).await);
    assert_eq!(
        (refused.code, refused.hint.as_deref()),
        (Code::EngineFailed, Some("shed rebuild a"))
    );
    let rebuilt = test.app.sheds().rebuild(&test.admin, &shed("a"), RebuildShed::default()).await;
    rebuilt.unwrap();
    test.app.sheds().request(&test.admin, &shed("a"), Request::Start).await.unwrap();
    assert_eq!(sh(&test, "a", "echo up").await.stdout, "up\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_an_unpaused_shed_are_listed_and_reached_at_once() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let request = NewSession { name: Some("work".to_owned()), ..NewSession::default() };
    let made = test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    for request in [Request::Pause, Request::Unpause] {
        test.app.sheds().request(&test.admin, &shed("a"), request).await.unwrap();
    }
    let work = session("work");
    let now = test.app.sessions().get(&test.admin, &shed("a"), &work).unwrap();
    assert_eq!((now.status, now.windows), (made.status, made.windows));
    // Both look the session up in the table that was there before.
    let limit = std::time::Duration::from_secs(10);
    let input = Input { text: Some("echo he''re".to_owned()), enter: true, ..Input::default() };
    let name = shed("a");
    let sent = test.app.sessions().input(&test.admin, &name, &work, input);
    tokio::time::timeout(limit, sent).await.expect("input in time").unwrap();
    eventually("the screen", async || {
        let screen = test.app.sessions().screen(&test.admin, &name, &work, None, false).await;
        screen.unwrap().lines().any(|line| line == "here").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_whose_creation_was_not_recorded_is_reused() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    let request =
        NewSession { kind: Some(SessionType::Worktree), ..kept("work", &["sleep", "1000"]) };
    let made = test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    let directory = made.directory.unwrap();
    sh(&test, "a", &format!("echo mine > '{directory}/mine'")).await;
    test.reopen_after(|dir| {
        // As a server leaves its row that is killed before the answer comes.
        let path = dir.join(shed_store::DATABASE);
        let mut bytes = std::fs::read(&path).unwrap();
        let key = br#""placed":true"#;
        let found: Vec<usize> =
            (0..bytes.len() - key.len()).filter(|at| bytes[*at..].starts_with(key)).collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at + 1..at + 7].copy_from_slice(b"absent");
        }
        std::fs::write(&path, bytes).unwrap();
    })
    .await;
    let work = session("work");
    let again = eventually("a restart", async || {
        let restart = shed_api::worker::Restart::default();
        test.app.sessions().restart(&test.admin, &shed("a"), &work, restart).await.ok()
    })
    .await;
    assert_eq!((again.directory.as_ref(), again.branch), (Some(&directory), made.branch));
    assert_eq!(sh(&test, "a", &format!("cat '{directory}/mine'")).await.stdout, "mine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_disk_usage_share_one_query() {
    let test = TestApp::start().await;
    test.engine.hang(true);
    let asked = async || test.app.sheds().disk(&test.admin).await;
    let engine = async || {
        eventually("the query", async || (test.engine.n_disk_queries() > 0).then_some(())).await;
        test.engine.hang(false);
    };
    let (one, two, three, ()) = tokio::join!(asked(), asked(), asked(), engine());
    for answer in [one, two, three] {
        answer.unwrap();
    }
    assert_eq!(test.engine.n_disk_queries(), 1);
    // The next one measures again.
    asked().await.unwrap();
    assert_eq!(test.engine.n_disk_queries(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_is_noticed() {
    let test = TestApp::start_jumping().await;
    test.shed("a").await;
    assert_eq!(test.app.server().health().missing, Vec::<String>::new());
    test.engine.hang(true);
    let (app, admin) = (test.app.clone(), test.admin.clone());
    let asked = tokio::spawn(async move { app.sheds().disk(&admin).await.map(drop) });
    eventually("it is not ready", async || {
        test.jump(std::time::Duration::from_secs(5)).await;
        let missing = test.app.server().health().missing;
        missing.iter().any(|it| it.contains("did not answer within 10 seconds")).then_some(())
    })
    .await;
    assert_eq!(problem(asked.await.unwrap()).code, Code::EngineUnreachable);
    test.engine.hang(false);
    eventually("it is ready again", async || {
        test.jump(std::time::Duration::from_secs(5)).await;
        test.app.server().health().ready.then_some(())
    })
    .await;
}
