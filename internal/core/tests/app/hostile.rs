//! Sheds whose shed-init attacks the server, beside one that does not.

use std::time::{Duration, Instant};

use shed_api::shed::CreateShed;
use shed_api::stream::ConsoleOpen;
use shed_api::{EventKind, Scope};
use shed_core::{Bind, Removal, Target};
use shed_testing::TestApp;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::support::{sh, shed, tty};

/// How long a request of another shed may take, in 99 of 100 cases.
const LIMIT: Duration = Duration::from_millis(50);
/// A busy machine is slow without any attack, too: the limit is raised to so many times what was measured before.
const BUSY: u32 = 4;
/// Requests that are measured.
const N_REQUESTS: usize = 300;
/// The attacks may cost this much memory.
const MEMORY_BYTES: u64 = 256 << 20;
/// More than a terminal or socket, and the server before it, hold.
const MUCH: usize = 4 << 20;
/// How long an attack gets to do its work.
const ATTACK: Duration = Duration::from_secs(1);

/// The time of a request in 99 of 100 cases: lists, the log, and a change of the shed `good`.
async fn p99(test: &TestApp) -> Duration {
    let mut times = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for n in 0..N_REQUESTS {
        tick.tick().await;
        let start = Instant::now();
        test.app.sessions().list(&test.admin, None).unwrap();
        test.app.sheds().get(&test.admin, &shed("good")).unwrap();
        test.app.events().list(&test.admin, 0, Some(&shed("good"))).await.unwrap();
        if n % 10 == 0 {
            let patch = shed_api::shed::PatchShed {
                allow_agent_forwarding: Some(n % 20 == 0),
                ..Default::default()
            };
            test.app.sheds().patch(&test.admin, &shed("good"), patch).await.unwrap();
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[N_REQUESTS * 99 / 100]
}

fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

async fn hostile_shed(test: &TestApp, name: &str, attack: &str) {
    let image = Some(format!("hostile-{attack}"));
    let request = CreateShed { name: name.to_owned(), image, ..CreateShed::default() };
    test.app.sheds().create(&test.admin, request).await.unwrap();
    test.app.sheds().created(&test.admin, &shed(name)).await.unwrap();
}

/// Writes until the attacker's blocking descriptor blocks whoever writes to it.
async fn write_much(mut sink: impl tokio::io::AsyncWrite + Unpin) {
    timeout(ATTACK, sink.write_all(&vec![b'x'; MUCH])).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_sheds_do_not_slow_down_others() {
    let test = TestApp::start().await;
    test.shed("good").await;
    let before = p99(&test).await;
    let memory = memory_bytes();
    for (name, attack) in [("block", "block"), ("flood", "flood"), ("links", "links")] {
        hostile_shed(&test, name, attack).await;
    }
    let token = shed_api::access::NewToken {
        name: "audited".to_owned(),
        scope: Scope::Read,
        sheds: Vec::new(),
        expires_in_seconds: None,
    };
    test.app.access().add_token(&test.admin, token).await.unwrap();
    let block = shed("block");
    let forwards = test.app.forwards();
    let target = Target::Unix("/x".to_owned());
    let connection = forwards.connect(&test.admin, &block, &target).await.unwrap();
    let bind = Bind::Tcp("localhost".to_owned(), 0);
    let mut listening = forwards.listen(&test.admin, &block, &bind).await.unwrap();
    let (accepted, ..) = listening.accept().await.unwrap();
    let open = ConsoleOpen { tty: tty(), root: false, env: std::collections::BTreeMap::new() };
    let mut console = test.app.streams().console(&test.admin, &block, open).await.unwrap();
    let input = console.input.take().unwrap();
    tokio::join!(write_much(input), write_much(connection), write_much(accepted));

    let during = p99(&test).await;
    assert!(during <= LIMIT.max(before * BUSY), "{during:?} instead of {before:?}");
    assert_eq!(sh(&test, "good", "echo well").await.stdout, "well\n");
    let grown = memory_bytes().saturating_sub(memory);
    assert!(grown < MEMORY_BYTES, "{grown} bytes");
    // What others did is still in the log, and a flood is a number in it.
    let events = test.app.events().list(&test.admin, 0, None).await.unwrap();
    let has = |kind: EventKind, name: Option<&str>| {
        events.iter().any(|event| event.kind == kind && event.shed.as_deref() == name)
    };
    assert!(has(EventKind::TokenAdded, None) && has(EventKind::LinkUp, Some("good")));
    assert!(has(EventKind::EventsSkipped, Some("flood")), "{} events", events.len());
    // The sheds can be got rid of.
    for name in ["block", "flood", "links"] {
        test.app.sheds().delete(&test.admin, &shed(name), Removal::Everything).await.unwrap();
    }
}
