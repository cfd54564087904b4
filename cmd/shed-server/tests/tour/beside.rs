//! Commands that work with and without a running server: key, token, backup, adopt, doctor.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::{Home, SMALL_IMAGE, json};

/// Sends a GET request over TCP; returns the whole response.
fn ask(address: &str, token: Option<&str>, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let token = token.map(|it| format!("Authorization: Bearer {it}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{token}Connection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn keys_and_tokens_are_added_and_removed_with_and_without_a_server() {
    let home = Home::new();
    let (status, text) = home.command_said(&["token", "add", "before", "--scope", "read"]);
    assert_eq!(status, Some(0), "{text}");
    let before = text.lines().next().unwrap().to_owned();
    let server = home.start();
    let http = server.ready.http.clone().unwrap();
    let (_, text) = home.command_said(&["--json", "token", "add", "beside", "--expires", "1h"]);
    let beside = text.split("\"token\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for token in [&before, &beside] {
        assert!(ask(&http, Some(token), "/api/sheds").starts_with("HTTP/1.1 200"));
    }
    assert!(ask(&http, None, "/api/sheds").starts_with("HTTP/1.1 401"));
    assert!(ask(&http, None, "/api/health/live").starts_with("HTTP/1.1 200"));
    home.command_said(&["token", "remove", "before"]);
    assert!(ask(&http, Some(&before), "/api/sheds").starts_with("HTTP/1.1 401"));

    let key = home.key("me", "admin");
    let (_, keys) = home.command_said(&["key", "list"]);
    assert!(keys.contains("me") && keys.contains("SHA256:"), "{keys}");
    let login = |server: &crate::support::Server| {
        server.ssh(&key).arg("nothing@127.0.0.1").arg("true").output().unwrap()
    };
    let (_, refused) = home.command_said(&["key", "add", "x", "no key at all"]);
    assert!(refused.contains("no key at all"), "{refused}");
    let known = String::from_utf8_lossy(&login(&server).stderr).into_owned();
    assert!(
        known.contains("nothing"),
        "an authorized key gets the answer that there is no such shed: {known}"
    );
    home.command_said(&["key", "remove", "me"]);
    let unknown = String::from_utf8_lossy(&login(&server).stderr).into_owned();
    assert!(unknown.contains("Permission denied"), "{unknown}");
    assert_eq!(server.end(), Some(0));
    assert!(home.command_said(&["token", "list"]).1.contains("beside"));
}

#[test]
fn sheds_are_adopted_after_the_data_directory_is_lost() {
    let home = Home::new();
    let server = home.start();
    let id = server.ready.server_id.clone();
    home.done(&["create", "a", "--image", SMALL_IMAGE]);
    home.done(&["exec", "a", "--", "sh", "-c", "echo kept > /workspace/file"]);
    let backup = home.dir.path().join("backup.db");
    let words = ["backup", backup.to_str().unwrap()];
    assert_eq!(home.command_said(&words).0, Some(0));
    // A backup does not overwrite a file.
    assert_eq!(home.command_said(&words).0, Some(1));
    // While the server runs, its identity cannot be changed.
    let (status, text) = home.command_said(&["adopt", "--server-id", &id]);
    assert!(status == Some(4) && text.contains("in use"), "{text}");
    server.kill();
    std::fs::remove_dir_all(home.data()).unwrap();
    assert_eq!(home.command_said(&["adopt", "--server-id", &id]).0, Some(0));
    let server = home.start();
    crate::support::eventually("the shed is known", || {
        // Its link directory was in the data directory: shed-init cannot connect before the container mounts a new one.
        (home.tried(&["restart", "a"]).0 == Some(0)).then_some(())
    });
    let kept =
        || (home.tried(&["exec", "a", "--", "cat", "/workspace/file"]).1 == "kept\n").then_some(());
    crate::support::eventually("the shed is adopted", kept);
    let events = home.done(&["--json", "events", "--after", "0", "--no-follow"]);
    assert!(events.contains("shed.adopted"), "{events}");
    server.kill();
    // The same from the backup.
    std::fs::copy(&backup, home.data().join("shed.db")).unwrap();
    for beside in ["shed.db-wal", "shed.db-shm"] {
        std::fs::remove_file(home.data().join(beside)).ok();
    }
    let _server = home.start();
    crate::support::eventually("the shed is known", kept);
}

#[test]
fn the_doctor_checks_and_explains() {
    let home = Home::with("");
    let _server = home.start();
    let (status, text) = home.command_said(&["--json", "doctor"]);
    let checks = json(&text)["checks"].as_array().unwrap().clone();
    let verdict = |what: &str| {
        let found = checks.iter().find(|check| check["what"] == what);
        found.unwrap_or_else(|| panic!("no check {what:?}: {text}"))["verdict"].clone()
    };
    assert_eq!(status, Some(0), "{text}");
    for what in ["configuration", "server", "host key", "engine", "default image"] {
        assert_eq!(verdict(what), "pass", "{text}");
    }
    // No key is authorized yet.
    assert_eq!(verdict("database"), "warn");
    std::fs::set_permissions(
        home.data().join("host_key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let (status, text) = home.command_said(&["doctor"]);
    assert!(status == Some(1) && text.contains("chmod 600"), "{text}");
}
