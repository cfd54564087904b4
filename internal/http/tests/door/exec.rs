//! `POST /api/sheds/{n}/exec`.

use serde_json::{Value, json};

use shed_testing::{Transport, over_each_transport};

use crate::support::{Door, post};

async fn exec(door: &Door, body: Value) -> Value {
    door.json(post("/api/sheds/a/exec", &body.to_string()), 200).await
}

over_each_transport! {
    a_command_is_run_to_its_end
    death_by_a_signal_is_reported
    a_command_is_ended_at_its_time_limit
    a_command_runs_in_a_session
    input_and_output_may_be_long_and_are_bounded
}

async fn a_command_is_run_to_its_end(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let script = "echo out; echo err >&2; cat; pwd; echo $X; exit 7";
    let body = json!({ "argv": ["sh", "-c", script], "stdin": "in\n", "directory": "/", "env": { "X": "y z" } });
    let result = exec(&door, body).await;
    assert_eq!(result["exit"], 7);
    assert!(result["signal"].is_null());
    assert_eq!(result["stdout"], "out\nin\n/\ny z\n");
    assert_eq!(result["stderr"], "err\n");
    assert_eq!(result["truncated"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_not_split() {
    let door = Door::with_shed().await;
    let words = ["printf", "%s|", "a b", "$(id)", "", "-x", "'\"\\", "ü\n"];
    assert_eq!(exec(&door, json!({ "argv": words })).await["stdout"], "a b|$(id)||-x|'\"\\|ü\n|");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_utf8_are_sent_as_base64() {
    let door = Door::with_shed().await;
    let result = exec(&door, json!({ "argv": ["cat"], "stdin_base64": "/wB4" })).await;
    assert_eq!(result["stdout_base64"], "/wB4");
    assert!(result["stderr_base64"].is_null());
    let invalid = (400, "invalid-request".to_owned());
    for bad in [
        json!({ "argv": ["cat"], "stdin_base64": "!" }),
        json!({ "argv": ["cat"], "stdin_base64": "eA==", "stdin": "x" }),
    ] {
        assert_eq!(door.refused(post("/api/sheds/a/exec", &bad.to_string())).await, invalid);
    }
}

async fn death_by_a_signal_is_reported(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let result = exec(&door, json!({ "argv": ["sh", "-c", "kill -KILL $$"] })).await;
    assert_eq!((&result["exit"], &result["signal"]), (&137.into(), &"KILL".into()));
}

async fn a_command_is_ended_at_its_time_limit(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let mark = door.test.dir().join("ended");
    let script =
        format!("trap 'touch {}; exit' TERM; while :; do sleep 0.01; done", mark.display());
    let body = json!({ "argv": ["sh", "-c", script], "timeout": 0.3 });
    let refused = door.refused(post("/api/sheds/a/exec", &body.to_string())).await;
    assert_eq!(refused, (504, "timed-out".to_owned()));
    assert!(mark.exists());
    // More than may be is as much as may be.
    assert_eq!(exec(&door, json!({ "argv": ["true"], "timeout": 1e9 })).await["exit"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_start_is_reported() {
    let door = Door::with_shed().await;
    for (body, expected) in [
        (json!({ "argv": ["no-such-program"] }), (422, "exec-failed")),
        (json!({ "argv": ["/etc/passwd"] }), (422, "exec-failed")),
        (json!({ "argv": ["true"], "directory": "/no/such" }), (422, "exec-failed")),
        (json!({ "argv": [] }), (400, "invalid-request")),
        (json!({ "argv": ["a\u{0}b"] }), (400, "invalid-request")),
        (json!({ "argv": ["true"], "env": { "A=B": "x" } }), (400, "invalid-request")),
        (json!({ "argv": ["true"], "sesion": "x" }), (400, "invalid-request")),
        (json!({ "argv": "true" }), (400, "invalid-request")),
        (json!({ "argv": ["true"], "timeout": -1 }), (400, "invalid-request")),
        (json!({ "argv": ["true"], "timeout": "1s" }), (400, "invalid-request")),
    ] {
        let refused = door.refused(post("/api/sheds/a/exec", &body.to_string())).await;
        assert_eq!(refused, (expected.0, expected.1.to_owned()), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_needs_scope_admin() {
    let door = Door::with_shed().await;
    let token = door.token(shed_api::Scope::Drive, &[]).await;
    let ask = post("/api/sheds/a/exec", r#"{"argv":["id"],"root":true}"#).token(&token);
    assert_eq!(door.ask_tcp(ask).await.problem(), (403, "forbidden".to_owned()));
}

async fn a_command_runs_in_a_session(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    door.json(post("/api/sheds/a/sessions", r#"{"name":"work","directory":"/"}"#), 201).await;
    let script = "pwd; [ -n \"$TMUX\" ] && echo inside; exit 3";
    let result = exec(&door, json!({ "argv": ["sh", "-c", script], "session": "work" })).await;
    assert_eq!(result["exit"], 3);
    assert_eq!(result["stdout"].as_str().unwrap().replace('\r', ""), "/\ninside\n");
}

async fn input_and_output_may_be_long_and_are_bounded(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let n_bytes = 2 << 20;
    let result = exec(&door, json!({ "argv": ["wc", "-c"], "stdin": "x".repeat(n_bytes) })).await;
    assert_eq!(result["stdout"].as_str().unwrap().trim(), n_bytes.to_string());
    let result = exec(&door, json!({ "argv": ["head", "-c", "9000000", "/dev/zero"] })).await;
    assert_eq!(result["truncated"], true);
    assert_eq!(result["exit"], 0);
    assert_eq!(result["stdout"].as_str().unwrap().len(), 8 << 20);
}
