//! `shed batch`, `template`, `trash` and `gc`.

use crate::support::TestEnv;

#[tokio::test(flavor = "multi_thread")]
async fn batch_prints_a_table_and_exits_with_the_first_failure() {
    let env = TestEnv::new().await;
    for name in ["one", "two"] {
        let words = ["run", "a", "-d", "--name", name, "--tag", "x", "--", "sleep", "1000"];
        env.run(&words).await.ok();
    }
    let would = env.run(&["batch", "terminate", "--tag", "x", "--dry-run"]).await;
    assert_eq!(would.ok().lines().count(), 3, "{would:?}");
    let tagged = env.run(&["batch", "tag", "--shed", "a", "--add-tag", "y", "--json"]).await;
    assert_eq!(tagged.json()["items"].as_array().unwrap().len(), 2);
    env.run(&["batch", "terminate", "--tag", "y"]).await.ok();
    let list = env.run(&["sessions", "--json"]).await.json();
    assert_eq!(list["sessions"][0]["status"], "ended", "{list}");
    let none = env.run(&["batch", "delete", "--tag", "none"]).await;
    assert_eq!((none.ok(), none.stderr.as_str()), ("", "no session matches\n"));
    let unknown = "0".repeat(32);
    let missing = env.run(&["batch", "delete", "--id", &unknown]).await;
    missing.fails(3);
    for words in [
        &["batch", "delete"][..],
        &["batch", "explode", "--tag", "x"],
        &["batch", "input", "--tag", "x"],
        &["batch", "delete", "--tag", "x", "--add-tag", "y"],
        &["batch", "delete", "--tag", "x", "--status", "dead"],
        &["batch", "delete", "--tag", "x", "--id", "y"],
    ] {
        env.run(words).await.fails(2);
    }
    env.run(&["batch", "delete", "--status", "ended", "--force"]).await.ok();
    assert_eq!(env.run(&["sessions"]).await.ok(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_listed_shown_checked_and_used() {
    let env = TestEnv::new().await;
    let line = "mkdir -p .shed/templates && cd .shed/templates && \
                printf 'description = \"says hello\"\\ncommand = [\"echo\", \"hello\"]\\n' > hello.toml";
    env.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let list = env.run(&["template", "list", "a"]).await;
    assert!(list.ok().contains("hello") && list.ok().contains("says hello"), "{list:?}");
    let shown = env.run(&["template", "show", "a", "hello"]).await;
    assert!(shown.ok().contains("command = ["), "{shown:?}");
    env.run(&["template", "show", "a", "none"]).await.fails(3);
    assert_eq!(env.run(&["run", "a", "--template", "hello"]).await.stdout, b"hello\r\n");
    // The output of `show` is a valid template.
    std::fs::write(env.path("good.toml"), &shown.stdout).unwrap();
    std::fs::write(env.path("bad.toml"), "title = 1\n").unwrap();
    let both = "agent = 'claude'\ncommand = ['true']\n";
    std::fs::write(env.path("both.toml"), both).unwrap();
    env.run(&["template", "check", "both.toml"]).await.fails(2);
    env.run(&["template", "check", "good.toml"]).await.ok();
    let checked = env.run(&["template", "check", "bad.toml", "good.toml", "none.toml"]).await;
    let stderr = checked.fails(2);
    assert!(stderr.contains("bad.toml: "), "{stderr}");
    assert_eq!(checked.stdout, b"good.toml is a valid template\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn trash_is_listed_restored_and_explained_by_gc() {
    let env = TestEnv::new().await;
    let line = "git init -q -b main . && git config user.name T && \
                git config user.email t@example.com && git commit -q --allow-empty -m first";
    env.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let words = ["run", "a", "-d", "--worktree", "--name", "fix", "--json", "--", "sleep", "1000"];
    let made = env.run(&words).await.json();
    let directory = made["directory"].as_str().unwrap();
    env.run(&["exec", "-w", directory, "a", "git", "commit", "-q", "--allow-empty", "-m", "mine"])
        .await
        .ok();
    env.run(&["sessions", "delete", "a", "fix", "--force"]).await.ok();
    let trash = env.run(&["trash", "list", "a"]).await;
    assert!(trash.ok().contains("mine"), "{trash:?}");
    let kept = env.run(&["gc", "a", "--dry-run"]).await;
    assert!(kept.ok().contains("keep  trash"), "{kept:?}");
    assert!(kept.stderr.contains("would be freed"), "{kept:?}");
    let trash = env.run(&["trash", "list", "a", "--json"]).await.json();
    let rows = trash["trash"].as_array().unwrap();
    let tip = rows.iter().find(|row| row["kind"] == "branch").unwrap();
    let name = tip["ref"].as_str().unwrap();
    env.run(&["trash", "restore", "a", name, "-x"]).await.fails(2);
    env.run(&["trash", "restore", "a", name, "again"]).await.ok();
    env.run(&["exec", "a", "git", "rev-parse", "--verify", "again"]).await.ok();
    env.run(&["gc", "a"]).await.ok();
    env.run(&["gc", "none"]).await.fails(3);
}
