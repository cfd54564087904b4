//! Limits, and packets that no correct client sends.

use std::io::{BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::raw::*;

/// The server's limits.
const MAX_PACKET_BYTES: usize = (256 << 10) + (1 << 10);
const MAX_READ_BYTES: usize = 255 << 10;
const MAX_HANDLES: usize = 512;

#[test]
fn init_is_answered_by_version_3_with_extensions() {
    let mut client = Client::start_silent();
    let reply = client.greet();
    assert_eq!(reply[..5], [2, 0, 0, 0, 3]);
    let mut rest = Rest(&reply[5..]);
    let mut extensions = Vec::new();
    while !rest.0.is_empty() {
        let (name, version) = (rest.string(), rest.string());
        extensions.push(format!(
            "{} {}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(version)
        ));
    }
    for known in ["posix-rename@openssh.com 1", "statvfs@openssh.com 2", "limits@openssh.com 1"] {
        assert!(extensions.iter().any(|extension| extension == known), "{extensions:?}");
    }
}

#[test]
fn a_short_packet_is_a_bad_message_and_does_not_end_the_session() {
    let mut client = Client::start();
    for kind in (OPEN..=SYMLINK).chain([EXTENDED]) {
        client.send(&packet(kind, 7, &[]));
        assert_eq!(client.receive(7), Reply::Status(BAD_MESSAGE), "{kind}");
    }
    let mut too_long_a_name = packet(LSTAT, 8, &[text("name")]);
    too_long_a_name[5..9].copy_from_slice(&u32::MAX.to_be_bytes());
    client.send(&too_long_a_name);
    assert_eq!(client.receive(8), Reply::Status(BAD_MESSAGE));
    for nameless in [&b""[..], &[LSTAT], &[LSTAT, 0, 0, 0]] {
        client.send(nameless);
        assert_eq!(client.receive(0), Reply::Status(BAD_MESSAGE));
    }
    assert_eq!(client.name(REALPATH, b"."), client.remote(""));
}

#[test]
fn unknown_requests_and_extensions_are_unsupported() {
    let mut client = Client::start();
    for kind in [2, 21, 99, 101, 255] {
        assert_eq!(client.status(kind, &[]), UNSUPPORTED, "{kind}");
    }
    assert_eq!(client.extended("nothing@example.com", &[]), Reply::Status(UNSUPPORTED));
}

#[test]
fn a_packet_over_the_limit_ends_the_session() {
    let mut client = Client::start();
    let length = u32::try_from(MAX_PACKET_BYTES + 1).unwrap();
    client.send_raw(&length.to_be_bytes());
    let (status, message) = client.end();
    assert_eq!(status.code(), Some(3));
    assert_eq!(message, "shed-init: sftp: a packet of 263169 bytes exceeds the limit of 263168\n");
}

#[test]
fn the_largest_packet_is_accepted() {
    let mut client = Client::start();
    let handle = client.open(b"file", 0x1a);
    let fields = |data| [Field::String(&handle), Field::Long(0), Field::String(data)];
    let overhead = packet(WRITE, 1, &fields(b"")).len();
    let data = vec![5; MAX_PACKET_BYTES - overhead];
    client.send(&packet(WRITE, 1, &fields(&data)));
    assert_eq!(client.receive(1), Reply::Status(OK));
    assert_eq!(std::fs::read(client.path("file")).unwrap(), data);
}

#[test]
fn a_request_before_init_ends_the_session() {
    let mut client = Client::start_silent();
    client.send(&packet(LSTAT, 1, &[text("/")]));
    let (status, message) = client.end();
    assert_eq!(status.code(), Some(3));
    assert_eq!(message, "shed-init: sftp: received a request before the INIT packet\n");
}

#[test]
fn the_end_of_the_input_is_a_success_even_within_a_packet() {
    for left_over in [&b""[..], &[0, 0], &[0, 0, 0, 9, LSTAT, 0]] {
        let mut client = Client::start();
        client.send_raw(left_over);
        let (status, message) = client.end();
        assert_eq!((status.code(), message.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_closed_output_ends_the_session() {
    let mut client = Client::start();
    drop(client.stdout.take());
    client.send(&packet(LSTAT, 1, &[text("/")]));
    let (status, message) = client.end();
    assert_eq!(status.code(), Some(1));
    assert!(message.starts_with("shed-init: sftp: cannot write replies"), "{message}");
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let mut client = Client::start();
    let mut together = Vec::new();
    for id in 0..1_000 {
        together.extend(framed(&packet(REALPATH, id, &[text("some/where")])));
        together.extend(framed(&packet(LSTAT, id, &[text("/")])));
    }
    let mut stdin = client.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| stdin.write_all(&together).unwrap());
        for id in 0..1_000 {
            assert_eq!(client.receive(id), Reply::Status(NO_SUCH_FILE));
            assert!(matches!(client.receive(id), Reply::Attributes(_)));
        }
    });
}

#[test]
fn a_read_is_limited_in_size() {
    let mut client = Client::start();
    let content: Vec<u8> = (0..=250_u8).cycle().take(600_000).collect();
    std::fs::write(client.path("file"), &content).unwrap();
    let handle = client.open(b"file", 1);
    let data = |from: usize, n_bytes: usize| Reply::Data(content[from..][..n_bytes].to_vec());
    assert_eq!(client.read(&handle, 0, u32::MAX), data(0, MAX_READ_BYTES));
    assert_eq!(client.read(&handle, 300_000, 1 << 18), data(300_000, MAX_READ_BYTES));
    assert_eq!(client.read(&handle, 599_990, 100), data(599_990, 10));
    assert_eq!(client.read(&handle, 5, 0), data(5, 0));
    assert_eq!(client.read(&handle, 600_000, 1), Reply::Status(EOF));
    assert_eq!(client.read(&handle, u64::MAX, 1), Reply::Status(BAD_MESSAGE));
}

#[test]
fn the_number_of_handles_is_limited_and_closing_frees_one() {
    let mut client = Client::start();
    std::fs::write(client.path("file"), "").unwrap();
    let mut handles: Vec<_> = (1..MAX_HANDLES).map(|_| client.open(b"file", 1)).collect();
    assert!(matches!(client.ask(OPENDIR, &[text(".")]), Reply::Handle(_)));
    let create = [text("new"), Field::Number(0x1a), NO_ATTRIBUTES];
    assert_eq!(client.status(OPEN, &create), FAILURE);
    assert!(!client.path("new").exists());
    assert_eq!(client.status(OPENDIR, &[text(".")]), FAILURE);
    let closed = handles.pop().unwrap();
    assert_eq!(client.status(CLOSE, &[Field::String(&closed)]), OK);
    assert!(matches!(client.ask(OPEN, &create), Reply::Handle(_)));
}

#[test]
fn the_limits_are_reported() {
    let mut client = Client::start();
    let Reply::Extended(body) = client.extended("limits@openssh.com", &[]) else {
        panic!("no limits");
    };
    let mut rest = Rest(&body);
    let limits = [rest.long(), rest.long(), rest.long(), rest.long()];
    assert_eq!(limits, [256 << 10, 255 << 10, 255 << 10, 512]);
    assert!(rest.0.is_empty());
}

#[test]
fn a_closed_handle_never_refers_to_another_file() {
    let mut client = Client::start();
    let stale = client.open(b"one", 0x1a);
    assert_eq!(client.status(CLOSE, &[Field::String(&stale)]), OK);
    let fresh = client.open(b"two", 0x1a);
    assert_ne!(stale, fresh);
    assert_eq!(client.write(&stale, 0, b"lost"), FAILURE);
    assert_eq!(client.status(CLOSE, &[Field::String(&stale)]), NO_SUCH_FILE);
    assert_eq!(client.status(FSTAT, &[text("not a handle at all")]), FAILURE);
    assert_eq!(client.status(READDIR, &[Field::String(&fresh)]), FAILURE);
    assert_eq!(std::fs::read(client.path("two")).unwrap(), b"");
}

#[test]
fn non_blocking_descriptors_work_too() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), vec![1; 4 << 20]).unwrap();
    let stdin = OwnedFd::from(theirs.try_clone().unwrap());
    let mut child = Command::new(PROGRAM)
        .arg("sftp")
        .current_dir(dir.path())
        .stdin(stdin)
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let mut to_server = ours.try_clone().unwrap();
    let mut from_server = BufReader::new(ours);
    let mut answer = |request: &[u8]| {
        to_server.write_all(&framed(request)).unwrap();
        let mut length = [0; 4];
        from_server.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u32::from_be_bytes(length) as usize];
        from_server.read_exact(&mut reply).unwrap();
        reply
    };
    answer(&[1, 0, 0, 0, 3]);
    let opened = answer(&packet(OPEN, 1, &[text("file"), Field::Number(1), NO_ATTRIBUTES]));
    let handle = Field::String(&opened[9..]);
    for offset in (0..4 << 20).step_by(MAX_READ_BYTES) {
        let read = [handle, Field::Long(offset), Field::Number(u32::MAX)];
        let data = answer(&packet(READ, 2, &read));
        assert!(data[0] == 103 && data[9..].iter().all(|byte| *byte == 1));
    }
    to_server.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(child.wait().unwrap().success());
}
