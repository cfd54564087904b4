//! What the remote servers of VS Code, Zed and JetBrains do, one after the other.

use std::fs;

use shed_testing::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::{Door, Master, line_with, noise, said, started, written};

/// Answers each line on a socket and leaves a mark of its end.
const SERVER: &str = r#"#!/usr/bin/env python3
import os, socket, sys
at = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(at)
listener.listen()
print("listening", os.getpid(), flush=True)
while True:
    caller, _ = listener.accept()
    for line in caller.makefile("rb"):
        caller.sendall(b"server says " + line)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_editors_server_is_uploaded_run_used_disconnected_and_found_again() {
    let door = Door::open().await;
    fs::write(door.path("server"), SERVER).unwrap();
    let at = door.home().join("server.sock");
    let master = Master::connect(&door, "a", &[]).await;

    let asked = said(master.ssh(&door, &["-T", "door", "bash"]), b"uname -s; echo $HOME\n").await;
    assert_eq!(asked.text(), format!("Linux\n{}\n", door.home().display()));

    let put = format!("put {} server\nchmod 755 server\n", door.path("server").display());
    let mut sftp = door.client("sftp");
    sftp.arg("-o").arg(format!("ControlPath={}", door.path("master-a").display()));
    sftp.args(["-b", "-", "a@door"]);
    let uploaded = said(sftp, put.as_bytes()).await;
    assert_eq!(uploaded.status, Some(0), "{uploaded:?}");

    // It is to outlive the connection, so it leaves the process group of what started it.
    let log = door.path("log");
    let line = format!("setsid ~/server {} >{} 2>&1 </dev/null &", at.display(), log.display());
    assert_eq!(said(master.ssh(&door, &["door", &line]), b"").await.status, Some(0));
    let listening = written(&log).await;
    let pid = listening.trim().strip_prefix("listening ").unwrap().to_owned();

    drop(master);
    fs::remove_file(door.path("master-a")).ok();
    let here = door.path("here");
    let spec = format!("{}:{}", here.display(), at.display());
    for _ in 0..2 {
        let master = Master::connect(&door, "a", &["-L", &spec]).await;
        eventually("the forward", async || here.exists().then_some(())).await;
        let mut watcher = started(master.ssh(&door, &["door", "echo ready; exec cat"]));
        line_with(watcher.stdout.take().unwrap(), "ready").await;
        let mut stream = UnixStream::connect(&here).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        let mut answer = [0; 18];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"server says hello\n");
        let data = noise(1 << 20);
        assert!(said(master.ssh(&door, &["door", "cat"]), &data).await.out == data);
        // The network goes, and with it the connection.
        drop(master);
        assert_eq!(watcher.wait().await.unwrap().code(), Some(255));
        fs::remove_file(&here).ok();
        fs::remove_file(door.path("master-a")).ok();
        assert!(Door::lives(&pid));
    }
    let ended = door.run(&format!("kill {pid}")).await;
    assert_eq!(ended.status, Some(0));
}
