//! Sessions with workers in containers: what comes back after each way a container can go, and what is said where
//! something cannot be.

use shed_api::session::{Input, NewSession, PatchSession, Session, SessionStatus, SessionType};
use shed_api::shed::RebuildShed;
use shed_api::worker::{NewWorker, Worker, WorkerStatus};
use shed_api::{Code, EventKind, SessionRef, ShedStatus};
use shed_core::DiffQuery;
use shed_model::shed::life::Wish;
use shed_testing::eventually;

use crate::support::{Database, TestDocker, docker, problem, shed, words};

/// The shed of these tests.
const SHED: &str = "a";
/// What the container's end is called on a worker that is not started again.
const WITH_SHED: &str = "it was ended with the shed";
/// Lines that the workers print at each start: more than a screen.
const N_LINES: usize = 300;
/// Data, never anything else.
const HOSTILE_TITLE: &str = "-x #(touch /tmp/owned) $(touch /tmp/owned) `id` ../../etc: 日本 🚀";

fn target(name: &str) -> SessionRef {
    name.parse().unwrap()
}

fn kept(name: &str, argv: &[&str]) -> NewSession {
    NewSession {
        name: Some(name.to_owned()),
        command: words(argv),
        keep: Some(true),
        ..NewSession::default()
    }
}

fn worktree(name: &str) -> NewSession {
    NewSession { kind: Some(SessionType::Worktree), ..kept(name, &["sleep", "1000"]) }
}

async fn make(test: &TestDocker, request: NewSession) -> Session {
    test.app.new_session(&test.admin, &shed(SHED), request).await.unwrap()
}

async fn refused(test: &TestDocker, request: NewSession) -> shed_api::Problem {
    problem(test.app.new_session(&test.admin, &shed(SHED), request).await)
}

fn get(test: &TestDocker, name: &str) -> Option<Session> {
    test.app.session(&test.admin, &shed(SHED), &target(name)).ok()
}

fn worker<'a>(session: &'a Session, name: &str) -> &'a Worker {
    session.workers.iter().find(|worker| worker.name == name).unwrap()
}

fn window_names(session: &Session) -> Vec<String> {
    session.windows.iter().map(|window| window.name.clone()).collect()
}

/// Everything a worker printed; a page ends where a run of it does.
async fn printed(test: &TestDocker, session: &str, worker: &str) -> String {
    let (mut text, mut from) = (String::new(), 0);
    loop {
        let (shed, session) = (shed(SHED), target(session));
        let page = test.app.output_page(&test.admin, &shed, &session, worker, from, None);
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
    test.app.add_worker(&test.admin, &shed(SHED), &target("work"), once).await.unwrap();
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

async fn until_status(test: &TestDocker, status: ShedStatus) {
    eventually("the shed's status", async || {
        (test.app.shed(&test.admin, &shed(SHED)).unwrap().status == status).then_some(())
    })
    .await;
}

async fn wish(test: &TestDocker, wish: Wish) {
    test.app.wish(&test.admin, &shed(SHED), wish).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_back_after_a_stop_and_a_rebuild() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    let before = two_workers(&test).await;
    wish(&test, Wish::Stop).await;
    let stopped = get(&test, "work").unwrap();
    assert_eq!((stopped.status, stopped.window_count), (SessionStatus::Stopped, 0));
    wish(&test, Wish::Start).await;
    is_back(&test, &before, 2).await;
    let container = test.field(SHED, "{{.Id}}");
    test.app.rebuild(&test.admin, &shed(SHED), RebuildShed::default()).await.unwrap();
    assert_ne!(test.field(SHED, "{{.Id}}"), container);
    is_back(&test, &before, 3).await;
    let owned = test.sh(SHED, "find / -xdev -name owned 2> /dev/null || true").await;
    assert_eq!(owned, "", "a title was executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_back_after_their_container_was_killed_or_restarted_by_others() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    let before = two_workers(&test).await;
    docker(&["kill", &test.container(SHED)]);
    until_status(&test, ShedStatus::Stopped).await;
    assert_eq!(get(&test, "work").unwrap().status, SessionStatus::Stopped);
    wish(&test, Wish::Start).await;
    is_back(&test, &before, 2).await;
    docker(&["restart", &test.container(SHED)]);
    is_back(&test, &before, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_back_when_shed_and_server_went_together() {
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
async fn what_was_made_by_hand_comes_back_from_an_orderly_stop_and_is_missed_after_another() {
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
    wish(&test, Wish::Stop).await;
    wish(&test, Wish::Start).await;
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
    wish(&test, Wish::Start).await;
    let lost = eventually("word of the loss", async || {
        let events = test.app.events(&test.admin, 0, None).await.unwrap();
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
        let page = test.app.output_page(&test.admin, &name, &target(session), "sh", 0, None).await;
        page.unwrap().log_end
    };
    eventually("some output", async || (end("work").await > 10).then_some(())).await;
    let frozen = test.app.freeze_session(&test.admin, &name, &target("work"), true).await.unwrap();
    assert_eq!(frozen.status, SessionStatus::Frozen);
    // Asked of the kernel: nothing of the tree moves.
    let states = "for p in $(pgrep -f 'i=0; while'); do cut -d' ' -f3,4 /proc/$p/stat; done";
    let still = test.sh(SHED, states).await;
    assert!(still.contains('T'), "{still}");
    wish(&test, Wish::Pause).await;
    assert_eq!(test.field(SHED, "{{.State.Status}}"), "paused");
    wish(&test, Wish::Unpause).await;
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
    test.app.freeze_session(&test.admin, &name, &target("work"), false).await.unwrap();
    eventually("it goes on", async || (end("work").await > frozen_at + 10).then_some(())).await;
}

/// Makes the repository that worktrees are made of.
const REPOSITORY: &str = "git init -q -b main . && git config user.name T && \
     git config user.email t@example.com && echo one > a.txt && echo .env > .gitignore && \
     echo .env > .worktreeinclude && echo secret > .env && git add -A && git commit -qm first";

#[tokio::test(flavor = "multi_thread")]
async fn worktree_sessions_of_workers_live_on_their_volume() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    test.sh(SHED, REPOSITORY).await;
    let made = make(&test, worktree("fix")).await;
    assert_eq!(
        (made.directory.as_deref(), made.branch.as_deref()),
        (Some("/worktrees/fix"), Some("shed/fix"))
    );
    let inside = "cd /worktrees/fix && cat .env && echo two >> a.txt && echo new > new.txt && \
                  findmnt -no TARGET -T .";
    assert_eq!(test.sh(SHED, inside).await, "secret\n/worktrees\n");
    let name = shed(SHED);
    let numbers = test.app.diff_numbers(&test.admin, &name, &target("fix")).await.unwrap();
    assert_eq!((numbers.files, numbers.insertions, numbers.deletions), (2, 2, 0), "{numbers:?}");
    let fix = target("fix");
    let taken = test.app.checkpoint(&test.admin, &name, &fix, "by hand").await.unwrap();
    test.sh(SHED, "cd /worktrees/fix && rm new.txt && echo worse > a.txt").await;
    // All of it outlives the container.
    test.app.rebuild(&test.admin, &name, RebuildShed::default()).await.unwrap();
    let n = taken.checkpoint.n;
    test.app.restore_checkpoint(&test.admin, &name, &fix, n, Vec::new()).await.unwrap();
    assert_eq!(test.sh(SHED, "cd /worktrees/fix && cat a.txt new.txt").await, "one\ntwo\nnew\n");
    let (diff, _) = test.app.diff(&test.admin, &name, &fix, DiffQuery::default()).await.unwrap();
    assert_eq!(diff.files.len(), 2, "{diff:?}");
    let kept = problem(test.app.delete_session(&test.admin, &name, &fix, false).await);
    assert_eq!(kept.code, Code::WorkWouldBeLost);
    assert_eq!(test.sh(SHED, "cat /worktrees/fix/new.txt").await, "new\n");
    test.app.delete_session(&test.admin, &name, &fix, true).await.unwrap();
    let left = "ls /worktrees; git worktree list | wc -l; git for-each-ref refs/shed/trash | wc -l";
    let left = test.sh(SHED, left).await;
    assert!(left.starts_with("1\n") && !left.ends_with("\n0\n"), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_of_workers_and_branches_are_refused_or_data() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    test.sh(SHED, REPOSITORY).await;
    for branch in ["-x", "../x", "a/../b", "x.lock", "a b", "x\u{7}", "@{-1}", "--upload-pack=id"] {
        let request = NewSession { branch: Some(branch.to_owned()), ..worktree("bad") };
        let problem = refused(&test, request).await;
        assert_eq!(problem.code, Code::InvalidRequest, "{branch:?}: {problem:?}");
    }
    for base in ["-x", "--output=/tmp/owned", "pr/-1", "../x"] {
        let request = NewSession { base: Some(base.to_owned()), ..worktree("bad") };
        let problem = refused(&test, request).await;
        assert!(
            matches!(problem.code, Code::InvalidRequest | Code::GitFailed | Code::NotFound),
            "{base:?}: {problem:?}"
        );
    }
    for name in ["-x", "#(id)", "../x", "a:b", "a.b", ""] {
        let problem = refused(&test, kept(name, &["true"])).await;
        assert_eq!(problem.code, Code::InvalidName, "{name:?}: {problem:?}");
    }
    assert!(get(&test, "bad").is_none(), "something is left of what was refused");
    let branch = "#(touch${IFS}/tmp/owned)";
    let request = NewSession {
        branch: Some(branch.to_owned()),
        title: Some(HOSTILE_TITLE.to_owned()),
        ..worktree("data")
    };
    let made = make(&test, request).await;
    assert_eq!(
        (made.branch.as_deref(), made.title.as_deref()),
        (Some(branch), Some(HOSTILE_TITLE))
    );
    assert_eq!(
        test.sh(SHED, "cd /worktrees/data && git branch --show-current").await.trim_end(),
        branch
    );
    // A name that comes from a title has nothing left of it.
    let title = NewSession {
        name: None,
        title: Some("../../-x #(touch /tmp/owned)".to_owned()),
        ..kept("x", &["sleep", "1000"])
    };
    assert_eq!(make(&test, title).await.name, "x-touch-tmp-owned");
    let patch = PatchSession { branch: Some("-d".to_owned()), ..PatchSession::default() };
    let data = target("data");
    let bad = problem(test.app.patch_session(&test.admin, &shed(SHED), &data, patch).await);
    assert_eq!(bad.code, Code::InvalidRequest);
    let typed = Input { text: Some("#(touch /tmp/owned)".to_owned()), ..Input::default() };
    test.app.input(&test.admin, &shed(SHED), &data, typed).await.unwrap();
    let directory = NewSession {
        directory: Some("/tmp/#(touch owned)".to_owned()),
        ..kept("elsewhere", &["sleep", "1000"])
    };
    test.sh(SHED, "mkdir '/tmp/#(touch owned)'").await;
    make(&test, directory).await;
    let cwd = "pgrep -f '^sleep 1000' | xargs -I@ readlink /proc/@/cwd | sort";
    assert_eq!(test.sh(SHED, cwd).await, "/tmp/#(touch owned)\n/workspace\n/worktrees/data\n");
    wish(&test, Wish::Restart).await;
    eventually("all are back", async || {
        let running =
            |name: &str| get(&test, name).is_some_and(|row| row.status == SessionStatus::Running);
        (running("data") && running("elsewhere")).then_some(())
    })
    .await;
    assert_eq!(test.sh(SHED, "find / -xdev -name owned 2> /dev/null || true").await, "");
}

/// Runs a command in a container's mounts, with the rights of this machine's root: no shed has them.
fn in_mounts(test: &TestDocker, argv: &[&str]) {
    let pid = test.pid(SHED).to_string();
    let done = std::process::Command::new("nsenter")
        .args(["--target", &pid, "--mount", "--"])
        .args(argv)
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "this test changes mounts, as root: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn worktrees_of_workers_that_cannot_be_written_are_said_so_and_nothing_is_lost() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    test.sh(SHED, REPOSITORY).await;
    make(&test, worktree("fix")).await;
    test.sh(SHED, "cd /worktrees/fix && echo mine > mine.txt").await;
    let (name, fix) = (shed(SHED), target("fix"));
    // Nothing may be open for writing on a mount that becomes read-only.
    test.app.terminate_session(&test.admin, &name, &fix).await.unwrap();
    in_mounts(&test, &["mount", "-o", "remount,bind,ro", "/worktrees"]);
    let refs = test.sh(SHED, "git for-each-ref").await;
    let failed = refused(&test, worktree("other")).await;
    assert_eq!(failed.code, Code::GitFailed, "{failed:?}");
    assert!(failed.detail.contains("Read-only file system"), "{failed:?}");
    // Everything is as it was.
    assert!(get(&test, "other").is_none());
    assert_eq!(test.sh(SHED, "git for-each-ref").await, refs);
    assert_eq!(test.sh(SHED, "git worktree list | wc -l").await, "2\n");
    let failed = refused(&test, kept("quick", &["sleep", "1000"])).await;
    assert_eq!(failed.code, Code::ExecFailed, "{failed:?}");
    assert!(failed.detail.contains("Read-only file system"), "{failed:?}");
    // tmux had it for a moment.
    eventually("its end", async || get(&test, "quick").is_none().then_some(())).await;
    let failed = problem(test.app.delete_session(&test.admin, &name, &fix, true).await);
    assert_eq!(failed.code, Code::GitFailed, "{failed:?}");
    assert_eq!(test.sh(SHED, "cat /worktrees/fix/mine.txt").await, "mine\n");
    in_mounts(&test, &["mount", "-o", "remount,bind,rw", "/worktrees"]);
    make(&test, worktree("other")).await;
    test.app.delete_session(&test.admin, &name, &fix, true).await.unwrap();
}

/// A volume for worktrees that is a small disk, with the marks of the server's own.
fn small_worktrees(test: &TestDocker, size: &str) {
    let volume = format!("{}-worktrees", test.container(SHED));
    let labels = [
        "shed=true".to_owned(),
        format!("shed.name={SHED}"),
        "shed.volume=worktrees".to_owned(),
        "shed.made=test".to_owned(),
        format!("shed.server={}", test.settings.server_id),
        test.run_label(),
    ];
    let option = format!("o=size={size},uid=1000,gid=1000");
    let mut words = vec!["volume", "create", "--driver", "local"];
    words.extend(["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", &option]);
    words.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
    words.push(&volume);
    docker(&words);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_on_a_full_disk_lose_nothing_and_new_ones_are_refused_in_words() {
    let test = TestDocker::start().await;
    small_worktrees(&test, "8m");
    test.shed(SHED).await;
    test.sh(SHED, REPOSITORY).await;
    test.sh(SHED, "head -c 6000000 /dev/urandom > big && git add big && git commit -qm big").await;
    make(&test, worktree("fix")).await;
    let line = "until test -e /workspace/go; do sleep 0.02; done; seq 2000; exec sleep 1000";
    make(&test, kept("printing", &["sh", "-c", line])).await;
    // Six of eight megabytes are gone: a second worktree has no room.
    let failed = refused(&test, worktree("other")).await;
    assert_eq!(failed.code, Code::DiskFull, "{failed:?}");
    assert!(get(&test, "other").is_none());
    assert_eq!(test.sh(SHED, "git worktree list | wc -l; ls /worktrees").await, "2\nfix\n");
    test.sh(SHED, "dd if=/dev/zero of=/worktrees/filler bs=4k 2> /dev/null || true").await;
    test.sh(SHED, "touch go").await;
    // It has seen the file, and prints to a disk that is full.
    eventually("the end in the window", async || {
        let pane = test.sh(SHED, "tmux capture-pane -p -t printing:").await;
        pane.lines().any(|line| line == "2000").then_some(())
    })
    .await;
    let failed = refused(&test, kept("quick", &["sleep", "1000"])).await;
    assert_eq!(failed.code, Code::ExecFailed, "{failed:?}");
    assert!(failed.detail.contains("No space left on device"), "{failed:?}");
    // tmux had it for a moment.
    eventually("its end", async || get(&test, "quick").is_none().then_some(())).await;
    test.sh(SHED, "rm /worktrees/filler").await;
    let expected = (1..=2000).fold(String::new(), |text, n: u32| text + &n.to_string() + "\r\n");
    eventually("all that was printed", async || {
        (printed(&test, "printing", "sh").await == expected).then_some(())
    })
    .await;
    make(&test, kept("quick", &["sleep", "1000"])).await;
    assert_eq!(get(&test, "fix").unwrap().status, SessionStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_confined_or_it_is_said_why_they_cannot_be() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    let request = NewSession {
        confine: true,
        ..kept(
            "walled",
            &["sh", "-c", "echo x > /workspace/out; echo $? > /tmp/status; exec sleep 1000"],
        )
    };
    match test.app.new_session(&test.admin, &shed(SHED), request).await {
        // A kernel and an engine that have it. The session's own directory is the workspace.
        Ok(made) => assert!(made.confined),
        Err(error) => {
            let refused = error.problem();
            assert_eq!(refused.code, Code::ConfineUnavailable, "{refused:?}");
            assert!(refused.detail.contains("Landlock"), "{refused:?}");
            assert!(get(&test, "walled").is_none());
            assert_eq!(test.sh(SHED, "ls /tmp; tmux ls 2> /dev/null || true").await, "");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_in_an_image_without_git_or_tmux() {
    let test = TestDocker::start().await;
    test.shed_of(SHED, "shed-test-busybox:latest").await;
    let no_tmux = refused(&test, kept("quick", &["sleep", "1000"])).await;
    assert_eq!((no_tmux.code, no_tmux.status), (Code::TmuxNotAvailable, 503));
    let no_tmux = refused(&test, worktree("fix")).await;
    assert_eq!(no_tmux.code, Code::TmuxNotAvailable);
    wish(&test, Wish::Restart).await;
    until_status(&test, ShedStatus::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_in_an_image_that_lost_its_git() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    test.root(SHED, "rm -f /usr/bin/git").await;
    let no_git = refused(&test, worktree("fix")).await;
    assert_eq!(no_git.code, Code::GitFailed, "{no_git:?}");
    assert!(no_git.detail.contains("git"), "{no_git:?}");
    assert!(get(&test, "fix").is_none());
    assert_eq!(make(&test, kept("quick", &["sleep", "1000"])).await.status, SessionStatus::Running);
}
