//! Many sessions at once, templates, trash and what is kept.

use crate::support::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_a_table_and_its_first_failure_the_status() {
    let desk = Desk::new().await;
    for name in ["one", "two"] {
        let words = ["run", "a", "-d", "--name", name, "--tag", "x", "--", "sleep", "1000"];
        desk.run(&words).await.ok();
    }
    let would = desk.run(&["batch", "terminate", "--tag", "x", "--dry-run"]).await;
    assert_eq!(would.ok().lines().count(), 3, "{would:?}");
    let tagged = desk.run(&["batch", "tag", "--shed", "a", "--add-tag", "y", "--json"]).await;
    assert_eq!(tagged.json()["items"].as_array().unwrap().len(), 2);
    desk.run(&["batch", "terminate", "--tag", "y"]).await.ok();
    let list = desk.run(&["sessions", "--json"]).await.json();
    assert_eq!(list["sessions"][0]["status"], "ended", "{list}");
    let none = desk.run(&["batch", "delete", "--tag", "none"]).await;
    assert_eq!((none.ok(), none.errors.as_str()), ("", "there is no such session\n"));
    let unknown = "0".repeat(32);
    let missing = desk.run(&["batch", "delete", "--id", &unknown]).await;
    missing.fails(3);
    for words in [
        &["batch", "delete"][..],
        &["batch", "explode", "--tag", "x"],
        &["batch", "input", "--tag", "x"],
        &["batch", "delete", "--tag", "x", "--add-tag", "y"],
        &["batch", "delete", "--tag", "x", "--status", "dead"],
        &["batch", "delete", "--tag", "x", "--id", "y"],
    ] {
        desk.run(words).await.fails(2);
    }
    desk.run(&["batch", "delete", "--status", "ended", "--force"]).await.ok();
    assert_eq!(desk.run(&["sessions"]).await.ok(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_listed_shown_checked_and_used() {
    let desk = Desk::new().await;
    let line = "mkdir -p .shed/templates && cd .shed/templates && \
                printf 'description = \"says hello\"\\ncommand = [\"echo\", \"hello\"]\\n' > hello.toml";
    desk.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let list = desk.run(&["template", "list", "a"]).await;
    assert!(list.ok().contains("hello") && list.ok().contains("says hello"), "{list:?}");
    let shown = desk.run(&["template", "show", "a", "hello"]).await;
    assert!(shown.ok().contains("command = ["), "{shown:?}");
    desk.run(&["template", "show", "a", "none"]).await.fails(3);
    assert_eq!(desk.run(&["run", "a", "--template", "hello"]).await.out, b"hello\r\n");
    // What is shown is a template itself.
    std::fs::write(desk.path("good.toml"), &shown.out).unwrap();
    std::fs::write(desk.path("bad.toml"), "title = 1\n").unwrap();
    let both = "agent = 'claude'\ncommand = ['true']\n";
    std::fs::write(desk.path("both.toml"), both).unwrap();
    desk.run(&["template", "check", "both.toml"]).await.fails(2);
    desk.run(&["template", "check", "good.toml"]).await.ok();
    let checked = desk.run(&["template", "check", "bad.toml", "good.toml", "none.toml"]).await;
    let said = checked.fails(2);
    assert!(said.contains("bad.toml: line 1"), "{said}");
    assert_eq!(checked.out, b"good.toml is a template\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_listed_brought_back_and_explained() {
    let desk = Desk::new().await;
    let line = "git init -q -b main . && git config user.name T && \
                git config user.email t@example.com && git commit -q --allow-empty -m first";
    desk.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let words = ["run", "a", "-d", "--worktree", "--name", "fix", "--json", "--", "sleep", "1000"];
    let made = desk.run(&words).await.json();
    let directory = made["directory"].as_str().unwrap();
    desk.run(&["exec", "-w", directory, "a", "git", "commit", "-q", "--allow-empty", "-m", "mine"])
        .await
        .ok();
    desk.run(&["sessions", "delete", "a", "fix", "--force"]).await.ok();
    let trash = desk.run(&["trash", "list", "a"]).await;
    assert!(trash.ok().contains("mine"), "{trash:?}");
    let kept = desk.run(&["gc", "a", "--dry-run"]).await;
    assert!(kept.ok().contains("stays  trash"), "{kept:?}");
    assert!(kept.errors.contains("would be freed"), "{kept:?}");
    let trash = desk.run(&["trash", "list", "a", "--json"]).await.json();
    let rows = trash["trash"].as_array().unwrap();
    let tip = rows.iter().find(|row| row["kind"] == "branch").unwrap();
    let name = tip["ref"].as_str().unwrap();
    desk.run(&["trash", "restore", "a", name, "-x"]).await.fails(2);
    desk.run(&["trash", "restore", "a", name, "again"]).await.ok();
    desk.run(&["exec", "a", "git", "rev-parse", "--verify", "again"]).await.ok();
    desk.run(&["gc", "a"]).await.ok();
    desk.run(&["gc", "none"]).await.fails(3);
}
