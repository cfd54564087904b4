//! Viewers of workers over WebSocket, on real tmux.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use shed_api::Scope;
use shed_api::stream::AttachOpen;
use shed_api::worker::Restart;
use shed_testing::eventually;
use std::fmt::Write as _;
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{Door, LIMIT, Pipe, get, post};

const WORK: &str = "/api/sheds/a/sessions/work/workers";

/// A viewer as bytes.
struct View {
    socket: WebSocketStream<Box<dyn Pipe>>,
    /// All output received so far.
    printed: String,
}

async fn open(door: &Door, query: &str) -> View {
    view(Box::new(door.unix().await), query, None).await
}

async fn view(pipe: Box<dyn Pipe>, query: &str, token: Option<&str>) -> View {
    let url = format!("ws://localhost{WORK}/sh/ws{query}");
    let mut request = url.into_client_request().unwrap();
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
    }
    let (socket, _) = tokio_tungstenite::client_async(request, pipe).await.unwrap();
    View { socket, printed: String::new() }
}

impl View {
    async fn message(&mut self) -> Message {
        let next = tokio::time::timeout(LIMIT, self.socket.next()).await;
        next.expect("a message in time").expect("a message").unwrap()
    }

    /// The next frame.
    async fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.message().await {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if matches!(frame["type"].as_str(), Some("output" | "history")) {
                    self.printed += frame["data"].as_str().unwrap();
                }
                return frame;
            }
        }
    }

    /// The next frame of a type.
    async fn find(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The next size that differs from the last one received.
    async fn size(&mut self) -> (u64, u64, bool) {
        let frame = self.find("size").await;
        (
            frame["cols"].as_u64().unwrap(),
            frame["rows"].as_u64().unwrap(),
            frame["primary"].as_bool().unwrap(),
        )
    }

    async fn size_becomes(&mut self, expected: (u64, u64, bool)) {
        while self.size().await != expected {}
    }

    async fn until(&mut self, text: &str) {
        while !self.printed.contains(text) {
            self.next().await;
        }
    }

    async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn input(&mut self, data: &str) {
        self.send(&json!({ "type": "input", "data": data })).await;
    }

    async fn resize(&mut self, cols: u16, rows: u16) {
        self.send(&json!({ "type": "resize", "cols": cols, "rows": rows })).await;
    }

    /// The code that the server closes with, after whatever else it says.
    async fn close_code(&mut self) -> CloseCode {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.expect("a code").code;
            }
        }
    }

    async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

/// A door with a session `work` whose worker `sh` runs a line.
async fn running(line: &str) -> Door {
    let door = Door::with_shed().await;
    let body = json!({ "name": "work", "command": ["sh", "-c", line], "keep": true });
    door.json(post("/api/sheds/a/sessions", &body.to_string()), 201).await;
    door
}

fn test_names(door: &Door) -> (shed_core::Person, shed_api::ShedName, shed_api::SessionRef) {
    (door.test.admin.clone(), "a".parse().unwrap(), "work".parse().unwrap())
}

fn output_end(door: &Door) -> u64 {
    let (person, shed, session) = test_names(door);
    door.test.app.workers().get(&person, &shed, &session, "sh").unwrap().output_end
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_sent_first_and_then_new_output() {
    let door = running("echo 'one €'; while read line; do echo \"got $line\"; done").await;
    let mut view = open(&door, "").await;
    let history = view.next().await;
    assert_eq!(history["type"], "history");
    assert_eq!((&history["epoch"], &history["read_only"]), (&json!(1), &json!(false)));
    assert!(history["primary"].as_bool().unwrap());
    let activity = view.next().await;
    assert_eq!(activity["type"], "activity");
    view.until("one €").await;
    view.input("hello\r").await;
    view.until("got hello").await;
    // The terminal echoes; another one sees the same.
    let mut other = open(&door, "?read_only=true").await;
    other.until("got hello").await;
    assert!(!other.find("activity").await["state"].is_null());
    view.input("again\r").await;
    other.until("got again").await;
    let idle = async { while view.find("activity").await["state"] != "idle" {} };
    tokio::time::timeout(LIMIT, idle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_sets_the_size_and_others_follow() {
    let door = running("exec sleep 1000").await;
    let mut first = open(&door, "?cols=100&rows=30").await;
    first.size_becomes((100, 30, true)).await;
    let mut second = open(&door, "?cols=60&rows=20").await;
    let history = second.find("history").await;
    assert_eq!((&history["cols"], &history["rows"]), (&json!(100), &json!(30)));
    assert_eq!(history["primary"], false);
    second.resize(61, 21).await;
    first.resize(90, 25).await;
    assert_eq!(second.size().await, (90, 25, false), "the other's own size does not count");
    first.size_becomes((90, 25, true)).await;
    second.send(&json!({ "type": "primary" })).await;
    first.size_becomes((61, 21, false)).await;
    second.size_becomes((61, 21, true)).await;
    second.close().await;
    first.size_becomes((90, 25, true)).await;
    // It is the terminal's size, not only a number.
    let run = json!({ "argv": ["tmux", "display-message", "-p", "-t", "=work:", "#{pane_width}x#{pane_height}"] });
    let ran = door.json(post("/api/sheds/a/exec", &run.to_string()), 200).await;
    assert_eq!(ran["stdout"], "90x25\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_reconnects_changes_nothing_for_others() {
    let door = running("exec cat").await;
    let mut page = open(&door, "?viewer=page&cols=100&rows=30").await;
    page.size_becomes((100, 30, true)).await;
    let mut other = open(&door, "?viewer=other&cols=60&rows=20").await;
    other.find("history").await;
    // The new connection opens before the old one closes.
    let mut again = open(&door, "?viewer=page&cols=100&rows=30").await;
    assert_eq!(again.find("history").await["primary"], true);
    page.close().await;
    again.resize(101, 31).await;
    assert_eq!(other.size().await, (101, 31, false));
    // The old one closes before the new one opens.
    again.close().await;
    let mut third = open(&door, "?viewer=page&cols=101&rows=31").await;
    assert_eq!(third.find("history").await["primary"], true);
    third.resize(102, 32).await;
    assert_eq!(other.size().await, (102, 32, false));
    // Nobody was silenced.
    other.input("still here\r").await;
    third.until("still here").await;
    third.close().await;
    // One that stays away gives its place up.
    other.size_becomes((60, 20, true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tmux_decides_while_it_is_attached() {
    let door = running("exec sleep 1000").await;
    let mut view = open(&door, "?cols=100&rows=30").await;
    view.size_becomes((100, 30, true)).await;
    let tty = json!({ "tty": { "cols": 70, "rows": 20, "term": "xterm-256color" } });
    let attach: AttachOpen = serde_json::from_value(tty).unwrap();
    let mut stream = door.client().attach("a", "work", &attach).await.unwrap();
    // One row is tmux's status line.
    view.size_becomes((70, 19, true)).await;
    view.resize(99, 29).await;
    assert!(stream.input.resize(75, 22).await);
    assert_eq!(view.size().await, (75, 21, true));
    assert!(stream.input.send("\x02d".into()).await);
    while stream.reader.next().await.is_ok() {}
    view.size_becomes((99, 29, true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_arrives_unchanged() {
    let typed = "\x1b[A\x03\r\n\0€🚀\x7f;#(id)";
    let raw = [0xff, 0xfe, 0x00, 0x1b];
    let n_bytes = typed.len() + raw.len();
    let line = format!(
        "stty raw -echo; printf ready; head -c {n_bytes} | od -An -v -tx1 | tr -d ' \\n'; printf end"
    );
    let door = running(&line).await;
    let mut view = open(&door, "").await;
    view.until("ready").await;
    view.input(typed).await;
    view.socket.send(Message::binary(raw.to_vec())).await.unwrap();
    view.until("end").await;
    let mut hex = String::new();
    for byte in typed.bytes().chain(raw) {
        write!(hex, "{byte:02x}").unwrap();
    }
    assert!(view.printed.contains(&hex), "{hex} in {:?}", view.printed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_viewer_cannot_type() {
    let door = running("stty -echo; echo ready; exec cat").await;
    let token = door.token(Scope::Read, &[]).await;
    let mut owner = open(&door, "").await;
    owner.until("ready").await;
    let by_scope = view(Box::new(door.tcp().await), "?cols=50&rows=10", Some(&token)).await;
    for mut reader in [by_scope, open(&door, "?read_only=true&cols=50&rows=10").await] {
        let history = reader.find("history").await;
        assert_eq!((&history["read_only"], &history["primary"]), (&json!(true), &json!(false)));
        reader.input("by-reader\r").await;
        let picture = json!({ "type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png" });
        reader.send(&picture).await;
        reader.send(&json!({ "type": "primary" })).await;
        // Told after all that was sent before it.
        assert_eq!(reader.find("problem").await["problem"]["code"], "forbidden");
        reader.socket.send(Message::binary(vec![b'x'; 2 << 20])).await.ok();
        assert_eq!(reader.close_code().await, CloseCode::Size);
    }
    owner.input("by-owner\r").await;
    owner.until("by-owner").await;
    assert!(!owner.printed.contains("by-reader"), "{}", owner.printed);
    // Somebody else's shed is none.
    let stranger = door.token(Scope::Admin, &["b"]).await;
    let refused = door.ask_tcp(get(&format!("{WORK}/sh/ws")).token(&stranger)).await.problem();
    assert_eq!(refused, (404, "shed-not-found".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_stored_and_its_path_pasted() {
    use base64::Engine as _;
    let door = running("stty raw -echo; printf '\\033[?2004hready'; exec cat").await;
    let mut view = open(&door, "").await;
    view.until("ready").await;
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend((0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]));
    let data = base64::engine::general_purpose::STANDARD.encode(&bytes);
    let image = |data: &str, mime: &str| json!({ "type": "image", "data": data, "mimeType": mime });
    view.send(&image(&data, "image/png")).await;
    view.until(".png\u{1b}[201~").await;
    assert!(view.printed.contains("\u{1b}[200~/tmp/shed-images/"), "it is one paste");
    let at = view.printed.find("/tmp/shed-images/").unwrap();
    let path = view.printed[at..].split_inclusive(".png").next().unwrap().to_owned();
    let saved = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(saved == bytes, "{} bytes of {}", saved.len(), bytes.len());
    for (data, mime, code) in [
        (data.as_str(), "image/gif", "invalid-request"),
        ("IyEvYmluL3No", "image/png", "invalid-request"),
        ("not base64", "image/png", "invalid-request"),
    ] {
        view.send(&image(data, mime)).await;
        assert_eq!(view.find("problem").await["problem"]["code"], code);
    }
    let large = "A".repeat(10 * (1 << 20) / 3 * 4 + 1_000);
    view.send(&image(&large, "image/png")).await;
    assert_eq!(view.find("problem").await["problem"]["code"], "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_and_a_new_start_of_the_command_are_reported() {
    let door = running("echo one; exit 7").await;
    let mut view = open(&door, "").await;
    let exit = view.find("exit").await;
    assert_eq!((&exit["exitCode"], &exit["epoch"]), (&json!(7), &json!(1)));
    assert!(view.printed.contains("one"));
    view.input("nobody reads this").await;
    assert_eq!(view.find("problem").await["problem"]["code"], "busy");
    let (person, shed, session) = test_names(&door);
    let app = door.test.app.clone();
    let failed = app.workers().restart(&person, &shed, &session, "sh", Restart::default()).await;
    assert!(failed.is_err(), "it ended at once");
    let history = view.find("history").await;
    assert_eq!(history["epoch"], 2);
    let again = view.find("exit").await;
    assert_eq!((&again["exitCode"], &again["epoch"]), (&json!(7), &json!(2)));
    // One who wants no more than this is let go.
    let mut once = open(&door, "?once=true").await;
    assert_eq!(once.next().await["type"], "history");
    assert_eq!(once.next().await, json!({ "type": "activity", "state": "unknown" }));
    assert_eq!(once.next().await["exitCode"], 7);
    assert_eq!(once.close_code().await, CloseCode::Normal);
    app.workers().remove(&person, &shed, &session, "sh").await.unwrap();
    assert_eq!(view.find("problem").await["problem"]["code"], "worker-not-found");
    assert_eq!(view.close_code().await, CloseCode::Normal);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_are_reported_and_harm_nobody() {
    let door = running("stty -echo; echo ready; exec cat").await;
    let mut view = open(&door, "").await;
    view.until("ready").await;
    for junk in
        ["", "null", "[]", "{\"type\":\"exit\"}", "{\"type\":\"input\",\"data\":7}", "\u{0}"]
    {
        view.socket.send(Message::text(junk)).await.unwrap();
        assert_eq!(view.find("problem").await["problem"]["code"], "invalid-request", "{junk}");
    }
    view.resize(0, 0).await;
    view.resize(65_535, 65_535).await;
    view.size_becomes((500, 200, true)).await;
    let mut flooder = open(&door, "").await;
    for _ in 0..2_000 {
        flooder.socket.send(Message::text("junk")).await.unwrap();
    }
    let huge = "x".repeat(20 << 20);
    flooder.socket.send(Message::text(huge)).await.ok();
    let mut ended = false;
    while let Ok(Some(message)) = tokio::time::timeout(LIMIT, flooder.socket.next()).await {
        ended = matches!(message, Ok(Message::Close(_)) | Err(_));
        if ended {
            break;
        }
    }
    assert!(ended, "a message over the limit ends the stream");
    view.input("still there\r").await;
    view.until("still there").await;
    for (path, code) in [
        (format!("{WORK}/none/ws"), (404, "worker-not-found")),
        ("/api/sheds/a/sessions/none/workers/sh/ws".to_owned(), (404, "session-not-found")),
        (format!("{WORK}/sh/ws?from=3"), (400, "invalid-request")),
        (format!("{WORK}/sh/ws?viewer=a%20b"), (400, "invalid-request")),
        (format!("{WORK}/sh/ws?more=1"), (400, "invalid-request")),
        (format!("{WORK}/sh/ws"), (426, "upgrade-required")),
    ] {
        let refused = door.refused(get(&path)).await;
        assert_eq!((refused.0, refused.1.as_str()), code, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_does_not_read_gets_a_new_history_and_needs_no_memory() {
    let door = running("exec yes 0123456789012345678901234567890123456789").await;
    let mut view = open(&door, "").await;
    assert_eq!(view.next().await["type"], "history");
    let before = resident_bytes();
    let from = output_end(&door);
    eventually("a flood", async || (output_end(&door) > from + (24 << 20)).then_some(())).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB more", grown >> 20);
    // What was on its way is told, then everything anew.
    let history = view.find("history").await;
    assert!(history["offset"].as_u64().unwrap() > from, "{}", history["offset"]);
    let data = history["data"].as_str().unwrap();
    assert!(data.starts_with("\u{1b}c") && data.len() < 200_000, "{} bytes", data.len());
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
