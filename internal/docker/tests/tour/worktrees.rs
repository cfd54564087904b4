//! Worktrees and workers where a container sets limits: hostile names, a read-only or full volume, an image without git or tmux.

use shed_api::session::{Input, NewSession, PatchSession, SessionStatus, SessionType};
use shed_api::shed::RebuildShed;
use shed_api::{Code, ShedStatus};
use shed_core::DiffQuery;
use shed_model::shed::life::Request;
use shed_testing::eventually;

use crate::support::{TestDocker, docker, problem, shed};
use crate::workers::{HOSTILE_TITLE, SHED, get, kept, make, printed, target, until_status, wish};

fn worktree(name: &str) -> NewSession {
    NewSession { kind: Some(SessionType::Worktree), ..kept(name, &["sleep", "1000"]) }
}

async fn refused(test: &TestDocker, request: NewSession) -> shed_api::Problem {
    problem(test.app.sessions().create(&test.admin, &shed(SHED), request).await)
}

/// Makes the repository that worktrees are made of.
const REPOSITORY: &str = "git init -q -b main . && git config user.name T && \
     git config user.email t@example.com && echo one > a.txt && echo .env > .gitignore && \
     echo .env > .worktreeinclude && echo secret > .env && git add -A && git commit -qm first";

#[tokio::test(flavor = "multi_thread")]
async fn worktree_sessions_are_kept_on_their_volume() {
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
    let numbers = test.app.files().diff_numbers(&test.admin, &name, &target("fix")).await.unwrap();
    assert_eq!((numbers.files, numbers.insertions, numbers.deletions), (2, 2, 0), "{numbers:?}");
    let fix = target("fix");
    let taken =
        test.app.files().make_checkpoint(&test.admin, &name, &fix, "by hand").await.unwrap();
    test.sh(SHED, "cd /worktrees/fix && rm new.txt && echo worse > a.txt").await;
    // All of it outlives the container.
    test.app.sheds().rebuild(&test.admin, &name, RebuildShed::default()).await.unwrap();
    let n = taken.checkpoint.n;
    test.app.files().restore_checkpoint(&test.admin, &name, &fix, n, Vec::new()).await.unwrap();
    assert_eq!(test.sh(SHED, "cd /worktrees/fix && cat a.txt new.txt").await, "one\ntwo\nnew\n");
    let (diff, _) =
        test.app.files().diff(&test.admin, &name, &fix, DiffQuery::default()).await.unwrap();
    assert_eq!(diff.files.len(), 2, "{diff:?}");
    let kept = problem(test.app.sessions().delete(&test.admin, &name, &fix, false).await);
    assert_eq!(kept.code, Code::WorkWouldBeLost);
    assert_eq!(test.sh(SHED, "cat /worktrees/fix/new.txt").await, "new\n");
    test.app.sessions().delete(&test.admin, &name, &fix, true).await.unwrap();
    let left = "ls /worktrees; git worktree list | wc -l; git for-each-ref refs/shed/trash | wc -l";
    let left = test.sh(SHED, left).await;
    assert!(left.starts_with("1\n") && !left.ends_with("\n0\n"), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_of_workers_and_branches_are_refused_or_treated_as_data() {
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
    let bad = problem(test.app.sessions().patch(&test.admin, &shed(SHED), &data, patch).await);
    assert_eq!(bad.code, Code::InvalidRequest);
    let typed = Input { text: Some("#(touch /tmp/owned)".to_owned()), ..Input::default() };
    test.app.sessions().input(&test.admin, &shed(SHED), &data, typed).await.unwrap();
    let directory = NewSession {
        directory: Some("/tmp/#(touch owned)".to_owned()),
        ..kept("elsewhere", &["sleep", "1000"])
    };
    test.sh(SHED, "mkdir '/tmp/#(touch owned)'").await;
    make(&test, directory).await;
    let cwd = "pgrep -f '^sleep 1000' | xargs -I@ readlink /proc/@/cwd | sort";
    assert_eq!(test.sh(SHED, cwd).await, "/tmp/#(touch owned)\n/workspace\n/worktrees/data\n");
    wish(&test, Request::Restart).await;
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
async fn an_unwritable_worktree_volume_is_reported_and_loses_nothing() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    test.sh(SHED, REPOSITORY).await;
    make(&test, worktree("fix")).await;
    test.sh(SHED, "cd /worktrees/fix && echo mine > mine.txt").await;
    let (name, fix) = (shed(SHED), target("fix"));
    // Nothing may be open for writing on a mount that becomes read-only.
    test.app.sessions().terminate(&test.admin, &name, &fix).await.unwrap();
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
    let failed = problem(test.app.sessions().delete(&test.admin, &name, &fix, true).await);
    assert_eq!(failed.code, Code::GitFailed, "{failed:?}");
    assert_eq!(test.sh(SHED, "cat /worktrees/fix/mine.txt").await, "mine\n");
    in_mounts(&test, &["mount", "-o", "remount,bind,rw", "/worktrees"]);
    make(&test, worktree("other")).await;
    test.app.sessions().delete(&test.admin, &name, &fix, true).await.unwrap();
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
async fn workers_on_a_full_disk_lose_nothing_and_new_ones_are_refused_with_a_reason() {
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
    assert_eq!(failed.code, Code::DiskFull, "{failed:?}");
    assert!(failed.detail.contains("/worktrees"), "{failed:?}");
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
async fn workers_are_confined_or_the_reason_is_reported() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    let request = NewSession {
        confine: true,
        ..kept(
            "walled",
            &["sh", "-c", "echo x > /workspace/out; echo $? > /tmp/status; exec sleep 1000"],
        )
    };
    match test.app.sessions().create(&test.admin, &shed(SHED), request).await {
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
async fn an_image_without_git_or_tmux_refuses_workers() {
    let test = TestDocker::start().await;
    test.shed_of(SHED, "shed-test-busybox:latest").await;
    let no_tmux = refused(&test, kept("quick", &["sleep", "1000"])).await;
    assert_eq!((no_tmux.code, no_tmux.status), (Code::TmuxNotAvailable, 503));
    let no_tmux = refused(&test, worktree("fix")).await;
    assert_eq!(no_tmux.code, Code::TmuxNotAvailable);
    wish(&test, Request::Restart).await;
    until_status(&test, ShedStatus::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_lost_its_git_refuses_worktrees_only() {
    let test = TestDocker::start().await;
    test.shed(SHED).await;
    test.root(SHED, "rm -f /usr/bin/git").await;
    let no_git = refused(&test, worktree("fix")).await;
    assert_eq!(no_git.code, Code::GitFailed, "{no_git:?}");
    assert!(no_git.detail.contains("git"), "{no_git:?}");
    assert!(get(&test, "fix").is_none());
    assert_eq!(make(&test, kept("quick", &["sleep", "1000"])).await.status, SessionStatus::Running);
}
