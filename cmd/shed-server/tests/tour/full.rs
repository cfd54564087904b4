//! A full disk: changes fail with a message, deletions work, and the server starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, IMAGE, SMALL_IMAGE, eventually, json};

/// Enough for shed-init, the database and its write-ahead log.
const DISK: &str = "size=12m";

/// A small file system for a data directory. Dropping it unmounts it.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at).status();
        assert!(mounted.unwrap().success(), "this test mounts a small disk, as root");
        Self(at.to_owned())
    }

    /// Writes until the disk is full.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [64 << 10, 4 << 10, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn on_a_full_disk_creating_fails_and_deleting_works() {
    let home = Home::new();
    let disk = Disk::mount(&home.data());
    let server = home.start();
    home.done(&["create", "a", "--image", SMALL_IMAGE]);
    home.done(&["create", "b", "--image", SMALL_IMAGE]);
    disk.fill();
    let (status, text) = home.tried(&["create", "c", "--image", SMALL_IMAGE]);
    assert!(status == Some(1) && text.contains("full"), "{text}");
    assert!(home.tried(&["show", "c"]).0 == Some(3), "a refused shed exists");
    // Killed in this state, the server starts again with all its data.
    server.kill();
    let _server = home.start();
    eventually("it is known", || {
        (home.tried(&["exec", "a", "--", "true"]).0 == Some(0)).then_some(())
    });
    disk.fill();
    home.done(&["delete", "-f", "a"]);
    assert_eq!(json(&home.done(&["--json", "list"]))["sheds"].as_array().unwrap().len(), 1);
    std::fs::remove_file(home.data().join("filler")).unwrap();
    home.done(&["delete", "-f", "b"]);
}

#[test]
fn a_session_that_filled_the_disk_can_be_deleted() {
    let home = Home::with("[sessions]\noutput = \"1G\"\n");
    let _disk = Disk::mount(&home.data());
    let _server = home.start();
    home.done(&["create", "a", "--image", IMAGE]);
    home.done(&["run", "a", "-n", "loud", "-d", "--", "base64", "/dev/urandom"]);
    let ready = || home.try_ask("GET", "/api/health/ready", None).unwrap();
    eventually("a full disk", || {
        let (status, health) = ready();
        (status == 503 && health.to_string().contains("disk: ")).then_some(())
    });
    // It has taken the last byte when nothing more is stored.
    let mut stored = 0;
    eventually("the last byte", || {
        let before = std::mem::replace(&mut stored, bytes_in(&home.data()));
        (stored == before && home.tried(&["run", "a", "-d", "--", "true"]).0 != Some(0))
            .then_some(())
    });
    home.done(&["sessions", "delete", "a", "loud"]);
    assert_eq!(ready().0, 200, "its output is still there");
    home.done(&["run", "a", "-d", "--", "true"]);
}

/// The size of all files below a directory.
fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
