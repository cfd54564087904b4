//! The real OpenSSH client, which starts the server itself, without network and keys.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::raw::{PROGRAM, open_to_all};

/// A `local` and a `remote` directory. The client runs in the first; their parent is the home directory.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.local("")).unwrap();
        std::fs::create_dir(place.remote("")).unwrap();
        place
    }

    fn home(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    fn local(&self, name: &str) -> PathBuf {
        self.home().join("local").join(name)
    }

    fn remote(&self, name: &str) -> PathBuf {
        self.home().join("remote").join(name)
    }

    /// Runs commands in the remote directory, with options of the client.
    fn run(&self, options: &[&str], commands: &str) -> Output {
        let mut client = Command::new("sftp")
            .args(options)
            .args(["-q", "-b", "-", "-D", &format!("'{PROGRAM}' sftp")])
            .current_dir(self.local(""))
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.home())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let batch = format!("cd ../remote\n{commands}\n");
        client.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        client.wait_with_output().unwrap()
    }

    /// Runs commands that must all succeed and returns their output.
    fn ok(&self, commands: &str) -> String {
        self.ok_with(&[], commands)
    }

    fn ok_with(&self, options: &[&str], commands: &str) -> String {
        let output = self.run(options, commands);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}: {message}");
        assert_eq!(message, "", "{commands}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail and returns the error message.
    fn refused(&self, command: &str) -> String {
        let output = self.run(&[], command);
        assert_eq!(output.status.code(), Some(1), "{command}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Bytes that do not repeat soon, so that a misplaced block is noticed.
fn content(n_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..n_bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(n_bytes).collect()
}

#[test]
fn files_are_transferred_unchanged() {
    let place = Place::new();
    for n_bytes in [0, 1, 32_768, 261_120, 261_121, 20_000_000] {
        let bytes = content(n_bytes);
        std::fs::write(place.local("file"), &bytes).unwrap();
        place.ok("put file there\nget there back");
        assert!(std::fs::read(place.remote("there")).unwrap() == bytes, "put of {n_bytes}");
        assert!(std::fs::read(place.local("back")).unwrap() == bytes, "get of {n_bytes}");
    }
}

#[test]
fn files_are_transferred_unchanged_with_any_request_size() {
    let place = Place::new();
    let bytes = content(3_000_001);
    std::fs::write(place.local("file"), &bytes).unwrap();
    for options in [["-B", "1000", "-R", "200"], ["-B", "100000", "-R", "1"]] {
        place.ok_with(&options, "put file there\nget there back");
        assert!(std::fs::read(place.local("back")).unwrap() == bytes, "{options:?}");
    }
}

/// All entries below a directory: names, types, modes, times of files, contents.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut tree = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if stat.is_dir() {
                tree.insert(name, (stat.mode(), 0, Vec::new()));
                left.push(path);
            } else {
                tree.insert(name, (stat.mode(), stat.mtime(), std::fs::read(path).unwrap()));
            }
        }
    }
    tree
}

#[test]
fn a_tree_with_any_names_is_transferred_unchanged() {
    let place = Place::new();
    let root = place.local("tree");
    for dir in ["a b/empty", "a b/ü", "deep/er/still"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    let odd = OsStr::from_bytes(b"no\xff\xfetext");
    std::fs::create_dir(root.join(odd)).unwrap();
    for (name, n_bytes) in [("a b/ü/new\nline", 10), ("deep/er/still/here", 300_000), ("x", 0)] {
        std::fs::write(root.join(name), content(n_bytes)).unwrap();
    }
    std::fs::write(root.join(odd).join(odd), "odd").unwrap();
    open_to_all(&root.join("x"), 0o751);
    open_to_all(&root.join("a b/empty"), 0o700);
    place.ok("put -pr tree\nget -pr tree back");
    let sent = tree(&root);
    assert_eq!(sent.len(), 11);
    assert_eq!(tree(&place.remote("tree")), sent);
    assert_eq!(tree(&place.local("back")), sent);
}

#[test]
fn an_interrupted_transfer_can_be_resumed() {
    let place = Place::new();
    let bytes = content(5_000_000);
    std::fs::write(place.local("up"), &bytes).unwrap();
    std::fs::write(place.remote("up"), &bytes[..1_234_567]).unwrap();
    std::fs::write(place.remote("down"), &bytes).unwrap();
    std::fs::write(place.local("down"), &bytes[..2_345_678]).unwrap();
    place.ok("reput up\nreget down");
    assert!(std::fs::read(place.remote("up")).unwrap() == bytes);
    assert!(std::fs::read(place.local("down")).unwrap() == bytes);
}

#[test]
fn names_with_spaces_and_non_ascii_letters_work() {
    let place = Place::new();
    std::fs::write(place.local("new\nline"), "1").unwrap();
    place.ok("mkdir \"a b\"\nmkdir ünï\nput new* \"a b/\"\nrename \"a b\" \"c  d\"\nrmdir ünï");
    assert_eq!(std::fs::read_to_string(place.remote("c  d/new\nline")).unwrap(), "1");
    assert!(!place.remote("ünï").exists());
    let listed = place.ok("ls -1 \"c  d\"");
    assert!(listed.contains("new\nline"), "{listed}");
    place.ok("rm c\\ \\ d/new*\nrmdir \"c  d\"");
    assert!(!place.remote("c  d").exists());
}

#[test]
fn links_modes_and_groups_are_set() {
    let place = Place::new();
    std::fs::write(place.remote("file"), "content").unwrap();
    let group = std::fs::metadata(place.remote("file")).unwrap().gid();
    place.ok(&format!(
        "ln -s file soft\nln file hard\nchmod 640 file\nchgrp {group} file\nchgrp -h {group} soft"
    ));
    assert_eq!(std::fs::read_link(place.remote("soft")).unwrap(), Path::new("file"));
    let stat = std::fs::metadata(place.remote("hard")).unwrap();
    assert_eq!((stat.nlink(), stat.mode() & 0o7777), (2, 0o640));
    place.ok("rm soft\nrm hard");
    assert_eq!(std::fs::metadata(place.remote("file")).unwrap().nlink(), 1);
}

#[test]
fn a_rename_replaces_except_with_the_old_request() {
    let place = Place::new();
    std::fs::write(place.remote("one"), "one").unwrap();
    std::fs::write(place.remote("two"), "two").unwrap();
    let message = place.refused("rename -l one two");
    assert!(message.contains("Failure"), "{message}");
    place.ok("rename one two");
    assert_eq!(std::fs::read_to_string(place.remote("two")).unwrap(), "one");
    place.ok("copy two three");
    assert_eq!(std::fs::read_to_string(place.remote("three")).unwrap(), "one");
}

#[test]
fn listings_have_the_format_of_ls() {
    let place = Place::new();
    std::fs::write(place.remote("file"), "12345").unwrap();
    open_to_all(&place.remote("file"), 0o640);
    std::fs::create_dir(place.remote("dir")).unwrap();
    symlink("file", place.remote("link")).unwrap();
    let listed = place.ok("ls -la");
    for (name, mode) in [
        (".", "drwx"),
        ("..", "drwx"),
        ("dir", "drwx"),
        ("link", "lrwxrwxrwx "),
        ("file", "-rw-r----- "),
    ] {
        let line = listed.lines().find(|line| line.ends_with(&format!(" {name}")));
        assert!(line.is_some_and(|line| line.starts_with(mode)), "{listed}");
    }
    // The client formats the lines itself when it can request the names of users.
    let owner = std::fs::metadata(place.remote("file")).unwrap().uid();
    assert!(owner != 0 || listed.contains(" root     root "), "{listed}");
    assert_eq!(place.ok("ls -1").lines().last(), Some("link"));
}

#[test]
fn free_space_and_directories_are_reported() {
    let place = Place::new();
    let printed = place.ok("df -h\ndf -i\nprogress\npwd");
    assert!(printed.contains("Avail") && printed.contains('%'), "{printed}");
    let remote = place.home().join("remote");
    let told = format!("Remote working directory: {}", remote.display());
    assert!(printed.lines().any(|line| line == told), "{printed}");
}

#[test]
fn scp_copies_a_file_to_a_home_directory_and_back() {
    let place = Place::new();
    std::fs::write(place.local("file"), content(100_000)).unwrap();
    // scp starts a server without arguments, so it needs a script. Another process writes it, so that no descriptor of it is
    // open for writing here.
    let server = place.local("server");
    let script = format!("#!/bin/sh\nexec '{PROGRAM}' sftp\n");
    let made = Command::new("sh")
        .args(["-c", "printf %s \"$2\" > \"$1\" && chmod +x \"$1\"", "sh"])
        .args([server.as_os_str(), OsStr::new(&script)])
        .status();
    assert!(made.unwrap().success());
    for files in [["local/file", "any:~/remote/there"], ["any:~/remote/there", "local/back"]] {
        let output = Command::new("scp")
            .args(["-q", "-s", "-D"])
            .arg(&server)
            .args(files)
            // For this client `~/` is the server's initial directory.
            .current_dir(place.home())
            .env("HOME", place.home())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(std::fs::read(place.local("back")).unwrap() == content(100_000));
}

#[test]
fn errors_name_missing_and_existing_files() {
    let place = Place::new();
    std::fs::create_dir(place.remote("full")).unwrap();
    std::fs::write(place.remote("full/file"), "").unwrap();
    for (command, why) in [
        ("get missing", "not found"),
        ("rm missing", "No such file or directory"),
        ("cd missing", "No such file or directory"),
        ("ls missing", "not found"),
        ("rmdir full", "Failure"),
        ("mkdir full", "Failure"),
        // A directory has no hard links, even for root.
        ("ln full hard", "Permission denied"),
    ] {
        let message = place.refused(command);
        assert!(message.contains(why), "{command}: {message}");
    }
}
