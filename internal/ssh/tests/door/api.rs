//! The API over SSH.

use std::sync::{Arc, Mutex};

use shed_api::{Actor, Scope};
use shed_core::{Duplex, Person};
use shed_ssh::Options;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::{Door, Master, noise, said};

type People = Arc<Mutex<Vec<Person>>>;

/// Answers one request as an HTTP server would.
async fn answer(stream: Box<dyn Duplex>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut n_bytes) = (String::new(), 0);
    let first = loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.unwrap();
        if line.is_empty() {
            line.clone_from(&header);
        }
        if let Some(length) = header.strip_prefix("Content-Length: ") {
            n_bytes = length.trim().parse().unwrap();
        }
        if header == "\r\n" {
            break line.trim().to_owned();
        }
    };
    let mut body = vec![0; n_bytes];
    stream.read_exact(&mut body).await.unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nX-Asked: {first}\r\nContent-Length: {n_bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
}

async fn open() -> (Door, People) {
    let people = People::default();
    let seen = Arc::clone(&people);
    let api = Arc::new(move |person, stream| {
        seen.lock().unwrap().push(person);
        tokio::spawn(answer(stream));
    });
    (Door::open_with(Options { api: Some(api), ..Options::default() }).await, people)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_gets_the_bytes_and_the_person() {
    let (door, people) = open().await;
    for (key, scope) in [("reader", Scope::Read), ("driver", Scope::Drive)] {
        door.key(key, scope, &["a"]).await;
        door.configure(key);
        let asked = b"GET /api/sheds HTTP/1.1\r\n\r\n";
        let ran = said(door.ssh("_api", &["-T", "door"]), asked).await;
        let answer =
            "HTTP/1.1 200 OK\r\nX-Asked: GET /api/sheds HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        assert_eq!((ran.status, ran.text(), ran.errors.as_str()), (Some(0), answer, ""));
        let person = people.lock().unwrap().pop().unwrap();
        assert_eq!((&person.actor, person.scope), (&Actor::Key(key.to_owned()), scope));
        // The App refuses what exceeds the key's scope.
        let root = shed_api::stream::ConsoleOpen {
            tty: shed_api::stream::Tty {
                cols: 80,
                rows: 24,
                term: "xterm".to_owned(),
                ..Default::default()
            },
            root: true,
            env: std::collections::BTreeMap::new(),
        };
        let refused = door
            .test
            .app
            .streams()
            .console(&person, &"a".parse().unwrap(), root)
            .await
            .unwrap_err();
        assert!(refused.problem().detail.contains("needs scope admin"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_a_connection_and_large_ones_pass() {
    let (door, _) = open().await;
    let master = Master::connect(&door, "_api", &[]).await;
    let body = noise(6 << 20);
    let mut asked =
        format!("PUT /x HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    asked.extend(&body);
    let ask = || said(master.ssh(&door, &["-T", "door"]), &asked);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    for ran in [one, two, three] {
        assert!(ran.status == Some(0) && ran.out.ends_with(&body), "{:?}", ran.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_user_has_no_shed() {
    let (door, people) = open().await;
    let forward = said(door.ssh("_api", &["-W", "127.0.0.1:1", "door"]), b"").await;
    assert!(forward.errors.contains("_api has no forwards"), "{forward:?}");
    let listen = ["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", "door"];
    assert_eq!(said(door.ssh("_api", &listen), b"").await.status, Some(255));
    let mut sftp = door.client("sftp");
    sftp.args(["-b", "-", "_api@door"]);
    assert_ne!(said(sftp, b"pwd\n").await.status, Some(0));
    assert!(people.lock().unwrap().len() <= 1);
}
