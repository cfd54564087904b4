//! Worktrees, diffs and checkpoints, with real git.

use crate::support::TestEnv;

/// A shed with a repository, a session `fix` in a worktree of it, and that worktree's directory.
async fn with_worktree() -> (TestEnv, String) {
    let env = TestEnv::new().await;
    let line = "git init -q -b main . && git config user.name T && \
                git config user.email t@example.com && printf 'one\\ntwo\\n' > a.txt && \
                git add -A && git commit -qm first";
    env.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let words = ["run", "a", "--worktree", "-d", "--name", "fix", "--json", "--", "sleep", "1000"];
    let made = env.run(&words).await.json();
    assert_eq!(made["branch"], "shed/fix", "{made}");
    let directory = made["directory"].as_str().unwrap().to_owned();
    (env, directory)
}

async fn run_inside(env: &TestEnv, directory: &str, line: &str) {
    env.run(&["exec", "-w", directory, "a", "sh", "-c", line]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn diffs_are_a_patch_a_table_numbers_or_json() {
    let (env, directory) = with_worktree().await;
    run_inside(&env, &directory, "printf 'one\\n2\\n' > a.txt; echo new > new.txt").await;
    let patch = env.run(&["diff", "a", "fix"]).await;
    assert!(patch.ok().contains("-two\n+2\n") && patch.ok().contains("+new\n"), "{patch:?}");
    let one = env.run(&["diff", "a", "fix", "a.txt", "--from", "head"]).await;
    assert!(!one.ok().contains("+new\n"), "{one:?}");
    let stat = env.run(&["diff", "a", "fix", "--stat"]).await;
    let lines: Vec<Vec<&str>> =
        stat.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[1..],
        [
            vec!["M", "+1", "-1", "a.txt"],
            vec!["A", "+1", "-0", "new.txt"],
            vec!["2", "files,", "+2", "-1"],
        ]
    );
    let json = env.run(&["diff", "a", "fix", "--json"]).await.json();
    assert_eq!((&json["n_files"], &json["patch"][1]["path"]), (&2.into(), &"new.txt".into()));
    let numbers = env.run(&["diff", "a", "fix", "--numbers"]).await;
    assert_eq!(numbers.ok(), "2 files, +2 -1, 0 ahead, 0 behind\n");
    env.run(&["diff", "a", "fix", "--from", "nowhere"]).await.fails(2);
    env.run(&["diff", "a", "none"]).await.fails(3);
    env.run(&["diff", "a", "fix", "--numbers", "--stat"]).await.fails(2);
}

/// Contents that hide the rest of the line, set the title and clear the screen.
const HOSTILE: &str = r"printf 'a\033[8mb\033]0;t\007\302\233c\351\n' > a.txt";

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_a_diff_with_colours_of_shed_only() {
    let (env, directory) = with_worktree().await;
    run_inside(&env, &directory, HOSTILE).await;
    let (seen, status) = env.terminal(&["diff", "a", "fix", "--no-pager"]).end().await;
    assert_eq!(status, Some(0), "{seen}");
    assert!(seen.contains("\x1b[31m-two\x1b[m\r\n"), "{seen:?}");
    let shown = "\x1b[32m+a^[[8mb^[]0;t^G<U+009B>c<E9>\x1b[m\r\n";
    assert!(seen.contains(shown), "{seen:?}");
    // Elsewhere the bytes stay as they are.
    let piped = env.run(&["diff", "a", "fix"]).await;
    let bytes = b"\n+a\x1b[8mb\x1b]0;t\x07\xc2\x9bc\xe9\n";
    assert!(piped.stdout.windows(bytes.len()).any(|part| part == bytes), "{piped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pager_shows_what_is_printed_to_a_terminal() {
    let (env, directory) = with_worktree().await;
    run_inside(&env, &directory, "yes | head -n 100000 > a.txt").await;
    let paged = |words: &[&str], pager: &str| {
        let mut command = env.shed(words);
        command.env("PAGER", "no-such-pager").env("SHED_PAGER", pager);
        shed_testing::Terminal::start(command, 80, 24)
    };
    for words in [&["diff", "a", "fix", "--stat"][..], &["show", "a"], &["events", "--no-follow"]] {
        // Its variable is split at blanks, without a shell.
        let (seen, status) = paged(words, "sed -e s/^/paged:$HOME;/").end().await;
        assert_eq!(status, Some(0), "{words:?}: {seen}");
        let is_paged = |line: &str| line.starts_with("paged:$HOME;");
        assert!(seen.lines().all(is_paged) && !seen.is_empty(), "{words:?}: {seen}");
        for off in ["--no-pager", "--json"] {
            let (seen, _) = paged(&[words, &[off]].concat(), "sed s/^/paged:/").end().await;
            assert!(!seen.contains("paged:"), "{words:?} {off}: {seen}");
        }
    }
    // Who leaves the pager early has seen enough, and a pager that is missing hides nothing.
    let (seen, status) = paged(&["diff", "a", "fix"], "head -n 1").end().await;
    assert_eq!((seen.lines().count(), status), (1, Some(0)), "{seen}");
    let (seen, status) = paged(&["show", "a"], "no-such-pager -x").end().await;
    assert!(seen.contains("cannot start the pager no-such-pager"), "{seen}");
    assert!(seen.contains("network") && status == Some(0), "{status:?} {seen}");
    let piped = env.run(&["show", "a"]).await;
    assert!(!piped.ok().contains("paged:"), "{piped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_created_listed_restored_and_forked() {
    let (env, directory) = with_worktree().await;
    run_inside(&env, &directory, "echo kept > a.txt").await;
    let words = ["checkpoint", "create", "a", "fix", "-m", "before lunch"];
    let made = env.run(&words).await;
    assert_eq!((made.ok(), made.stderr.as_str()), ("1\n", "checkpoint 1 of a/fix was created\n"));
    let same = env.run(&words).await;
    assert_eq!(
        (same.ok(), same.stderr.as_str()),
        ("1\n", "a/fix is unchanged since checkpoint 1\n")
    );
    run_inside(&env, &directory, "echo lost > a.txt; echo x > b.txt").await;
    let diff = env.run(&["checkpoint", "diff", "a", "fix", "1", "a.txt"]).await;
    assert!(diff.ok().contains("-kept\n+lost\n"), "{diff:?}");
    let restored = env.run(&["checkpoint", "restore", "a", "fix", "1", "a.txt"]).await;
    assert!(
        restored.ok().contains("a.txt") && restored.stderr.contains("checkpoint 2"),
        "{restored:?}"
    );
    run_inside(&env, &directory, "grep -qx kept a.txt && test -e b.txt").await;
    let list = env.run(&["checkpoint", "list", "a", "fix"]).await;
    assert!(list.ok().contains("before lunch") && list.ok().contains("before-restore"), "{list:?}");
    let shown = env.run(&["checkpoint", "show", "a", "fix", "1"]).await;
    assert!(shown.ok().contains("before lunch") && shown.ok().contains("shed/fix"), "{shown:?}");
    let words = ["checkpoint", "fork", "a", "fix", "2", "--name", "second", "--", "sleep", "1000"];
    assert_eq!(env.run(&words).await.ok(), "second\n");
    let second = env.run(&["sessions", "show", "a", "second", "--json"]).await.json();
    run_inside(&env, second["directory"].as_str().unwrap(), "grep -qx lost a.txt").await;
    for words in [
        &["checkpoint", "show", "a", "fix", "9"][..],
        &["checkpoint", "restore", "a", "fix", "9"],
        &["checkpoint", "fork", "a", "fix", "9"],
        &["checkpoint", "list", "a", "none"],
    ] {
        env.run(words).await.fails(3);
    }
    env.run(&["checkpoint", "show", "a", "fix", "x"]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_and_unpushed_work_is_deleted_only_after_confirmation() {
    let (env, directory) = with_worktree().await;
    run_inside(&env, &directory, "echo x >> a.txt; git commit -qam 'only here'; echo y > new.txt")
        .await;
    let refused = env.run(&["sessions", "delete", "a", "fix"]).await;
    let stderr = refused.fails(4);
    for text in ["1 uncommitted file:\n  new.txt", "1 unpushed commit:\n", "only here", "--force"] {
        assert!(stderr.contains(text), "{text:?} in {stderr}");
    }
    // In a terminal it asks.
    for (answer, status) in [("n\r", 1), ("y\r", 0)] {
        let mut terminal = env.terminal(&["sessions", "delete", "a", "fix"]);
        terminal.until("[y/N]").await;
        terminal.keys(answer).await;
        assert_eq!(terminal.end().await.1, Some(status), "{answer:?}");
    }
    env.run(&["sessions", "show", "a", "fix"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_starts_at_its_base_and_is_deleted_with_force() {
    let (env, _) = with_worktree().await;
    let words =
        ["run", "a", "-d", "--branch", "topic/x", "--base", "main", "--name", "two", "--json"];
    let made = env.run(&words).await.json();
    assert_eq!((&made["type"], &made["branch"]), (&"worktree".into(), &"topic/x".into()), "{made}");
    env.run(&["sessions", "set", "a", "two", "--branch", "topic/y"]).await.ok();
    let taken = ["run", "a", "-d", "--branch", "topic/y", "--name", "three"];
    env.run(&taken).await.fails(4);
    env.run(&["run", "a", "-d", "--branch", "-x", "--name", "three"]).await.fails(2);
    env.run(&["sessions", "show", "a", "three"]).await.fails(3);
    let directory = made["directory"].as_str().unwrap();
    run_inside(&env, directory, "echo y > new.txt").await;
    env.run(&["sessions", "delete", "a", "two", "--force"]).await.ok();
    env.run(&["exec", "a", "test", "!", "-e", directory]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_of_a_shed_counts_all_sessions_and_names_work() {
    let (env, directory) = with_worktree().await;
    env.run(&["run", "a", "-w", "-n", "idle", "-d", "--", "cat"]).await.ok();
    run_inside(&env, &directory, "touch new").await;
    env.run(&["terminate", "a", "fix"]).await.ok();
    let mut terminal = env.terminal(&["delete", "a"]);
    let seen = terminal.until("delete shed a (running, 2 sessions) and all its files?").await;
    assert!(seen.contains("session a/fix has 1 uncommitted file"), "{seen}");
    assert!(!seen.contains("a/idle"), "{seen}");
    terminal.keys("\r").await;
    terminal.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_runs_before_the_worker_and_teardown_before_the_removal() {
    let (env, _) = with_worktree().await;
    let done = env.path("torn-down");
    let teardown = format!("pwd > {}", done.display());
    let words = ["run", "a", "--worktree", "--name", "set-up", "--max-runtime", "1h"];
    let lines = ["--setup", "echo $((6 * 7)) > made; cat made", "--teardown", &teardown];
    let ran = env.run(&[&words[..], &lines, &["--", "cat", "made"]].concat()).await;
    assert_eq!(ran.ok(), "42\r\n");
    let shown = env.run(&["sessions", "show", "a", "set-up", "--json"]).await.json();
    assert_eq!(shown["limits"]["runtime_seconds"], 3600);
    let setup = env.run(&["output", "a", "set-up", "setup"]).await;
    assert_eq!(setup.ok(), "42\r\n");
    env.run(&["sessions", "delete", "a", "set-up", "--force"]).await.ok();
    let recorded = std::fs::read_to_string(&done).unwrap();
    assert_eq!(recorded.trim_end(), shown["directory"].as_str().unwrap());
}
