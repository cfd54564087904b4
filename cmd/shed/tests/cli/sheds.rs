//! Sheds: creation, lists, changes, deletion and exit statuses.

use std::time::Duration;

use rustix::process::Signal;
use shed_testing::eventually;
use tokio::time::timeout;

use crate::support::{TestEnv, ended, signal, started, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_is_created_listed_shown_and_deleted() {
    let env = TestEnv::empty().await;
    let none = env.run(&["list"]).await;
    assert_eq!((none.ok(), none.stderr.as_str()), ("", "no sheds; try: shed create NAME\n"));
    let made = env.run(&["create", "web"]).await;
    assert_eq!(made.ok(), "web\n");
    assert!(made.stderr.contains("shed web is running; try: shed attach web"), "{made:?}");

    let list = env.run(&["list"]).await;
    let lines: Vec<&str> = list.ok().lines().collect();
    assert!(lines[0].starts_with("SHED  STATUS   SESSIONS  CPUS"), "{lines:?}");
    assert!(lines[1].starts_with("web   running  0"), "{lines:?}");
    assert_eq!(lines.len(), 2);
    let show = env.run(&["show", "web"]).await;
    assert!(show.ok().contains("status            running, since"), "{show:?}");
    assert_eq!(env.run(&["--json", "show", "web"]).await.json()["name"], "web");

    let unasked = env.run(&["delete", "web"]).await;
    assert!(unasked.fails(2).contains("try: shed delete --force web"), "{unasked:?}");
    assert_eq!(env.run(&["list", "--json"]).await.json()["sheds"][0]["name"], "web");
    assert_eq!(env.run(&["delete", "-f", "web"]).await.stderr, "shed web was deleted\n");
    env.run(&["show", "web"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_empty_lists_and_no_nulls() {
    let env = TestEnv::empty().await;
    for (words, shape) in [
        (&["list", "--json"][..], r#"{"sheds":[],"unreachable":[]}"#),
        (&["ls", "--all", "--json"], r#"{"sheds":[],"unreachable":[]}"#),
        (&["sessions", "--json"], r#"{"sessions":[],"warnings":[]}"#),
        (&["--json", "sessions", "--all"], r#"{"sessions":[],"warnings":[]}"#),
        (&["stats", "--json"], r#"{"stats":[]}"#),
        (&["df", "--json"], r#"{"disk":[]}"#),
    ] {
        assert_eq!(env.run(words).await.json().to_string(), shape, "{words:?}");
    }
    env.test.shed("a").await;
    let shed = &env.run(&["list", "--json"]).await.json()["sheds"][0];
    assert_eq!(
        (&shed["server"], &shed["name"], &shed["status"], &shed["session_count"]),
        (&"local".into(), &"a".into(), &"running".into(), &0.into())
    );
    assert!(shed.as_object().unwrap().values().all(|value| !value.is_null()), "{shed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_selected_before_or_after_the_command() {
    let env = TestEnv::new().await;
    let address = env.address();
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
        // Otherwise the local server would be found without the option.
        let mut command = env.shed(words);
        command.env("XDG_RUNTIME_DIR", "/nowhere");
        ended(started(command)).await.ok();
    }
    let mut command = env.shed(&["show", "a"]);
    command.env("XDG_RUNTIME_DIR", "/nowhere").env("SHED_SERVER", &address);
    ended(started(command)).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_without_effect_says_so() {
    let env = TestEnv::new().await;
    for (verb, message) in [
        ("start", "shed a is already running"),
        ("pause", "shed a paused"),
        ("pause", "shed a is already paused"),
        ("unpause", "shed a unpaused"),
        ("unpause", "shed a is already running"),
        ("stop", "shed a stopped"),
        ("stop", "shed a is already stopped"),
        ("start", "shed a started"),
        ("restart", "shed a restarted"),
    ] {
        let output = env.run(&[verb, "a"]).await;
        assert_eq!((output.ok(), output.stderr.trim()), ("", message), "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_names_are_tried_and_the_first_failure_is_the_status() {
    let env = TestEnv::new().await;
    env.test.shed("b").await;
    let status_of =
        async |name: &str| env.run(&["show", name, "--json"]).await.json()["status"].clone();
    let stopped = env.run(&["stop", "a", "none", "b", "--json"]).await;
    assert!(stopped.fails(3).contains("shed list"), "{stopped:?}");
    let rows: serde_json::Value = serde_json::from_slice(&stopped.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!((status_of("a").await, status_of("b").await), ("stopped".into(), "stopped".into()));

    let shown = env.run(&["show", "a", "b"]).await;
    assert_eq!(shown.ok().matches("status").count(), 2);
    let rebuilt = env.run(&["rebuild", "a", "none", "b", "--image", "other"]).await;
    rebuilt.fails(3);
    assert!(rebuilt.stderr.contains("shed b was rebuilt from other"), "{rebuilt:?}");
    let deleted = env.run(&["rm", "-f", "a", "none", "b"]).await;
    deleted.fails(3);
    assert_eq!(env.run(&["list", "--json"]).await.json()["sheds"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_has_its_exit_status() {
    let env = TestEnv::new().await;
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
        let output = env.run(words).await;
        assert_eq!(output.status, status, "{words:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
        assert!(!output.stderr.trim().is_empty(), "{words:?}");
    }
    // The shed exists, with status failed.
    let failed = env.run(&["show", "b", "--json"]).await.json();
    assert_eq!(failed["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_internal_error_the_shed_can_be_deleted() {
    let env = TestEnv::empty().await;
    let failed = env.run(&["create", "a", "--image", "faulty"]).await;
    failed.fails(1);
    env.run(&["delete", "-f", "a"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_engine_is_unreachable() {
    let env = TestEnv::new().await;
    env.test.engine.set_down(true);
    env.run(&["stop", "a"]).await.fails(5);
    env.test.engine.set_down(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_create_are_applied() {
    let env = TestEnv::empty().await;
    std::fs::write(env.path("env"), "# comment\nFROM_FILE=1\nBOTH=file\n").unwrap();
    let mut create = env.shed(&[
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
    let shed = env.run(&["show", "web", "--json"]).await.json();
    assert_eq!(
        (&shed["image"], &shed["limits"]["cpus"], &shed["limits"]["pids"], &shed["network"]),
        (&"any".into(), &1.5.into(), &99.into(), &"none".into())
    );
    assert_eq!(shed["limits"]["memory_bytes"], 512 << 20);
    let line = "echo $FROM_FILE $BOTH $FROM_HERE";
    assert_eq!(env.run(&["exec", "web", "sh", "-c", line]).await.ok(), "1 word here\n");
    // Values of variables are not shown.
    assert!(!shed.to_string().contains("word"), "{shed}");

    assert!(env.run(&["create", "b", "--env", "NOT_SET"]).await.fails(2).contains("NOT_SET"));
    let bad = env.run(&["create", "b", "--env-file", "env", "--env-file", "/dev/full/x"]).await;
    bad.fails(1);
    std::fs::write(env.path("bad"), "OK=1\nnonsense\n").unwrap();
    assert!(env.run(&["create", "b", "--env-file", "bad"]).await.fails(2).contains("line 2"));
    env.run(&["show", "b"]).await.fails(3);

    let idle = env.run(&["create", "idle", "--no-start"]).await;
    idle.ok();
    assert!(idle.stderr.contains("shed idle is stopped; try: shed start idle"), "{idle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_running_shed_are_changed() {
    let env = TestEnv::new().await;
    let set = env
        .run(&["set", "a", "--cpus", "3", "--memory", "1G", "--agent-forwarding", "true", "--json"])
        .await;
    let shed = set.json();
    assert_eq!(
        (&shed["limits"]["cpus"], &shed["allow_agent_forwarding"]),
        (&3.0.into(), &true.into())
    );
    assert_eq!(set.stderr, "shed a was changed\n");
    assert!(env.run(&["show", "a"]).await.ok().contains("3 CPUs, 1G memory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_outlive_the_container_and_with_keep_volume_the_shed() {
    let env = TestEnv::new().await;
    let file = env.test.engine.workspace("a").join("file");
    std::fs::write(&file, "kept").unwrap();
    let rebuilt = env.run(&["rebuild", "a", "--image", "newer"]).await;
    rebuilt.ok();
    assert_eq!(
        rebuilt.stderr,
        "shed a was rebuilt from newer\nshed a: the home directory keeps its files from shed-base:latest; those that newer has there are not used\n"
    );
    assert_eq!(env.run(&["exec", "a", "cat", "file"]).await.ok(), "kept");
    env.run(&["delete", "-f", "--keep-volume", "a"]).await.ok();
    // Cancelling a creation keeps volumes that existed before.
    let slow = started(env.shed(&["create", "a", "--image", "slow"]));
    status(&env, "a", "creating").await;
    signal(&slow, Signal::INT);
    ended(slow).await.fails(130);
    env.run(&["create", "a"]).await.ok();
    assert_eq!(env.run(&["exec", "a", "cat", "file"]).await.ok(), "kept");
    env.run(&["delete", "-f", "a"]).await.ok();
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_a_creation_and_killing_the_client_does_not() {
    let env = TestEnv::empty().await;
    let slow = started(env.shed(&["create", "web", "--image", "slow"]));
    status(&env, "web", "creating").await;
    signal(&slow, Signal::INT);
    let output = ended(slow).await;
    assert!(output.fails(130).contains("cancelling the creation of shed web"), "{output:?}");
    env.run(&["show", "web"]).await.fails(3);

    let slow = started(env.shed(&["create", "web", "--image", "slow"]));
    status(&env, "web", "creating").await;
    signal(&slow, Signal::KILL);
    ended(slow).await.fails(137);
    status(&env, "web", "creating").await;
}

async fn status(env: &TestEnv, name: &str, wanted: &str) {
    eventually(&format!("{name} {wanted}"), async || {
        let shown = env.run(&["show", name, "--json"]).await;
        let shed: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
        (shed["status"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_confirmed() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "work"]).await.ok();
    let mut terminal = env.terminal(&["delete", "a"]);
    terminal.until("delete shed a (running, 1 session) and all its files? [y/N]").await;
    terminal.keys("\r").await;
    let (seen, status) = terminal.end().await;
    assert!(
        status == Some(1) && seen.contains("cancelled; nothing was changed"),
        "{status:?} {seen}"
    );
    let mut terminal = env.terminal(&["delete", "a"]);
    terminal.until("[y/N]").await;
    terminal.keys("y\r").await;
    let (seen, status) = terminal.end().await;
    assert!(status == Some(0) && seen.contains("shed a was deleted"), "{status:?} {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_logs_and_stats_are_shown() {
    let env = TestEnv::new().await;
    let mut events = started(env.shed(&["events", "--after", "0", "--shed", "a"]));
    let mut output = events.stdout.take().unwrap();
    until(&mut output, "running").await;
    env.run(&["stop", "a"]).await.ok();
    until(&mut output, "stopped").await;
    let mut fresh = started(env.shed(&["events", "--json"]));
    let output = tokio::sync::Mutex::new(fresh.stdout.take().unwrap());
    // Repeated, because the client may subscribe after the first event.
    eventually("an event", async || {
        env.run(&["restart", "a"]).await.ok();
        let mut output = output.lock().await;
        let line = timeout(Duration::from_millis(200), until(&mut *output, "\n")).await;
        let line: serde_json::Value = serde_json::from_str(line.ok()?.lines().next()?).unwrap();
        (line["shed"] == "a").then_some(())
    })
    .await;
    env.run(&["logs", "a"]).await.ok();
    assert!(env.run(&["logs", "a", "-n", "1"]).await.ok().lines().count() <= 1);
    let stats = env.run(&["stats", "none", "a", "--json"]).await;
    stats.fails(3);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(stats["stats"][0]["name"], "a");
    assert!(env.run(&["stats"]).await.ok().starts_with("SHED  CPUS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_ends_the_client() {
    let env = TestEnv::new().await;
    for words in [&["exec", "a", "yes"][..], &["events", "--after", "0"], &["sessions", "--watch"]]
    {
        let mut child = started(env.shed(words));
        let mut output = child.stdout.take().unwrap();
        if words[0] != "sessions" {
            until(&mut output, "\n").await;
        }
        drop(output);
        // Events, for the commands that wait for one.
        for n in ["one", "two"] {
            env.run(&["sessions", "new", "a", &format!("{}-{n}", words[0])]).await.ok();
        }
        assert_eq!(ended(child).await.fails(141), "", "{words:?}");
    }
}
