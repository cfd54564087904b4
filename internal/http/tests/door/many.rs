//! Batches, templates, trash and orphans over REST.

use serde_json::{Value, json};
use shed_api::Scope;

use crate::support::{Door, ask, get, post};

const LIST: &str = "/api/sheds/a/sessions";
const REPOSITORY: &str = "git init -q -b main . && git config user.name T && \
                          git config user.email t@example.com && echo one > a.txt && \
                          git add -A && git commit -qm first";

async fn make(door: &Door, name: &str) -> String {
    let body = json!({ "name": name, "command": ["sleep", "1000"], "keep": true, "tags": [name] });
    let made = door.json(post(LIST, &body.to_string()), 201).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn run(door: &Door, directory: Option<&str>, line: &str) {
    let body = json!({ "argv": ["sh", "-c", line], "directory": directory }).to_string();
    let done = door.json(post("/api/sheds/a/exec", &body), 200).await;
    assert_eq!(done["exit"], 0, "{line}: {done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_a_result_for_each_session() {
    let door = Door::with_shed().await;
    let (one, two) = (make(&door, "one").await, make(&door, "two").await);
    let unknown = "0".repeat(32);
    let batch = async |body: Value| {
        door.json(post("/api/batch", &body.to_string()), 200).await["items"].clone()
    };
    let ids = json!([one, unknown, two]);
    let would = batch(json!({ "ids": ids, "op": "terminate", "dry_run": true })).await;
    assert!(would[0]["effect"].is_string() && would[1]["problem"].is_object(), "{would}");
    assert_eq!(door.json(get(&format!("{LIST}/one")), 200).await["status"], "running");
    let done = batch(json!({ "ids": ids, "op": "terminate" })).await;
    assert_eq!((&done[0]["name"], &done[2]["name"]), (&"one".into(), &"two".into()), "{done}");
    assert_eq!(done[1]["problem"]["code"], "session-not-found");
    assert_eq!(door.json(get(&format!("{LIST}/one")), 200).await["status"], "ended");
    let tagged = batch(json!({ "filter": { "tag": "two" }, "op": "tag", "tags": ["x"] })).await;
    assert_eq!(tagged.as_array().unwrap().len(), 1, "{tagged}");
    let two = door.json(get(&format!("{LIST}/two")), 200).await;
    assert_eq!(two["tags"], json!(["two", "x"]));
    let invalid = (400, "invalid-request".to_owned());
    for bad in [
        json!({ "op": "terminate" }),
        json!({ "ids": ["x"], "filter": {}, "op": "terminate" }),
        json!({ "ids": ["x"], "op": "explode" }),
        json!({ "ids": ["x"], "op": "terminate", "force": true }),
        json!({ "ids": ["x"], "op": "input" }),
    ] {
        assert_eq!(door.refused(post("/api/batch", &bad.to_string())).await, invalid, "{bad}");
    }
    let many: Vec<&str> = (0..1_001).map(|_| "x").collect();
    let many = json!({ "ids": many, "op": "terminate" }).to_string();
    assert_eq!(door.refused(post("/api/batch", &many)).await, (413, "too-large".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_reaches_no_session_of_a_shed_that_the_caller_may_not_access() {
    let door = Door::with_shed().await;
    door.test.shed("b").await;
    let id = make(&door, "one").await;
    let token = door.token(Scope::Drive, &["b"]).await;
    let body = json!({ "ids": [id], "op": "terminate" }).to_string();
    let items = door.ask_tcp(post("/api/batch", &body).token(&token)).await.json();
    assert_eq!(items["items"][0]["problem"]["code"], "session-not-found", "{items}");
    assert!(items["items"][0].get("name").is_none(), "{items}");
    let body = json!({ "filter": { "tag": "one" }, "op": "terminate" }).to_string();
    let items = door.ask_tcp(post("/api/batch", &body).token(&token)).await.json();
    assert_eq!(items["items"], json!([]));
    assert_eq!(door.json(get(&format!("{LIST}/one")), 200).await["status"], "running");
    // A dry run looks, and looking is all a reader may.
    let reader = door.token(Scope::Read, &["a"]).await;
    for (dry_run, status) in [(true, 200), (false, 403)] {
        let body = json!({ "ids": [id], "op": "terminate", "dry_run": dry_run }).to_string();
        let reply = door.ask_tcp(post("/api/batch", &body).token(&reader)).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_the_repository_are_listed_with_their_errors() {
    let door = Door::with_shed().await;
    let line = "mkdir -p .shed/templates && cd .shed/templates && \
                printf 'description = \"good\"\\ncommand = [\"true\"]\\n' > good.toml && \
                printf 'no = 1\\n' > bad.toml";
    run(&door, None, line).await;
    let list = door.json(get("/api/sheds/a/templates"), 200).await;
    let rows = list["templates"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{list}");
    assert_eq!((&rows[0]["name"], &rows[1]["name"]), (&"bad".into(), &"good".into()));
    assert!(rows[0]["error"].as_str().unwrap().contains("no"), "{list}");
    assert_eq!(
        (&rows[1]["source"], &rows[1]["template"]["description"]),
        (&"repository".into(), &"good".into())
    );
    let made = door.json(post(LIST, r#"{"name":"t","template":"good"}"#), 201).await;
    assert_eq!(made["workers"][0]["command"], json!(["true"]), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_work_is_listed_restored_and_reported() {
    let door = Door::with_shed().await;
    run(&door, None, REPOSITORY).await;
    let body = json!({ "name": "fix", "type": "worktree", "command": ["sleep", "1000"] });
    let made = door.json(post(LIST, &body.to_string()), 201).await;
    run(&door, made["directory"].as_str(), "echo x >> a.txt; git commit -qam mine").await;
    let deleted = door.ask(ask("DELETE", &format!("{LIST}/fix?force=true"))).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    let trash = door.json(get("/api/sheds/a/trash"), 200).await;
    let rows = trash["trash"].as_array().unwrap();
    let tip = rows.iter().find(|row| row["kind"] == "branch").unwrap();
    assert_eq!(tip["subject"], "mine", "{trash}");
    let kept = door.json(post("/api/sheds/a/gc", r#"{"dry_run":true}"#), 200).await;
    let kept = kept["items"].as_array().unwrap();
    assert!(kept.iter().any(|item| item["kind"] == "trash" && item["remove"] == false), "{kept:?}");
    let restore = |name: &str, branch: &str| {
        let body = json!({ "ref": name, "branch": branch }).to_string();
        post("/api/sheds/a/trash/restore", &body)
    };
    for (name, branch) in [
        (tip["ref"].as_str().unwrap(), "-x"),
        (tip["ref"].as_str().unwrap(), "a..b"),
        ("refs/heads/main", "x"),
        ("--upload-pack=x", "x"),
    ] {
        let (status, code) = door.refused(restore(name, branch)).await;
        assert!(matches!(status, 400 | 404 | 422), "{name} {branch}: {status} {code}");
    }
    let done = door.ask(restore(tip["ref"].as_str().unwrap(), "again")).await;
    assert_eq!(done.status, 204, "{}", done.text());
    run(&door, None, "git log -1 --format=%s again | grep -qx mine").await;
    let token = door.token(Scope::Read, &[]).await;
    for (body, status) in [(r#"{"dry_run":true}"#, 200), ("{}", 403)] {
        let reply = door.ask_tcp(post("/api/sheds/a/gc", body).token(&token)).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_listed_and_only_the_named_ones_are_removed() {
    let door = Door::with_shed().await;
    let list = door.json(get("/api/sheds/a/orphans"), 200).await;
    assert_eq!(list, json!({ "orphans": [] }));
    let clean = |body: &str| post("/api/sheds/a/orphans/clean", body);
    let (status, code) = door.refused(clean(r#"{"names":["/etc"]}"#)).await;
    assert!(matches!(status, 400 | 404), "{status} {code}");
    assert_eq!(door.refused(clean("{}")).await, (400, "invalid-request".to_owned()));
}
