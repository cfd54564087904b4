//! Aliases of sessions by id.

use serde_json::json;
use shed_api::Scope;
use shed_testing::eventually;

use crate::support::{Door, ask, get, post, session_body};

const LIST: &str = "/api/sheds/a/sessions";

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_a_session_works_with_its_id() {
    let door = Door::with_shed().await;
    let made = door.json(post(LIST, &session_body("work", &["cat"])), 201).await;
    let id = made["id"].as_str().unwrap();
    let alias = format!("/api/sessions/{id}");
    assert_eq!(door.json(get(&alias), 200).await["name"], "work");
    let renamed = door.json(ask("PATCH", &alias).json(r#"{"name":"play"}"#), 200).await;
    assert_eq!((&renamed["id"], &renamed["name"]), (&made["id"], &"play".into()));
    let typed = door.ask(post(&format!("{alias}/input"), r#"{"text":"héllo","enter":true}"#)).await;
    assert_eq!(typed.status, 204, "{}", typed.text());
    // A query comes along.
    eventually("the echo", async || {
        let output = door.json(get(&format!("{alias}/output?lines=10")), 200).await;
        output["output"].as_str()?.contains("héllo").then_some(())
    })
    .await;
    let refused = door.refused(get(&format!("{alias}/output?linse=10"))).await;
    assert_eq!(refused, (400, "invalid-request".to_owned()));
    assert_eq!(door.json(get(&format!("{alias}/workers/cat")), 200).await["name"], "cat");
    let refused = door.refused(get(&format!("{alias}/nothing"))).await;
    assert_eq!(refused, (404, "route-not-found".to_owned()));
    let refused = door.refused(ask("PUT", &alias)).await;
    assert_eq!(refused, (405, "method-not-allowed".to_owned()));
    // One that wants WebSocket says so, instead of that it is not there.
    let refused = door.refused(get(&format!("{alias}/attach"))).await;
    assert_eq!(refused, (426, "upgrade-required".to_owned()));
    assert_eq!(door.ask(ask("DELETE", &alias)).await.status, 204);
    assert_eq!(door.refused(get(&alias)).await, (404, "session-not-found".to_owned()));
    assert_eq!(door.json(get("/api/sessions"), 200).await["sessions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_attached_by_id() {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::Message;
    let door = Door::with_shed().await;
    let made = door.json(post(LIST, &session_body("work", &["cat"])), 201).await;
    let url = format!("ws://localhost/api/sessions/{}/attach", made["id"].as_str().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(url, door.unix().await).await.unwrap();
    let open = json!({ "tty": { "cols": 80, "rows": 24, "term": "xterm" }, "existing": true });
    socket.send(Message::text(open.to_string())).await.unwrap();
    let started = socket.next().await.unwrap().unwrap();
    assert_eq!(started.to_text().unwrap(), r#"{"type":"started","ping_ms":5000}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_unknown_or_not_accessible_is_not_found() {
    let door = Door::with_shed().await;
    door.test.shed("b").await;
    let made = door.json(post(LIST, &session_body("work", &["cat"])), 201).await;
    let id = made["id"].as_str().unwrap();
    let missing = (404, "session-not-found".to_owned());
    let unknown = "0".repeat(32);
    let upper = id.to_uppercase();
    // A name, tmux's id and what is no id at all are none either; a step back leads nowhere.
    for bad in [unknown.as_str(), &upper, "work", "%2430", "..", "%2e%2e", "%00", "watchx", "%FF"] {
        for rest in ["", "/workers", "/attach", "/output?lines=1", "/../../tokens"] {
            let refused = door.refused(get(&format!("/api/sessions/{bad}{rest}"))).await;
            assert_eq!(refused, missing, "{bad}{rest}");
        }
    }
    let long = door.ask(get(&format!("/api/sessions/{}", "x".repeat(5_000)))).await;
    assert_eq!(long.problem(), missing);
    assert!(long.text().len() < 1_000);
    let token = door.token(Scope::Admin, &["b"]).await;
    let path = format!("/api/sessions/{id}");
    for request in [get(&path), ask("DELETE", &path), get(&format!("{path}/attach"))] {
        assert_eq!(door.ask_tcp(request.clone().token(&token)).await.problem(), missing);
        // Who is nobody does not learn even that.
        let nobody = door.ask_tcp(request).await.problem();
        assert_eq!(nobody, (401, "unauthorized".to_owned()));
    }
    let reader = door.token(Scope::Read, &["a"]).await;
    assert_eq!(door.ask_tcp(get(&path).token(&reader)).await.status, 200);
    let refused = door.ask_tcp(ask("DELETE", &path).token(&reader)).await.problem();
    assert_eq!(refused, (403, "forbidden".to_owned()));
}
