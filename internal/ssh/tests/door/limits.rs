//! Limits: login time, number of connections, failed logins, invalid data, lost clients.

use std::time::{Duration, Instant};

use shed_ssh::Options;
use shed_testing::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Door, LIMIT, line_with, noise, rest, said, started};

async fn connect(door: &Door) -> TcpStream {
    TcpStream::connect(door.address).await.unwrap()
}

/// The server's identification line.
async fn greeting(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 64];
    let n_read = timeout(LIMIT, stream.read(&mut bytes)).await.expect("silence").unwrap();
    String::from_utf8_lossy(&bytes[..n_read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_log_in_within_the_limit_is_disconnected() {
    let options = Options { login_limit: Duration::from_millis(500), ..Options::default() };
    let door = Door::open_with(options).await;
    let mut inside = started(door.ssh("a", &["door", "echo in; cat"]));
    let mut output = inside.stdout.take().unwrap();
    let mut bytes = [0; 3];
    output.read_exact(&mut bytes).await.unwrap();
    let (mut silent, mut polite) = (connect(&door).await, connect(&door).await);
    polite.write_all(b"SSH-2.0-polite\r\n").await.unwrap();
    assert_eq!(greeting(&mut silent).await, "SSH-2.0-OpenSSH_9.9 shed\r\n");
    rest(silent).await;
    rest(polite).await;
    // A client that has logged in stays connected.
    let mut input = inside.stdin.take().unwrap();
    input.write_all(b"still\n").await.unwrap();
    drop(input);
    assert_eq!(rest(output).await, b"still\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_unauthenticated_connections_the_oldest_is_closed_for_a_new_one() {
    let door = Door::open().await;
    let mut crowd = Vec::new();
    for _ in 0..64 {
        let mut one = connect(&door).await;
        greeting(&mut one).await;
        crowd.push(one);
    }
    assert_eq!(door.run("echo in").await.text(), "in\n");
    rest(crowd.remove(0)).await;
    // Only one connection was closed for the new one.
    for mut one in crowd {
        one.write_all(b"SSH-2.0-late\r\n").await.unwrap();
        let mut byte = [0];
        assert_eq!(timeout(LIMIT, one.read(&mut byte)).await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_failed_logins_waits_until_one_succeeds() {
    let door = Door::open().await;
    door.keygen("unknown").await;
    door.configure("unknown");
    for _ in 0..8 {
        assert_eq!(door.run("true").await.status, Some(255));
    }
    // A failure counts when the server's side of the connection has ended, after the client's.
    eventually("a delay of the login", || async {
        let begun = Instant::now();
        greeting(&mut connect(&door).await).await;
        (begun.elapsed() > Duration::from_millis(350)).then_some(())
    })
    .await;
    door.configure("admin");
    assert_eq!(door.run("echo in").await.text(), "in\n");
    // The success resets the failures: there is no delay any more.
    let begun = Instant::now();
    greeting(&mut connect(&door).await).await;
    assert!(begun.elapsed() < Duration::from_millis(350), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_common_algorithm_has_not_failed_to_log_in() {
    let door = Door::open().await;
    for _ in 0..12 {
        let ssh = door.ssh("a", &["-o", "KexAlgorithms=ecdh-sha2-nistp256", "door", "true"]);
        let refused = said(ssh, b"").await;
        assert!(refused.errors.contains("no matching key exchange method"), "{refused:?}");
    }
    // Twelve refused keys would delay the next login by the longest time, five seconds.
    let begun = Instant::now();
    assert_eq!(door.run("echo in").await.text(), "in\n");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_data_ends_only_its_own_connection() {
    let options = Options { login_limit: Duration::from_secs(2), ..Options::default() };
    let door = Door::open_with(options).await;
    let long_line = [b"SSH-2.0-".as_slice(), &b"x".repeat(100_000)].concat();
    let huge_packet = [b"SSH-2.0-x\r\n".as_slice(), &[0xff; 64], &noise(70_000)].concat();
    let empty_packet = [b"SSH-2.0-x\r\n".as_slice(), &[0; 300]].concat();
    let no_kex =
        [b"SSH-2.0-x\r\n".as_slice(), &[0, 0, 0, 12, 10, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
            .concat();
    let all = [
        noise(100_000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"SSH-1.5-old\r\n".to_vec(),
        long_line,
        huge_packet,
        empty_packet,
        no_kex,
        Vec::new(),
    ];
    let one = async |garbage: &Vec<u8>| {
        let mut one = connect(&door).await;
        // The server may close the connection before it has read everything.
        one.write_all(garbage).await.ok();
        rest(one).await;
    };
    // At once, because some of them end only at the limit.
    futures_util::future::join_all(all.iter().map(one)).await;
    assert_eq!(door.run("echo in").await.text(), "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn keepalive_requests_of_a_client_are_answered() {
    let door = Door::open().await;
    let mut ssh =
        door.ssh("a", &["-vvv", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"]);
    ssh.args(["door", "exec sleep 1000"]);
    let mut ssh = started(ssh);
    // The client sends the second request only after the answer to the first.
    let mut log = ssh.stderr.take().unwrap();
    for _ in 0..2 {
        line_with(&mut log, "receive packet: type 82").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_a_lost_client_end() {
    let options = Options { keepalive: Duration::from_millis(200), ..Options::default() };
    let door = Door::open_with(options).await;
    let mut ssh = started(door.ssh("a", &["door", "echo $$; exec sleep 1000"]));
    let pid = line_with(ssh.stdout.take().unwrap(), "").await;
    let mut other = started(door.ssh("a", &["door", "echo $$; exec sleep 1000"]));
    let other_pid = line_with(other.stdout.take().unwrap(), "").await;
    let client = ssh.id().unwrap().to_string();
    let mut stop = tokio::process::Command::new("kill");
    stop.args(["-STOP", &client]);
    assert_eq!(said(stop, b"").await.status, Some(0));
    eventually("the end", async || (!Door::lives(&pid)).then_some(())).await;
    assert!(Door::lives(&other_pid));
}
