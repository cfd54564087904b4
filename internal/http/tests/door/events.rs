//! Event streams.

use std::time::Duration;

use shed_api::Scope;
use shed_http::{Options, Timing};
use shed_testing::eventually;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::support::{Ask, Door, LIMIT, get, post};

/// One item of a stream: the lines up to an empty one.
type Item = Vec<String>;

/// A stream as it is sent. HTTP/1.0, so that it has no chunks.
struct Events {
    lines: tokio::io::Lines<BufReader<UnixStream>>,
}

impl Events {
    async fn open(door: &Door, ask: Ask) -> Self {
        let mut socket = door.unix().await;
        let bytes =
            String::from_utf8(ask.bytes()).unwrap().replace(" HTTP/1.1\r\n", " HTTP/1.0\r\n");
        socket.write_all(bytes.as_bytes()).await.unwrap();
        let mut events = Self { lines: BufReader::new(socket).lines() };
        let head = events.item().await.unwrap();
        assert_eq!(head[0], "HTTP/1.0 200 OK");
        assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
        assert!(head.iter().any(|line| line.starts_with("cache-control: no-")), "{head:?}");
        events
    }

    /// The next item; `None` at the end.
    async fn item(&mut self) -> Option<Item> {
        let mut item = Vec::new();
        loop {
            let line =
                tokio::time::timeout(LIMIT, self.lines.next_line()).await.expect("a line in time");
            match line.unwrap()?.as_str() {
                "" => return Some(item),
                line => item.push(line.to_owned()),
            }
        }
    }

    /// Id and kind of the next event.
    async fn event(&mut self) -> (i64, String) {
        let item = self.item().await.unwrap();
        let field = |name: &str| {
            let line = item.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name} in {item:?}")).to_owned()
        };
        let data: shed_api::Event = serde_json::from_str(&field("data")).unwrap();
        assert_eq!(field("id"), data.id.to_string());
        assert_eq!(field("event"), data.kind.as_str());
        (data.id, field("event"))
    }
}

/// Writes events by creating and revoking tokens.
async fn make_events(door: &Door, n_events: usize) {
    for n in 0..n_events {
        let request = shed_api::access::NewToken {
            name: format!("t{n}"),
            scope: Scope::Read,
            sheds: Vec::new(),
            expires_in_seconds: None,
        };
        door.test.app.access().add_token(&door.test.admin, request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_past_events_and_continues() {
    let door = Door::start().await;
    let mut events = Events::open(&door, get("/api/events")).await;
    assert_eq!(events.event().await, (1, "server.started".to_owned()));
    make_events(&door, 2).await;
    assert_eq!(events.event().await, (2, "token.added".to_owned()));
    assert_eq!(events.event().await, (3, "token.added".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_continues_where_its_reader_left_off() {
    let door = Door::start().await;
    make_events(&door, 5).await;
    for (request, first) in [
        (get("/api/events?after=3"), 4),
        (get("/api/events").header("last-event-id", "4"), 5),
        // What the browser says it saw is newer than the address it was given.
        (get("/api/events?after=1").header("last-event-id", "5"), 6),
        (get("/api/events?after=2").header("last-event-id", "x"), 3),
        (get("/api/events?after=-7"), 1),
    ] {
        let mut events = Events::open(&door, request.clone()).await;
        assert_eq!(events.event().await.0, first, "{request:?}");
    }
    for bad in ["after=x", "shed=..", "since=1", "after=99999999999999999999"] {
        assert_eq!(door.refused(get(&format!("/api/events?{bad}"))).await.0, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends() {
    let door = Door::start().await;
    make_events(&door, 3).await;
    let page = async |query: &str| {
        let request = get(&format!("/api/events{query}")).header("accept", "application/json");
        let page = door.json(request, 200).await;
        let rows = page["events"].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(page("").await, [1, 2, 3, 4]);
    assert_eq!(page("?after=3").await, [4]);
    assert!(page("?after=4").await.is_empty());
    assert!(page("?shed=a").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_filtered_by_shed() {
    let door = Door::start().await;
    let mut events = Events::open(&door, get("/api/events?shed=a")).await;
    door.json(post("/api/sheds", r#"{"name":"b","no_start":true}"#), 202).await;
    door.json(post("/api/sheds", r#"{"name":"a","no_start":true}"#), 202).await;
    let item = events.item().await.unwrap().join("\n");
    assert!(item.contains(r#""shed":"a""#) && item.contains(r#""status":"creating""#), "{item}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_has_heartbeats() {
    let timing = Timing { heartbeat: Duration::from_millis(50), ..Timing::default() };
    let door = Door::with(Options { timing, ..Options::default() }, None).await;
    door.json(post("/api/sheds", r#"{"name":"a","image":"slow"}"#), 202).await;
    for path in ["/api/events", "/api/sessions/watch", "/api/sheds/a/progress"] {
        let mut events = Events::open(&door, get(path)).await;
        let mut n_heartbeats = 0;
        while n_heartbeats < 3 {
            n_heartbeats += usize::from(events.item().await.unwrap() == [": heartbeat"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_delays_nobody_and_misses_nothing() {
    let door = Door::start().await;
    let mut slow = Events::open(&door, get("/api/events")).await;
    let mut quick = Events::open(&door, get("/api/events")).await;
    // More than a page and more than the socket takes.
    let n_events = 1_500;
    let all = async |events: &mut Events| {
        for id in 1..=i64::from(n_events) + 1 {
            assert_eq!(events.event().await.0, id);
        }
    };
    tokio::join!(make_events(&door, usize::try_from(n_events).unwrap()), all(&mut quick));
    all(&mut slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_disconnects_is_dropped() {
    let door = Door::start().await;
    let n_tasks = || door.test.app.tasks().len();
    let before = n_tasks();
    let events = Events::open(&door, get("/api/events")).await;
    assert!(n_tasks() > before);
    drop(events);
    eventually("the end of the stream", async || (n_tasks() == before).then_some(())).await;
}
