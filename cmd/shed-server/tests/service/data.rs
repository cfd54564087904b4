//! Data directories of which a part is missing, and the ways out.

use std::process::{Command, Stdio};

use crate::support::{Home, Said};

/// A command of `shed-server` on the data directory of a home.
fn run(home: &Home, words: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shed-server"));
    command
        .args(words)
        .arg("--data-dir")
        .arg(home.path("data"))
        .env("HOME", home.path(""))
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env_remove("SHED_SERVER_CONFIG")
        .stdin(Stdio::null());
    command.output().unwrap().into()
}

/// A data directory of a server that ran once, with the token `t`.
fn home_of_a_server() -> Home {
    let home = Home::new();
    home.done(&["start"]);
    assert_eq!(run(&home, &["token", "add", "t"]).status, Some(0));
    home.done(&["stop"]);
    home
}

fn has_token(home: &Home) -> bool {
    run(home, &["token", "list"]).stdout.contains(" t ")
}

#[test]
fn a_missing_database_is_refused_until_a_backup_is_restored() {
    let home = home_of_a_server();
    let (database, backup) = (home.path("data/shed.db"), home.path("backup.db"));
    let file = backup.to_str().unwrap();
    assert_eq!(run(&home, &["backup", file]).status, Some(0));
    std::fs::remove_file(&database).unwrap();
    // None of them may begin with an empty database.
    for words in [&["serve"][..], &["token", "list"], &["key", "list"]] {
        let refused = run(&home, words);
        assert!(refused.status == Some(4), "{words:?}: {refused:?}");
        assert!(refused.stderr.contains(" restore FILE --data-dir "), "{refused:?}");
        assert!(!database.exists(), "{words:?} created a database");
    }
    let started = home.tried(&["start"]);
    assert!(started.status == Some(1) && started.stderr.contains(" restore FILE "), "{started:?}");
    let restored = run(&home, &["restore", file]);
    assert_eq!(restored.status, Some(0), "{restored:?}");
    assert!(has_token(&home));
    home.done(&["start"]);
}

#[test]
fn a_restore_needs_a_stopped_server_and_keeps_the_database_it_replaces() {
    let home = home_of_a_server();
    let backup = home.path("backup.db");
    let file = backup.to_str().unwrap();
    assert_eq!(run(&home, &["backup", file]).status, Some(0));
    assert_eq!(run(&home, &["token", "remove", "t"]).status, Some(0));
    home.done(&["start"]);
    let refused = run(&home, &["restore", file]);
    assert!(refused.status == Some(4) && refused.stderr.contains("stop it first"), "{refused:?}");
    home.done(&["stop"]);
    assert!(!has_token(&home));
    let restored = run(&home, &["restore", file]);
    assert!(restored.stderr.contains("moved the database that was there to "), "{restored:?}");
    assert!(has_token(&home));
    std::fs::write(&backup, "a letter").unwrap();
    assert!(run(&home, &["restore", file]).stderr.contains("is damaged"));
    assert!(has_token(&home));
}

#[test]
fn adopting_begins_with_an_empty_database() {
    let home = home_of_a_server();
    let id = std::fs::read_to_string(home.path("data/server_id")).unwrap();
    std::fs::write(home.path("data/shed.db"), "").unwrap();
    let adopted = run(&home, &["adopt", "--server-id", id.trim()]);
    assert_eq!(adopted.status, Some(0), "{adopted:?}");
    assert!(!has_token(&home));
    home.done(&["start"]);
}

#[test]
fn a_new_host_key_of_a_known_server_is_reported() {
    let home = home_of_a_server();
    let key = home.path("data/host_key");
    std::fs::write(&key, "").unwrap();
    let refused = run(&home, &["serve", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0"]);
    assert!(refused.status == Some(1), "{refused:?}");
    assert!(refused.stderr.contains("the file is empty; restore it"), "{refused:?}");
    assert!(!home.log().contains("a new one was created"));
    std::fs::remove_file(&key).unwrap();
    home.done(&["start"]);
    assert!(home.log().contains("a new one was created"), "{}", home.log());
}
