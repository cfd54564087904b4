//! Previews of workers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shed_api::Scope;
use shed_testing::eventually;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::{Door, LIMIT, Pipe, get, post};

struct Stream(BufReader<Box<dyn Pipe>>);

async fn previews(door: &Door, query: &str) -> Stream {
    let mut pipe: Box<dyn Pipe> = Box::new(door.unix().await);
    pipe.write_all(&get(&format!("/api/previews{query}")).bytes()).await.unwrap();
    Stream(BufReader::new(pipe))
}

impl Stream {
    async fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(LIMIT, self.0.read_line(&mut line)).await;
            assert!(read.expect("a preview in time").unwrap() > 0, "the stream ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

async fn session(door: &Door, name: &str, line: &str) -> Value {
    let body = json!({ "name": name, "command": ["sh", "-c", line], "keep": true });
    door.json(post("/api/sheds/a/sessions", &body.to_string()), 201).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_complete_at_first_and_then_has_changed_rows() {
    let door = Door::jumping_with_shed().await;
    let quiet = session(&door, "quiet", "printf 'a\\nb\\nc\\n'; exec sleep 1000").await;
    let line = "echo top; i=0; while :; do i=$((i+1)); printf '\\rtick %s' $i; sleep 0.01; done";
    let busy = session(&door, "busy", line).await;
    assert_eq!(door.test.app.previews().n_models(), 0, "nobody looks");
    let mut stream = previews(&door, "?rows=2").await;
    let mut seen: BTreeMap<String, Vec<(Instant, Value)>> = BTreeMap::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1_500) {
        let item = stream.next().await;
        let of = item["session"].as_str().unwrap().to_owned();
        seen.entry(of).or_default().push((Instant::now(), item));
    }
    let quiet = &seen[quiet["id"].as_str().unwrap()];
    let (first, text) = (&quiet[0].1, |line: &Value| line["text"].as_str().unwrap().to_owned());
    assert_eq!((&first["whole"], &first["shed"]), (&json!(true), &json!("a")));
    let last: Vec<String> =
        quiet.last().unwrap().1["lines"].as_array().unwrap().iter().map(text).collect();
    assert!(last.ends_with(&["c".to_owned()]), "{last:?}");
    assert!(quiet.len() <= 2, "{quiet:?}");
    let busy = &seen[busy["id"].as_str().unwrap()];
    assert!(busy.len() >= 3 && busy.len() <= 9, "{} in one and a half seconds", busy.len());
    assert_eq!(busy.iter().filter(|(_, item)| item["whole"] == true).count(), 1);
    for (_, item) in &busy[2..] {
        let lines = item["lines"].as_array().unwrap();
        assert_eq!(lines.len(), 1, "only what changed: {item}");
        assert!(text(&lines[0]).starts_with("tick"));
    }
    assert_eq!(door.test.app.previews().n_models(), 2);
    // Another one who looks shares the models.
    let mut other = previews(&door, "?shed=a&session=busy").await;
    assert_eq!(other.next().await["whole"], true);
    assert_eq!(door.test.app.previews().n_models(), 2);
    drop((stream, other));
    // Models are kept for a while, in case somebody watches again.
    eventually("no model", async || {
        door.test.jump(Duration::from_secs(1)).await;
        (door.test.app.previews().n_models() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_workers_appear_and_ended_ones_are_shown_on_request() {
    let door = Door::with_shed().await;
    session(&door, "over", "echo done; exit 0").await;
    let mut stream = previews(&door, "?shed=a").await;
    let made = session(&door, "new", "echo fresh; exec sleep 1000").await;
    let item = stream.next().await;
    // The first may have come before its end was known.
    let item = if item["session"] == made["id"] { item } else { stream.next().await };
    assert_eq!(item["session"], made["id"]);
    let mut over = previews(&door, "?shed=a&session=over").await;
    // What it printed may still be on its way to the log.
    while over.next().await["lines"][0]["text"] != "done" {}
    let stranger = door.token(Scope::Admin, &["b"]).await;
    let refused = door.ask_tcp(get("/api/previews?shed=a").token(&stranger)).await.problem();
    assert_eq!(refused, (404, "shed-not-found".to_owned()));
    for (query, code) in [
        ("?session=over", (400, "invalid-request")),
        ("?shed=a&session=none", (404, "session-not-found")),
        ("?rows=x", (400, "invalid-request")),
    ] {
        let refused = door.refused(get(&format!("/api/previews{query}"))).await;
        assert_eq!((refused.0, refused.1.as_str()), code, "{query}");
    }
}
