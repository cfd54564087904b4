//! `/api/sheds` and below.

use shed_testing::eventually;

use crate::support::{Door, ask, get, post, session_body};

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_is_accepted_and_continues() {
    let door = Door::start().await;
    let body = r#"{"name":"a","env":{"SECRET":"x"},"cpus":0.5,"memory":"64M","pids":100}"#;
    let shed = door.json(post("/api/sheds", body), 202).await;
    assert_eq!((&shed["name"], &shed["status"]), (&"a".into(), &"creating".into()));
    let shed = eventually("the shed", async || {
        let shed = door.json(get("/api/sheds/a"), 200).await;
        (shed["status"] == "running").then_some(shed)
    })
    .await;
    assert_eq!(shed["env"], serde_json::json!(["SECRET"]));
    let limits = serde_json::json!({ "cpus": 0.5, "memory_bytes": 64 << 20, "pids": 100 });
    assert_eq!(shed["limits"], limits);
    assert_eq!(shed["link"]["connected"], true);
    let list = door.json(get("/api/sheds"), 200).await;
    assert_eq!(list.as_object().unwrap().len(), 1);
    assert_eq!(list["sheds"].as_array().unwrap().len(), 1);
    assert_eq!(list["sheds"][0]["name"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_can_be_waited_for() {
    let door = Door::start().await;
    let empty = door.json(get("/api/sheds"), 200).await;
    assert_eq!(empty, serde_json::json!({ "sheds": [] }));
    let shed = door.json(post("/api/sheds?wait=true", r#"{"name":"a"}"#), 201).await;
    assert_eq!(shed["status"], "running");
    let again = post("/api/sheds?wait=true", r#"{"name":"a"}"#);
    assert_eq!(door.refused(again).await, (409, "shed-exists".to_owned()));
    let missing = post("/api/sheds?wait=true", r#"{"name":"b","image":"missing"}"#);
    assert_eq!(door.refused(missing).await, (404, "image-not-found".to_owned()));
    let shed = door.json(get("/api/sheds/b"), 200).await;
    assert_eq!(
        (&shed["status"], &shed["reason_code"]),
        (&"failed".into(), &"image-not-found".into())
    );
    let retry = post("/api/sheds?wait=true", r#"{"name":"b","retry":true,"image":"there"}"#);
    assert_eq!(door.json(retry, 201).await["status"], "running");
    let stopped = post("/api/sheds?wait=true", r#"{"name":"c","no_start":true}"#);
    assert_eq!(door.json(stopped, 201).await["status"], "stopped");
    assert_eq!(door.ask(ask("DELETE", "/api/sheds/c")).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_is_cancelled_by_deletion_and_not_by_disconnecting() {
    let door = Door::start().await;
    door.json(post("/api/sheds", r#"{"name":"a","image":"slow"}"#), 202).await;
    let progress = door.ask(get("/api/sheds/a/progress")).await;
    assert!(progress.status == 200 && progress.is_stream());
    drop(progress);
    assert_eq!(door.json(get("/api/sheds/a"), 200).await["status"], "creating");
    assert_eq!(door.ask(ask("DELETE", "/api/sheds/a")).await.status, 204);
    assert_eq!(door.refused(get("/api/sheds/a")).await, (404, "shed-not-found".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_reported_to_the_end() {
    let door = Door::start().await;
    door.json(post("/api/sheds", r#"{"name":"a"}"#), 202).await;
    let mut progress = door.client().progress("a").await.unwrap();
    let mut last = None;
    while let Some(news) = progress.next().await.unwrap() {
        last = Some(news);
    }
    let last = serde_json::to_value(last.unwrap()).unwrap();
    assert_eq!(last["type"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_performed_or_were_done_already() {
    let door = Door::with_shed().await;
    let steps = [
        ("start", true, "running"),
        ("pause", false, "paused"),
        ("pause", true, "paused"),
        ("unpause", false, "running"),
        ("stop", false, "stopped"),
        ("stop", true, "stopped"),
        ("start", false, "running"),
        ("restart", false, "running"),
    ];
    for (verb, already, status) in steps {
        let reply = door.ask(ask("POST", &format!("/api/sheds/a/{verb}"))).await;
        assert_eq!(reply.status, 200, "{verb}: {}", reply.text());
        assert_eq!(reply.header("x-shed-already"), already.then_some("true"), "{verb}");
        assert_eq!(reply.json()["status"], status, "{verb}");
    }
    let rebuilt = door.json(post("/api/sheds/a/rebuild", r#"{"image":"other"}"#), 200).await;
    assert_eq!((&rebuilt["status"], &rebuilt["image"]), (&"running".into(), &"other".into()));
    assert_eq!(door.ask(ask("POST", "/api/sheds/a/rebuild")).await.json()["image"], "other");
    let missing = post("/api/sheds/a/rebuild", r#"{"image":"missing"}"#);
    assert_eq!(door.refused(missing).await, (404, "image-not-found".to_owned()));
    assert_eq!(door.json(get("/api/sheds/a"), 200).await["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_need_a_running_shed_are_refused_for_a_stopped_one() {
    let door = Door::with_shed().await;
    assert_eq!(door.ask(ask("POST", "/api/sheds/a/stop")).await.status, 200);
    let not_running = (409, "not-running".to_owned());
    assert_eq!(door.refused(get("/api/sheds/a/stats")).await, not_running);
    assert_eq!(door.refused(ask("POST", "/api/sheds/a/pause")).await, not_running);
    let list = door.json(get("/api/sheds/a/sessions"), 200).await;
    assert_eq!(list["sessions"], serde_json::json!([]));
    assert_eq!(list["warnings"][0]["shed"], "a");
    assert_eq!(list["warnings"][0]["code"], "not-running");
    let quiet = door.json(get("/api/sessions"), 200).await;
    assert_eq!(quiet, serde_json::json!({ "sessions": [], "warnings": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_changed_while_it_runs() {
    let door = Door::with_shed().await;
    let patch =
        ask("PATCH", "/api/sheds/a").json(r#"{"memory":"1.5G","allow_agent_forwarding":true}"#);
    let shed = door.json(patch, 200).await;
    assert_eq!(shed["limits"]["memory_bytes"], 3_u64 << 29);
    assert_eq!(shed["allow_agent_forwarding"], true);
    for bad in [
        r#"{"memory":"much"}"#,
        r#"{"cpus":0}"#,
        r#"{"pids":1}"#,
        r#"{"image":"x"}"#,
        "[]",
        "",
        "{",
    ] {
        let refused = door.refused(ask("PATCH", "/api/sheds/a").json(bad)).await;
        assert_eq!(refused, (400, "invalid-request".to_owned()), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_stats_are_returned() {
    let door = Door::with_shed().await;
    let logs = door.ask(get("/api/sheds/a/logs?lines=5")).await;
    assert_eq!(
        (logs.status, logs.header("content-type")),
        (200, Some("text/plain; charset=utf-8"))
    );
    assert_eq!(door.json(get("/api/sheds/a/stats"), 200).await["name"], "a");
    let all = door.json(get("/api/stats"), 200).await;
    assert_eq!(all["stats"][0]["name"], "a");
    assert_eq!(door.json(get("/api/df"), 200).await, serde_json::json!({ "disk": [] }));
    for bad in ["lines=x", "lines=-1", "line=1"] {
        let refused = door.refused(get(&format!("/api/sheds/a/logs?{bad}"))).await;
        assert_eq!(refused, (400, "invalid-request".to_owned()), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_kept_on_request() {
    let door = Door::with_shed().await;
    let mark = door.test.engine.workspace("a").join("mark");
    std::fs::write(&mark, "").unwrap();
    assert_eq!(door.ask(ask("DELETE", "/api/sheds/a?keep_volume=true")).await.status, 204);
    assert!(mark.exists());
    door.json(post("/api/sheds?wait=true", r#"{"name":"a"}"#), 201).await;
    assert!(mark.exists());
    assert_eq!(door.ask(ask("DELETE", "/api/sheds/a")).await.status, 204);
    assert!(!mark.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_need_scope_admin_and_an_allowed_source() {
    let door = Door::start().await;
    let token = door.token(shed_api::Scope::Drive, &[]).await;
    let body = r#"{"name":"a","mounts":[{"source":"/etc","target":"/mnt"}]}"#;
    let refused = door.ask_tcp(post("/api/sheds", body).token(&token)).await.problem();
    assert_eq!(refused, (403, "forbidden".to_owned()));
    let token = door.token(shed_api::Scope::Admin, &[]).await;
    let refused = door.ask_tcp(post("/api/sheds", body).token(&token)).await.problem();
    assert_eq!(refused.0, 403, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_engine_is_reported() {
    let door = Door::with_shed().await;
    door.json(post("/api/sheds/a/sessions", &session_body("work", &["cat"])), 201).await;
    door.test.engine.set_down(true);
    eventually("the news", async || {
        (door.ask(get("/api/health/ready")).await.status == 503).then_some(())
    })
    .await;
    let ready = door.ask(get("/api/health/ready")).await.json();
    assert_eq!(ready["ready"], false);
    assert!(ready["missing"][0].as_str().unwrap().contains("engine"), "{ready}");
    // What runs goes on, and needs no engine.
    assert_eq!(door.json(get("/api/sessions"), 200).await["sessions"][0]["name"], "work");
    let exec = door.json(post("/api/sheds/a/exec", r#"{"argv":["true"]}"#), 200).await;
    assert_eq!(exec["exit"], 0);
    let gone = (503, "engine-unreachable".to_owned());
    assert_eq!(door.refused(ask("POST", "/api/sheds/a/stop")).await, gone);
    assert_eq!(door.refused(post("/api/sheds?wait=true", r#"{"name":"b"}"#)).await, gone);
    assert_eq!(door.refused(get("/api/df")).await, gone);
    door.test.engine.set_down(false);
    eventually("the engine's return", async || {
        (door.ask(get("/api/health/ready")).await.status == 200).then_some(())
    })
    .await;
}
