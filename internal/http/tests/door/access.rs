//! SSH keys and API tokens.

use shed_api::Scope;

use crate::support::{Door, ask, get, post};

const LINE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqyXfZSxQRzPoPYxmkOMjhBNZtCJfEDDlXnpfuqvQdE";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_works_until_it_is_revoked() {
    let door = Door::start().await;
    let body = r#"{"name":"ci","scope":"read","expires_in_seconds":3600}"#;
    let issued = door.json(post("/api/tokens", body), 201).await;
    let (id, secret) = (issued["id"].as_str().unwrap(), issued["token"].as_str().unwrap());
    assert!(issued["expires_at"].is_string());
    let info = door.ask_tcp(get("/api/info").token(secret)).await.json();
    assert_eq!(info["scope"], "read");
    let list = door.ask(get("/api/tokens")).await;
    assert!(!list.text().contains(secret));
    let list = list.json();
    assert_eq!((&list["tokens"][0]["id"], &list["tokens"][0]["name"]), (&id.into(), &"ci".into()));
    assert!(list["tokens"][0].get("token").is_none());
    assert_eq!(door.refused(post("/api/tokens", body)).await, (409, "conflict".to_owned()));
    let path = format!("/api/tokens/{id}");
    assert_eq!(door.ask(ask("DELETE", &path)).await.status, 204);
    assert_eq!(door.refused(ask("DELETE", &path)).await, (404, "not-found".to_owned()));
    let refused = door.ask_tcp(get("/api/info").token(secret)).await.problem();
    assert_eq!(refused, (401, "unauthorized".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires() {
    let door = Door::start().await;
    let body = r#"{"name":"brief","scope":"read","expires_in_seconds":1}"#;
    let issued = door.json(post("/api/tokens", body), 201).await;
    let secret = issued["token"].as_str().unwrap();
    assert_eq!(door.ask_tcp(get("/api/info").token(secret)).await.status, 200);
    shed_testing::eventually("the end of the token", async || {
        (door.ask_tcp(get("/api/info").token(secret)).await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_added_listed_and_removed() {
    let door = Door::start().await;
    let body =
        format!(r#"{{"name":"me","public_key":"{LINE} me@laptop","scope":"drive","sheds":["a"]}}"#);
    let key = door.json(post("/api/keys", &body), 201).await;
    assert_eq!(key["public_key"], LINE);
    assert!(key["fingerprint"].as_str().unwrap().starts_with("SHA256:"));
    assert_eq!(door.refused(post("/api/keys", &body)).await, (409, "conflict".to_owned()));
    let list = door.json(get("/api/keys"), 200).await;
    assert_eq!(list["keys"], serde_json::json!([key]));
    let path = format!("/api/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(door.ask(ask("DELETE", &path)).await.status, 204);
    assert_eq!(door.refused(ask("DELETE", &path)).await, (404, "not-found".to_owned()));
    assert_eq!(door.json(get("/api/keys"), 200).await, serde_json::json!({ "keys": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_keys_and_tokens_are_refused() {
    let door = Door::start().await;
    let long = format!(r#"{{"name":"{}","scope":"read"}}"#, "x".repeat(101));
    let forever = format!(r#"{{"name":"t","scope":"read","expires_in_seconds":{}}}"#, u64::MAX);
    for (path, body) in [
        ("/api/keys", r#"{"name":"k","public_key":"ssh-ed25519 AAAA","scope":"read"}"#),
        (
            "/api/keys",
            r#"{"name":"k","public_key":"-----BEGIN OPENSSH PRIVATE KEY-----","scope":"read"}"#,
        ),
        ("/api/keys", r#"{"name":"k","scope":"read"}"#),
        ("/api/tokens", r#"{"name":"t","scope":"root"}"#),
        ("/api/tokens", r#"{"name":"t"}"#),
        ("/api/tokens", r#"{"name":"","scope":"read"}"#),
        ("/api/tokens", r#"{"name":"a\nb","scope":"read"}"#),
        ("/api/tokens", r#"{"name":"t","scope":"read","expires":1}"#),
        ("/api/tokens", &long),
        ("/api/tokens", &forever),
    ] {
        let refused = door.refused(post(path, body)).await;
        assert_eq!(refused, (400, "invalid-request".to_owned()), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_actor() {
    let door = Door::with_shed().await;
    let token = door.token(Scope::Drive, &[]).await;
    let made =
        door.ask_tcp(post("/api/sheds/a/sessions", r#"{"name":"work"}"#).token(&token)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let events = get("/api/events?shed=a").header("accept", "application/json");
    let events = door.json(events, 200).await;
    let rows = events["events"].as_array().unwrap();
    let row = rows.iter().find(|row| row["kind"] == "session.created").unwrap();
    assert_eq!(row["actor"], "token:drive-");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_owner_may_use_the_unix_socket() {
    use std::os::unix::fs::PermissionsExt as _;
    let door = Door::start().await;
    let mode = std::fs::metadata(&door.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Even where the file lets another user in, the server does not.
    for path in [door.test.dir(), &door.socket] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let stranger = |path: &str| {
        let mut curl = tokio::process::Command::new("curl");
        curl.arg("-s")
            .arg("--unix-socket")
            .arg(&door.socket)
            .arg(format!("http://localhost{path}"));
        curl.uid(65_534).output()
    };
    let refused = stranger("/api/sheds").await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(problem["code"], "unauthorized");
    assert_eq!(stranger("/api/health/live").await.unwrap().stdout, b"live\n");
}
