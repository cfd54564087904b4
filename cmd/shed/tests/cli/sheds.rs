//! Sheds: made, listed, changed, ended, and how failures are told.

use std::time::Duration;

use rustix::process::Signal;
use shed_testing::eventually;
use tokio::time::timeout;

use crate::support::{Desk, ended, signal, started, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_is_made_listed_shown_and_deleted() {
    let desk = Desk::empty().await;
    let none = desk.run(&["list"]).await;
    assert_eq!((none.ok(), none.errors.as_str()), ("", "no sheds; try: shed create NAME\n"));
    let made = desk.run(&["create", "web"]).await;
    assert_eq!(made.ok(), "web\n");
    assert!(made.errors.contains("shed web is running; try: shed attach web"), "{made:?}");

    let list = desk.run(&["list"]).await;
    let lines: Vec<&str> = list.ok().lines().collect();
    assert!(lines[0].starts_with("SHED  STATUS   SESSIONS  CPUS"), "{lines:?}");
    assert!(lines[1].starts_with("web   running  0"), "{lines:?}");
    assert_eq!(lines.len(), 2);
    let show = desk.run(&["show", "web"]).await;
    assert!(show.ok().contains("status            running, since"), "{show:?}");
    assert_eq!(desk.run(&["--json", "show", "web"]).await.json()["name"], "web");

    let unasked = desk.run(&["delete", "web"]).await;
    assert!(unasked.fails(2).contains("try: the same with --force"), "{unasked:?}");
    assert_eq!(desk.run(&["list", "--json"]).await.json()["sheds"][0]["name"], "web");
    assert_eq!(desk.run(&["delete", "-f", "web"]).await.errors, "shed web was deleted\n");
    desk.run(&["show", "web"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_empty_lists_and_no_nulls() {
    let desk = Desk::empty().await;
    for (words, shape) in [
        (&["list", "--json"][..], r#"{"sheds":[],"unreachable":[]}"#),
        (&["ls", "--all", "--json"], r#"{"sheds":[],"unreachable":[]}"#),
        (&["sessions", "--json"], r#"{"sessions":[],"warnings":[]}"#),
        (&["--json", "sessions", "--all"], r#"{"sessions":[],"warnings":[]}"#),
        (&["stats", "--json"], r#"{"stats":[]}"#),
        (&["df", "--json"], r#"{"disk":[]}"#),
    ] {
        assert_eq!(desk.run(words).await.json().to_string(), shape, "{words:?}");
    }
    desk.test.shed("a").await;
    let shed = &desk.run(&["list", "--json"]).await.json()["sheds"][0];
    assert_eq!(
        (&shed["server"], &shed["name"], &shed["status"], &shed["session_count"]),
        (&"local".into(), &"a".into(), &"running".into(), &0.into())
    );
    assert!(shed.as_object().unwrap().values().all(|value| !value.is_null()), "{shed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_named_before_or_after_the_command() {
    let desk = Desk::new().await;
    let address = desk.address();
    for words in [
        &["-s", &address, "list"][..],
        &["list", "-s", &address],
        &["list", "--server", &address],
        &["--server", &address, "exec", "a", "true"],
        &["exec", "-s", &address, "a", "true"],
        &["exec", "a", "-s", &address, "true"],
        &["sessions", "-s", &address],
        &["sessions", "-s", &address, "new", "a", "one"],
        &["sessions", "new", "-s", &address, "a", "two"],
        &["-s", &address, "sessions", "kill", "a", "one", "two"],
        &["server", "-s", &address, "list"],
    ] {
        // Without this the machine's own server would answer.
        let mut command = desk.shed(words);
        command.env("XDG_RUNTIME_DIR", "/nowhere");
        ended(started(command)).await.ok();
    }
    let mut command = desk.shed(&["show", "a"]);
    command.env("XDG_RUNTIME_DIR", "/nowhere").env("SHED_SERVER", &address);
    ended(started(command)).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_is_true_already_says_so() {
    let desk = Desk::new().await;
    for (verb, words) in [
        ("start", "shed a already runs"),
        ("pause", "shed a paused"),
        ("pause", "shed a was paused already"),
        ("unpause", "shed a unpaused"),
        ("unpause", "shed a already runs"),
        ("stop", "shed a stopped"),
        ("stop", "shed a was stopped already"),
        ("start", "shed a started"),
        ("restart", "shed a restarted"),
    ] {
        let said = desk.run(&[verb, "a"]).await;
        assert_eq!((said.ok(), said.errors.trim()), ("", words), "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_names_are_all_tried_and_the_first_failure_is_the_status() {
    let desk = Desk::new().await;
    desk.test.shed("b").await;
    let status_of =
        async |name: &str| desk.run(&["show", name, "--json"]).await.json()["status"].clone();
    let stopped = desk.run(&["stop", "a", "none", "b", "--json"]).await;
    assert!(stopped.fails(3).contains("shed list"), "{stopped:?}");
    let rows: serde_json::Value = serde_json::from_slice(&stopped.out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!((status_of("a").await, status_of("b").await), ("stopped".into(), "stopped".into()));

    let shown = desk.run(&["show", "a", "b"]).await;
    assert_eq!(shown.ok().matches("status").count(), 2);
    let rebuilt = desk.run(&["rebuild", "a", "none", "b", "--image", "other"]).await;
    rebuilt.fails(3);
    assert!(rebuilt.errors.contains("shed b was rebuilt from other"), "{rebuilt:?}");
    let deleted = desk.run(&["rm", "-f", "a", "none", "b"]).await;
    deleted.fails(3);
    assert_eq!(desk.run(&["list", "--json"]).await.json()["sheds"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_has_its_status() {
    let desk = Desk::new().await;
    let many = "a".repeat(64);
    for (status, words) in [
        (2, &[][..]),
        (2, &["nonsense"]),
        (2, &["list", "--nonsense"]),
        (2, &["create", "Bad_Name"]),
        (2, &["create", "-x"]),
        (2, &["create", "#(id)"]),
        (2, &["create", ""]),
        (2, &["create", ".."]),
        (2, &["create", "ü"]),
        (2, &["create", &many]),
        (2, &["show", "Bad_Name"]),
        (2, &["exec", "..", "true"]),
        (2, &["create", "b", "--memory", "much"]),
        (2, &["create", "b", "--mount", "nonsense"]),
        (2, &["create", "b", "--network", "some"]),
        (2, &["create", "b", "--repo", "--upload-pack=x"]),
        (2, &["create", "b", "--repo", "owner/repo", "--no-start"]),
        (2, &["set", "a"]),
        (2, &["set", "a", "--memory", "1"]),
        (2, &["attach", "a"]),
        (2, &["console", "a"]),
        (2, &["-s", "ftp://host", "list"]),
        (2, &["-s", "http://example.com", "list"]),
        (3, &["-s", "nobody", "list"]),
        (3, &["show", "none"]),
        (3, &["start", "none"]),
        (3, &["set", "none", "--cpus", "1"]),
        (3, &["rebuild", "none"]),
        (3, &["delete", "-f", "none"]),
        (3, &["logs", "none"]),
        (3, &["stats", "none"]),
        (3, &["exec", "none", "true"]),
        (3, &["sessions", "none"]),
        (3, &["sessions", "none", "--watch"]),
        (3, &["forward", "none", "0:80"]),
        (3, &["cp", "none:x", "."]),
        (3, &["create", "b", "--image", "missing-one"]),
        (4, &["create", "a"]),
        (5, &["-s", "unix:/nowhere/shed.sock", "list"]),
        (5, &["-s", "http://127.0.0.1:1", "list"]),
        (5, &["-s", "ssh://127.0.0.1:1", "list"]),
    ] {
        let said = desk.run(words).await;
        assert_eq!(said.status, status, "{words:?}: {said:?}");
        assert!(said.out.is_empty(), "{words:?}: {said:?}");
        assert!(!said.errors.trim().is_empty(), "{words:?}");
    }
    // It was made as far as it went, and says why.
    let failed = desk.run(&["show", "b", "--json"]).await.json();
    assert_eq!(failed["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_of_the_servers_leaves_a_shed_that_can_be_deleted() {
    let desk = Desk::empty().await;
    let failed = desk.run(&["create", "a", "--image", "faulty"]).await;
    assert!(failed.fails(1).contains("its log has more"), "{failed:?}");
    desk.run(&["delete", "-f", "a"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_gone_is_unreachable() {
    let desk = Desk::new().await;
    desk.test.engine.set_down(true);
    desk.run(&["stop", "a"]).await.fails(5);
    desk.test.engine.set_down(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_new_shed_arrive() {
    let desk = Desk::empty().await;
    std::fs::write(desk.path("env"), "# comment\nFROM_FILE=1\nBOTH=file\n").unwrap();
    let mut create = desk.shed(&[
        "create",
        "web",
        "--image",
        "any",
        "--cpus",
        "1.5",
        "--memory",
        "512M",
        "--pids",
        "99",
        "--env",
        "BOTH=word",
        "--env",
        "FROM_HERE",
        "--env-file",
        "env",
        "--network",
        "none",
    ]);
    create.env("FROM_HERE", "here");
    ended(started(create)).await.ok();
    let shed = desk.run(&["show", "web", "--json"]).await.json();
    assert_eq!(
        (&shed["image"], &shed["limits"]["cpus"], &shed["limits"]["pids"], &shed["network"]),
        (&"any".into(), &1.5.into(), &99.into(), &"none".into())
    );
    assert_eq!(shed["limits"]["memory_bytes"], 512 << 20);
    let line = "echo $FROM_FILE $BOTH $FROM_HERE";
    assert_eq!(desk.run(&["exec", "web", "sh", "-c", line]).await.ok(), "1 word here\n");
    // Values are nobody's business.
    assert!(!shed.to_string().contains("word"), "{shed}");

    assert!(desk.run(&["create", "b", "--env", "NOT_SET"]).await.fails(2).contains("NOT_SET"));
    let bad = desk.run(&["create", "b", "--env-file", "env", "--env-file", "/dev/full/x"]).await;
    bad.fails(1);
    std::fs::write(desk.path("bad"), "OK=1\nnonsense\n").unwrap();
    assert!(desk.run(&["create", "b", "--env-file", "bad"]).await.fails(2).contains("line 2"));
    desk.run(&["show", "b"]).await.fails(3);

    let idle = desk.run(&["create", "idle", "--no-start"]).await;
    idle.ok();
    assert!(idle.errors.contains("shed idle is stopped; try: shed start idle"), "{idle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_it_runs() {
    let desk = Desk::new().await;
    let set = desk
        .run(&["set", "a", "--cpus", "3", "--memory", "1G", "--agent-forwarding", "true", "--json"])
        .await;
    let shed = set.json();
    assert_eq!(
        (&shed["limits"]["cpus"], &shed["allow_agent_forwarding"]),
        (&3.0.into(), &true.into())
    );
    assert_eq!(set.errors, "shed a was changed\n");
    assert!(desk.run(&["show", "a"]).await.ok().contains("3 CPUs, 1G memory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_volumes_outlives_container_and_deletion() {
    let desk = Desk::new().await;
    let file = desk.test.engine.workspace("a").join("file");
    std::fs::write(&file, "kept").unwrap();
    let rebuilt = desk.run(&["rebuild", "a", "--image", "newer"]).await;
    rebuilt.ok();
    assert_eq!(rebuilt.errors, "shed a was rebuilt from newer\n");
    assert_eq!(desk.run(&["exec", "a", "cat", "file"]).await.ok(), "kept");
    desk.run(&["delete", "-f", "--keep-volume", "a"]).await.ok();
    // A creation on kept volumes that is called off takes nothing with it.
    let slow = started(desk.shed(&["create", "a", "--image", "slow"]));
    status(&desk, "a", "creating").await;
    signal(&slow, Signal::INT);
    ended(slow).await.fails(130);
    desk.run(&["create", "a"]).await.ok();
    assert_eq!(desk.run(&["exec", "a", "cat", "file"]).await.ok(), "kept");
    desk.run(&["delete", "-f", "a"]).await.ok();
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_calls_a_creation_off_and_hanging_up_does_not() {
    let desk = Desk::empty().await;
    let slow = started(desk.shed(&["create", "web", "--image", "slow"]));
    status(&desk, "web", "creating").await;
    signal(&slow, Signal::INT);
    let said = ended(slow).await;
    assert!(said.fails(130).contains("calling it off"), "{said:?}");
    desk.run(&["show", "web"]).await.fails(3);

    let slow = started(desk.shed(&["create", "web", "--image", "slow"]));
    status(&desk, "web", "creating").await;
    signal(&slow, Signal::KILL);
    ended(slow).await.fails(137);
    status(&desk, "web", "creating").await;
}

async fn status(desk: &Desk, name: &str, wanted: &str) {
    eventually(&format!("{name} {wanted}"), async || {
        let shown = desk.run(&["show", name, "--json"]).await;
        let shed: serde_json::Value = serde_json::from_slice(&shown.out).ok()?;
        (shed["status"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_asked_for() {
    let desk = Desk::new().await;
    desk.run(&["sessions", "new", "a", "work"]).await.ok();
    let mut terminal = desk.terminal(&["delete", "a"]);
    terminal.until("delete shed a (running, with a session) and everything in it? [y/N]").await;
    terminal.keys("\r").await;
    let (seen, status) = terminal.end().await;
    assert!(status == Some(1) && seen.contains("nothing was done"), "{status:?} {seen}");
    let mut terminal = desk.terminal(&["delete", "a"]);
    terminal.until("[y/N]").await;
    terminal.keys("y\r").await;
    let (seen, status) = terminal.end().await;
    assert!(status == Some(0) && seen.contains("shed a was deleted"), "{status:?} {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_logs_and_use_are_shown() {
    let desk = Desk::new().await;
    let mut events = started(desk.shed(&["events", "--after", "0", "--shed", "a"]));
    let mut output = events.stdout.take().unwrap();
    until(&mut output, "running").await;
    desk.run(&["stop", "a"]).await.ok();
    until(&mut output, "stopped").await;
    let mut fresh = started(desk.shed(&["events", "--json"]));
    let output = tokio::sync::Mutex::new(fresh.stdout.take().unwrap());
    // It is there before anything happens that it must not miss.
    eventually("an event", async || {
        desk.run(&["restart", "a"]).await.ok();
        let mut output = output.lock().await;
        let line = timeout(Duration::from_millis(200), until(&mut *output, "\n")).await;
        let line: serde_json::Value = serde_json::from_str(line.ok()?.lines().next()?).unwrap();
        (line["shed"] == "a").then_some(())
    })
    .await;
    desk.run(&["logs", "a"]).await.ok();
    assert!(desk.run(&["logs", "a", "-n", "1"]).await.ok().lines().count() <= 1);
    let stats = desk.run(&["stats", "none", "a", "--json"]).await;
    stats.fails(3);
    let stats: serde_json::Value = serde_json::from_slice(&stats.out).unwrap();
    assert_eq!(stats["stats"][0]["name"], "a");
    assert!(desk.run(&["stats"]).await.ok().starts_with("SHED  CPUS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_ends_the_client() {
    let desk = Desk::new().await;
    for words in [&["exec", "a", "yes"][..], &["events", "--after", "0"], &["sessions", "--watch"]]
    {
        let mut child = started(desk.shed(words));
        let mut output = child.stdout.take().unwrap();
        if words[0] != "sessions" {
            until(&mut output, "\n").await;
        }
        drop(output);
        // Something to say, for those who wait for news.
        for n in ["one", "two"] {
            desk.run(&["sessions", "new", "a", &format!("{}-{n}", words[0])]).await.ok();
        }
        assert_eq!(ended(child).await.fails(141), "", "{words:?}");
    }
}
