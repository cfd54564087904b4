//! Waiting: sessions for a slot, operations for the one before, and deletions that a killed server had begun.

use std::path::PathBuf;

use shed_agents::Agent;
use shed_api::session::{
    NewSession, PatchSession, Session, SessionLimits, SessionStatus, SessionType,
};
use shed_api::worker::{NewWorker, Restart, WorkerStatus};
use shed_api::{Code, ShedStatus};
use shed_model::admission::Concurrency;
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually, wait};

use crate::support::{kept, problem, session, sh, shed, words};

async fn make_in(test: &TestApp, name: &str, request: NewSession) -> Session {
    test.app.sessions().create(&test.admin, &shed(name), request).await.unwrap()
}

fn get(test: &TestApp, in_shed: &str, name: &str) -> Session {
    test.app.sessions().get(&test.admin, &shed(in_shed), &session(name)).unwrap()
}

async fn status(test: &TestApp, in_shed: &str, name: &str, expected: SessionStatus) -> Session {
    eventually(&format!("{name} is {expected}"), async || {
        let found = test.app.sessions().get(&test.admin, &shed(in_shed), &session(name));
        let found = found.map_err(|error| format!("{error:?}"))?;
        if found.status == expected { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

async fn one_at_a_time() -> TestApp {
    TestApp::start_with(|settings| {
        settings.sessions.concurrency = Concurrency { server: Some(1), shed: None };
    })
    .await
}

/// A shed with a repository and a directory for files that the test and the shed share.
async fn with_repository(test: &TestApp) -> PathBuf {
    test.shed("a").await;
    let line = "git init -q -b main . && git config user.name T && git config user.email t@e.x && \
                echo one > one.txt && git add -A && git commit -qm first";
    sh(test, "a", line).await;
    test.dir().join("signs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_shed_delays_no_waiting_session() {
    let test = one_at_a_time().await;
    test.shed("a").await;
    test.shed("b").await;
    let long = ["sleep", "1000"];
    make_in(&test, "a", kept("first", &long)).await;
    assert_eq!(make_in(&test, "b", kept("second", &long)).await.status, SessionStatus::Waiting);
    assert_eq!(make_in(&test, "a", kept("third", &long)).await.status, SessionStatus::Waiting);
    test.app.sheds().request(&test.admin, &shed("b"), Request::Stop).await.unwrap();
    test.app.sessions().terminate(&test.admin, &shed("a"), &session("first")).await.unwrap();
    // The older one cannot run now.
    status(&test, "a", "third", SessionStatus::Running).await;
    // What went with its shed takes no place either.
    test.app.sheds().request(&test.admin, &shed("b"), Request::Start).await.unwrap();
    assert_eq!(get(&test, "b", "second").status, SessionStatus::Waiting);
    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    status(&test, "b", "second", SessionStatus::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_session_waits_for_a_slot() {
    let test = one_at_a_time().await;
    test.shed("a").await;
    let (name, long) = (shed("a"), ["sleep", "1000"]);
    make_in(&test, "a", kept("first", &long)).await;
    test.app.sessions().terminate(&test.admin, &name, &session("first")).await.unwrap();
    make_in(&test, "a", kept("second", &long)).await;
    let again = Restart::default();
    let told = test.app.sessions().restart(&test.admin, &name, &session("first"), again).await;
    assert_eq!(told.unwrap().status, SessionStatus::Waiting);
    test.app.sessions().terminate(&test.admin, &name, &session("second")).await.unwrap();
    let first = status(&test, "a", "first", SessionStatus::Running).await;
    assert_eq!(first.workers[0].epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_fails_after_waiting_reports_why() {
    let test = one_at_a_time().await;
    with_repository(&test).await;
    make_in(&test, "a", kept("first", &["sleep", "1000"])).await;
    let worktree = NewSession {
        kind: Some(SessionType::Worktree),
        base: Some("no-such-ref".to_owned()),
        ..kept("second", &["cat"])
    };
    assert_eq!(make_in(&test, "a", worktree).await.status, SessionStatus::Waiting);
    test.app.sessions().terminate(&test.admin, &shed("a"), &session("first")).await.unwrap();
    let failed = status(&test, "a", "second", SessionStatus::Failed).await;
    assert!(failed.reason.unwrap().contains("no-such-ref"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_operation_does_not_delay_the_next() {
    let test = TestApp::start().await;
    let signs = with_repository(&test).await;
    let wait = format!("until test -e {}; do sleep 0.02; done; exit 1", signs.display());
    let request = NewSession {
        kind: Some(SessionType::Worktree),
        setup: words(&["sh", "-c", &wait]),
        ..kept("work", &["cat"])
    };
    let (name, work) = (shed("a"), session("work"));
    let making = test.app.sessions().create(&test.admin, &name, request);
    let others = async {
        status(&test, "a", "work", SessionStatus::Creating).await;
        let more = NewWorker { command: words(&["cat"]), ..NewWorker::default() };
        let adding = test.app.workers().add(&test.admin, &name, &work, more);
        let patching = test.app.sessions().freeze(&test.admin, &name, &work, true);
        let third = async {
            // The other two were posted before.
            tokio::task::yield_now().await;
            std::fs::write(&signs, "").unwrap();
        };
        tokio::join!(adding, patching, third)
    };
    let (made, (added, frozen, ())) = tokio::join!(making, others);
    assert!(made.is_err());
    assert_eq!(problem(added).code, Code::Busy);
    assert_eq!(problem(frozen).code, Code::Busy);
    assert_eq!(get(&test, "a", "work").status, SessionStatus::Failed);
    test.app.sessions().delete(&test.admin, &name, &work, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_deletion_resumes_without_force() {
    let mut test = TestApp::start().await;
    let signs = with_repository(&test).await;
    let began = signs.with_extension("began");
    let line = format!(
        "touch {}; until test -e {}; do sleep 0.02; done",
        began.display(),
        signs.display()
    );
    let request = NewSession {
        kind: Some(SessionType::Worktree),
        teardown: words(&["sh", "-c", &line]),
        ..kept("work", &["cat"])
    };
    let directory = PathBuf::from(make_in(&test, "a", request).await.directory.unwrap());
    let app = test.app.clone();
    let admin = test.admin.clone();
    let deleting = tokio::spawn(async move {
        app.sessions().delete(&admin, &shed("a"), &session("work"), false).await
    });
    eventually("the teardown", async || began.exists().then_some(())).await;
    let precious = directory.join("precious.txt");
    test.restart_after(|_| {
        std::fs::write(&precious, "not committed").unwrap();
        std::fs::write(&signs, "").unwrap();
    })
    .await;
    drop(deleting);
    let kept = eventually("what became of it", async || {
        let found = test.app.sessions().get(&test.admin, &shed("a"), &session("work")).ok()?;
        (found.status != SessionStatus::Removing).then_some(found)
    })
    .await;
    assert!(kept.reason.unwrap().contains("1 new file"));
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "not committed");
    test.app.sessions().delete(&test.admin, &shed("a"), &session("work"), true).await.unwrap();
    assert!(!directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_session_stays_frozen_when_its_deletion_is_refused() {
    let test = TestApp::start().await;
    with_repository(&test).await;
    let request =
        NewSession { kind: Some(SessionType::Worktree), ..kept("work", &["sleep", "1000"]) };
    let made = make_in(&test, "a", request).await;
    std::fs::write(PathBuf::from(made.directory.unwrap()).join("new.txt"), "not committed")
        .unwrap();
    let (name, work) = (shed("a"), session("work"));
    test.app.sessions().freeze(&test.admin, &name, &work, true).await.unwrap();
    let refused = test.app.sessions().delete(&test.admin, &name, &work, false).await;
    assert_eq!(problem(refused).code, Code::WorkWouldBeLost);
    assert_eq!(get(&test, "a", "work").status, SessionStatus::Frozen);
    let thawed = test.app.sessions().freeze(&test.admin, &name, &work, false).await.unwrap();
    assert_eq!(thawed.status, SessionStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_limit_that_passed_while_the_shed_was_stopped_applies_when_it_starts() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let limited = |name: &str, seconds: u64| NewSession {
        limits: Some(SessionLimits { runtime_seconds: Some(seconds), ..SessionLimits::default() }),
        restart: true,
        ..kept(name, &["sleep", "1000"])
    };
    make_in(&test, "a", limited("endless", u64::MAX)).await;
    make_in(&test, "a", limited("short", 3600)).await;
    let (name, short) = (shed("a"), session("short"));
    test.app.sheds().request(&test.admin, &name, Request::Stop).await.unwrap();
    assert_eq!(test.app.sheds().get(&test.admin, &name).unwrap().status, ShedStatus::Stopped);
    let over = SessionLimits { runtime_seconds: Some(0), ..SessionLimits::default() };
    let patch = PatchSession { limits: Some(over), ..PatchSession::default() };
    test.app.sessions().patch(&test.admin, &name, &short, patch).await.unwrap();
    // It comes back with its shed, and only then its time counts.
    test.app.sheds().request(&test.admin, &name, Request::Start).await.unwrap();
    status(&test, "a", "endless", SessionStatus::Running).await;
    let short = status(&test, "a", "short", SessionStatus::Ended).await;
    assert_eq!(short.workers[0].epoch, 2, "it was ended while its shed was stopped");
    assert_eq!(short.reason.as_deref(), Some("runtime limit reached"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_created_at_once_have_different_names_and_ports() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let request =
        || NewSession { name: None, ..kept("", &["sh", "-c", "echo $SHED_PORT; exec cat"]) };
    let all = (0..6).map(|_| make_in(&test, "a", request()));
    let made = futures_util::future::join_all(all).await;
    let mut ports = Vec::new();
    for one in &made {
        let worker = &one.workers[0].name;
        let id = one.id.parse().unwrap();
        ports.push(
            eventually("its port", async || {
                let name = shed("a");
                let page = test.app.output().page(&test.admin, &name, &id, worker, 0, None);
                page.await.ok().map(|page| page.text).filter(|text| text.ends_with('\n'))
            })
            .await,
        );
    }
    let mut once = ports.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), made.len(), "{ports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_start_reports_why() {
    let mut test = TestApp::start_with(|settings| {
        let agent = Agent { command: words(&["sleep", "1000"]), ..Agent::default() };
        settings.sessions.agents.insert("helper".to_owned(), agent);
    })
    .await;
    test.shed("a").await;
    let agent = NewSession {
        name: Some("work".to_owned()),
        agent: Some("helper".to_owned()),
        ..NewSession::default()
    };
    make_in(&test, "a", agent).await;
    test.restart_with(|settings| drop(settings.sessions.agents.remove("helper"))).await;
    let (name, work, again) = (shed("a"), session("work"), Restart::default());
    let started = test.app.workers().restart(&test.admin, &name, &work, "helper", again).await;
    assert!(started.is_err());
    let worker = test.app.workers().get(&test.admin, &name, &work, "helper").unwrap();
    assert_eq!(worker.status, WorkerStatus::Exited);
    assert!(worker.reason.unwrap().contains("helper"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_restored_after_a_restore_was_interrupted() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let shell = NewSession { name: Some("default".to_owned()), ..NewSession::default() };
    make_in(&test, "a", shell).await;
    let name = shed("a");
    for _ in 0..8 {
        test.app.sheds().request(&test.admin, &name, Request::Stop).await.unwrap();
        test.app.sheds().request(&test.admin, &name, Request::Start).await.unwrap();
        // Its window is there before all of it is.
        let now = async || test.app.sessions().get(&test.admin, &name, &session("default")).ok();
        let has_window =
            |now: &Option<Session>| now.as_ref().is_some_and(|it| it.window_count == 1);
        wait::until("its window", now, has_window).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_end_of_the_shed_interrupts_goes_on_when_it_is_back() {
    let test = TestApp::start().await;
    test.shed("a").await;
    make_in(&test, "a", kept("work", &["sleep", "1000"])).await;
    let (name, work) = (shed("a"), session("work"));
    // A tmux that opens no window.
    sh(&test, "a", "kill -STOP $(tmux display-message -p '#{pid}')").await;
    let again = test.app.workers().restart(&test.admin, &name, &work, "sleep", Restart::default());
    let killed = async {
        let starts = |now: &Session| now.workers[0].status == WorkerStatus::Starting;
        wait::until("the start", async || get(&test, "a", "work"), starts).await;
        test.engine.kill("a");
    };
    assert!(tokio::join!(again, killed).0.is_err());
    wait::until(
        "its end",
        async || test.app.sheds().get(&test.admin, &name).unwrap().status,
        |status| *status == ShedStatus::Stopped,
    )
    .await;
    test.app.sheds().request(&test.admin, &name, Request::Start).await.unwrap();
    let runs = |now: &Session| {
        now.window_count == 1
            && (now.workers[0].status, now.workers[0].epoch) == (WorkerStatus::Running, 3)
    };
    wait::until("its next start", async || get(&test, "a", "work"), runs).await;
}
