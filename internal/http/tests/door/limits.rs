//! Limits of bodies, heads, rates and connections.

use std::time::{Duration, Instant};

use shed_api::Scope;
use shed_http::{Options, Timing};
use shed_testing::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Door, ask, ends, get, post, reply, try_reply};

/// Short enough for a test, long enough for a busy machine.
const SHORT: Duration = Duration::from_millis(300);

fn hasty() -> Options {
    let timing = Timing { head: SHORT, body: SHORT, ..Timing::default() };
    Options { timing, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_limit_is_refused() {
    let door = Door::with_shed().await;
    let token = door.token(Scope::Admin, &[]).await;
    let fill = |n_bytes: usize| format!(r#"{{"name":"{}"}}"#, "x".repeat(n_bytes));
    let too_large = (413, "too-large".to_owned());
    let request = post("/api/tokens", &fill(1 << 20)).token(&token);
    assert_eq!(door.ask_tcp(request).await.problem(), too_large);
    assert_eq!(door.refused(post("/api/tokens", &fill(1 << 20))).await, too_large);
    // Within the limit the body is read, and only its content is wrong.
    let (status, code) = door.refused(post("/api/tokens", &fill((1 << 20) - 100))).await;
    assert_eq!((status, code.as_str()), (400, "invalid-request"));
    let exec = format!(r#"{{"argv":["true"],"stdin":"{}"}}"#, "x".repeat(24 << 20));
    assert_eq!(door.refused(post("/api/sheds/a/exec", &exec)).await, too_large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_limit_in_chunks_is_refused() {
    let door = Door::start().await;
    let mut socket = door.unix().await;
    let head = "POST /api/tokens HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    for _ in 0..16 {
        socket.write_all(chunk.as_bytes()).await.unwrap();
    }
    // The server may answer and close before it has read all of it.
    socket.write_all(chunk.as_bytes()).await.ok();
    assert_eq!(reply(&mut socket).await.problem(), (413, "too-large".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_must_be_a_json_object() {
    let door = Door::start().await;
    let invalid = (400, "invalid-request".to_owned());
    for body in [
        "",
        "{",
        "[]",
        "null",
        "1",
        "\"a\"",
        "[\"t\",\"read\"]",
        "{} {}",
        "{\"name\":1}",
        "\u{feff}{}",
        "{\"name\":\"a\",\"name\":\"b\"}",
    ] {
        assert_eq!(door.refused(post("/api/tokens", body)).await, invalid, "{body}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(door.refused(post("/api/tokens", &deep)).await, invalid);
    let untyped = ask("POST", "/api/tokens").header("content-length", "0");
    assert_eq!(door.refused(untyped).await, invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_pauses_too_long_is_refused() {
    let door = Door::with(hasty(), None).await;
    let mut socket = door.unix().await;
    let head = "POST /api/tokens HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: 100\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(reply(&mut socket).await.problem(), (504, "timed-out".to_owned()));
    assert!(ends(&mut socket).await);
    // Somebody without a token is refused before the body is looked for.
    let mut socket = door.tcp().await;
    let head = head.replace("host: x", "host: localhost");
    socket.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(reply(&mut socket).await.problem(), (401, "unauthorized".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_pauses_too_long_ends_the_connection() {
    let door = Door::with(hasty(), None).await;
    for beginning in ["", "G", "GET /api/health/live HTTP/1.1\r\nhost: localhost\r\nx-y: "] {
        let mut socket = door.tcp().await;
        socket.write_all(beginning.as_bytes()).await.unwrap();
        assert!(ends(&mut socket).await, "{beginning}");
    }
    // Nor the next request on an idle connection.
    let mut socket = door.tcp().await;
    let live = get("/api/health/live").header("connection", "keep-alive");
    socket.write_all(&live.bytes()).await.unwrap();
    assert_eq!(reply(&mut socket).await.status, 200);
    assert!(ends(&mut socket).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_its_limit_is_refused() {
    let door = Door::start().await;
    for request in [
        get("/api/health/live").header("x-long", &"x".repeat(200 << 10)),
        get(&format!("/api/health/live?{}", "x".repeat(200 << 10))),
        (0..1_000).fold(get("/api/health/live"), |request, _| request.header("x", "y")),
    ] {
        let mut socket = door.tcp().await;
        socket.write_all(&request.bytes()).await.ok();
        // The server may close before everything was sent.
        if let Some(reply) = try_reply(&mut socket).await {
            assert!([431, 414, 400].contains(&reply.status), "{}", reply.status);
        }
        assert!(ends(&mut socket).await);
    }
    assert_eq!(door.ask_tcp(get("/api/health/live")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_tokens_is_limited_and_others_are_not() {
    let door = Door::start().await;
    let token = door.token(Scope::Read, &[]).await;
    let guess = |n: u32| get("/api/info").token(&format!("shed_{n}"));
    let mut limited = None;
    for n in 0..100 {
        let reply = door.ask_tcp(guess(n)).await;
        match reply.problem() {
            (401, _) => {}
            (429, code) => {
                assert_eq!(code, "rate-limited");
                assert!(reply.header("retry-after").is_some());
                limited = Some(n);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(limited.unwrap() >= 30);
    assert_eq!(door.ask_tcp(get("/api/info").token(&token)).await.status, 200);
    assert_eq!(door.ask_tcp(guess(0).from(2)).await.status, 401);
    for _ in 0..50 {
        // A probe shows no credential, and so guesses none.
        assert_eq!(door.ask_tcp(get("/api/health/live")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_are_limited_and_the_owner_s_are_not() {
    let door = Door::start().await;
    let flood = door.token(Scope::Read, &["a"]).await;
    let other = door.token(Scope::Read, &[]).await;
    let request = get("/api/info").header("connection", "keep-alive").token(&flood).bytes();
    let mut socket = door.tcp().await;
    let mut n_asked = 0;
    let limited = loop {
        socket.write_all(&request).await.unwrap();
        let reply = reply(&mut socket).await;
        n_asked += 1;
        if reply.status == 429 {
            break reply;
        }
        assert!(n_asked < 20_000, "no limit");
    };
    assert!(n_asked > 500);
    assert_eq!(limited.problem(), (429, "rate-limited".to_owned()));
    assert_eq!(door.ask_tcp(get("/api/info").token(&other)).await.status, 200);
    let mut socket = door.unix().await;
    let request = get("/api/info").header("connection", "keep-alive").bytes();
    for _ in 0..1_500 {
        socket.write_all(&request).await.unwrap();
        assert_eq!(reply(&mut socket).await.status, 200);
    }
}

/// As many files as this process may have.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let more = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, more).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_keep_a_client_out() {
    raise_file_limit();
    let door = Door::start().await;
    let token = door.token(Scope::Read, &[]).await;
    let info = get("/api/info").header("connection", "keep-alive").token(&token);
    let mut known = door.tcp().await;
    known.write_all(&info.bytes()).await.unwrap();
    assert_eq!(reply(&mut known).await.status, 200);
    let mut idle = Vec::new();
    // More than may be open; an idle one may otherwise stay for half a minute.
    for _ in 0..2_100 {
        idle.push(door.tcp().await);
    }
    let start = Instant::now();
    assert_eq!(door.ask_tcp(info).await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // The oldest were closed, but not the one whose client had authenticated before them.
    assert!(ends(&mut idle[0]).await);
    known.write_all(&get("/api/info").token(&token).bytes()).await.unwrap();
    assert_eq!(reply(&mut known).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_do_not_lock_others_out() {
    raise_file_limit();
    let timing = Timing { head: Duration::from_secs(3), ..Timing::default() };
    let door = Door::with(Options { timing, ..Options::default() }, None).await;
    let mut sockets = Vec::new();
    for _ in 0..1_000 {
        let mut socket = door.tcp().await;
        socket.write_all(b"GET /api/health/live HTTP/1.1\r\nhost: loc").await.unwrap();
        sockets.push(socket);
    }
    let start = Instant::now();
    assert_eq!(door.ask_tcp(get("/api/health/live")).await.status, 200);
    assert_eq!(door.ask(get("/api/sheds")).await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // They are let go, one and all.
    for socket in &mut sockets {
        assert!(ends(socket).await);
    }
    assert_eq!(door.ask_tcp(get("/api/health/live")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_leaves_nothing_behind() {
    let door = Door::with_shed().await;
    let mark = door.test.dir().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", mark.display());
    let body = serde_json::json!({ "argv": ["sh", "-c", script] }).to_string();
    let mut socket = door.tcp().await;
    let token = door.token(Scope::Drive, &[]).await;
    let request = post("/api/sheds/a/exec", &body).token(&token);
    socket.write_all(&request.bytes()).await.unwrap();
    let pid = eventually("the command", async || std::fs::read_to_string(&mark).ok()).await;
    drop(socket);
    let process = format!("/proc/{}", pid.trim());
    eventually("the end of the command", async || {
        (!std::path::Path::new(&process).exists()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_are_answered_in_order() {
    let door = Door::start().await;
    let one = get("/api/health/live").header("connection", "keep-alive").bytes();
    let two = get("/api/sheds/b").header("connection", "keep-alive").bytes();
    let mut socket = door.unix().await;
    socket.write_all(&[one.as_slice(), &two, &one].concat()).await.unwrap();
    for status in [200, 404, 200] {
        assert_eq!(reply(&mut socket).await.status, status);
    }
    socket.shutdown().await.unwrap();
    assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
}
