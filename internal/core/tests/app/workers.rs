//! Sessions that shed makes, and their workers, on real tmux.

use shed_api::session::{NewSession, PatchSession, Session, SessionLimits, SessionStatus};
use shed_api::stream::Exit;
use shed_api::worker::{NewWorker, Restart, Worker, WorkerStatus};
use shed_api::{Code, EventKind, SessionRef};
use shed_model::admission::Concurrency;
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};

use crate::support::{kept, problem, session, sh, shed, words};

async fn make(test: &TestApp, request: NewSession) -> Session {
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap()
}

fn get(test: &TestApp, name: &str) -> Session {
    test.app.sessions().get(&test.admin, &shed("a"), &session(name)).unwrap()
}

async fn worker_when(
    test: &TestApp,
    name: &str,
    worker: &str,
    fits: impl Fn(&Worker) -> bool,
) -> Worker {
    eventually("the worker", async || {
        let found = test.app.workers().get(&test.admin, &shed("a"), &session(name), worker);
        let found = found.map_err(|error| format!("{error:?}"))?;
        if fits(&found) { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

/// Everything a worker printed; a page ends where a run of it does.
async fn printed(test: &TestApp, name: &str, worker: &str) -> String {
    let (mut text, mut from) = (String::new(), 0);
    loop {
        let (shed, session) = (shed("a"), session(name));
        let page = test.app.output().page(&test.admin, &shed, &session, worker, from, None);
        let page = page.await.unwrap();
        text += &page.text;
        from = page.end;
        if page.end == page.log_end {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_an_id_and_a_worker_with_complete_output() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let line = "printf 'one\\n'; printf \"$SHED_SESSION/$SHED_WORKER\\n\"; exit 7";
    let made = make(&test, kept("work", &["sh", "-c", line])).await;
    assert_eq!((made.status, made.window_count), (SessionStatus::Running, 1));
    assert_eq!(made.id.len(), 32);
    let ended = worker_when(&test, "work", "sh", |row| row.status == WorkerStatus::Exited).await;
    assert_eq!((ended.exit, ended.epoch), (Some(Exit::Code(7)), 1));
    assert_eq!(printed(&test, "work", "sh").await, "one\r\nwork/sh\r\n");
    // The window stays, and so does the session, by name, by id and by tmux's own.
    let by_id: SessionRef = made.id.parse().unwrap();
    let again = test.app.sessions().get(&test.admin, &shed("a"), &by_id).unwrap();
    assert_eq!(again.tmux_id, made.tmux_id);
    let by_tmux: SessionRef = made.tmux_id.unwrap().parse().unwrap();
    assert_eq!(test.app.sessions().get(&test.admin, &shed("a"), &by_tmux).unwrap().id, made.id);
    let screen =
        test.app.sessions().screen(&test.admin, &shed("a"), &by_id, None, false).await.unwrap();
    assert!(screen.contains("work/sh"), "{screen}");
    // Once more: the same log goes on, with another epoch.
    let restart = Restart::default();
    let name = session("work");
    let failed = test.app.workers().restart(&test.admin, &shed("a"), &name, "sh", restart).await;
    assert_eq!(problem(failed).detail, "worker \"sh\": it ended at once: exit 7");
    let second = worker_when(&test, "work", "sh", |row| row.epoch == 2 && row.exit.is_some()).await;
    assert_eq!(second.exit, Some(Exit::Code(7)));
    assert_eq!(printed(&test, "work", "sh").await, "one\r\nwork/sh\r\n".repeat(2));
    test.app.sessions().delete(&test.admin, &shed("a"), &by_id, false).await.unwrap();
    assert!(test.app.sessions().list(&test.admin, None).unwrap().sessions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_added_and_removed() {
    let test = TestApp::start().await;
    test.shed("a").await;
    make(&test, NewSession { name: Some("work".to_owned()), ..NewSession::default() }).await;
    let (name, work) = (shed("a"), session("work"));
    let request = NewWorker { command: words(&["sleep", "1000"]), ..NewWorker::default() };
    let added = test.app.workers().add(&test.admin, &name, &work, request.clone()).await.unwrap();
    assert_eq!((added.name.as_str(), added.status), ("sleep", WorkerStatus::Running));
    let second = test.app.workers().add(&test.admin, &name, &work, request.clone()).await.unwrap();
    assert_eq!(second.name, "sleep-2");
    let named = NewWorker { name: Some("sleep".to_owned()), ..request };
    let taken = test.app.workers().add(&test.admin, &name, &work, named).await;
    assert_eq!(problem(taken).code, Code::WorkerExists);
    eventually("three windows", async || (get(&test, "work").window_count == 3).then_some(()))
        .await;
    test.app.workers().remove(&test.admin, &name, &work, "sleep").await.unwrap();
    eventually("two windows", async || (get(&test, "work").window_count == 2).then_some(())).await;
    let names: Vec<String> = get(&test, "work").workers.into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["shell", "sleep-2"]);
    let gone = test.app.workers().get(&test.admin, &name, &work, "sleep");
    assert_eq!(problem(gone).code, Code::WorkerNotFound);
    let missing = NewWorker { command: words(&["no-such-program"]), ..NewWorker::default() };
    let refused = problem(test.app.workers().add(&test.admin, &name, &work, missing).await);
    assert_eq!(refused.code, Code::ExecFailed, "{refused:?}");
    assert!(refused.detail.contains("no-such-program"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_restarts_freezes_and_thaws() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, work) = (shed("a"), session("work"));
    let line = "trap '' HUP; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    make(&test, kept("work", &["sh", "-c", line])).await;
    let end = async || {
        let page = test.app.output().page(&test.admin, &name, &work, "sh", 0, None).await;
        page.unwrap().log_end
    };
    eventually("some output", async || (end().await > 10).then_some(())).await;
    let frozen = test.app.sessions().freeze(&test.admin, &name, &work, true).await.unwrap();
    assert_eq!(frozen.status, SessionStatus::Frozen);
    // What was printed before may still be on its way; then a while brings nothing new.
    let still = eventually("silence", async || {
        let before = end().await;
        sh(&test, "a", "sleep 0.3").await;
        (end().await == before).then_some(before)
    })
    .await;
    test.app.sessions().freeze(&test.admin, &name, &work, false).await.unwrap();
    eventually("more output", async || (end().await > still).then_some(())).await;
    let ended = test.app.sessions().terminate(&test.admin, &name, &work).await.unwrap();
    assert_eq!((ended.status, ended.window_count), (SessionStatus::Ended, 0));
    assert_eq!(ended.workers[0].status, WorkerStatus::Exited);
    assert!(sh(&test, "a", "pgrep -fc 'i=$((i+1))' || true").await.stdout.trim() <= "1");
    let input = shed_api::session::Input { enter: true, ..Default::default() };
    let refused = problem(test.app.sessions().input(&test.admin, &name, &work, input).await);
    assert_eq!(refused.code, Code::Busy);
    let again = test.app.sessions().restart(&test.admin, &name, &work, Restart::default()).await;
    assert_eq!(again.unwrap().status, SessionStatus::Running);
    assert_eq!(get(&test, "work").workers[0].epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_and_tags_are_data() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let title = "Fix: the #(touch /tmp/owned) 🚀 ../ `id`";
    let request = NewSession { title: Some(title.to_owned()), ..NewSession::default() };
    let made = make(&test, request).await;
    assert_eq!(
        (made.name.as_str(), made.title.as_deref()),
        ("fix-the-touch-tmp-owned", Some(title))
    );
    let patch = PatchSession {
        title: Some("日本".to_owned()),
        tags: Some(words(&["x", "y z"])),
        name: Some("other".to_owned()),
        ..PatchSession::default()
    };
    let target = session(&made.name);
    let changed = test.app.sessions().patch(&test.admin, &shed("a"), &target, patch).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.id.as_str()), ("other", made.id.as_str()));
    assert_eq!(changed.tags, ["x", "y z"]);
    // Renamed by hand in tmux, it is still the same.
    sh(&test, "a", "tmux rename-session -t =other mine").await;
    let mine = eventually("the new name", async || {
        test.app.sessions().get(&test.admin, &shed("a"), &session("mine")).ok()
    })
    .await;
    assert_eq!((mine.id, mine.title.as_deref()), (made.id, Some("日本")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_removed_when_its_shell_exits() {
    let test = TestApp::start().await;
    test.shed("a").await;
    make(&test, NewSession { name: Some("work".to_owned()), ..NewSession::default() }).await;
    let input = shed_api::session::Input {
        text: Some("exit".to_owned()),
        enter: true,
        ..Default::default()
    };
    test.app.sessions().input(&test.admin, &shed("a"), &session("work"), input).await.unwrap();
    eventually("no session", async || {
        test.app.sessions().list(&test.admin, None).unwrap().sessions.is_empty().then_some(())
    })
    .await;
    let events = test.app.events().list(&test.admin, 0, None).await.unwrap();
    assert!(events.iter().any(|event| event.kind == EventKind::SessionRemoved));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_complete_after_the_server_was_killed() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    let line = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.005; done; exit 3";
    let made = make(&test, kept("work", &["sh", "-c", line])).await;
    for _ in 0..3 {
        test.restart().await;
    }
    let ended = worker_when(&test, "work", "sh", |row| row.status == WorkerStatus::Exited).await;
    assert_eq!((ended.exit, ended.epoch), (Some(Exit::Code(3)), 1));
    assert_eq!(get(&test, "work").id, made.id);
    let line = |text: String, i: u32| text + "line " + &i.to_string() + "\r\n";
    let expected = (1..=200).fold(String::new(), line);
    assert_eq!(printed(&test, "work", "sh").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_restored_with_their_shed() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, work) = (shed("a"), session("work"));
    let made = make(&test, kept("work", &["sh", "-c", "echo was here; exec sleep 1000"])).await;
    let again = NewWorker {
        name: Some("again".to_owned()),
        command: words(&["sh", "-c", "echo run; exec sleep 1000"]),
        restart: true,
        ..NewWorker::default()
    };
    test.app.workers().add(&test.admin, &name, &work, again).await.unwrap();
    sh(&test, "a", "tmux new-session -d -s hand -c /tmp; tmux split-window -d -t hand:").await;
    eventually("the session made by hand", async || {
        test.app.sessions().get(&test.admin, &name, &session("hand")).ok()
    })
    .await;
    test.app.sheds().request(&test.admin, &name, Request::Stop).await.unwrap();
    assert_eq!(get(&test, "work").status, SessionStatus::Stopped);
    test.app.sheds().request(&test.admin, &name, Request::Start).await.unwrap();
    let back = eventually("the session", async || {
        let found = test.app.sessions().get(&test.admin, &name, &work).ok()?;
        (found.window_count == 2 && found.status == SessionStatus::Running).then_some(found)
    })
    .await;
    assert_eq!(back.id, made.id);
    // Nobody said that the first command may be started twice.
    assert_eq!((back.workers[0].status, back.workers[0].epoch), (WorkerStatus::Exited, 1));
    let restarted = worker_when(&test, "work", "again", |row| row.status == WorkerStatus::Running);
    assert_eq!(restarted.await.epoch, 2);
    let target = work.clone();
    eventually("the past in the window", async || {
        let screen = test
            .app
            .sessions()
            .screen(&test.admin, &name, &target, Some(100), false)
            .await
            .unwrap();
        (screen.contains("was here") && screen.contains("stopped with the shed")).then_some(())
    })
    .await;
    let hand = test.app.sessions().get(&test.admin, &name, &session("hand")).unwrap();
    assert_eq!(hand.windows[0].panes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_free_slot_waits() {
    let test = TestApp::start_with(|settings| {
        settings.sessions.concurrency = Concurrency { server: Some(1), shed: None };
    })
    .await;
    test.shed("a").await;
    let (name, long) = (shed("a"), ["sleep", "1000"]);
    assert_eq!(make(&test, kept("one", &long)).await.status, SessionStatus::Running);
    let second = make(&test, kept("two", &long)).await;
    assert_eq!((second.status, second.window_count), (SessionStatus::Waiting, 0));
    make(&test, kept("three", &long)).await;
    // Whoever leaves the line is not waited for.
    test.app.sessions().delete(&test.admin, &name, &session("two"), false).await.unwrap();
    test.app.sessions().terminate(&test.admin, &name, &session("one")).await.unwrap();
    eventually("its turn", async || {
        (get(&test, "three").status == SessionStatus::Running).then_some(())
    })
    .await;
    // One whose command has ended makes room, though its window stays.
    make(&test, kept("four", &["true"])).await;
    test.app.workers().remove(&test.admin, &name, &session("three"), "sleep").await.unwrap();
    worker_when(&test, "four", "true", |row| row.exit == Some(Exit::Code(0))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_terminated_at_its_runtime_limit() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let limits = SessionLimits { runtime_seconds: Some(1), ..SessionLimits::default() };
    make(&test, NewSession { limits: Some(limits), ..kept("work", &["sleep", "1000"]) }).await;
    let ended = eventually("its end", async || {
        let found = get(&test, "work");
        (found.status == SessionStatus::Ended).then_some(found)
    })
    .await;
    assert_eq!(ended.reason.as_deref(), Some("runtime limit reached"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_killed_shed_are_restored_or_reported_lost() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    let name = shed("a");
    make(&test, NewSession { name: Some("shell".to_owned()), ..NewSession::default() }).await;
    make(&test, kept("work", &["sh", "-c", "echo precious; exec sleep 1000"])).await;
    sh(&test, "a", "tmux new-session -d -s hand").await;
    worker_when(&test, "work", "sh", |row| row.output_end > 0).await;
    let store = shed_store::Store::open(test.dir()).unwrap();
    eventually("what tmux looks like to be written", async || {
        let layout = store.layout("a".to_owned()).await.unwrap()?;
        layout.body.contains("hand").then_some(())
    })
    .await;
    drop(store);
    test.engine.kill("a");
    test.restart().await;
    test.app.sheds().request(&test.admin, &name, Request::Start).await.unwrap();
    let back = eventually("the shell", async || {
        let found = test.app.sessions().get(&test.admin, &name, &session("shell")).ok()?;
        let runs = found.workers[0].status == WorkerStatus::Running;
        (found.window_count == 1 && runs).then_some(found)
    })
    .await;
    assert_eq!((back.workers[0].status, back.workers[0].epoch), (WorkerStatus::Running, 2));
    let work = get(&test, "work");
    assert_eq!(work.workers[0].reason.as_deref(), Some("stopped with the shed"));
    assert_eq!(printed(&test, "work", "sh").await, "precious\r\n");
    let lost = eventually("the loss to be told", async || {
        let events = test.app.events().list(&test.admin, 0, None).await.unwrap();
        events.into_iter().find(|event| event.kind == EventKind::SessionLost)
    })
    .await;
    assert_eq!(lost.session.as_deref(), Some("hand"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmanaged_session_is_adopted() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, hand) = (shed("a"), session("hand"));
    sh(&test, "a", "tmux new-session -d -s hand -c /").await;
    let found =
        eventually("it", async || test.app.sessions().get(&test.admin, &name, &hand).ok()).await;
    assert!(found.id.starts_with('$') && found.kind.is_none());
    let title = PatchSession { title: Some("mine".to_owned()), ..PatchSession::default() };
    let refused = test.app.sessions().patch(&test.admin, &name, &hand, title.clone()).await;
    assert_eq!(problem(refused).code, Code::Conflict);
    let adopted = test.app.sessions().adopt(&test.admin, &name, &hand).await.unwrap();
    assert_eq!(adopted.id.len(), 32);
    let titled = test.app.sessions().patch(&test.admin, &name, &hand, title).await.unwrap();
    assert_eq!((titled.id, titled.title.as_deref()), (adopted.id, Some("mine")));
    let worker = NewWorker { command: words(&["sleep", "9"]), ..NewWorker::default() };
    test.app.workers().add(&test.admin, &name, &hand, worker).await.unwrap();
    eventually("two windows", async || (get(&test, "hand").window_count == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_session_writes_only_in_its_directory() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let line =
        "echo yes > here && echo in; (echo no > /var/tmp/shed-outside) 2>/dev/null || echo out";
    let request = NewSession { confine: true, ..kept("work", &["sh", "-c", line]) };
    match test.app.sessions().create(&test.admin, &shed("a"), request).await {
        Ok(made) => {
            assert!(made.confined);
            worker_when(&test, "work", "sh", |row| row.exit.is_some()).await;
            assert_eq!(printed(&test, "work", "sh").await, "in\r\nout\r\n");
        }
        // A kernel without it: refused with the reason, not run unconfined.
        Err(error) => {
            assert_eq!(error.problem().code, Code::ConfineUnavailable);
            assert!(test.app.sessions().list(&test.admin, None).unwrap().sessions.is_empty());
        }
    }
}
