//! `shed cp` and `shed forward`.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{LIMIT, TestEnv, ended, noise, signal, started, until};

fn write(path: &Path, bytes: &[u8], mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_with_their_modes() {
    let env = TestEnv::new().await;
    let workspace = env.test.engine.workspace("a");
    let bytes = noise((1 << 20) + 7);
    write(&env.path("tool"), &bytes, 0o755);
    // Into a directory, to a new name, and over an existing file. On this engine paths in a shed are those of the machine.
    let inside = workspace.display();
    for (target, created) in [
        (format!("a:{inside}"), "tool"),
        (format!("a:{inside}/new"), "new"),
        (format!("a:{inside}/new"), "new"),
    ] {
        env.run(&["cp", "tool", &target]).await.ok();
        assert!(std::fs::read(workspace.join(created)).unwrap() == bytes);
        assert_eq!(mode(&workspace.join(created)), 0o755);
    }
    write(&workspace.join("plain"), b"plain", 0o640);
    std::fs::create_dir(env.path("dir")).unwrap();
    for (target, created) in [("out", "out"), ("out", "out"), ("dir", "dir/plain"), (".", "plain")]
    {
        env.run(&["cp", &format!("a:{inside}/plain"), target]).await.ok();
        assert_eq!(std::fs::read(env.path(created)).unwrap(), b"plain");
        assert_eq!(mode(&env.path(created)), 0o640);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_copied_recursively() {
    let env = TestEnv::new().await;
    let workspace = env.test.engine.workspace("a");
    let inside = workspace.display();
    write(&env.path("tree/bin/run"), b"#!/bin/sh\n", 0o755);
    write(&env.path("tree/sub/ü -x"), b"", 0o600);
    std::fs::create_dir(env.path("tree/empty")).unwrap();
    symlink("bin/run", env.path("tree/link")).unwrap();
    std::fs::hard_link(env.path("tree/bin/run"), env.path("tree/same")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(env.path("tree/socket")).unwrap());
    env.run(&["cp", "tree", &format!("a:{inside}/copy")]).await.ok();
    // Again: it is a directory now, so it lands in it.
    env.run(&["cp", "tree", &format!("a:{inside}/copy/")]).await.ok();
    for dir in ["copy", "copy/tree"] {
        std::fs::remove_file(workspace.join(dir).join("same")).unwrap();
        std::fs::hard_link(workspace.join(dir).join("bin/run"), workspace.join(dir).join("same"))
            .unwrap();
    }
    env.run(&["cp", &format!("a:{inside}/copy"), "back"]).await.ok();
    for root in [
        workspace.join("copy"),
        workspace.join("copy/tree"),
        env.path("back"),
        env.path("back/tree"),
    ] {
        assert_eq!(std::fs::read(root.join("bin/run")).unwrap(), b"#!/bin/sh\n", "{root:?}");
        assert_eq!(mode(&root.join("bin/run")), 0o755);
        assert_eq!(mode(&root.join("sub/ü -x")), 0o600);
        assert!(root.join("empty").is_dir());
        assert_eq!(std::fs::read(root.join("same")).unwrap(), b"#!/bin/sh\n");
        assert!(!root.join("socket").exists());
        assert_eq!(std::fs::read_link(root.join("link")).unwrap(), Path::new("bin/run"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_made_says_why() {
    let env = TestEnv::new().await;
    let workspace = env.test.engine.workspace("a");
    let inside = workspace.display();
    write(&env.path("file"), b"x", 0o644);
    for (status, from, to) in [
        (2, "file", "other"),
        (2, "a:x", "a:y"),
        (1, "none", &format!("a:{inside}")),
        (1, "file", &format!("a:{inside}/none/file")),
        (1, &format!("a:{inside}/none"), "."),
        (1, &format!("a:{inside}/x"), "none/x"),
        (2, "a:/", "."),
        (3, "file", "none:"),
    ] {
        let output = env.run(&["cp", from, to]).await;
        assert!(!output.fails(status).is_empty(), "{from} {to}");
    }
    assert_eq!(std::fs::read_dir(&workspace).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_tar_ends_early_fails_and_leaves_nothing() {
    let env = TestEnv::new().await;
    // More than all buffers on the way hold.
    write(&env.path("large"), &noise(32 << 20), 0o644);
    let script = "#!/bin/sh\nhead -c 1000000 > /dev/null\necho 'tar: no space' >&2\nexit 2\n";
    write(&env.path("bin/tar"), script.as_bytes(), 0o755);
    let path = std::env::var("PATH").unwrap();
    let path = format!("PATH={}:{path}", env.path("bin").display());
    env.run(&["create", "b", "--env", &path]).await.ok();
    let workspace = env.test.engine.workspace("b");
    write(&workspace.join("large"), b"before", 0o644);
    let target = format!("b:{}", workspace.display());
    let output = timeout(LIMIT, env.run(&["cp", "large", &target])).await.expect("it hangs");
    assert!(output.fails(1).contains("tar: no space"), "{output:?}");
    assert_eq!(std::fs::read(workspace.join("large")).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(&workspace).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_forwarded() {
    let env = TestEnv::new().await;
    let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let open = there.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = there.accept().await {
            tokio::spawn(async move {
                // Answers at the end of the input, so half-close must be forwarded.
                let mut bytes = Vec::new();
                socket.read_to_end(&mut bytes).await.unwrap();
                bytes.reverse();
                socket.write_all(&bytes).await.unwrap();
            });
        }
    });
    let mut forward =
        started(env.shed(&["forward", "a", &format!("0:{open}"), &format!("0:{closed}")]));
    let mut errors = forward.stderr.take().unwrap();
    let output = until(&mut errors, &format!("to port {closed} of a\n")).await;
    let ports: Vec<&str> = output.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let bytes = noise(300_000);
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(ports[0]).await.unwrap();
        let (mut read, mut write) = socket.split();
        let feed = async {
            write.write_all(&bytes).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let both = async { tokio::join!(feed, read.read_to_end(&mut back)).1.unwrap() };
        timeout(LIMIT, both).await.expect("it hangs");
        assert!(back == reversed, "{} bytes came back", back.len());
    }
    // A refused connection is closed, and the reason is printed.
    let mut socket = TcpStream::connect(ports[1]).await.unwrap();
    let mut back = Vec::new();
    let end = timeout(LIMIT, socket.read_to_end(&mut back)).await.expect("it hangs");
    assert!(end.is_err() || back.is_empty());
    until(&mut errors, &closed.to_string()).await;

    let taken = ports[0].rsplit_once(':').unwrap().1;
    let second = env.run(&["forward", "a", &format!("{taken}:80")]).await;
    assert!(second.fails(1).contains(&format!("port {taken}")), "{second:?}");
    for bad in ["x", "70000", "1:2:3", "80:0", ""] {
        env.run(&["forward", "a", bad]).await.fails(2);
    }
    signal(&forward, Signal::INT);
    ended(forward).await.fails(130);
}
