//! Sessions over REST, on real tmux.

use shed_testing::eventually;

use crate::support::{Door, ask, get, post, session_body};

const LIST: &str = "/api/sheds/a/sessions";
const WORK: &str = "/api/sheds/a/sessions/work";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_created_shown_renamed_and_ended() {
    let door = Door::with_shed().await;
    let empty = door.json(get("/api/sessions"), 200).await;
    assert_eq!(empty, serde_json::json!({ "sessions": [], "warnings": [] }));
    let made = door.json(post(LIST, r#"{"name":"work"}"#), 201).await;
    assert_eq!(made["id"].as_str().unwrap().len(), 32, "{made}");
    assert!(made["tmux_id"].as_str().unwrap().starts_with('$'), "{made}");
    assert_eq!((&made["name"], &made["shed_name"]), (&"work".into(), &"a".into()));
    assert_eq!((&made["attached"], &made["attached_clients"]), (&false.into(), &0.into()));
    assert_eq!(made["window_count"], 1);
    let at = made["created_at"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(at).is_ok(), "{at}");
    for path in ["/api/sessions", LIST] {
        let list = door.json(get(path), 200).await;
        assert_eq!(list["sessions"][0]["id"], made["id"]);
        assert_eq!(list["warnings"], serde_json::json!([]));
    }
    let id = made["id"].as_str().unwrap().replace('$', "%24");
    assert_eq!(door.json(get(&format!("{LIST}/{id}")), 200).await["name"], "work");
    let exists = (409, "session-exists".to_owned());
    assert_eq!(door.refused(post(LIST, r#"{"name":"work"}"#)).await, exists);
    door.json(post(LIST, r#"{"name":"workshop"}"#), 201).await;
    let rename = ask("PATCH", WORK).json(r#"{"name":"workshop"}"#);
    assert_eq!(door.refused(rename).await, exists);
    let renamed = door.json(ask("PATCH", WORK).json(r#"{"name":"play"}"#), 200).await;
    assert_eq!((&renamed["id"], &renamed["name"]), (&made["id"], &"play".into()));
    assert_eq!(door.refused(get(WORK)).await, (404, "session-not-found".to_owned()));
    let killed = door.ask(ask("DELETE", &format!("{LIST}/play"))).await;
    assert_eq!((killed.status, killed.body.len()), (204, 0));
    let left = door.json(get(LIST), 200).await;
    assert_eq!(left["sessions"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["sessions"][0]["name"], "workshop");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_sessions_are_reported() {
    let door = Door::with_shed().await;
    door.json(post(LIST, r#"{"name":"workshop"}"#), 201).await;
    let missing = (404, "session-not-found".to_owned());
    for name in ["work", "%2499", "w"] {
        let path = format!("{LIST}/{name}");
        for request in [
            get(&path),
            ask("PATCH", &path).json(r#"{"name":"play"}"#),
            ask("DELETE", &path),
            post(&format!("{path}/input"), r#"{"text":"x"}"#),
            get(&format!("{path}/output")),
        ] {
            assert_eq!(door.refused(request.clone()).await, missing, "{request:?}");
        }
    }
    let exec = r#"{"argv":["true"],"session":"work"}"#;
    assert_eq!(door.refused(post("/api/sheds/a/exec", exec)).await, missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_appears_on_the_screen() {
    let door = Door::with_shed().await;
    door.json(post(LIST, &session_body("work", &["cat"])), 201).await;
    let input = |body: &str| post(&format!("{WORK}/input"), body);
    for body in
        [r#"{"text":"héllo $HOME"}"#, r#"{"keys":["Enter","x","Enter"]}"#, r#"{"enter":true}"#]
    {
        let reply = door.ask(input(body)).await;
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{}", reply.text());
    }
    eventually("the echo", async || {
        let output = door.json(get(&format!("{WORK}/output?lines=10")), 200).await;
        let output = output["output"].as_str().unwrap();
        (output.matches("héllo $HOME\n").count() == 2 && output.matches("x\n").count() == 2)
            .then_some(())
    })
    .await;
    let refused = (400, "invalid-request".to_owned());
    for bad in [
        "{}",
        r#"{"text":"x","keys":["y"]}"#,
        r#"{"keys":["rm -rf"]}"#,
        r#"{"txt":"x"}"#,
        r#"{"text":"\u0000"}"#,
    ] {
        assert_eq!(door.refused(input(bad)).await, refused, "{bad}");
    }
    let long = serde_json::json!({ "text": "x".repeat(300 << 10) }).to_string();
    assert_eq!(door.refused(input(&long)).await, (413, "too-large".to_owned()));
    for bad in ["ansi=x", "lines=-1", "x=1"] {
        assert_eq!(door.refused(get(&format!("{WORK}/output?{bad}"))).await, refused, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_included_on_request() {
    let door = Door::with_shed().await;
    let paint = ["sh", "-c", r"printf '\033[31mred\033[0m'; exec cat"];
    door.json(post(LIST, &session_body("work", &paint)), 201).await;
    let output = async |query: &str| {
        let reply = door.json(get(&format!("{WORK}/output{query}")), 200).await;
        reply["output"].as_str().unwrap().to_owned()
    };
    eventually("red", async || output("").await.starts_with("red").then_some(())).await;
    assert!(output("?ansi=true").await.contains("\x1b[31mred"));
    assert!(!output("").await.contains('\x1b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_starts_its_shed() {
    let door = Door::with_shed().await;
    assert_eq!(door.ask(ask("POST", "/api/sheds/a/stop")).await.status, 200);
    door.json(post(LIST, r#"{"name":"work"}"#), 201).await;
    assert_eq!(door.json(get("/api/sheds/a"), 200).await["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watched_list_changes() {
    let door = Door::with_shed().await;
    let mut watch = door.client().watch_sessions().await.unwrap();
    assert!(watch.next().await.unwrap().unwrap().sessions.is_empty());
    door.json(post(LIST, r#"{"name":"work"}"#), 201).await;
    let shown = async |watch: &mut shed_client::EventStream<_>, n_sessions: usize| loop {
        let list: shed_api::session::SessionList = watch.next().await.unwrap().unwrap();
        if list.sessions.len() == n_sessions {
            return;
        }
    };
    shown(&mut watch, 1).await;
    assert_eq!(door.ask(ask("DELETE", WORK)).await.status, 204);
    shown(&mut watch, 0).await;
}
