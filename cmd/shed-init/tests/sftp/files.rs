//! The effect of requests on files, and the status codes of failures.

use std::os::unix::fs::{MetadataExt as _, symlink};

use crate::raw::*;

fn mode_of(client: &Client, name: &str) -> u32 {
    std::fs::symlink_metadata(client.path(name)).unwrap().mode() & 0o7777
}

#[test]
fn a_missing_file_is_reported_as_no_such_file() {
    let mut client = Client::start();
    std::fs::write(client.path("file"), "").unwrap();
    for path in ["missing", "missing/below", "file/below", ""] {
        let path = text(path);
        for kind in [STAT, LSTAT, OPENDIR, REMOVE, RMDIR, READLINK] {
            assert_eq!(client.status(kind, &[path]), NO_SUCH_FILE, "{kind}");
        }
        assert_eq!(client.status(OPEN, &[path, Field::Number(1), NO_ATTRIBUTES]), NO_SUCH_FILE);
        assert_eq!(client.status(RENAME, &[path, text("new")]), NO_SUCH_FILE);
        let mode = [path, Field::Number(4), Field::Number(0o600)];
        assert_eq!(client.status(SETSTAT, &mode), NO_SUCH_FILE);
        assert_eq!(client.extended("statvfs@openssh.com", &[path]), Reply::Status(NO_SUCH_FILE));
    }
}

#[test]
fn missing_permissions_are_reported_as_permission_denied() {
    let mut client = Client::start_unprivileged();
    std::fs::create_dir(client.path("closed")).unwrap();
    std::fs::write(client.path("closed/file"), "secret").unwrap();
    open_to_all(&client.path("closed"), 0o000);
    std::fs::write(client.path("mine"), "").unwrap();
    let file = text("closed/file");
    for kind in [STAT, LSTAT, REMOVE, READLINK, REALPATH] {
        assert_eq!(client.status(kind, &[file]), PERMISSION_DENIED, "{kind}");
    }
    assert_eq!(client.status(OPENDIR, &[text("closed")]), PERMISSION_DENIED);
    assert_eq!(client.status(MKDIR, &[text("closed/new"), NO_ATTRIBUTES]), PERMISSION_DENIED);
    for flags in [1, 0x1a] {
        let open = [file, Field::Number(flags), NO_ATTRIBUTES];
        assert_eq!(client.status(OPEN, &open), PERMISSION_DENIED);
    }
    let give_away = [text("mine"), Field::Number(2), Field::Number(1), Field::Number(1)];
    assert_eq!(client.status(SETSTAT, &give_away), PERMISSION_DENIED);
    let link = client.extended("hardlink@openssh.com", &[text("."), text("here")]);
    assert_eq!(link, Reply::Status(PERMISSION_DENIED));
    open_to_all(&client.path("closed"), 0o755);
}

#[test]
fn a_directory_without_execute_permission_lists_its_names() {
    let mut client = Client::start_unprivileged();
    std::fs::create_dir(client.path("names")).unwrap();
    std::fs::write(client.path("names/file"), "").unwrap();
    open_to_all(&client.path("names"), 0o444);
    let names = client.list(b"names").concat();
    let (_, line) = names.iter().find(|(name, _)| name == b"file").unwrap();
    assert!(line.starts_with(b"??????????"));
    open_to_all(&client.path("names"), 0o755);
}

#[test]
fn only_a_posix_rename_replaces_a_file() {
    let mut client = Client::start();
    let write = |client: &Client, name: &str| std::fs::write(client.path(name), name).unwrap();
    write(&client, "one");
    write(&client, "two");
    std::fs::create_dir(client.path("dir")).unwrap();
    symlink("nowhere", client.path("dangling")).unwrap();
    for taken in ["two", "dir", "dangling", "one"] {
        assert_eq!(client.status(RENAME, &[text("one"), text(taken)]), FAILURE, "{taken}");
    }
    assert_eq!(client.status(RENAME, &[text("dir"), text("dir/below")]), BAD_MESSAGE);
    assert_eq!(client.status(RENAME, &[text("one"), text("dir/one")]), OK);
    let posix = "posix-rename@openssh.com";
    assert_eq!(client.extended(posix, &[text("dir/one"), text("two")]), Reply::Status(OK));
    assert_eq!(std::fs::read_to_string(client.path("two")).unwrap(), "one");
}

#[test]
fn files_are_created_truncated_and_appended_to() {
    let mut client = Client::start();
    let private = [text("file"), Field::Number(0x2a), Field::Number(4), Field::Number(0o600)];
    let Reply::Handle(handle) = client.ask(OPEN, &private) else {
        panic!("cannot create");
    };
    assert_eq!(mode_of(&client, "file"), 0o600);
    assert_eq!(client.status(OPEN, &private), FAILURE);
    assert_eq!(client.write(&handle, 3, b"def"), OK);
    assert_eq!(client.write(&handle, 0, b"abc"), OK);
    assert_eq!(client.write(&handle, 0, b""), OK);
    assert_eq!(client.write(&handle, u64::MAX, b"x"), BAD_MESSAGE);
    let appending = client.open(b"file", 0x06);
    assert_eq!(client.write(&appending, 0, b"ghi"), OK);
    assert_eq!(std::fs::read_to_string(client.path("file")).unwrap(), "abcdefghi");
    client.open(b"file", 0x12);
    assert_eq!(std::fs::read_to_string(client.path("file")).unwrap(), "");
}

#[test]
fn attributes_are_set_by_path_and_by_handle() {
    let mut client = Client::start();
    std::fs::write(client.path("file"), "123456").unwrap();
    let all = |size, mode, time| {
        [Field::Number(0xd), Field::Long(size), Field::Number(mode), Field::Number(5), time]
    };
    let by_path = all(4, 0o4710, Field::Number(4_000_000_000));
    assert_eq!(client.status(SETSTAT, &[&[text("file")], &by_path[..]].concat()), OK);
    let expected = Attributes { size: 4, mode: 0o104_710, modified_at: 4_000_000_000 };
    assert_eq!(client.attributes(LSTAT, b"file"), expected);
    let handle = client.open(b"file", 2);
    let by_handle = all(10, 0o600, Field::Number(1));
    assert_eq!(client.status(FSETSTAT, &[&[Field::String(&handle)], &by_handle[..]].concat()), OK);
    let expected = Attributes { size: 10, mode: 0o100_600, modified_at: 1 };
    assert_eq!(client.attributes(FSTAT, &handle), expected);
}

#[test]
fn other_attributes_are_set_even_if_one_cannot_be_set() {
    let mut client = Client::start();
    std::fs::create_dir(client.path("dir")).unwrap();
    let size_and_mode = [text("dir"), Field::Number(5), Field::Long(3), Field::Number(0o711)];
    assert_eq!(client.status(SETSTAT, &size_and_mode), FAILURE);
    assert_eq!(mode_of(&client, "dir"), 0o711);
}

#[test]
fn an_owner_of_minus_one_is_not_changed() {
    let mut client = Client::start();
    std::fs::write(client.path("file"), "").unwrap();
    let nobody = Field::Number(u32::MAX);
    assert_eq!(client.status(SETSTAT, &[text("file"), Field::Number(2), nobody, nobody]), OK);
}

#[test]
fn attributes_of_a_symlink_itself_can_be_set() {
    let mut client = Client::start();
    std::fs::write(client.path("file"), "").unwrap();
    symlink("file", client.path("link")).unwrap();
    let before = client.attributes(LSTAT, b"file");
    let mut set = |path, fields: &[Field<'_>]| {
        client.extended("lsetstat@openssh.com", &[&[text(path)], fields].concat())
    };
    let times = [Field::Number(8), Field::Number(6), Field::Number(7)];
    assert_eq!(set("link", &times), Reply::Status(OK));
    let mode = [Field::Number(4), Field::Number(0o640)];
    assert_eq!(set("link", &mode), Reply::Status(FAILURE));
    assert_eq!(set("link", &[Field::Number(1), Field::Long(0)]), Reply::Status(BAD_MESSAGE));
    assert_eq!(set("file", &mode), Reply::Status(OK));
    assert_eq!(client.attributes(LSTAT, b"link").modified_at, 7);
    let after = client.attributes(STAT, b"link");
    assert_eq!((after.modified_at, after.mode), (before.modified_at, 0o100_640));
}

#[test]
fn symlink_arguments_have_the_order_of_openssh() {
    let mut client = Client::start();
    std::fs::write(client.path("file"), "").unwrap();
    assert_eq!(client.status(SYMLINK, &[text("file"), text("link")]), OK);
    assert_eq!(client.name(READLINK, b"link"), b"file");
    assert_eq!(client.status(READLINK, &[text("file")]), BAD_MESSAGE);
    assert_eq!(client.status(SYMLINK, &[text("file"), text("link")]), FAILURE);
    let hard = "hardlink@openssh.com";
    assert_eq!(client.extended(hard, &[text("file"), text("hard")]), Reply::Status(OK));
    assert_eq!(client.extended(hard, &[text("file"), text("hard")]), Reply::Status(FAILURE));
    assert_eq!(std::fs::metadata(client.path("file")).unwrap().nlink(), 2);
}

#[test]
fn opening_a_named_pipe_does_not_block_the_session() {
    let mut client = Client::start();
    let made = std::process::Command::new("mkfifo").arg(client.path("pipe")).status().unwrap();
    assert!(made.success());
    let reading = client.open(b"pipe", 1);
    assert_eq!(client.read(&reading, 0, 10), Reply::Status(FAILURE));
    assert_eq!(client.status(CLOSE, &[Field::String(&reading)]), OK);
    let write = [text("pipe"), Field::Number(2), NO_ATTRIBUTES];
    assert_eq!(client.status(OPEN, &write), FAILURE);
    assert_eq!(client.status(OPENDIR, &[text("pipe")]), NO_SUCH_FILE);
}

#[test]
fn data_is_copied_between_open_files() {
    let mut client = Client::start();
    let content: Vec<u8> = (0..=250_u8).cycle().take(700_000).collect();
    std::fs::write(client.path("from"), &content).unwrap();
    let (from, to) = (client.open(b"from", 1), client.open(b"to", 0x1b));
    let mut copy = |from: &[u8], at: u64, n_bytes: u64, to: &[u8], to_at: u64| {
        let (from, to) = (Field::String(from), Field::String(to));
        let fields = [from, Field::Long(at), Field::Long(n_bytes), to, Field::Long(to_at)];
        client.extended("copy-data", &fields)
    };
    assert_eq!(copy(&from, 0, 0, &to, 0), Reply::Status(OK));
    assert_eq!(copy(&from, 1, 3, &to, 0), Reply::Status(OK));
    assert_eq!(copy(&from, 699_990, 100, &to, 700_000), Reply::Status(EOF));
    assert_eq!(copy(&to, 0, 0, &to, 5), Reply::Status(FAILURE));
    assert_eq!(copy(b"none", 0, 0, &to, 5), Reply::Status(FAILURE));
    let expected = [&content[1..4], &content[3..], &content[699_990..]].concat();
    assert!(std::fs::read(client.path("to")).unwrap() == expected);
    assert_eq!(client.extended("fsync@openssh.com", &[Field::String(&to)]), Reply::Status(OK));
}

#[test]
fn the_size_of_a_file_system_is_reported_by_path_and_by_handle() {
    let mut client = Client::start();
    let handle = client.open(b"file", 0x1a);
    let mut blocks = |name, field| {
        let Reply::Extended(body) = client.extended(name, &[field]) else {
            panic!("no size");
        };
        let mut rest = Rest(&body);
        let numbers: Vec<u64> = (0..11).map(|_| rest.long()).collect();
        assert!(rest.0.is_empty());
        (numbers[1], numbers[2], numbers[10])
    };
    let by_path = blocks("statvfs@openssh.com", text("."));
    assert!(by_path.0 > 0 && by_path.1 > 0 && by_path.2 >= 255, "{by_path:?}");
    assert_eq!(blocks("fstatvfs@openssh.com", Field::String(&handle)), by_path);
}

#[test]
fn directories_are_created_with_a_mode_and_removed_if_empty() {
    let mut client = Client::start();
    let make = [text("dir"), Field::Number(4), Field::Number(0o1700)];
    assert_eq!(client.status(MKDIR, &make), OK);
    assert_eq!(mode_of(&client, "dir"), 0o1700);
    assert_eq!(client.status(MKDIR, &make), FAILURE);
    std::fs::write(client.path("dir/file"), "").unwrap();
    assert_eq!(client.status(RMDIR, &[text("dir")]), FAILURE);
    assert_eq!(client.status(REMOVE, &[text("dir")]), FAILURE);
    assert_eq!(client.status(REMOVE, &[text("dir/file")]), OK);
    assert_eq!(client.status(RMDIR, &[text("dir")]), OK);
    assert!(!client.path("dir").exists());
}
