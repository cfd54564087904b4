//! Worktrees, diffs and checkpoints, with real git.

use std::time::Duration;

use shed_api::session::{
    NewSession, PatchSession, Session, SessionLimits, SessionStatus, SessionType,
};
use shed_api::worker::Restart;
use shed_api::{Code, EventKind};
use shed_core::DiffQuery;
use shed_testing::{TestApp, eventually, wait};

use crate::support::{problem, session, sh, shed, words};

/// A shed with a repository of two commits.
async fn with_repository() -> TestApp {
    let test = TestApp::start().await;
    test.shed("a").await;
    commit(&test).await;
    test
}

/// Makes the workspace a repository of two commits.
async fn commit(test: &TestApp) {
    let line = "git init -q -b main . && git config user.name T && \
                git config user.email t@example.com && printf 'one\\ntwo\\n' > a.txt && \
                printf 'secret\\n' > .env && printf '.env\\n' > .gitignore && \
                printf '.env\\n' > .worktreeinclude && git add -A && git commit -qm first && \
                echo three >> a.txt && git commit -qam second";
    let done = sh(test, "a", line).await;
    assert_eq!(done.exit, 0, "{}", done.stderr);
}

fn worktree(name: &str) -> NewSession {
    NewSession {
        name: Some(name.to_owned()),
        kind: Some(SessionType::Worktree),
        command: words(&["sleep", "1000"]),
        ..NewSession::default()
    }
}

async fn make(test: &TestApp, request: NewSession) -> Session {
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap()
}

async fn inside(test: &TestApp, made: &Session, line: &str) -> String {
    let directory = made.directory.clone().unwrap();
    let done = sh(test, "a", &format!("cd '{directory}' && {line}")).await;
    assert_eq!(done.exit, 0, "{line}: {}", done.stderr);
    done.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_worktree_cannot_be_shared_is_named_as_in_the_request() {
    let test = with_repository().await;
    for other in ["../../x", "none"] {
        let request = NewSession { share: Some(other.to_owned()), ..worktree("fix") };
        let made = test.app.sessions().create(&test.admin, &shed("a"), request).await;
        let problem = problem(made);
        assert_eq!(problem.code, Code::SessionNotFound);
        assert!(problem.detail.contains(&format!("{other:?}")), "{}", problem.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_at_an_ancestor_that_stays_its_base() {
    let test = with_repository().await;
    let request = NewSession { base: Some("HEAD~1".to_owned()), ..worktree("old") };
    let made = make(&test, request).await;
    let first = sh(&test, "a", "git rev-parse main~1").await.stdout.trim().to_owned();
    assert_eq!(made.base_commit.as_ref(), Some(&first));
    assert_eq!(inside(&test, &made, "git rev-parse HEAD").await.trim(), first);
    inside(&test, &made, "git commit -q --allow-empty -m next").await;
    let made = test.app.sessions().get(&test.admin, &shed("a"), &session("old")).unwrap();
    assert_eq!(made.base, Some(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_session_has_files_and_a_branch_of_its_own() {
    let test = with_repository().await;
    let made = make(&test, worktree("fix")).await;
    assert_eq!(made.branch.as_deref(), Some("shed/fix"));
    assert!(made.directory.as_ref().unwrap().ends_with("/worktrees/fix"));
    assert_eq!(
        inside(&test, &made, "cat .env; git branch --show-current").await,
        "secret\nshed/fix\n"
    );
    // What is opened by hand in it begins there too.
    let pane = &made.windows[0].panes[0];
    assert_eq!(Some(&pane.directory), made.directory.as_ref());
    let taken = test.app.sessions().create(&test.admin, &shed("a"), worktree("fix")).await;
    assert_eq!(problem(taken).code, Code::SessionExists);
    // A branch that is there already leaves everything as it was.
    sh(&test, "a", "git branch shed/other").await;
    let refused = test.app.sessions().create(&test.admin, &shed("a"), worktree("other")).await;
    assert_eq!(problem(refused).code, Code::Conflict);
    assert!(test.app.sessions().get(&test.admin, &shed("a"), &session("other")).is_err());
    assert_eq!(sh(&test, "a", "git worktree list | wc -l").await.stdout.trim(), "2");
    // The branch goes by another name.
    let patch = PatchSession { branch: Some("topic/x".to_owned()), ..PatchSession::default() };
    let renamed = test.app.sessions().patch(&test.admin, &shed("a"), &session("fix"), patch).await;
    assert_eq!(renamed.unwrap().branch.as_deref(), Some("topic/x"));
    assert_eq!(inside(&test, &made, "git branch --show-current").await, "topic/x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_work_is_deleted_only_with_force_and_goes_to_the_trash() {
    let test = with_repository().await;
    let made = make(&test, worktree("fix")).await;
    inside(
        &test,
        &made,
        "echo new > new.txt && git add new.txt && git commit -qm mine && echo more > untracked",
    )
    .await;
    let (name, fix) = (shed("a"), session("fix"));
    let refused = problem(test.app.sessions().delete(&test.admin, &name, &fix, false).await);
    assert_eq!(refused.code, Code::WorkWouldBeLost);
    assert!(
        refused.detail.contains("1 unpushed commit") && refused.detail.contains("1 new file"),
        "{refused:?}"
    );
    let risk = test.app.sessions().risk(&test.admin, &name, &fix).await.unwrap();
    assert_eq!((risk.unpushed, risk.untracked), (1, 1));
    assert_eq!(inside(&test, &made, "cat untracked").await, "more\n");
    test.app.sessions().delete(&test.admin, &name, &fix, true).await.unwrap();
    assert!(test.app.sessions().get(&test.admin, &name, &fix).is_err());
    let refs =
        sh(&test, "a", "git for-each-ref --format='%(refname)' refs/shed/trash").await.stdout;
    assert!(refs.contains("/fix\n") && refs.contains("/fix.ckpt\n"), "{refs}");
    let kept = sh(&test, "a", "git show $(git for-each-ref --format='%(objectname)' 'refs/shed/trash/*/fix.ckpt'):untracked").await;
    assert_eq!(kept.stdout, "more\n");
    assert_eq!(sh(&test, "a", "git branch --list 'shed/*'").await.stdout, "");
    // Nothing to lose, nothing to ask.
    make(&test, worktree("idle")).await;
    test.app.sessions().delete(&test.admin, &name, &session("idle"), false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teardown_that_hangs_is_ended_by_a_deletion_with_force() {
    let test = with_repository().await;
    let signs = test.engine.workspace("a").join("tearing");
    let line = format!("echo $$ > {}; exec sleep 1000", signs.display());
    let hangs = |name| NewSession { teardown: words(&["sh", "-c", &line]), ..worktree(name) };
    make(&test, hangs("first")).await;
    make(&test, hangs("second")).await;
    let delete = async |name: &str, force| {
        test.app.sessions().delete(&test.admin, &shed("a"), &session(name), force).await
    };
    let during = async {
        eventually("the teardown", async || signs.exists().then_some(())).await;
        delete("first", true).await
    };
    let (waiting, cut) = tokio::join!(delete("first", false), during);
    let note = "its teardown was ended by a deletion with force";
    for deleted in [waiting, cut] {
        assert_eq!(deleted.unwrap().notes, [note]);
    }
    // With force from the beginning it has a short time.
    let notes = delete("second", true).await.unwrap().notes;
    assert!(notes[0].starts_with("the teardown did not end within 10 seconds"), "{notes:?}");
    for name in ["first", "second"] {
        assert!(test.app.sessions().get(&test.admin, &shed("a"), &session(name)).is_err());
    }
    let pid = std::fs::read_to_string(&signs).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_what_it_lacks_and_that_its_checkpoint_failed() {
    let test = with_repository().await;
    sh(
        &test,
        "a",
        "echo '.env*' > .gitignore && echo '.env*' > .worktreeinclude && ln -s /x .env.link",
    )
    .await;
    let made = make(&test, worktree("fix")).await;
    let note = "not copied of .worktreeinclude: .env.link (it is a symlink or cannot be read)";
    assert_eq!(made.notes, [note]);
    inside(&test, &made, "rm .git").await;
    let (name, fix) = (shed("a"), session("fix"));
    let ended = test.app.sessions().terminate(&test.admin, &name, &fix).await.unwrap();
    let reason = ended.reason.unwrap();
    assert!(reason.starts_with("no checkpoint was made: "), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_follows_the_files() {
    let test = with_repository().await;
    let made = make(&test, worktree("fix")).await;
    let (name, fix) = (shed("a"), session("fix"));
    let none = test.app.files().diff_numbers(&test.admin, &name, &fix).await.unwrap();
    assert_eq!((none.files, none.ahead), (0, 0));
    let mut watched = test.app.files().diff_watch(&test.admin, &name, &fix).await.unwrap();
    watched.wait_for(Option::is_some).await.unwrap();
    inside(&test, &made, "echo four >> a.txt; printf 'x\\ny\\n' > new.txt").await;
    let told = watched.wait_for(|now| now.as_ref().is_some_and(|now| now.insertions == 3));
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), told).await;
    assert_eq!(told.unwrap().unwrap().as_ref().unwrap().files, 2);
    inside(&test, &made, "git add -A && git commit -qm mine").await;
    let told = watched.wait_for(|now| now.as_ref().is_some_and(|now| now.ahead == 1));
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.unwrap().unwrap();
    let (diff, text) =
        test.app.files().diff(&test.admin, &name, &fix, DiffQuery::default()).await.unwrap();
    assert_eq!((diff.n_files, diff.insertions, diff.patch.len()), (2, 3, 2));
    assert!(String::from_utf8_lossy(&text).contains("+four"));
    let query = DiffQuery { from: Some("head".to_owned()), ..DiffQuery::default() };
    let (clean, _) = test.app.files().diff(&test.admin, &name, &fix, query).await.unwrap();
    assert_eq!(clean.n_files, 0);
    // A quick session in the same repository sees what is not committed there.
    let quick = NewSession { name: Some("quick".to_owned()), ..NewSession::default() };
    make(&test, quick).await;
    sh(&test, "a", "echo edit > b.txt").await;
    let numbers =
        test.app.files().diff_numbers(&test.admin, &name, &session("quick")).await.unwrap();
    assert_eq!((numbers.files, numbers.insertions), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_makes_checkpoints_of_what_has_changed() {
    const MINUTE: Duration = Duration::from_secs(60);
    let test = TestApp::start_jumping().await;
    test.shed("a").await;
    commit(&test).await;
    let limits = SessionLimits { checkpoint_minutes: Some(60), ..SessionLimits::default() };
    let made = make(&test, NewSession { limits: Some(limits), ..worktree("fix") }).await;
    let (name, fix) = (shed("a"), session("fix"));
    let kinds = async || -> Vec<String> {
        let list = test.app.files().checkpoints(&test.admin, &name, &fix).await.unwrap();
        list.checkpoints.into_iter().map(|checkpoint| checkpoint.kind).collect()
    };
    // The event is written last: after it the checkpoint has nothing under way that a jump of time would cut off.
    let actors = async || -> Vec<String> {
        let events = test.app.events().list(&test.admin, 0, None).await.unwrap().into_iter();
        let made = events.filter(|event| event.kind == EventKind::CheckpointMade);
        made.map(|event| event.actor).collect()
    };
    let timed = async |n: usize| {
        wait::until("the events", actors, |actors| *actors == vec!["server"; n]).await;
        assert_eq!(kinds().await, vec!["timer"; n]);
    };
    timed(1).await;
    inside(&test, &made, "echo draft > notes").await;
    test.jump(59 * MINUTE).await;
    assert_eq!(inside(&test, &made, "cat notes").await, "draft\n");
    assert_eq!(kinds().await.len(), 1, "a checkpoint was made before it was due");
    test.jump(MINUTE).await;
    timed(2).await;
    // Nothing has changed since: whether the timer has looked or not, there are two.
    test.jump(60 * MINUTE).await;
    assert_eq!(kinds().await.len(), 2, "a checkpoint of unchanged files was made");
    inside(&test, &made, "echo more >> notes").await;
    test.jump(60 * MINUTE).await;
    timed(3).await;
    // The third one is of the changed file: one of unchanged files would have taken its number.
    inside(&test, &made, "rm notes").await;
    test.app.files().restore_checkpoint(&test.admin, &name, &fix, 3, Vec::new()).await.unwrap();
    assert_eq!(inside(&test, &made, "cat notes").await, "draft\nmore\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_made_restored_and_forked() {
    let test = with_repository().await;
    let made = make(&test, worktree("fix")).await;
    let (name, fix) = (shed("a"), session("fix"));
    inside(&test, &made, "echo draft > notes && printf '\\000\\001' > bin && git add bin").await;
    let first = test
        .app
        .files()
        .make_checkpoint(&test.admin, &name, &fix, "before the storm")
        .await
        .unwrap();
    assert_eq!((first.checkpoint.n, first.unchanged), (1, false));
    let same = test.app.files().make_checkpoint(&test.admin, &name, &fix, "").await.unwrap();
    assert!(same.unchanged);
    inside(&test, &made, "rm notes && mkdir notes && echo x > notes/x && echo broken > a.txt")
        .await;
    let back =
        test.app.files().restore_checkpoint(&test.admin, &name, &fix, 1, Vec::new()).await.unwrap();
    assert!(back.n_files >= 2, "{back:?}");
    assert_eq!(inside(&test, &made, "cat notes a.txt").await, "draft\none\ntwo\nthree\n");
    // What was there before is a checkpoint too.
    let list = test.app.files().checkpoints(&test.admin, &name, &fix).await.unwrap().checkpoints;
    assert_eq!(list.len(), 2);
    let safety = back.safety.n;
    test.app
        .files()
        .restore_checkpoint(&test.admin, &name, &fix, safety, Vec::new())
        .await
        .unwrap();
    assert_eq!(inside(&test, &made, "cat notes/x").await, "x\n");
    let request = NewSession {
        name: Some("again".to_owned()),
        command: words(&["sleep", "1000"]),
        ..NewSession::default()
    };
    let fork =
        test.app.files().fork_checkpoint(&test.admin, &name, &fix, 1, request).await.unwrap();
    assert_eq!(fork.branch.as_deref(), Some("shed/again"));
    assert_eq!(
        inside(&test, &fork, "cat notes; git status --short").await,
        "draft\n?? bin\n?? notes\n"
    );
    let none = test.app.files().restore_checkpoint(&test.admin, &name, &fix, 99, Vec::new()).await;
    assert_eq!(problem(none).code, Code::NotFound);
    let events = test.app.events().list(&test.admin, 0, None).await.unwrap();
    let n = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((n(EventKind::CheckpointMade), n(EventKind::CheckpointRestored)), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_runs_first_and_reports_why_it_failed() {
    let test = with_repository().await;
    let (name, good) = (shed("a"), session("good"));
    let setup = words(&["sh", "-c", "echo preparing $SHED_BRANCH; cp a.txt ready"]);
    let made = make(&test, NewSession { setup, ..worktree("good") }).await;
    inside(&test, &made, "test -e ready").await;
    let log = test.app.output().page(&test.admin, &name, &good, "setup", 0, None).await.unwrap();
    assert_eq!(log.text, "preparing shed/good\r\n");
    let setup = words(&["sh", "-c", "echo no luck; test -e lucky"]);
    let bad = NewSession { setup, ..worktree("bad") };
    let failed = problem(test.app.sessions().create(&test.admin, &name, bad).await);
    assert_eq!(failed.code, Code::ExecFailed);
    let bad = session("bad");
    let row = test.app.sessions().get(&test.admin, &name, &bad).unwrap();
    assert_eq!(row.status, SessionStatus::Failed);
    let log = test.app.output().page(&test.admin, &name, &bad, "setup", 0, None).await.unwrap();
    assert_eq!(log.text, "no luck\r\n");
    // Mended, it goes on where it failed.
    inside(&test, &row, "touch lucky").await;
    let mended =
        test.app.sessions().restart(&test.admin, &name, &bad, Restart::default()).await.unwrap();
    assert_eq!(mended.status, SessionStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_branched_leaves_nothing_behind() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let none = problem(test.app.sessions().create(&test.admin, &shed("a"), worktree("x")).await);
    assert_eq!(none.code, Code::GitFailed, "{none:?}");
    assert!(test.app.sessions().list(&test.admin, None).unwrap().sessions.is_empty());
    let bad = NewSession { base: Some("no-such-ref".to_owned()), ..worktree("x") };
    let test = with_repository().await;
    let none = problem(test.app.sessions().create(&test.admin, &shed("a"), bad).await);
    assert_eq!(none.code, Code::NotFound, "{none:?}");
    assert_eq!(
        sh(&test, "a", "git branch --list 'shed/*'; git worktree list | wc -l").await.stdout.trim(),
        "1"
    );
    eventually("no session", async || {
        test.app.sessions().list(&test.admin, None).unwrap().sessions.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_deleted_with_force_is_complete_in_the_trash() {
    let test = with_repository().await;
    let made = make(&test, worktree("big")).await;
    // Larger than what checkpoints take by the way.
    inside(&test, &made, "head -c 12000000 /dev/zero > big.bin; git init -q inner").await;
    inside(
        &test,
        &made,
        "cd inner && git -c user.name=T -c user.email=t@example.com commit -q --allow-empty -m x",
    )
    .await;
    let (name, big) = (shed("a"), session("big"));
    let refused = test.app.sessions().delete(&test.admin, &name, &big, true).await;
    assert!(problem(refused).detail.contains("\"inner"), "a repository in it cannot be kept");
    inside(&test, &made, "rm -rf inner").await;
    test.app.sessions().delete(&test.admin, &name, &big, true).await.unwrap();
    let trash = test.app.files().trash(&test.admin, &name).await.unwrap();
    let kept = trash.iter().find(|entry| entry.name.contains(".ckpt")).unwrap();
    let size = sh(&test, "a", &format!("git cat-file -s {}:big.bin", kept.name)).await;
    assert_eq!(size.stdout.trim(), "12000000", "{size:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_the_sessions_branch_count_whatever_is_checked_out() {
    let test = with_repository().await;
    let made = make(&test, worktree("fix")).await;
    inside(&test, &made, "git commit -q --allow-empty -m work && git switch -q --detach main")
        .await;
    let (name, fix) = (shed("a"), session("fix"));
    let refused = test.app.sessions().delete(&test.admin, &name, &fix, false).await;
    assert_eq!(problem(refused).code, Code::WorkWouldBeLost);
    assert_eq!(inside(&test, &made, "git log -1 --format=%s shed/fix").await, "work\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_base_was_deleted_is_compared_with_where_it_began() {
    let test = with_repository().await;
    sh(&test, "a", "git branch release").await;
    let made =
        make(&test, NewSession { base: Some("release".to_owned()), ..worktree("fix") }).await;
    inside(&test, &made, "echo four >> a.txt && git commit -qam mine && echo five >> a.txt").await;
    let (name, fix) = (shed("a"), session("fix"));
    let compared = async || {
        let files = test.app.files();
        let numbers = files.diff_numbers(&test.admin, &name, &fix).await.unwrap();
        let query = DiffQuery::default();
        let (diff, _) = files.diff(&test.admin, &name, &fix, query).await.unwrap();
        let watched = files.diff_watch(&test.admin, &name, &fix).await.unwrap();
        let told = wait::until("numbers", async || watched.borrow().clone(), Option::is_some).await;
        assert_eq!(told.as_ref(), Some(&numbers));
        (numbers.ahead, numbers.insertions, diff.insertions)
    };
    let before = compared().await;
    sh(&test, "a", "git branch -D release").await;
    assert_eq!(compared().await, before);
    assert_eq!(before, (1, 2, 2));
}
