//! Sheds: creation, start, stop, rebuild, deletion.

use std::time::{Duration, Instant};

use shed_api::shed::{CreateShed, PatchShed, RebuildShed};
use shed_api::{Code, EventKind, Scope, ShedStatus};
use shed_core::{Answer, Person, Removal};
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};

use crate::support::{problem, sh, shed};

fn create(name: &str) -> CreateShed {
    CreateShed { name: name.to_owned(), ..CreateShed::default() }
}

/// Gives the shed a session made with tmux itself.
async fn with_session(test: &TestApp) {
    sh(test, "a", "tmux new-session -d -s hand").await;
    eventually("the session", async || lists_session(test).then_some(())).await;
}

fn lists_session(test: &TestApp) -> bool {
    let list = test.app.sessions().list(&test.admin, Some(&shed("a"))).unwrap();
    list.sessions.iter().any(|session| session.name == "hand")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_is_created_stopped_started_and_deleted() {
    let test = TestApp::start().await;
    let made = test.shed("a").await;
    assert_eq!(made.status, ShedStatus::Running);
    assert!(made.link.connected);
    let (answer, stopped) =
        test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    assert_eq!((answer, stopped.status), (Answer::Done, ShedStatus::Stopped));
    let (answer, _) =
        test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    assert_eq!(answer, Answer::Already);
    let (_, started) =
        test.app.sheds().request(&test.admin, &shed("a"), Request::Start).await.unwrap();
    assert_eq!(started.status, ShedStatus::Running);
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await.unwrap();
    assert_eq!(problem(test.app.sheds().get(&test.admin, &shed("a"))).code, Code::ShedNotFound);
    assert!(!test.engine.workspace("a").exists());
    let again =
        problem(test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await);
    assert_eq!(again.code, Code::ShedNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_status_is_an_event_with_its_actor() {
    let test = TestApp::start().await;
    test.shed("a").await;
    test.app.sheds().request(&test.admin, &shed("a"), Request::Restart).await.unwrap();
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await.unwrap();
    let events = test.app.events().list(&test.admin, 0, Some(&shed("a"))).await.unwrap();
    let changes = events.iter().filter(|event| event.kind == EventKind::ShedStatus);
    let told: Vec<_> =
        changes.map(|event| (event.status.unwrap().as_str(), event.actor.as_str())).collect();
    let me = "local:tester";
    let expected = [
        ("creating", me),
        ("running", me),
        ("stopping", me),
        ("starting", me),
        ("running", me),
        ("removing", me),
    ];
    assert_eq!(told, expected);
    assert_eq!(events.last().unwrap().kind, EventKind::ShedRemoved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_shed_of_a_name_is_a_conflict() {
    let test = TestApp::start().await;
    test.shed("a").await;
    assert_eq!(
        problem(test.app.sheds().create(&test.admin, create("a")).await).code,
        Code::ShedExists
    );
    let retry = CreateShed { retry: true, ..create("a") };
    assert_eq!(problem(test.app.sheds().create(&test.admin, retry).await).code, Code::ShedExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_fails_the_shed_and_a_retry_with_another_succeeds() {
    let test = TestApp::start().await;
    let request = CreateShed { image: Some("missing/image".to_owned()), ..create("a") };
    test.app.sheds().create(&test.admin, request).await.unwrap();
    let failed = problem(test.app.sheds().created(&test.admin, &shed("a")).await);
    assert_eq!(failed.code, Code::ImageNotFound);
    assert_eq!(failed.hint.as_deref(), Some("shed create a --retry"));
    let start = problem(test.app.sheds().request(&test.admin, &shed("a"), Request::Start).await);
    assert_eq!(start.code, Code::Busy);
    let retry = CreateShed { retry: true, image: Some("good".to_owned()), ..create("a") };
    test.app.sheds().create(&test.admin, retry).await.unwrap();
    let healed = test.app.sheds().created(&test.admin, &shed("a")).await.unwrap();
    assert_eq!((healed.status, healed.image.as_str()), (ShedStatus::Running, "good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_volume_is_reused() {
    let test = TestApp::start().await;
    test.shed("a").await;
    sh(&test, "a", "echo precious > file").await;
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::KeepVolumes).await.unwrap();
    assert!(test.engine.workspace("a").join("file").exists());
    test.shed("a").await;
    assert_eq!(sh(&test, "a", "cat file").await.stdout, "precious\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_creation_keeps_volumes_that_existed_before() {
    let test = TestApp::start().await;
    test.shed("a").await;
    sh(&test, "a", "echo precious > file").await;
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::KeepVolumes).await.unwrap();
    let request = CreateShed { image: Some("slow".to_owned()), ..create("a") };
    test.app.sheds().create(&test.admin, request).await.unwrap();
    let mut progress = test.app.sheds().progress(&test.admin, &shed("a")).unwrap();
    progress.next().await.unwrap();
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await.unwrap();
    assert!(test.engine.workspace("a").join("file").exists());
    // One that is over and deleted on purpose is gone.
    test.shed("a").await;
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await.unwrap();
    assert!(!test.engine.workspace("a").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_clone_leaves_an_enterable_shed_and_no_partial_checkout() {
    let test = TestApp::start().await;
    let request = CreateShed { repo: Some("file:///nowhere/at/all.git".to_owned()), ..create("a") };
    test.app.sheds().create(&test.admin, request).await.unwrap();
    let failed = problem(test.app.sheds().created(&test.admin, &shed("a")).await);
    assert_eq!(failed.code, Code::CloneFailed);
    assert!(failed.detail.contains("file:///nowhere/at/all.git"), "{}", failed.detail);
    assert!(failed.detail.contains("fatal:"), "{}", failed.detail);
    assert_eq!(failed.hint.as_deref(), Some("shed create a --retry"));
    assert_eq!(test.app.sheds().get(&test.admin, &shed("a")).unwrap().status, ShedStatus::Failed);
    // Nothing is restored in it: whoever enters it does not wait for that.
    let start = Instant::now();
    assert_eq!(sh(&test, "a", "ls -A").await.stdout, "");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // Its sessions go on while the clone is tried again, and are listed after it.
    with_session(&test).await;
    let origin = test.dir().join("origin.git");
    let made =
        std::process::Command::new("git").args(["init", "-q", "--bare"]).arg(&origin).status();
    assert!(made.unwrap().success());
    let repo = Some(format!("file://{}", origin.display()));
    let retry = CreateShed { repo, retry: true, ..create("a") };
    test.app.sheds().create(&test.admin, retry).await.unwrap();
    let start = Instant::now();
    let healed = test.app.sheds().created(&test.admin, &shed("a")).await.unwrap();
    assert_eq!(healed.status, ShedStatus::Running);
    assert!(lists_session(&test));
    assert_eq!(sh(&test, "a", "ls -A").await.stdout, ".git\n");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_in_the_workspace_with_the_callers_identity() {
    let test = TestApp::start().await;
    let bare = test.dir().join("origin.git");
    let script = format!(
        "git init -q -b main w && cd w && echo hi > .hidden && git add . && \
         git -c user.name=o -c user.email=o@o commit -qm one && git clone -q --bare . {}",
        bare.display()
    );
    let made = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(test.dir())
        .status()
        .unwrap();
    assert!(made.success());
    let identity =
        shed_api::shed::GitIdentity { name: "Me \"x\"".to_owned(), email: "me@x".to_owned() };
    let repo = Some(format!("file://{}", bare.display()));
    let request = CreateShed { repo, git_identity: Some(identity), ..create("a") };
    test.app.sheds().create(&test.admin, request).await.unwrap();
    let made = test.app.sheds().created(&test.admin, &shed("a")).await.unwrap();
    assert_eq!(made.status, ShedStatus::Running);
    let seen =
        sh(&test, "a", "cat .hidden; ls -A; git status --porcelain; git config user.name").await;
    assert_eq!(seen.stdout, "hi\n.git\n.hidden\nMe \"x\"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_keeps_the_volumes_and_a_bad_image_changes_nothing() {
    let test = TestApp::start().await;
    test.shed("a").await;
    sh(&test, "a", "echo 1 > file").await;
    let bad = RebuildShed { image: Some("missing".to_owned()) };
    let failed = problem(test.app.sheds().rebuild(&test.admin, &shed("a"), bad).await);
    assert_eq!(failed.code, Code::ImageNotFound);
    let before = test.app.sheds().get(&test.admin, &shed("a")).unwrap();
    assert_eq!((before.status, before.image.as_str()), (ShedStatus::Running, "shed-base:latest"));
    let good = RebuildShed { image: Some("other".to_owned()) };
    let after = test.app.sheds().rebuild(&test.admin, &shed("a"), good).await.unwrap();
    assert_eq!((after.status, after.image.as_str()), (ShedStatus::Running, "other"));
    assert_eq!(sh(&test, "a", "cat file").await.stdout, "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_shed_refuses_commands_with_a_hint() {
    let test = TestApp::start().await;
    test.shed("a").await;
    with_session(&test).await;
    let (_, paused) =
        test.app.sheds().request(&test.admin, &shed("a"), Request::Pause).await.unwrap();
    assert_eq!(paused.status, ShedStatus::Paused);
    let refused = test
        .app
        .streams()
        .exec_to_end(&test.admin, &shed("a"), crate::support::run(&["true"]), Vec::new())
        .await;
    assert_eq!(problem(refused).hint.as_deref(), Some("shed unpause a"));
    let (_, running) =
        test.app.sheds().request(&test.admin, &shed("a"), Request::Unpause).await.unwrap();
    assert_eq!(running.status, ShedStatus::Running);
    assert!(lists_session(&test));
    assert_eq!(sh(&test, "a", "echo back").await.stdout, "back\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_finds_its_sheds_and_their_sessions() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    let request = shed_api::session::NewSession {
        name: Some("work".to_owned()),
        ..shed_api::session::NewSession::default()
    };
    let before = test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    test.restart().await;
    let after = eventually("the session", async || {
        test.app.sessions().get(&test.admin, &shed("a"), &crate::support::session("work")).ok()
    })
    .await;
    assert_eq!((after.id, after.created_at), (before.id, before.created_at));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_closed_server_writes_a_stop_event() {
    let mut test = TestApp::start().await;
    let ends = async |test: &TestApp| {
        let events = test.app.events().list(&test.admin, 0, None).await.unwrap();
        let n = |kind| events.iter().filter(|event| event.kind == kind).count();
        (n(EventKind::ServerStarted), n(EventKind::ServerStopped))
    };
    test.restart().await;
    assert_eq!(ends(&test).await, (2, 0));
    test.reopen_after(|_| {}).await;
    assert_eq!(ends(&test).await, (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_when_the_engine_went_down_runs_again_when_it_is_back() {
    let test = TestApp::start().await;
    test.shed("a").await;
    test.shed("b").await;
    test.app.sheds().request(&test.admin, &shed("b"), Request::Stop).await.unwrap();
    test.engine.set_down(true);
    let pid = test.engine.pid("a").unwrap();
    eventually("the engine's loss", async || (!test.app.server().health().ready).then_some(()))
        .await;
    let refused = problem(test.app.sheds().request(&test.admin, &shed("b"), Request::Start).await);
    assert_eq!(refused.code, Code::EngineUnreachable);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    eventually("the end of a", async || test.engine.pid("a").is_none().then_some(())).await;
    test.engine.set_down(false);
    eventually("the return of a", async || {
        let now = test.app.sheds().get(&test.admin, &shed("a")).unwrap();
        (now.status == ShedStatus::Running && test.engine.pid("a").is_some()).then_some(())
    })
    .await;
    // b was asked to start while the engine was away, and people still want that.
    eventually("the start of b", async || test.engine.pid("b").map(drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_by_itself_is_stopped_with_a_reason_and_starts_on_entering() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let pid = test.engine.pid("a").unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let stopped = eventually("the end", async || {
        Some(test.app.sheds().get(&test.admin, &shed("a")).unwrap())
            .filter(|now| now.status == ShedStatus::Stopped)
    })
    .await;
    assert!(stopped.reason.unwrap().contains("outside shed"));
    assert_eq!(sh(&test, "a", "echo up").await.stdout, "up\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_it_runs() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let patch = PatchShed { memory: Some("1G".to_owned()), pids: Some(99), ..PatchShed::default() };
    let after = test.app.sheds().patch(&test.admin, &shed("a"), patch).await.unwrap();
    assert_eq!((after.limits.memory_bytes, after.limits.pids), (1 << 30, 99));
    let bad = PatchShed { memory: Some("1X".to_owned()), ..PatchShed::default() };
    assert_eq!(
        problem(test.app.sheds().patch(&test.admin, &shed("a"), bad).await).code,
        Code::InvalidRequest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_shed_lists_are_enforced() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let reader = Person::holder(shed_api::Actor::Token("r".to_owned()), Scope::Read, Vec::new());
    assert_eq!(
        problem(test.app.sheds().request(&reader, &shed("a"), Request::Stop).await).code,
        Code::Forbidden
    );
    assert_eq!(problem(test.app.sheds().create(&reader, create("b")).await).code, Code::Forbidden);
    assert_eq!(test.app.sheds().list(&reader).sheds.len(), 1);
    let other =
        Person::holder(shed_api::Actor::Token("o".to_owned()), Scope::Admin, vec!["b".to_owned()]);
    assert!(test.app.sheds().list(&other).sheds.is_empty());
    assert_eq!(
        problem(test.app.sheds().request(&other, &shed("a"), Request::Stop).await).code,
        Code::ShedNotFound
    );
    assert_eq!(problem(test.app.access().keys(&other).await).code, Code::Forbidden);
    assert!(test.app.events().list(&other, 0, None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_shed_init_is_detected_and_reported() {
    let test = TestApp::start_jumping().await;
    test.shed("a").await;
    let first = test.engine.pid("a").unwrap();
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    let is_worker = |pid: &&str| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').nth(1) == Some("worker")
    };
    let worker = children.split_whitespace().find(is_worker).unwrap();
    let signal = |name: &str| {
        let status = std::process::Command::new("kill").args([name, worker]).status().unwrap();
        assert!(status.success());
    };
    signal("-STOP");
    // Its socket is open and nobody reads: what is shown must not pass for news.
    eventually("a warning", async || {
        test.jump(Duration::from_secs(1)).await;
        let list = test.app.sessions().list(&test.admin, Some(&shed("a"))).unwrap();
        list.warnings.first().filter(|warning| warning.code == Code::ShedUnreachable).map(drop)
    })
    .await;
    signal("-CONT");
    eventually("it is back", async || {
        let list = test.app.sessions().list(&test.admin, Some(&shed("a"))).unwrap();
        list.warnings.is_empty().then_some(())
    })
    .await;
    assert_eq!(sh(&test, "a", "echo here").await.stdout, "here\n");
}
