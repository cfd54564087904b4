//! Worktrees, diffs and checkpoints, with real git.

use crate::support::Desk;

/// A shed with a repository, a session `fix` in a worktree of it, and that worktree's directory.
async fn with_worktree() -> (Desk, String) {
    let desk = Desk::new().await;
    let line = "git init -q -b main . && git config user.name T && \
                git config user.email t@example.com && printf 'one\\ntwo\\n' > a.txt && \
                git add -A && git commit -qm first";
    desk.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let words = ["run", "a", "--worktree", "-d", "--name", "fix", "--json", "--", "sleep", "1000"];
    let made = desk.run(&words).await.json();
    assert_eq!(made["branch"], "shed/fix", "{made}");
    let directory = made["directory"].as_str().unwrap().to_owned();
    (desk, directory)
}

async fn inside(desk: &Desk, directory: &str, line: &str) {
    desk.run(&["exec", "-w", directory, "a", "sh", "-c", line]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_a_patch_a_table_numbers_or_an_object() {
    let (desk, directory) = with_worktree().await;
    inside(&desk, &directory, "printf 'one\\n2\\n' > a.txt; echo new > new.txt").await;
    let patch = desk.run(&["diff", "a", "fix"]).await;
    assert!(patch.ok().contains("-two\n+2\n") && patch.ok().contains("+new\n"), "{patch:?}");
    let one = desk.run(&["diff", "a", "fix", "a.txt", "--from", "head"]).await;
    assert!(!one.ok().contains("+new\n"), "{one:?}");
    let stat = desk.run(&["diff", "a", "fix", "--stat"]).await;
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
    let json = desk.run(&["diff", "a", "fix", "--json"]).await.json();
    assert_eq!((&json["n_files"], &json["patch"][1]["path"]), (&2.into(), &"new.txt".into()));
    let numbers = desk.run(&["diff", "a", "fix", "--numbers"]).await;
    assert_eq!(numbers.ok(), "2 files, +2 -1, 0 ahead, 0 behind\n");
    desk.run(&["diff", "a", "fix", "--from", "nowhere"]).await.fails(2);
    desk.run(&["diff", "a", "none"]).await.fails(3);
    desk.run(&["diff", "a", "fix", "--numbers", "--stat"]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_made_listed_restored_and_forked() {
    let (desk, directory) = with_worktree().await;
    inside(&desk, &directory, "echo kept > a.txt").await;
    let words = ["checkpoint", "create", "a", "fix", "-m", "before lunch"];
    let made = desk.run(&words).await;
    assert_eq!((made.ok(), made.errors.as_str()), ("1\n", "checkpoint 1 of a/fix was made\n"));
    let same = desk.run(&words).await;
    assert_eq!(
        (same.ok(), same.errors.as_str()),
        ("1\n", "nothing differs from checkpoint 1 of a/fix\n")
    );
    inside(&desk, &directory, "echo lost > a.txt; echo x > b.txt").await;
    let diff = desk.run(&["checkpoint", "diff", "a", "fix", "1", "a.txt"]).await;
    assert!(diff.ok().contains("-kept\n+lost\n"), "{diff:?}");
    let restored = desk.run(&["checkpoint", "restore", "a", "fix", "1", "a.txt"]).await;
    assert!(
        restored.ok().contains("a.txt") && restored.errors.contains("checkpoint 2"),
        "{restored:?}"
    );
    inside(&desk, &directory, "grep -qx kept a.txt && test -e b.txt").await;
    let list = desk.run(&["checkpoint", "list", "a", "fix"]).await;
    assert!(list.ok().contains("before lunch") && list.ok().contains("before-restore"), "{list:?}");
    let shown = desk.run(&["checkpoint", "show", "a", "fix", "1"]).await;
    assert!(shown.ok().contains("before lunch") && shown.ok().contains("shed/fix"), "{shown:?}");
    let words = ["checkpoint", "fork", "a", "fix", "2", "--name", "second", "--", "sleep", "1000"];
    assert_eq!(desk.run(&words).await.ok(), "second\n");
    let second = desk.run(&["sessions", "show", "a", "second", "--json"]).await.json();
    inside(&desk, second["directory"].as_str().unwrap(), "grep -qx lost a.txt").await;
    for words in [
        &["checkpoint", "show", "a", "fix", "9"][..],
        &["checkpoint", "restore", "a", "fix", "9"],
        &["checkpoint", "fork", "a", "fix", "9"],
        &["checkpoint", "list", "a", "none"],
    ] {
        desk.run(words).await.fails(3);
    }
    desk.run(&["checkpoint", "show", "a", "fix", "x"]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_nowhere_else_is_not_deleted_without_a_word() {
    let (desk, directory) = with_worktree().await;
    inside(&desk, &directory, "echo x >> a.txt; git commit -qam 'only here'; echo y > new.txt")
        .await;
    let refused = desk.run(&["sessions", "delete", "a", "fix"]).await;
    let said = refused.fails(4);
    for text in [
        "1 file is not committed:\n  new.txt",
        "1 commit is nowhere else:\n",
        "only here",
        "--force",
    ] {
        assert!(said.contains(text), "{text:?} in {said}");
    }
    // With somebody to ask: no is no, and yes is yes.
    for (answer, status) in [("n\r", 1), ("y\r", 0)] {
        let mut terminal = desk.terminal(&["sessions", "delete", "a", "fix"]);
        terminal.until("[y/N]").await;
        terminal.keys(answer).await;
        assert_eq!(terminal.end().await.1, Some(status), "{answer:?}");
    }
    desk.run(&["sessions", "show", "a", "fix"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_begins_where_it_is_told_and_goes_by_force() {
    let (desk, _) = with_worktree().await;
    let words =
        ["run", "a", "-d", "--branch", "topic/x", "--base", "main", "--name", "two", "--json"];
    let made = desk.run(&words).await.json();
    assert_eq!((&made["type"], &made["branch"]), (&"worktree".into(), &"topic/x".into()), "{made}");
    desk.run(&["sessions", "set", "a", "two", "--branch", "topic/y"]).await.ok();
    let taken = ["run", "a", "-d", "--branch", "topic/y", "--name", "three"];
    desk.run(&taken).await.fails(4);
    desk.run(&["run", "a", "-d", "--branch", "-x", "--name", "three"]).await.fails(2);
    desk.run(&["sessions", "show", "a", "three"]).await.fails(3);
    let directory = made["directory"].as_str().unwrap();
    inside(&desk, directory, "echo y > new.txt").await;
    desk.run(&["sessions", "delete", "a", "two", "--force"]).await.ok();
    desk.run(&["exec", "a", "test", "!", "-e", directory]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_comes_before_the_worker_and_teardown_before_the_removal() {
    let (desk, _) = with_worktree().await;
    let done = desk.path("torn-down");
    let teardown = format!("pwd > {}", done.display());
    let words = ["run", "a", "--worktree", "--name", "set-up", "--max-runtime", "1h"];
    let lines = ["--setup", "echo $((6 * 7)) > made; cat made", "--teardown", &teardown];
    let ran = desk.run(&[&words[..], &lines, &["--", "cat", "made"]].concat()).await;
    assert_eq!(ran.ok(), "42\r\n");
    let shown = desk.run(&["sessions", "show", "a", "set-up", "--json"]).await.json();
    assert_eq!(shown["limits"]["runtime_seconds"], 3600);
    let setup = desk.run(&["output", "a", "set-up", "setup"]).await;
    assert_eq!(setup.ok(), "42\r\n");
    desk.run(&["sessions", "delete", "a", "set-up", "--force"]).await.ok();
    let told = std::fs::read_to_string(&done).unwrap();
    assert_eq!(told.trim_end(), shown["directory"].as_str().unwrap());
}
