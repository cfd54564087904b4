//! Sessions and workers over REST, on real tmux: operations, workers and their output.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shed_api::Scope;
use shed_testing::eventually;

use crate::support::{Door, ask, get, post};

const LIST: &str = "/api/sheds/a/sessions";
const WORK: &str = "/api/sheds/a/sessions/work";
const WORKER: &str = "/api/sheds/a/sessions/work/workers/sh";

/// A kept session whose worker `sh` runs this.
async fn with_work(line: &str) -> Door {
    let door = Door::with_shed().await;
    door.json(post(LIST, &work(line).to_string()), 201).await;
    door
}

fn work(line: &str) -> Value {
    json!({ "name": "work", "command": ["sh", "-c", line], "keep": true })
}

/// The worker, once its command has ended.
async fn ended(door: &Door) -> Value {
    eventually("the end", async || {
        let worker = door.json(get(WORKER), 200).await;
        (worker["status"] == "exited").then_some(worker)
    })
    .await
}

/// What `sh` printed, once it has this many bytes.
async fn printed(door: &Door, n_bytes: u64) -> Value {
    eventually("the output", async || {
        let page = door.json(get(&format!("{WORKER}/output")), 200).await;
        (page["log_end"].as_u64()? >= n_bytes).then_some(page)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_terminated_restarted_frozen_and_thawed() {
    let door = with_work("exec sleep 1000").await;
    let wish = async |verb: &str| door.json(ask("POST", &format!("{WORK}/{verb}")), 200).await;
    assert_eq!(wish("freeze").await["status"], "frozen");
    assert_eq!(wish("thaw").await["status"], "running");
    assert_eq!(wish("terminate").await["status"], "ended");
    let ended = door.json(get(WORK), 200).await;
    assert_eq!(ended["workers"][0]["status"], "exited", "{ended}");
    let again = door.json(post(&format!("{WORK}/restart"), r#"{"continue":true}"#), 200).await;
    assert_eq!((&again["status"], &again["id"]), (&"running".into(), &ended["id"]));
    assert_eq!(again["workers"][0]["epoch"], 2, "{again}");
    let unknown = post(&format!("{WORK}/restart"), r#"{"continues":true}"#);
    assert_eq!(door.refused(unknown).await, (400, "invalid-request".to_owned()));
    for verb in ["terminate", "restart", "freeze", "thaw", "adopt"] {
        let refused = door.refused(ask("POST", &format!("{LIST}/none/{verb}"))).await;
        assert_eq!(refused, (404, "session-not-found".to_owned()), "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_made_by_hand_is_adopted_and_nothing_else_before() {
    let door = Door::with_shed().await;
    let make = r#"{"argv":["tmux","new-session","-d","-s","hand","cat"]}"#;
    door.json(post("/api/sheds/a/exec", make), 200).await;
    let hand = format!("{LIST}/hand");
    eventually("the session", async || (door.ask(get(&hand)).await.status == 200).then_some(()))
        .await;
    let (status, code) = door.refused(ask("POST", &format!("{hand}/terminate"))).await;
    assert_eq!(status, 409, "{code}");
    let adopted = door.json(ask("POST", &format!("{hand}/adopt")), 200).await;
    assert_eq!(adopted["id"].as_str().unwrap().len(), 32, "{adopted}");
    eventually("its id", async || {
        (door.json(get(&hand), 200).await["id"] == adopted["id"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_added_shown_restarted_and_removed() {
    let door = with_work("exec sleep 1000").await;
    let list = format!("{WORK}/workers");
    let body = r#"{"name":"second","command":["sh","-c","exit 3"],"keep":true}"#;
    let added = door.json(post(&list, body), 201).await;
    assert_eq!((&added["name"], &added["kind"]), (&"second".into(), &"terminal".into()));
    let second = format!("{list}/second");
    let by_id = format!("{list}/{}", added["id"].as_str().unwrap());
    eventually("its end", async || {
        let row = door.json(get(&by_id), 200).await;
        (row["exit"]["code"] == 3).then_some(())
    })
    .await;
    assert_eq!(door.refused(post(&list, body)).await, (409, "worker-exists".to_owned()));
    let failed = door.refused(ask("POST", &format!("{second}/restart"))).await;
    assert_eq!(failed.1, "exec-failed");
    let again = door.json(ask("POST", &format!("{WORKER}/restart")), 200).await;
    assert_eq!(again["epoch"], 2, "{again}");
    let names = async || {
        let workers = door.json(get(&list), 200).await;
        let rows = workers["workers"].as_array().unwrap();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["sh", "second"]);
    assert_eq!(door.ask(ask("DELETE", &second)).await.status, 204);
    assert_eq!(names().await, ["sh"]);
    let missing = (404, "worker-not-found".to_owned());
    for request in [
        get(&second),
        ask("DELETE", &second),
        ask("POST", &format!("{second}/restart")),
        get(&format!("{second}/output")),
        get(&format!("{second}/output/cast")),
        get(&format!("{second}/search?q=x")),
    ] {
        assert_eq!(door.refused(request.clone()).await, missing, "{request:?}");
    }
    for name in ["../x", "#(id)", "-x", "a b", ""] {
        let body = json!({ "name": name, "command": ["true"] }).to_string();
        let refused = door.refused(post(&list, &body)).await;
        assert_eq!(refused, (400, "invalid-name".to_owned()), "{name:?}");
    }
    let both = r#"{"agent":"claude","command":["true"]}"#;
    assert_eq!(door.refused(post(&list, both)).await, (400, "invalid-request".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_read_in_pages_by_lines_and_exactly() {
    let door = with_work(r"printf 'one\ntwo\nthree\n'; printf '\377\376'").await;
    ended(&door).await;
    // The terminal made each newline two bytes.
    let page = printed(&door, 19).await;
    assert_eq!(page["log_end"], 19, "{page}");
    assert_eq!((&page["start"], &page["end"], &page["epoch"]), (&0.into(), &19.into(), &1.into()));
    // "one\r\ntwo\r\nthree\r\n" and two bytes that are no text.
    assert_eq!(page["base64"], "b25lDQp0d28NCnRocmVlDQr//g==");
    let page = door.json(get(&format!("{WORKER}/output?from=5&max=5")), 200).await;
    assert_eq!((&page["text"], &page["end"]), (&"two\r\n".into(), &10.into()));
    assert!(page.get("base64").is_none(), "{page}");
    let page = door.json(get(&format!("{WORKER}/output?lines=2")), 200).await;
    assert!(page["text"].as_str().unwrap().starts_with("three\r\n"), "{page}");
    let beyond = door.json(get(&format!("{WORKER}/output?from=1000000")), 200).await;
    assert_eq!((&beyond["text"], &beyond["log_end"]), (&"".into(), &19.into()), "{beyond}");
    let invalid = (400, "invalid-request".to_owned());
    for bad in ["lines=2&from=1", "lines=2&max=1", "from=-1", "max=x", "lines=1.5", "form=1"] {
        assert_eq!(door.refused(get(&format!("{WORKER}/output?{bad}"))).await, invalid, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_output_is_waited_for_until_the_command_ends() {
    let door = with_work("echo one; read line; echo two; read line; exit 3").await;
    let end = printed(&door, 5).await["log_end"].as_u64().unwrap();
    let typed = || post(&format!("{WORK}/input"), r#"{"text":"x","enter":true}"#);
    let start = Instant::now();
    let asked = |from: u64| door.json(get(&format!("{WORKER}/output?from={from}&wait=20")), 200);
    let (page, reply) = tokio::join!(asked(end), door.ask(typed()));
    assert_eq!(reply.status, 204);
    assert!(page["end"].as_u64().unwrap() > end, "{page}");
    let mut end = end;
    while let Some(next) = asked(end).await["end"].as_u64().filter(|next| *next > end) {
        end = next;
        // "one", what was typed, "two": the second line it reads.
        if (5 + 3 + 5..5 + 3 + 5 + 3).contains(&end) {
            assert_eq!(door.ask(typed()).await.status, 204);
        }
    }
    // Nothing more comes, and nobody waited for it.
    assert_eq!(ended(&door).await["exit"]["code"], 3);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_searched_and_recorded() {
    let door = with_work(r"printf 'x\033[31mneedle\033[0m\nhay\nneedle 2\n'").await;
    ended(&door).await;
    printed(&door, 33).await;
    let search = async |query: &str| door.json(get(&format!("{WORKER}/search?{query}")), 200).await;
    let hits = search("q=needle").await;
    assert_eq!(hits["hits"][0], json!({ "offset": 6, "line": "xneedle" }), "{hits}");
    assert_eq!(hits["hits"][1]["line"], "needle 2");
    assert_eq!(hits["hits"].as_array().unwrap().len(), 2);
    let first = search("q=needle&max=1").await;
    assert_eq!(first["hits"].as_array().unwrap().len(), 1);
    let rest = search(&format!("q=needle&from={}", first["next"])).await;
    assert_eq!(rest["hits"], json!([hits["hits"][1]]));
    assert_eq!(search("q=%1b%5b31m").await["hits"], json!([]));
    let invalid = (400, "invalid-request".to_owned());
    let long = format!("q={}", "x".repeat(10_000));
    for bad in ["", "q=", "q=x&from=a", "query=x", &long] {
        assert_eq!(door.refused(get(&format!("{WORKER}/search?{bad}"))).await, invalid, "{bad}");
    }
    let cast = door.ask(get(&format!("{WORKER}/output/cast"))).await;
    assert_eq!(cast.header("content-type"), Some("application/x-asciicast"));
    let text = cast.text();
    let head: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(head["version"], 2, "{text}");
    assert!(text.lines().skip(1).any(|line| line.contains("needle")), "{text}");
    let none = door.ask(get(&format!("{WORKER}/output/cast?from=33"))).await;
    assert!(!none.text().contains("needle"), "{}", none.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_sees_everything_and_changes_nothing() {
    let door = with_work("echo seen; exec sleep 1000").await;
    printed(&door, 6).await;
    let token = door.token(Scope::Read, &[]).await;
    for path in ["/workers", "/workers/sh", "/workers/sh/output", "/workers/sh/output/cast"]
        .map(str::to_owned)
    {
        let reply = door.ask_tcp(get(&format!("{WORK}{path}")).token(&token)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    for request in [
        ask("POST", &format!("{WORK}/terminate")),
        ask("POST", &format!("{WORK}/freeze")),
        ask("POST", &format!("{WORK}/restart")),
        post(&format!("{WORK}/workers"), "{}"),
        ask("POST", &format!("{WORKER}/restart")),
        ask("DELETE", WORKER),
        ask("PATCH", WORK).json(r#"{"title":"x"}"#),
    ] {
        let refused = door.ask_tcp(request.clone().token(&token)).await.problem();
        assert_eq!(refused, (403, "forbidden".to_owned()), "{request:?}");
    }
    assert_eq!(door.json(get(WORKER), 200).await["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_and_tags_are_text_and_no_more() {
    let door = with_work("exec sleep 1000").await;
    let canary = door.test.dir().join("canary");
    let evil = format!("-x #(touch {0}) ../ :0.0 🚀 $(touch {0}) \u{202e}", canary.display());
    let tag = "-x #(id) ../ :0.0 🚀 $(id) \u{202e}";
    let patch = json!({ "title": evil, "tags": [tag] }).to_string();
    let changed = door.json(ask("PATCH", WORK).json(&patch), 200).await;
    assert_eq!((&changed["title"], &changed["tags"][0]), (&evil.into(), &tag.into()));
    assert_eq!(changed["name"], "work");
    let gone = door.json(ask("PATCH", WORK).json(r#"{"title":"","tags":[]}"#), 200).await;
    assert!(gone.get("title").is_none() && gone.get("tags").is_none(), "{gone}");
    for (bad, code) in [
        (json!({ "title": "a\u{1b}[31m" }), "invalid-request"),
        (json!({ "tags": ["a,b"] }), "invalid-request"),
        (json!({ "title": "x".repeat(100_000) }), "too-large"),
        (json!({ "branch": "x" }), "invalid-request"),
        (json!({ "auto_respond": "yes" }), "invalid-request"),
        (json!({}), "invalid-request"),
    ] {
        let (_, refused) = door.refused(ask("PATCH", WORK).json(&bad.to_string())).await;
        // A quick session has no branch; how that is refused is core's affair.
        assert!(refused == code || bad.get("branch").is_some(), "{bad}: {refused}");
    }
    assert!(!canary.exists());
}
