//! WebSocket streams frame by frame: openings, pings, closing codes, and what a client must not send.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use shed_api::{Actor, Scope};
use shed_core::Person;
use shed_http::{Options, Timing};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::protocol::frame::Frame as RawFrame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use crate::streams::tty;
use crate::support::{Door, LIMIT, get, post, reply};

const ATTACH: &str = "/api/sheds/a/sessions/work/attach";

/// A WebSocket as bytes, for what the typed client would not send.
type Raw = WebSocketStream<UnixStream>;

async fn raw(door: &Door, path: &str) -> Raw {
    let socket = door.unix().await;
    let url = format!("ws://localhost{path}");
    tokio_tungstenite::client_async(url, socket).await.unwrap().0
}

async fn message(socket: &mut Raw) -> Option<Message> {
    let next = tokio::time::timeout(LIMIT, socket.next()).await.expect("a message in time");
    next.and_then(Result::ok)
}

/// The next text message.
async fn text(socket: &mut Raw) -> Value {
    loop {
        match message(socket).await {
            Some(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
            Some(Message::Binary(_) | Message::Ping(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code that the server closes with, after whatever else it says.
async fn close_code(socket: &mut Raw) -> CloseCode {
    loop {
        match message(socket).await {
            Some(Message::Close(Some(frame))) => return frame.code,
            Some(Message::Close(None)) | None => panic!("closed without a code"),
            Some(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_caller_is_pinged() {
    let timing = Timing { ping: Duration::from_millis(50), ..Timing::default() };
    let door = Door::with(Options { timing, ..Options::default() }, None).await;
    door.test.shed("a").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let forward = format!("/api/sheds/a/forward/{port}");
    let sleep = json!({ "exec": { "argv": ["sleep", "1000"] } });
    for (path, opening) in [("/api/sheds/a/exec/stream", Some(sleep)), (forward.as_str(), None)] {
        let mut socket = raw(&door, path).await;
        if let Some(opening) = opening {
            socket.send(Message::text(opening.to_string())).await.unwrap();
        }
        assert_eq!(text(&mut socket).await, json!({ "type": "started", "ping_ms": 50 }));
        for _ in 0..3 {
            let ping = message(&mut socket).await;
            assert!(matches!(ping, Some(Message::Ping(_))), "{path}: {ping:?}");
        }
    }
    // Also while it waits for what is being started.
    door.json(post("/api/sheds", r#"{"name":"b","image":"slow"}"#), 202).await;
    let mut socket = raw(&door, "/api/sheds/b/console").await;
    socket.send(Message::text(json!({ "tty": tty() }).to_string())).await.unwrap();
    assert!(matches!(message(&mut socket).await, Some(Message::Ping(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_opening_is_refused_with_a_problem() {
    let door = Door::with_shed().await;
    for (path, opening) in [
        ("/api/sheds/a/exec/stream", Message::text("{}")),
        ("/api/sheds/a/exec/stream", Message::text("")),
        ("/api/sheds/a/exec/stream", Message::text(r#"[{"argv":["id"]}]"#)),
        ("/api/sheds/a/exec/stream", Message::text(r#"{"exec":{"argv":["id"]},"x":1}"#)),
        ("/api/sheds/a/exec/stream", Message::text(r#"{"exec":{"argv":[]}}"#)),
        ("/api/sheds/a/exec/stream", Message::binary(br#"{"exec":{"argv":["id"]}}"#.as_slice())),
        ("/api/sheds/a/console", Message::text(r#"{"tty":{"cols":-1,"rows":24}}"#)),
        (ATTACH, Message::text("not even JSON")),
    ] {
        let mut socket = raw(&door, path).await;
        socket.send(opening.clone()).await.unwrap();
        let said = text(&mut socket).await;
        assert_eq!(said["type"], "problem", "{opening:?}");
        assert_eq!(said["problem"]["code"], "invalid-request", "{opening:?}: {said}");
        assert_eq!(close_code(&mut socket).await, CloseCode::Normal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_violation_is_closed_with_its_code() {
    let door = Door::with_shed().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let forward = format!("/api/sheds/a/forward/{port}");
    let reserved = RawFrame::message(vec![0; 4], OpCode::Data(Data::Reserved(5)), true);
    let no_text = RawFrame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    let lost_piece = RawFrame::message(vec![0; 4], OpCode::Data(Data::Continue), true);
    let large = RawFrame::message(vec![0; (1 << 20) + 1], OpCode::Data(Data::Binary), true);
    for (frame, code) in [
        (reserved, CloseCode::Protocol),
        (lost_piece, CloseCode::Protocol),
        (no_text, CloseCode::Invalid),
        (large, CloseCode::Size),
    ] {
        for (path, opening) in [
            ("/api/sheds/a/exec/stream", Some(r#"{"exec":{"argv":["cat"]},"stdin":true}"#)),
            (forward.as_str(), None),
        ] {
            let mut socket = raw(&door, path).await;
            if let Some(opening) = opening {
                socket.send(Message::text(opening)).await.unwrap();
            }
            assert_eq!(text(&mut socket).await, json!({ "type": "started", "ping_ms": 5_000 }));
            // The server may close before it has read all of it.
            socket.send(Message::Frame(frame.clone())).await.ok();
            assert_eq!(close_code(&mut socket).await, code, "{path} {:?}", frame.header().opcode);
        }
    }
    assert_eq!(door.ask(get("/api/sheds/a")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_newer_client_are_skipped() {
    let door = Door::with_shed().await;
    let mut socket = raw(&door, "/api/sheds/a/exec/stream").await;
    let opening = r#"{"exec":{"argv":["cat"]},"stdin":true}"#;
    socket.send(Message::text(opening)).await.unwrap();
    for frame in [
        "{",
        r#"{"type":"new-thing"}"#,
        r#"{"type":"signal","name":"NONE"}"#,
        r#"{"type":"resize","cols":0,"rows":0}"#,
    ] {
        socket.send(Message::text(frame)).await.unwrap();
    }
    socket.send(Message::binary(b"still here".as_slice())).await.unwrap();
    socket.send(Message::binary(Vec::new())).await.unwrap();
    socket.send(Message::text(r#"{"type":"eof"}"#)).await.unwrap();
    let mut out = Vec::new();
    loop {
        match message(&mut socket).await.unwrap() {
            Message::Binary(bytes) => out.extend(bytes),
            Message::Text(text) if text.contains("exit") => {
                assert_eq!(text.as_str(), r#"{"type":"exit","exit":{"code":0}}"#);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(out, b"\x01still here");
    assert_eq!(close_code(&mut socket).await, CloseCode::Normal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_closes_is_answered() {
    let door = Door::with_shed().await;
    let mut socket = raw(&door, "/api/sheds/a/exec/stream").await;
    let opening = r#"{"exec":{"argv":["sleep","1000"]}}"#;
    socket.send(Message::text(opening)).await.unwrap();
    assert_eq!(text(&mut socket).await, json!({ "type": "started", "ping_ms": 5_000 }));
    socket.close(None).await.unwrap();
    assert!(matches!(message(&mut socket).await, Some(Message::Close(_))));
    assert!(message(&mut socket).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_upgrade_is_refused_like_any_other() {
    let door = Door::with_shed().await;
    let needed = (426, "upgrade-required".to_owned());
    for path in [
        ATTACH,
        "/api/sheds/a/console",
        "/api/sheds/a/exec/stream",
        "/api/sheds/a/forward/80",
        "/api/sheds/a/lend/x",
    ] {
        let refused = door.ask(get(path)).await;
        assert_eq!(refused.header("upgrade"), Some("websocket"), "{path}");
        assert_eq!(refused.problem(), needed, "{path}");
        let request = get(path).header("connection", "upgrade").header("upgrade", "websocket");
        assert_eq!(door.refused(request.header("sec-websocket-version", "12")).await, needed);
    }
    let upgrade = get("/api/sheds/b/console")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(door.refused(upgrade).await, (404, "shed-not-found".to_owned()));
    let mut lend = raw(&door, "/api/sheds/a/lend/none").await;
    let said = text(&mut lend).await;
    assert_eq!(said["problem"]["code"], "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_for_streams_too() {
    let door = Door::with_shed().await;
    let mut socket = door.tcp().await;
    let upgrade = get(ATTACH)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    socket.write_all(&upgrade.bytes()).await.unwrap();
    assert_eq!(reply(&mut socket).await.problem(), (401, "unauthorized".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_the_ssh_door_is_served_as_its_person() {
    let door = Door::with_shed().await;
    let reader = Person::holder(Actor::Key("r".to_owned()), Scope::Read, Vec::new());
    let (mut ours, theirs) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(door.served(reader, theirs));
    let keep = |path: &str| get(path).header("connection", "keep-alive").bytes();
    ours.write_all(&keep("/api/info")).await.unwrap();
    assert_eq!(reply(&mut ours).await.json()["scope"], "read");
    ours.write_all(&keep("/api/keys")).await.unwrap();
    assert_eq!(reply(&mut ours).await.problem(), (403, "forbidden".to_owned()));
    drop(ours);
    serving.await.unwrap();
    // What it was upgraded to counts as well.
    let driver = Person::holder(Actor::Key("d".to_owned()), Scope::Drive, Vec::new());
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(door.served(driver, theirs));
    let url = "ws://localhost/api/sheds/a/exec/stream";
    let (mut socket, _) = tokio_tungstenite::client_async(url, ours).await.unwrap();
    let opening = r#"{"exec":{"argv":["cat"]},"stdin":true}"#;
    socket.send(Message::text(opening)).await.unwrap();
    let started = socket.next().await.unwrap().unwrap();
    assert_eq!(started.into_text().unwrap().as_str(), r#"{"type":"started","ping_ms":5000}"#);
    assert!(!serving.is_finished());
    drop(socket);
    serving.await.unwrap();
}
