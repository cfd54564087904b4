//! Invalid bytes, and requests for other hosts or from other origins.

use shed_api::Scope;
use shed_http::Options;
use tokio::io::AsyncWriteExt as _;

use crate::support::{Door, ends, get, try_reply};

#[tokio::test(flavor = "multi_thread")]
async fn invalid_bytes_end_only_their_own_connection() {
    let door = Door::start().await;
    let noise: Vec<u8> =
        (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let pieces: [&[u8]; 9] = [
        &noise,
        b"\0\0\0\0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for bytes in pieces {
        let mut socket = door.tcp().await;
        socket.write_all(bytes).await.ok();
        socket.shutdown().await.ok();
        if let Some(reply) = try_reply(&mut socket).await {
            assert!((400..=505).contains(&reply.status), "{}", reply.status);
        }
        assert!(ends(&mut socket).await);
    }
    assert_eq!(door.ask_tcp(get("/api/health/live")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_never_parsed_as_two() {
    let door = Door::start().await;
    let inner = "GET /api/sheds HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for lengths in [
        "content-length: 0\r\ntransfer-encoding: chunked".to_owned(),
        format!("content-length: 0\r\ncontent-length: {}", inner.len()),
        "transfer-encoding: x, chunked, identity".to_owned(),
        "transfer-encoding : chunked".to_owned(),
    ] {
        let mut socket = door.unix().await;
        let text = format!(
            "GET /api/health/live HTTP/1.1\r\nhost: localhost\r\n{lengths}\r\n\r\n0\r\n\r\n{inner}"
        );
        socket.write_all(text.as_bytes()).await.unwrap();
        let first = try_reply(&mut socket).await;
        if first.is_none_or(|first| first.status != 200) {
            continue;
        }
        // Taken as chunked; then the connection is not used again.
        assert!(try_reply(&mut socket).await.is_none(), "{lengths}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_configured_hosts_are_allowed_over_tcp() {
    let options = Options { hosts: vec!["shed.example.com".to_owned()], ..Options::default() };
    let door = Door::with(options, None).await;
    let token = door.token(Scope::Read, &[]).await;
    let asked =
        async |host: &str| door.ask_tcp(get("/api/info").token(&token).header("host", host)).await;
    for own in
        ["localhost", "127.0.0.1:8080", "[::1]:8080", "Shed.Example.com", "shed.example.com:1"]
    {
        assert_eq!(asked(own).await.status, 200, "{own}");
    }
    let refused = (403, "host-not-allowed".to_owned());
    for other in ["evil.com", "", "localhost.evil.com", "127.0.0.1.nip.io", "a b", "ü"] {
        assert_eq!(asked(other).await.problem(), refused, "{other}");
        // Not even for what needs no token.
        let docs = door.ask_tcp(get("/api/docs").header("host", other)).await;
        assert_eq!(docs.problem(), refused);
    }
    // The unix socket has no name to be called by.
    assert_eq!(door.ask(get("/api/info").header("host", "evil.com")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_two_hosts_is_refused() {
    let door = Door::start().await;
    let invalid = (400, "invalid-request".to_owned());
    for other in ["localhost", "evil.com"] {
        let request = || get("/api/health/live").header("host", "localhost").header("host", other);
        assert_eq!(door.ask_tcp(request()).await.problem(), invalid);
        assert_eq!(door.ask(request()).await.problem(), invalid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_foreign_pages_are_refused() {
    let options = Options { hosts: vec!["shed.example.com".to_owned()], ..Options::default() };
    let door = Door::with(options, None).await;
    let token = door.token(Scope::Admin, &[]).await;
    let asked = async |path: &str, origin: &str| {
        let request = get(path).token(&token).header("host", "localhost:8080");
        door.ask_tcp(request.header("origin", origin)).await
    };
    for own in ["http://localhost:8080", "https://shed.example.com"] {
        assert_eq!(asked("/api/info", own).await.status, 200, "{own}");
    }
    for other in [
        "null",
        "https://evil.com",
        "http://localhost:3000",
        "http://10.0.0.1",
        "http://localhost.evil.com",
        "file://",
    ] {
        for path in ["/api/info", "/api/sheds/a/console"] {
            assert_eq!(
                asked(path, other).await.problem(),
                (403, "host-not-allowed".to_owned()),
                "{other}"
            );
        }
    }
    // And no answer invites a page to read it.
    let reply = asked("/api/info", "http://localhost:8080").await;
    assert!(reply.header("access-control-allow-origin").is_none());
}
