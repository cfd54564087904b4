//! Sessions with workers in containers: what comes back after each way in which a container can end.

use shed_api::session::{NewSession, Session, SessionStatus};
use shed_api::shed::RebuildShed;
use shed_api::worker::{NewWorker, Worker, WorkerStatus};
use shed_api::{EventKind, SessionRef, ShedStatus};
use shed_model::shed::life::Request;
use shed_testing::{eventually, wait};

use crate::support::{Database, TestDocker, docker, shed, words};

/// The shed of these tests.
pub(crate) const SHED: &str = "a";
/// What the container's end is called on a worker that is not started again.
const WITH_SHED: &str = "stopped with the shed";
/// Lines that the workers print at each start: more than a screen.
const N_LINES: usize = 300;
/// Data, never anything else.
pub(crate) const HOSTILE_TITLE: &str =
    "-x #(touch /tmp/owned) $(touch /tmp/owned) `id` ../../etc: 日本 🚀";

pub(crate) fn target(name: &str) -> SessionRef {
    name.parse().unwrap()
}

pub(crate) fn kept(name: &str, argv: &[&str]) -> NewSession {
    NewSession {
        name: Some(name.to_owned()),
        command: words(argv),
        keep: Some(true),
        ..NewSession::default()
    }
}

pub(crate) async fn make(test: &TestDocker, request: NewSession) -> Session {
    test.app.sessions().create(&test.admin, &shed(SHED), request).await.unwrap()
}

pub(crate) fn get(test: &TestDocker, name: &str) -> Option<Session> {
    test.app.sessions().get(&test.admin, &shed(SHED), &target(name)).ok()
}

fn worker<'a>(session: &'a Session, name: &str) -> &'a Worker {
    session.workers.iter().find(|worker| worker.name == name).unwrap()
}

fn window_names(session: &Session) -> Vec<String> {
    session.windows.iter().map(|window| window.name.clone()).collect()
}

/// Everything a worker printed; a page ends where a run of it does.
pub(crate) async fn printed(test: &TestDocker, session: &str, worker: &str) -> String {
    let (mut text, mut from) = (String::new(), 0);
    loop {
        let (shed, session) = (shed(SHED), target(session));
        let page = test.app.output().page(&test.admin, &shed, &session, worker, from, None);
        let page = page.await.unwrap();
        assert_eq!((page.gap, page.start), (0, from), "some of it is lost");
        text += &page.text;
        from = page.end;
        if page.end == page.log_end {
            return text;
        }
    }
}

/// What one start of a worker prints.
fn lines(what: &str) -> String {
    (1..=N_LINES).fold(String::new(), |text, n| text + what + " " + &n.to_string() + "\r\n")
}

fn printing(what: &str) -> Vec<String> {
    let line = format!("seq -f '{what} %.0f' {N_LINES}; exec sleep 1000");
    words(&["sh", "-c", &line])
}

/// A session with a worker that is to be started again with the shed, and one that is not.
async fn two_workers(test: &TestDocker) -> Session {
    let request = NewSession {
        name: Some("work".to_owned()),
        title: Some(HOSTILE_TITLE.to_owned()),
        tags: words(&["one", "two words"]),
        command: printing("again"),
        keep: Some(true),
        restart: true,
        ..NewSession::default()
    };
    make(test, request).await;
    let once = NewWorker {
        name: Some("once".to_owned()),
        command: printing("once"),
        keep: Some(true),
        ..NewWorker::default()
    };
    test.app.workers().add(&test.admin, &shed(SHED), &target("work"), once).await.unwrap();
    eventually("what both print", async || {
        let whole = printed(test, "work", "sh").await == lines("again")
            && printed(test, "work", "once").await == lines("once");
        whole.then_some(())
    })
    .await;
    eventually("both windows", async || get(test, "work").filter(|row| row.window_count == 2)).await
}

/// Waits until the session is what it was, with the one worker at this start and the other as it ended.
async fn is_back(test: &TestDocker, before: &Session, epoch: u64) {
    let back = eventually("the session", async || {
        let found = get(test, "work")?;
        let again = worker(&found, "sh");
        (found.status == SessionStatus::Running
            && found.window_count == 2
            && (again.status, again.epoch) == (WorkerStatus::Running, epoch))
            .then_some(found)
    })
    .await;
    assert_eq!(
        (&back.id, &back.title, &back.tags, &back.created_at, &back.port),
        (&before.id, &before.title, &before.tags, &before.created_at, &before.port)
    );
    assert_eq!(window_names(&back), ["sh", "once"]);
    let once = worker(&back, "once");
    assert_eq!(
        (once.status, once.epoch, once.reason.as_deref()),
        (WorkerStatus::Exited, 1, Some(WITH_SHED))
    );
    let n_starts = usize::try_from(epoch).unwrap();
    eventually("what was printed", async || {
        (printed(test, "work", "sh").await == lines("again").repeat(n_starts)).then_some(())
    })
    .await;
    assert_eq!(printed(test, "work", "once").await, lines("once"));
    scrollback(test, "once", "once").await;
    scrollback(test, "sh", "again").await;
}

/// Waits until the window of a worker shows the first and the last line of its past.
async fn scrollback(test: &TestDocker, worker_name: &str, what: &str) {
    eventually("the past in the window", async || {
        let window = worker(&get(test, "work")?, worker_name).window.clone()?;
        let pane = test.sh(SHED, &format!("tmux capture-pane -p -S - -t '{window}'")).await;
        let shown = |n: usize| pane.lines().any(|line| line == format!("{what} {n}"));
        (shown(1) && shown(N_LINES)).then_some(())
    })
    .await;
}

pub(crate) async fn until_status(test: &TestDocker, status: ShedStatus) {
    let now = async || test.app.sheds().get(&test.admin, &shed(SHED)).unwrap().status;
    wait::until("the shed's status", now, |now| *now == status).await;
}

pub(crate) async fn wish(test: &TestDocker, wish: Request) {
    test.app.sheds().request(&test.admin, &shed(SHED), wish).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_restored_after_a_stop_and_a_rebuild() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    let before = two_workers(&test).await;
    wish(&test, Request::Stop).await;
    let stopped = get(&test, "work").unwrap();
    assert_eq!((stopped.status, stopped.window_count), (SessionStatus::Stopped, 0));
    wish(&test, Request::Start).await;
    is_back(&test, &before, 2).await;
    let container = test.field(SHED, "{{.Id}}");
    test.app.sheds().rebuild(&test.admin, &shed(SHED), RebuildShed::default()).await.unwrap();
    assert_ne!(test.field(SHED, "{{.Id}}"), container);
    is_back(&test, &before, 3).await;
    let owned = test.sh(SHED, "find / -xdev -name owned 2> /dev/null || true").await;
    assert_eq!(owned, "", "a title was executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_restored_after_their_container_was_killed_or_restarted_by_others() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    let before = two_workers(&test).await;
    docker(&["kill", &test.container(SHED)]);
    until_status(&test, ShedStatus::Stopped).await;
    assert_eq!(get(&test, "work").unwrap().status, SessionStatus::Stopped);
    wish(&test, Request::Start).await;
    is_back(&test, &before, 2).await;
    docker(&["restart", &test.container(SHED)]);
    is_back(&test, &before, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_restored_after_shed_and_server_ended_together() {
    let mut test = TestDocker::start().await;
    test.shed(SHED).await;
    let before = two_workers(&test).await;
    test.app.close().await;
    docker(&["kill", &test.container(SHED)]);
    test.restart(Database::Kept).await;
    // A server that comes up finds that it ran and is gone, and starts it.
    is_back(&test, &before, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unmanaged_sessions_are_restored_after_an_orderly_stop_and_reported_lost_after_a_kill() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    test.sh(
        SHED,
        "tmux new-session -d -s hand -c /tmp; tmux split-window -d -t hand: -c /workspace; \
         tmux new-window -d -t hand: -c /var",
    )
    .await;
    let shape = |session: &Session| -> Vec<Vec<String>> {
        let panes = |window: &shed_api::session::Window| {
            window.panes.iter().map(|pane| pane.directory.clone()).collect()
        };
        session.windows.iter().map(panes).collect()
    };
    let before = eventually("the session", async || {
        get(&test, "hand")
            .filter(|row| row.windows.iter().map(|w| w.panes.len()).sum::<usize>() == 3)
    })
    .await;
    wish(&test, Request::Stop).await;
    wish(&test, Request::Start).await;
    let expected = shape(&before);
    assert_eq!(expected, [vec!["/tmp", "/workspace"], vec!["/var"]]);
    eventually("the session is back", async || {
        get(&test, "hand").filter(|row| shape(row) == expected)
    })
    .await;
    // Until what is there now is written down, it comes back as it was at the stop.
    eventually("the shape is written", async || {
        let layout = test.store.layout(SHED.to_owned()).await.unwrap();
        layout.filter(|row| !row.orderly && row.body.contains("hand"))
    })
    .await;
    docker(&["kill", &test.container(SHED)]);
    until_status(&test, ShedStatus::Stopped).await;
    wish(&test, Request::Start).await;
    let lost = eventually("word of the loss", async || {
        let events = test.app.events().list(&test.admin, 0, None).await.unwrap();
        events.into_iter().find(|event| event.kind == EventKind::SessionLost)
    })
    .await;
    assert_eq!(lost.session.as_deref(), Some("hand"));
    assert!(get(&test, "hand").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_session_of_workers_stays_frozen_through_a_pause() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    let line = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    make(&test, kept("work", &["sh", "-c", line])).await;
    make(&test, kept("other", &["sh", "-c", line])).await;
    let name = shed(SHED);
    let end = async |session: &str| {
        let page =
            test.app.output().page(&test.admin, &name, &target(session), "sh", 0, None).await;
        page.unwrap().log_end
    };
    eventually("some output", async || (end("work").await > 10).then_some(())).await;
    let frozen =
        test.app.sessions().freeze(&test.admin, &name, &target("work"), true).await.unwrap();
    assert_eq!(frozen.status, SessionStatus::Frozen);
    // Asked of the kernel: nothing of the tree moves.
    let states = "for p in $(pgrep -f 'i=0; while'); do cut -d' ' -f3,4 /proc/$p/stat; done";
    let still = test.sh(SHED, states).await;
    assert!(still.contains('T'), "{still}");
    wish(&test, Request::Pause).await;
    assert_eq!(test.field(SHED, "{{.State.Status}}"), "paused");
    wish(&test, Request::Unpause).await;
    let at = end("other").await;
    let frozen_at = end("work").await;
    eventually("the other goes on", async || (end("other").await > at + 100).then_some(())).await;
    assert_eq!(end("work").await, frozen_at, "what is frozen printed");
    assert_eq!(get(&test, "work").unwrap().status, SessionStatus::Frozen);
    // By others, too.
    docker(&["pause", &test.container(SHED)]);
    until_status(&test, ShedStatus::Paused).await;
    docker(&["unpause", &test.container(SHED)]);
    until_status(&test, ShedStatus::Running).await;
    let at = end("other").await;
    eventually("the other goes on", async || (end("other").await > at + 100).then_some(())).await;
    assert_eq!(end("work").await, frozen_at, "what is frozen printed");
    test.app.sessions().freeze(&test.admin, &name, &target("work"), false).await.unwrap();
    eventually("it goes on", async || (end("work").await > frozen_at + 10).then_some(())).await;
}
