//! Starts that fail, and what they say.

use std::net::TcpListener;

use crate::support::Home;

#[test]
fn a_wrong_configuration_is_reported_and_does_not_stop_a_server() {
    let home = Home::new();
    let config = home.path("server.toml");
    std::fs::write(&config, "nmae = 'x'\n").unwrap();
    let refused = home.tried(&["start"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    let expected = format!(
        "shed-server: unknown key `nmae` in {} line 1, column 1; did you mean `name`?\n",
        config.display()
    );
    assert_eq!(refused.stderr, expected);

    std::fs::write(&config, "name = 'x'\n").unwrap();
    home.done(&["start"]);
    std::fs::write(&config, "nmae = 'x'\n").unwrap();
    assert!(home.done(&["start"]).stderr.starts_with("the server runs"), "it was not looked for");
    assert!(home.done(&["status"]).stdout.starts_with("the server runs"));
    assert_eq!(home.done(&["stop"]).stderr, "stopped the server\n");
}

#[test]
fn a_server_that_cannot_start_is_reported_with_its_log() {
    let home = Home::new();
    // The server ends with status 4, so the supervisor does not try again.
    let held = home.path("data");
    std::fs::create_dir(&held).unwrap();
    let lock = std::fs::File::create(held.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let failed = home.tried(&["start"]);
    assert_eq!(failed.status, Some(1), "{failed:?}");
    for expected in [
        "  the last lines of its log:\n    shed-server: the data directory ",
        "shed-server: the server did not start; to see why, run it in the foreground: ",
        " serve --data-dir ",
    ] {
        assert!(failed.stderr.contains(expected), "{expected:?}: {}", failed.stderr);
    }
    assert_eq!(home.report()["supervisor_pid"], serde_json::Value::Null);
    drop(lock);
    home.done(&["start"]);
}

#[test]
fn addresses_in_use_are_replaced() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let addresses = home.path("state/address");
    std::fs::write(&addresses, format!("--http {address} --ssh 127.0.0.1:0\n")).unwrap();
    home.done(&["start"]);
    let http = home.done(&["status", "--field", "http"]).stdout;
    assert_ne!(http.trim(), address.to_string());
    let text = std::fs::read_to_string(&addresses).unwrap();
    assert!(text.starts_with(&format!("--http {}", http.trim())), "{text}");
}
