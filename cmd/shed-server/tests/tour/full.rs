//! A disk that is full: what is refused is said, what frees space works, and the server starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, SMALL_IMAGE, json};

/// Enough for shed-init, the database and its log.
const DISK: &str = "size=12m";

/// A small disk of its own for a data directory. Gone with the test.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at).status();
        assert!(mounted.unwrap().success(), "this test mounts a small disk, as root");
        Self(at.to_owned())
    }

    /// Writes until nothing more fits.
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
fn a_full_disk_refuses_in_words_and_lets_go_of_what_is_deleted() {
    let home = Home::new();
    let disk = Disk::mount(&home.data());
    let server = home.start();
    home.done(&["create", "a", "--image", SMALL_IMAGE]);
    home.done(&["create", "b", "--image", SMALL_IMAGE]);
    disk.fill();
    let (status, text) = home.tried(&["create", "c", "--image", SMALL_IMAGE]);
    assert!(status == Some(1) && text.contains("full"), "{text}");
    assert!(home.tried(&["show", "c"]).0 == Some(3), "what was refused is not there");
    // Killed in this state, it starts again and knows what it knew.
    server.kill();
    let _server = home.start();
    crate::support::eventually("it is known", || {
        (home.tried(&["exec", "a", "--", "true"]).0 == Some(0)).then_some(())
    });
    disk.fill();
    home.done(&["delete", "-f", "a"]);
    assert_eq!(json(&home.done(&["--json", "list"]))["sheds"].as_array().unwrap().len(), 1);
    std::fs::remove_file(home.data().join("filler")).unwrap();
    home.done(&["delete", "-f", "b"]);
}
