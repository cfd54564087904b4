//! Shells and commands.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shed_api::Scope;
use shed_testing::{Terminal, Transport, eventually, over_each_transport};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::support::{Door, Master, line_with, noise, said, started, written};

over_each_transport! {
    a_command_runs_in_the_users_shell_and_its_status_comes_back
    bytes_pass_both_ways_as_they_are
    a_reader_that_is_slower_than_the_network_gets_it_all
    death_by_a_signal_is_reported
    the_end_of_input_ends_neither_output_nor_program
    a_program_need_not_read_its_input
}

async fn a_command_runs_in_the_users_shell_and_its_status_comes_back(transport: Transport) {
    let door = Door::open_on(transport).await;
    let ran = door.run("echo out; echo err >&2; shopt -q login_shell || pwd; exit 7").await;
    assert_eq!((ran.status, ran.errors.as_str()), (Some(7), "err\n"));
    let workspace = door.test.engine.workspace("a");
    assert_eq!(ran.text(), format!("out\n{}\n", workspace.display()));
    assert_eq!(door.run("true").await.status, Some(0));
    assert_eq!(door.run("no-such-program").await.status, Some(127));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_prints_spoils_no_command() {
    let door = Door::open().await;
    let profile = "echo welcome; export FROM_PROFILE=yes\n";
    for name in [".profile", ".bash_profile"] {
        std::fs::write(door.home().join(name), profile).unwrap();
    }
    assert_eq!(door.run("echo \"only $FROM_PROFILE\"").await.text(), "only \n");
    let shell = said(door.ssh("a", &["-T", "door"]), b"echo $FROM_PROFILE\n").await;
    assert_eq!(shell.text(), "welcome\nyes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_is_bytes() {
    let door = Door::open().await;
    let mut ssh = door.ssh("a", &["door"]);
    ssh.arg(OsStr::from_bytes(b"printf %s caf\xe9; exit 3"));
    let ran = said(ssh, b"").await;
    assert_eq!((ran.status, ran.out.as_slice()), (Some(3), b"caf\xe9".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_reads_what_is_piped_to_it() {
    let door = Door::open().await;
    let shell =
        said(door.ssh("a", &["-T", "door"]), b"shopt -q login_shell && echo login\nexit 3\n").await;
    assert_eq!((shell.status, shell.text()), (Some(3), "login\n"));
}

async fn bytes_pass_both_ways_as_they_are(transport: Transport) {
    let door = Door::open_on(transport).await;
    let sent = noise(20 << 20);
    let cat = said(door.ssh("a", &["door", "cat"]), &sent).await;
    assert_eq!((cat.status, cat.errors.as_str()), (Some(0), ""));
    assert!(cat.out == sent, "{} bytes came back of {}", cat.out.len(), sent.len());
}

async fn a_reader_that_is_slower_than_the_network_gets_it_all(transport: Transport) {
    let door = Door::open_on(transport).await;
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

async fn death_by_a_signal_is_reported(transport: Transport) {
    let door = Door::open_on(transport).await;
    let ran = said(door.ssh("a", &["-o", "LogLevel=DEBUG1", "door", "kill -TERM $$"]), b"").await;
    // The client has no status then, and says what it was told only when asked to be loud.
    assert_eq!(ran.status, Some(255));
    assert!(ran.errors.contains("rtype exit-signal"), "{}", ran.errors);
    assert!(!ran.errors.contains("rtype exit-status"), "{}", ran.errors);
}

async fn the_end_of_input_ends_neither_output_nor_program(transport: Transport) {
    let door = Door::open_on(transport).await;
    let ran = said(door.ssh("a", &["door", "cat; echo after; exec 1>&-; exit 4"]), b"in\n").await;
    assert_eq!((ran.status, ran.text()), (Some(4), "in\nafter\n"));
}

async fn a_program_need_not_read_its_input(transport: Transport) {
    let door = Door::open_on(transport).await;
    let input = noise(12 << 20);
    let ran = said(door.ssh("a", &["door", "head -c 3 | wc -c; exec 0<&-; exit 6"]), &input).await;
    assert_eq!((ran.status, ran.text()), (Some(6), "3\n"));
    let rekeyed = said(door.ssh("a", &["door", "exit 8"]), &input).await;
    assert_eq!(rekeyed.status, Some(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_changed_on_the_way() {
    let door = Door::open().await;
    let sent = noise(20 << 20);
    let ssh = door.ssh("a", &["-o", "RekeyLimit=1M", "-o", "LogLevel=DEBUG1", "door", "cat"]);
    let ran = said(ssh, &sent).await;
    assert!(ran.out == sent);
    let n_times = ran.errors.matches("SSH2_MSG_NEWKEYS received").count();
    assert!(n_times > 10, "{n_times} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_locale_and_terminal_pass_and_others_do_not() {
    let door = Door::open().await;
    let set =
        "SetEnv=LANG=xx_XX.UTF-8 LC_ALL=POSIX COLORTERM=truecolor TERM=vt100 FOO=bar LD_PRELOAD=x";
    let line = "echo $LANG $LC_ALL $COLORTERM $TERM \"[$FOO$LD_PRELOAD]\"; echo $SSH_CONNECTION";
    let ran = said(door.ssh("a", &["-o", set, "door", line]), b"").await;
    let (words, connection) = ran.text().split_once('\n').unwrap();
    // The shed has no such language.
    assert_eq!(words, "C.UTF-8 POSIX truecolor vt100 []");
    let parts: Vec<&str> = connection.split_whitespace().collect();
    let port = door.address.port().to_string();
    assert_eq!((parts[0], parts[2], parts[3]), ("127.0.0.1", "127.0.0.1", port.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_ends_with_its_connection_and_sessions_live_on() {
    let door = Door::open().await;
    let mut screen = Terminal::start(door.ssh("a+work", &["-t", "door"]), 80, 24);
    let pane = door.path("pane");
    screen.keys(&format!("echo $$ >{}\r", pane.display())).await;
    let pane = written(&pane).await;
    let mut ssh = started(door.ssh("a", &["door", "sleep 1000 & echo $$ $!; wait"]));
    let line = line_with(ssh.stdout.take().unwrap(), " ").await;
    let (shell, child) = line.split_once(' ').unwrap();
    let mut in_terminal = Terminal::start(door.ssh("a", &["-t", "door"]), 80, 24);
    let login = door.path("login");
    in_terminal.keys(&format!("echo $$ >{}\r", login.display())).await;
    let login = written(&login).await;
    for pid in [shell, child, &pane, &login] {
        assert!(Door::lives(pid));
    }
    // Nobody says goodbye.
    ssh.kill().await.unwrap();
    drop((screen, in_terminal));
    for pid in [shell, &login] {
        eventually("the end", async || (!Door::lives(pid)).then_some(())).await;
    }
    // As with sshd, what a command has started in the background stays: an editor's server, for example.
    assert!(Door::lives(&pane) && Door::lives(child));
    assert_eq!(door.run(&format!("kill {child}")).await.status, Some(0));
    let mut again = Terminal::start(door.ssh("a+work", &["-t", "door"]), 80, 24);
    again.keys("echo again-$$\r").await;
    again.until(&format!("again-{}", pane.trim())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_channel_alone() {
    let door = Door::open().await;
    let master = Master::connect(&door, "a", &[]).await;
    let mut one = started(master.ssh(&door, &["door", "echo $$; exec sleep 1000"]));
    let pid = line_with(one.stdout.take().unwrap(), "").await;
    assert!(Door::lives(&pid));
    one.kill().await.unwrap();
    eventually("the end", async || (!Door::lives(&pid)).then_some(())).await;
    assert_eq!(said(master.ssh(&door, &["door", "echo on"]), b"").await.text(), "on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_has_many_channels() {
    let door = Door::open().await;
    let master = Master::connect(&door, "a", &[]).await;
    let mut running = JoinSet::new();
    for n in 0..40 {
        let line = format!("read x; echo $x-{n}; exit {n}");
        let ssh = master.ssh(&door, &["door", &line]);
        running.spawn(async move { (n, said(ssh, b"in\n").await) });
    }
    while let Some(ended) = running.join_next().await {
        let (n, ran) = ended.unwrap();
        assert_eq!((ran.status, ran.text()), (Some(n), format!("in-{n}\n").as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upload_delays_no_other_channel() {
    let door = Door::open().await;
    let master = Master::connect(&door, "a", &[]).await;
    let mut stalled = started(master.ssh(&door, &["door", "exec sleep 1000"]));
    let mut unread = started(master.ssh(&door, &["door", "exec yes"]));
    let n_sent = Arc::new(AtomicUsize::new(0));
    let (count, mut input) = (Arc::clone(&n_sent), stalled.stdin.take().unwrap());
    let feeding = tokio::spawn(async move {
        let chunk = noise(64 << 10);
        while let Ok(n_bytes) = input.write(&chunk).await {
            count.fetch_add(n_bytes, Ordering::Relaxed);
        }
    });
    // From there on the client has no window left.
    eventually("the stall", async || (n_sent.load(Ordering::Relaxed) > 9 << 20).then_some(()))
        .await;
    let mut typist =
        Terminal::start(master.ssh(&door, &["-t", "door", "stty -echo; echo go; cat"]), 80, 24);
    typist.until("go").await;
    let (mut keys, mut commands) = (Vec::new(), Vec::new());
    for n in 0..15 {
        let begun = Instant::now();
        typist.keys(&format!("key-{n}\r")).await;
        typist.until(&format!("key-{n}\r\n")).await;
        keys.push(begun.elapsed());
        let begun = Instant::now();
        let ran = said(master.ssh(&door, &["door", "echo hi"]), b"").await;
        assert_eq!(ran.text(), "hi\n");
        commands.push(begun.elapsed());
    }
    let sent = noise(2 << 20);
    assert!(
        said(master.ssh(&door, &["door", "cat"]), &sent[..100_000]).await.out == sent[..100_000]
    );
    let download = said(master.ssh(&door, &["door", "head -c 20000000 /dev/zero"]), b"").await;
    assert_eq!(download.out.len(), 20_000_000);
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (keys, commands) = (median(&mut keys), median(&mut commands));
    assert!(keys < Duration::from_millis(100), "a key took {keys:?}");
    assert!(commands < Duration::from_millis(500), "a command took {commands:?}");
    println!("keys {keys:?} commands {commands:?}");
    assert!(!feeding.is_finished());
    unread.kill().await.unwrap();
    stalled.kill().await.unwrap();
    // With the stalled one gone, uploads are quick again.
    assert!(said(master.ssh(&door, &["door", "cat"]), &sent).await.out == sent);
}
