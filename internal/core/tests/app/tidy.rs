//! Orphans of each kind, and the retention of ended sessions' data, on real tmux and git.

use std::path::Path;
use std::time::{Duration, SystemTime};

use shed_api::session::{NewSession, Session, SessionType};
use shed_api::work::{Gc, GcReport, Orphan};
use shed_api::worker::WorkerStatus;
use shed_api::{Actor, Code, Scope};
use shed_core::Person;
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};

use crate::support::{kept, problem, repository, session, sh, shed, words};

async fn make(test: &TestApp, request: NewSession) -> Session {
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap()
}

async fn orphans(test: &TestApp) -> Vec<Orphan> {
    test.app.housekeeping().orphans(&test.admin, &shed("a")).await.unwrap().orphans
}

async fn clean(test: &TestApp, names: &[&str]) -> Vec<Orphan> {
    let cleaned =
        test.app.housekeeping().clean_orphans(&test.admin, &shed("a"), words(names)).await;
    cleaned.unwrap().orphans
}

fn named(orphans: &[Orphan]) -> Vec<(&str, &str)> {
    orphans.iter().map(|it| (it.kind.as_str(), it.name.as_str())).collect()
}

fn worktrees(test: &TestApp) -> std::path::PathBuf {
    test.engine.workspace("a").with_file_name("worktrees")
}

#[tokio::test(flavor = "multi_thread")]
async fn unmanaged_tmux_sessions_are_found_adopted_and_ended() {
    let test = TestApp::start().await;
    test.shed("a").await;
    make(&test, kept("ours", &["cat"])).await;
    assert_eq!(orphans(&test).await, []);
    sh(
        &test,
        "a",
        "tmux new-session -d -s hand; tmux new-session -d -s 'odd name'; \
         tmux new-session -d -s lost ';' set-option -t lost: @shed_session 0123",
    )
    .await;
    let found = eventually("three orphans", async || {
        let found = orphans(&test).await;
        let lost = found.iter().any(|it| it.detail.contains("of session 0123"));
        (found.len() == 3 && lost).then_some(found)
    })
    .await;
    let odd = found.iter().find(|it| it.detail.contains("odd name")).unwrap();
    assert!(odd.name.starts_with('$'), "{odd:?}");
    let hint = |name: &str| found.iter().find(|it| it.name == name).unwrap().hint.clone();
    assert_eq!(hint("hand"), "shed sessions adopt a hand");
    assert_eq!(hint("lost"), "shed sessions adopt a lost");
    test.app.sessions().adopt(&test.admin, &shed("a"), &session("lost")).await.unwrap();
    let odd = odd.name.clone();
    eventually("it is adopted", async || (orphans(&test).await.len() == 2).then_some(())).await;
    let left = clean(&test, &[&odd]).await;
    assert_eq!(named(&left), [("session", "hand")]);
    let listed = sh(&test, "a", "tmux list-sessions -F '#S'").await.stdout;
    assert_eq!(listed, "hand\nlost\nours\n");
    let unknown = test
        .app
        .housekeeping()
        .clean_orphans(&test.admin, &shed("a"), words(&["hand", "ours"]))
        .await;
    assert_eq!(problem(unknown).code, Code::NotFound);
    assert_eq!(named(&orphans(&test).await), [("session", "hand")]);
    let reader = Person::holder(Actor::Token("t".to_owned()), Scope::Read, Vec::new());
    assert!(test.app.housekeeping().orphans(&reader, &shed("a")).await.is_ok());
    let refused =
        test.app.housekeeping().clean_orphans(&reader, &shed("a"), words(&["hand"])).await;
    assert_eq!(problem(refused).code, Code::Forbidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaned_processes_are_found_and_ended() {
    let test = TestApp::start().await;
    test.shed("a").await;
    // A worker that leaves something running behind it, and one whose own processes are its own.
    // The shell waits until it has left its terminal, whose end would take it along.
    let line = "setsid sleep 1001 >/dev/null 2>&1 & \
        until grep -q sleep /proc/$!/comm; do sleep 0.01; done; exit 0";
    make(&test, kept("left", &["sh", "-c", line])).await;
    make(&test, kept("ours", &["sleep", "1002"])).await;
    eventually("the worker's end", async || {
        let worker =
            test.app.workers().get(&test.admin, &shed("a"), &session("left"), "sh").unwrap();
        (worker.status == WorkerStatus::Exited).then_some(())
    })
    .await;
    // One nobody knows, which does not heed what asks it to go.
    let stubborn = "trap '' TERM HUP; while :; do sleep 0.1; done";
    let start = format!(
        "SHED_SESSION_ID=0123 setsid sh -c \"{stubborn}\" >/dev/null 2>&1 & echo $!; \
         SHED_SESSION_ID=4567 setsid sleep 1003 >/dev/null 2>&1 &"
    );
    sh(&test, "a", &start).await;
    let find = |found: &[Orphan], text: &str| {
        let mut found = found.iter();
        found.find(|it| it.detail.contains(text)).map(|it| it.name.clone())
    };
    let (behind, trapped) = eventually("the processes", async || {
        let found = orphans(&test).await;
        assert_eq!(find(&found, "sleep 1002"), None, "{found:?}");
        let behind = find(&found, "\"sleep 1001\" of worker \"sh\" of session \"left\"")?;
        find(&found, "\"sleep 1003\" of session 4567")?;
        Some((behind, find(&found, "trap")?))
    })
    .await;
    let left = clean(&test, &[&behind, &format!("process:{trapped}")]).await;
    assert_eq!((find(&left, "sleep 1001"), find(&left, "trap")), (None, None), "{left:?}");
    // What was not named goes on.
    assert!(find(&left, "sleep 1003").is_some(), "{left:?}");
    assert!(!Path::new(&format!("/proc/{trapped}/exe")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_removed_only_when_no_work_would_be_lost() {
    let test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    let tree = NewSession { kind: Some(SessionType::Worktree), ..kept("ours", &["cat"]) };
    make(&test, tree).await;
    let root = worktrees(&test);
    let made = sh(
        &test,
        "a",
        "git worktree add -q -b shed/safe ../worktrees/safe origin/main && \
         git worktree add -q -b keep ../worktrees/named origin/main && \
         git worktree add -q --detach ../worktrees/bare origin/main && \
         git worktree add -q -b shed/risky ../worktrees/risky origin/main && \
         git -C ../worktrees/risky commit -q --allow-empty -m only-here && \
         git worktree add -q -b shed/dirty ../worktrees/dirty origin/main && \
         echo x > ../worktrees/dirty/new && \
         mkdir ../worktrees/empty ../worktrees/plain '../worktrees/$(id) x' && \
         echo x > ../worktrees/plain/x",
    )
    .await;
    assert_eq!(made.stderr, "");
    let found = orphans(&test).await;
    let names = ["$(id) x", "bare", "dirty", "empty", "named", "plain", "risky", "safe"];
    let paths: Vec<String> =
        names.iter().map(|name| root.join(name).to_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = paths.iter().map(|path| ("worktree", path.as_str())).collect();
    assert_eq!(named(&found), expected);
    assert!(found[7].detail.contains("branch shed/safe"), "{found:?}");
    let all: Vec<&str> = paths.iter().map(String::as_str).collect();
    let left = clean(&test, &all).await;
    let stayed = [("worktree", all[2]), ("worktree", all[5]), ("worktree", all[6])];
    assert_eq!(named(&left), stayed);
    assert!(left[0].detail.contains("uncommitted or unpushed work: 1 new file"), "{left:?}");
    assert!(left[1].detail.contains("the directory is not empty"), "{left:?}");
    assert!(left[2].detail.contains("1 unpushed commit"), "{left:?}");
    assert!(root.join("dirty/new").exists() && root.join("plain/x").exists());
    let branches = sh(&test, "a", "git for-each-ref --format='%(refname)' refs/heads").await.stdout;
    // What shed would have made goes, into the trash; what is called otherwise stays.
    assert!(!branches.contains("shed/safe") && branches.contains("heads/keep"), "{branches}");
    let trash = test.app.files().trash(&test.admin, &shed("a")).await.unwrap();
    assert!(trash.iter().any(|it| it.name.ends_with("/safe")), "{trash:?}");
    assert!(root.join("ours/a").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_row_is_listed_and_can_be_removed() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    let request = NewSession { title: Some("to break".to_owned()), ..kept("bad", &["cat"]) };
    let bad = make(&test, request).await;
    make(&test, kept("good", &["cat"])).await;
    test.reopen_after(|dir| {
        // As a newer server might have left it.
        let path = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let is_database = |path: &std::path::PathBuf| {
            path.is_file() && std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite"))
        };
        let path = path.into_iter().find(is_database).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let row = br#"{"kind":"quick","title":"to break""#;
        let ats: Vec<usize> = bytes
            .windows(row.len())
            .enumerate()
            .filter(|(_, it)| it == row)
            .map(|(at, _)| at)
            .collect();
        assert!(!ats.is_empty());
        for at in ats {
            bytes[at + 9..at + 14].copy_from_slice(b"quack");
        }
        std::fs::write(&path, bytes).unwrap();
    })
    .await;
    let found = eventually("the shed is up", async || {
        let found = orphans(&test).await;
        let up =
            test.app.sessions().get(&test.admin, &shed("a"), &session("good")).ok()?.window_count;
        (up == 1).then_some(found)
    })
    .await;
    // Its tmux session and its processes are not taken for nobody's.
    assert_eq!(named(&found), [("record", bad.id.as_str())]);
    assert!(found[0].detail.contains("session \"bad\" cannot be read"), "{found:?}");
    let gc = Gc { older_than_days: Some(0), ..Gc::default() };
    let report = test.app.housekeeping().gc(&test.admin, &shed("a"), gc).await.unwrap();
    assert!(!report.items.iter().any(|item| item.remove), "{report:?}");
    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    assert_eq!(named(&orphans(&test).await), [("record", bad.id.as_str())]);
    test.app.sheds().request(&test.admin, &shed("a"), Request::Start).await.unwrap();
    let left = clean(&test, &[&bad.id]).await;
    assert!(!left.iter().any(|it| it.kind == "record"), "{left:?}");
    test.restart().await;
    let after = orphans(&test).await;
    assert!(!after.iter().any(|it| it.kind == "record"), "{after:?}");
}

/// Makes a file or directory and all in it look as if it was last written so many days ago.
fn age(path: &Path, days: u64) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            age(&entry.unwrap().path(), days);
        }
    }
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60 + 60);
    std::fs::File::open(path).unwrap().set_modified(then).unwrap();
}

fn put(path: &Path, days: u64) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join("x"), vec![b'x'; 16 << 10]).unwrap();
    age(path, days);
}

fn going_of(report: &GcReport) -> Vec<(&str, &str)> {
    let going = report.items.iter().filter(|item| item.remove);
    going.map(|item| (item.kind.as_str(), item.name.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_removes_only_old_data_without_a_session() {
    let test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    let tree = NewSession { kind: Some(SessionType::Worktree), ..kept("ours", &["echo", "hi"]) };
    let made = make(&test, tree).await;
    eventually("the worker's end", async || {
        let worker =
            test.app.workers().get(&test.admin, &shed("a"), &session("ours"), "echo").unwrap();
        (worker.status == WorkerStatus::Exited).then_some(())
    })
    .await;
    let logs = test.dir().join("output/a");
    let spools = worktrees(&test).join(".shed/spool");
    let (old, young) = ("0".repeat(32), "1".repeat(32));
    for dir in [&logs, &spools] {
        put(&dir.join(&old).join("1"), 40);
        age(&dir.join(&old), 40);
        put(&dir.join(&young).join("1"), 3);
    }
    age(&logs.join(&made.workers[0].id), 400);
    let refs = sh(
        &test,
        "a",
        &format!(
            "head -c 50000 /dev/urandom > big && git add big && tree=$(git write-tree) && \
             git rm -q --cached big && rm big && \
             old=$(GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' git commit-tree -m old $tree) && \
             new=$(git commit-tree -m new HEAD^{{tree}}) && \
             git update-ref refs/shed/ckpt/{old}/1 $old && \
             git update-ref refs/shed/ckpt/{young}/1 $new && \
             git update-ref refs/shed/ckpt/{ours}/1 $old && \
             git update-ref refs/shed/ckpt/{ours}/2 $new && \
             big=$(GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' \
                 git commit-tree -m trashed HEAD^{{tree}} -p HEAD) && \
             git update-ref refs/shed/trash/20200101/x $big && \
             git update-ref refs/shed/trash/$(date -u +%Y%m%d)/y $big && \
             git worktree add -q -b shed/stray ../worktrees/stray origin/main && \
             git -C ../worktrees/stray commit -q --allow-empty -m only-here",
            ours = made.id
        ),
    )
    .await;
    assert_eq!(refs.stderr, "");
    let listed = async || sh(&test, "a", "git for-each-ref --format='%(refname)' refs/shed").await;
    let before = listed().await.stdout;

    let run = async |gc: Gc| -> GcReport {
        test.app.housekeeping().gc(&test.admin, &shed("a"), gc).await.unwrap()
    };
    let dry = run(Gc { dry_run: true, older_than_days: None }).await;
    let going = going_of(&dry);
    let expected = [
        ("checkpoints", old.as_str()),
        ("log", old.as_str()),
        ("spool", old.as_str()),
        ("trash", "refs/shed/trash/20200101/x"),
    ];
    assert_eq!(going, expected);
    let why = |kind: &str, name: &str| {
        let item = dry.items.iter().find(|item| item.kind == kind && item.name.ends_with(name));
        item.unwrap_or_else(|| panic!("no {kind} {name} in {dry:#?}")).clone()
    };
    assert_eq!(why("log", &made.workers[0].id).why, "kept: worker echo of session ours");
    assert_eq!(why("checkpoints", "ours").why, "kept: 2 checkpoints of session ours");
    assert_eq!(why("worktree", "/ours").why, "kept: session ours");
    assert!(why("worktree", "/ours").bytes > 0);
    assert!(why("worktree", "/stray").why.contains("1 unpushed commit"));
    assert!(why("log", &young).why.contains("less than 30 days ago"));
    assert!(why("index", "/workspace").why.starts_with("kept: "));
    // The large file is held by another's checkpoint too, so nothing of it would be freed.
    assert!((32 << 10..48 << 10).contains(&dry.freed_bytes), "{dry:#?}");
    assert_eq!(listed().await.stdout, before);
    assert!(logs.join(&old).exists() && spools.join(&old).exists());

    let done = run(Gc::default()).await;
    assert_eq!((going_of(&done), done.freed_bytes), (going, dry.freed_bytes));
    assert!(!logs.join(&old).exists() && !spools.join(&old).exists());
    assert!(logs.join(&young).exists() && spools.join(&young).exists());
    assert!(logs.join(&made.workers[0].id).exists());
    let after = listed().await.stdout;
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    assert_eq!(gone, [&format!("refs/shed/ckpt/{old}/1"), "refs/shed/trash/20200101/x"]);
    let again = run(Gc::default()).await;
    assert_eq!((again.freed_bytes, again.items.iter().any(|item| item.remove)), (0, false));

    // All that nobody remembers goes with 0, and nothing else.
    sh(&test, "a", &format!("git update-ref -d refs/shed/ckpt/{}/1", made.id)).await;
    run(Gc { dry_run: false, older_than_days: Some(0) }).await;
    assert!(!logs.join(&young).exists() && !spools.join(&young).exists());
    assert_eq!(listed().await.stdout, format!("refs/shed/ckpt/{}/2\n", made.id));
    assert!(worktrees(&test).join("stray/a").exists());
    let branches = sh(&test, "a", "git branch --list 'shed/*' --format='%(refname)'").await.stdout;
    assert_eq!(branches, "refs/heads/shed/ours\nrefs/heads/shed/stray\n");
    let reader = Person::holder(Actor::Token("t".to_owned()), Scope::Read, Vec::new());
    let look = Gc { dry_run: true, older_than_days: None };
    assert!(test.app.housekeeping().gc(&reader, &shed("a"), look).await.is_ok());
    assert_eq!(
        problem(test.app.housekeeping().gc(&reader, &shed("a"), Gc::default()).await).code,
        Code::Forbidden
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_outlive_a_command_end_with_its_session() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let line = "setsid sleep 1004 >/dev/null 2>&1 & \
        until grep -q sleep /proc/$!/comm; do sleep 0.01; done; exit 0";
    make(&test, kept("left", &["sh", "-c", line])).await;
    eventually("what it left", async || {
        let found = orphans(&test).await;
        found.iter().any(|it| it.detail.contains("sleep 1004")).then_some(())
    })
    .await;
    test.app.sessions().terminate(&test.admin, &shed("a"), &session("left")).await.unwrap();
    assert_eq!(orphans(&test).await, []);
}
