//! Mistakes with which a server refuses to start, and the error messages.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Home, said};

#[test]
fn a_mistake_in_the_configuration_is_reported_with_its_position() {
    let home = Home::new();
    for (text, word) in [
        ("[http]\nlistn = []\n", "did you mean `listen`?"),
        ("[http]\nlisten = [\"127.0.0.1:80", "line 2"),
        ("[defaults]\nmemory = \"much\"\n", "\"much\""),
    ] {
        std::fs::write(home.config(), text).unwrap();
        for mut command in [home.serve(), home.command()] {
            if command.get_args().all(|word| word != "serve") {
                command.args(["config", "check"]);
            }
            let (status, said) = said(&mut command);
            assert!(status != Some(0) && said.contains(word), "{text}: {said}");
        }
    }
}

#[test]
fn an_address_beyond_loopback_needs_a_certificate_and_a_token() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["serve", "--http", "0.0.0.0:0", "--ssh", "127.0.0.1:0", "--socket"]);
    command.arg(home.socket());
    let (status, text) = said(&mut command);
    assert!(status == Some(1) && text.contains("there is no certificate"), "{text}");
    assert!(!home.socket().exists());

    let (certificate, key) = (home.dir.path().join("cert.pem"), home.dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = std::fs::read_to_string(home.config()).unwrap();
    let http = format!("[http]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    std::fs::write(home.config(), config + &http).unwrap();
    let (status, text) = said(&mut command);
    assert!(status == Some(1) && text.contains("others can read it"), "{text}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (status, text) = said(&mut command);
    assert!(status == Some(1) && text.contains("there is no token"), "{text}");
    assert!(text.contains("shed-server token add") && !home.socket().exists(), "{text}");
}

#[test]
fn an_address_in_use_is_named() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--http", "--ssh"] {
        let mut command = home.serve();
        command.args([option, &address]);
        let (status, text) = said(&mut command);
        assert!(status != Some(0) && text.contains(&address), "{text}");
    }
    // The socket of another server is not replaced.
    let server = home.start();
    let other = Home::new();
    let mut command = other.serve();
    command.arg("--socket").arg(home.socket());
    assert_eq!(said(&mut command).0, Some(2), "clap refuses a second --socket");
    let mut command = other.command();
    command.args(["serve", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--socket"]);
    let (status, text) = said(command.arg(home.socket()));
    assert!(status == Some(4) && text.contains("already answers"), "{text}");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_data_directory_has_one_server() {
    let home = Home::new();
    let server = home.start();
    let (status, text) = said(&mut home.serve());
    assert_eq!(status, Some(4), "{text}");
    assert!(text.contains(&format!("pid {}", server.ready.pid)), "{text}");
}

#[test]
fn a_damaged_or_newer_database_is_refused_and_not_changed() {
    let home = Home::new();
    assert_eq!(home.start().end(), Some(0));
    let path = home.data().join("shed.db");
    let good = std::fs::read(&path).unwrap();
    let mut newer = good.clone();
    // The user version is the big-endian number at offset 60 of a SQLite file.
    newer[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    let mut damaged = good.clone();
    damaged[..1000].fill(b'x');
    for (bytes, word) in
        [(newer, "newer version"), (damaged, "damaged"), (b"no db".to_vec(), "damaged")]
    {
        std::fs::write(&path, &bytes).unwrap();
        let (status, text) = said(&mut home.serve());
        assert!(status == Some(1) && text.contains(word), "{word}: {text}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was written to");
    }
}

#[test]
fn a_host_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let fingerprint = |home: &Home| home.command_said(&["key", "host"]).1;
    assert_eq!(home.start().end(), Some(0));
    let first = fingerprint(&home);
    let path = home.data().join("host_key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (status, text) = said(&mut home.serve());
    assert!(status == Some(1) && text.contains("chmod 600"), "{text}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.start().end(), Some(0));
    assert_eq!(fingerprint(&home), first, "kept for ever");
}

#[test]
fn the_doctor_does_not_create_a_data_directory() {
    let home = Home::new();
    let (status, text) = home.command_said(&["doctor"]);
    assert!(status == Some(0) && text.contains("not running"), "{text}");
    assert!(!home.data().exists(), "the doctor created a data directory");
}
