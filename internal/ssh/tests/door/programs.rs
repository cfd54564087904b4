//! Shells and commands.

use shed_api::Scope;

use crate::support::{Door, noise, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_in_a_login_shell_and_its_status_comes_back() {
    let door = Door::open().await;
    let ran = door.run("echo out; echo err >&2; shopt -q login_shell && pwd; exit 7").await;
    assert_eq!((ran.status, ran.errors.as_str()), (Some(7), "err\n"));
    let workspace = door.test.engine.workspace("a");
    assert_eq!(ran.text(), format!("out\n{}\n", workspace.display()));
    assert_eq!(door.run("true").await.status, Some(0));
    assert_eq!(door.run("no-such-program").await.status, Some(127));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_reads_what_is_piped_to_it() {
    let door = Door::open().await;
    let shell =
        said(door.ssh("a", &["-T", "door"]), b"shopt -q login_shell && echo login\nexit 3\n").await;
    assert_eq!((shell.status, shell.text()), (Some(3), "login\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_as_they_are() {
    let door = Door::open().await;
    let sent = noise(20 << 20);
    let cat = said(door.ssh("a", &["door", "cat"]), &sent).await;
    assert_eq!((cat.status, cat.errors.as_str()), (Some(0), ""));
    assert!(cat.out == sent, "{} bytes came back of {}", cat.out.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slower_than_the_network_gets_it_all() {
    let door = Door::open().await;
    let sent = noise(5 << 20);
    let od = said(door.ssh("a", &["door", "od -An -v -tx1"]), &sent).await;
    assert_eq!(od.status, Some(0));
    let back: Vec<u8> = od
        .text()
        .split_ascii_whitespace()
        .map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect();
    assert!(back == sent, "{} bytes came back of {}", back.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_scope_runs_nothing() {
    let door = Door::open().await;
    door.key("reader", Scope::Read, &[]).await;
    door.configure("reader");
    let refused = door.run("echo hi").await;
    assert_eq!((refused.status, refused.text()), (Some(255), ""));
    assert!(refused.errors.contains("needs scope drive; yours is read"), "{}", refused.errors);
}
