//! The server is killed again and again while workers print: every byte is in the output log once and in order, and every
//! session is still there.
//!
//! `SHED_KILL_ROUNDS` is the number of kills (default 50), `SHED_KILL_SEED` the seed of the random numbers, which is printed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shed_output::Reader;
use shed_testing::docker;

use crate::kills::rounds;
use crate::support::{Home, IMAGE, eventually, eventually_or};

/// Number of workers that print.
const N_WORKERS: usize = 4;
/// Output of each worker, in bytes per second.
const RATE: u64 = 1_000_000;
/// Bytes of a line, with CR LF. The number in a line is its offset divided by this.
const LINE_BYTES: usize = 200;
/// How long it may take until the server serves, lists all sessions as before, and every log grows.
const BACK_LIMIT: Duration = Duration::from_secs(5);
/// The longest wait before a kill.
const LONGEST_MS: u64 = 1_000;
/// How long it may take to store the last output.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Prints numbered lines at a rate until the stop file exists, then their number. After a delay it catches up.
const PRINTER: &str = r"
import os, sys, time
name, rate, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fill, n, begin = 'x' * (size - len(name) - 14), 0, time.monotonic()
while not os.path.exists('/workspace/stop'):
    due = int((time.monotonic() - begin) * rate / size)
    sys.stdout.write(''.join('%s %010d %s\n' % (name, i, fill) for i in range(n, due)))
    sys.stdout.flush()
    n = max(n, due)
    time.sleep(0.01)
print('end', n, flush=True)
";

/// Checks the output log of a worker.
#[derive(Debug)]
struct Sequence {
    session: String,
    reader: Reader,
    /// Everything before this offset was correct.
    checked: u64,
    /// Bytes after the last complete line.
    rest: Vec<u8>,
}

impl Sequence {
    fn new(home: &Home, session: &Value) -> Self {
        let name = session["name"].as_str().unwrap().to_owned();
        let id = session["workers"][0]["id"].as_str().unwrap();
        let dir = home.data().join("output").join("web").join(id);
        // The log is created with the first byte.
        let reader = eventually("a log", || Reader::open(&dir).ok());
        Self { session: name, reader, checked: 0, rest: Vec::new() }
    }

    fn end(&self) -> u64 {
        self.reader.status().unwrap().end
    }

    /// Reads new output and checks each line. Returns the total size once the last line is there.
    fn check(&mut self) -> Option<u64> {
        let mut from = self.checked + self.rest.len() as u64;
        loop {
            let page = self.reader.range(from, shed_output::MAX_PAGE_BYTES).unwrap();
            assert_eq!(
                (page.start, page.gap_before),
                (from, 0),
                "{}: bytes are missing",
                self.session
            );
            if page.bytes.is_empty() {
                return None;
            }
            from = page.end;
            self.rest.extend_from_slice(&page.bytes);
            let mut at = 0;
            while let Some(line) = self.rest.get(at..at + LINE_BYTES) {
                if line.starts_with(b"end ") {
                    break;
                }
                let n = (self.checked + at as u64) / LINE_BYTES as u64;
                let head = format!("{} {n:010} x", self.session);
                assert!(
                    line.starts_with(head.as_bytes()) && line.ends_with(b"x\r\n"),
                    "{}: line {n} is {:?}",
                    self.session,
                    String::from_utf8_lossy(line)
                );
                at += LINE_BYTES;
            }
            self.rest.drain(..at);
            self.checked += at as u64;
            if self.rest.ends_with(b"\r\n")
                && let Some(count) = self.rest.strip_prefix(b"end ")
            {
                let count: u64 = std::str::from_utf8(count).unwrap().trim_end().parse().unwrap();
                assert_eq!(count, self.checked / LINE_BYTES as u64, "{}", self.session);
                return Some(self.checked);
            }
        }
    }
}

/// What must not change of sessions and their workers. None while they are not all known.
fn snapshot(home: &Home) -> Option<Vec<Value>> {
    let (status, list) = home.try_ask("GET", "/api/sheds/web/sessions", None)?;
    let warned = list["warnings"].as_array().is_none_or(|all| !all.is_empty());
    if status != 200 || warned {
        return None;
    }
    let row = |row: &Value| {
        let worker = &row["workers"][0];
        json!([
            row["id"],
            row["tmux_id"],
            row["status"],
            row["window_count"],
            worker["id"],
            worker["epoch"],
            worker["status"]
        ])
    };
    Some(list["sessions"].as_array()?.iter().map(row).collect())
}

#[test]
fn no_output_is_lost_when_the_server_is_killed() {
    let (n_rounds, mut random) = rounds(50);
    let home = Home::new();
    let mut server = home.start();
    home.done(&["create", "web", "--image", IMAGE]);
    let mut sequences: Vec<Sequence> = (0..N_WORKERS)
        .map(|n| {
            let name = format!("w{n}");
            let (rate, size) = (RATE.to_string(), LINE_BYTES.to_string());
            let command = ["python3", "-c", PRINTER, &name, &rate, &size];
            let request = json!({"name": name, "command": command, "keep": true});
            Sequence::new(&home, &home.ask("POST", "/api/sheds/web/sessions", Some(&request)))
        })
        .collect();
    let begin = Instant::now();
    let before = eventually("the sessions are listed", || {
        snapshot(&home).filter(|rows| rows.len() == N_WORKERS)
    });
    let mut slowest = Duration::ZERO;
    for round in 0..n_rounds {
        // The random moment is what this test is about.
        std::thread::sleep(Duration::from_millis(random.below(LONGEST_MS)));
        server.kill();
        let ends: Vec<u64> = sequences.iter().map(Sequence::end).collect();
        let start = Instant::now();
        server = home.start();
        let words =
            || format!("round {round}: not back after {:?}\n{}", start.elapsed(), home.log());
        eventually_or(BACK_LIMIT, words, || (snapshot(&home)? == before).then_some(()));
        for (sequence, end) in sequences.iter().zip(ends) {
            eventually_or(BACK_LIMIT, words, || (sequence.end() > end).then_some(()));
        }
        let took = start.elapsed();
        slowest = slowest.max(took);
        assert!(took < BACK_LIMIT, "round {round}: the server was back after {took:?}");
        for sequence in &mut sequences {
            assert_eq!(sequence.check(), None, "round {round}: {} ended", sequence.session);
        }
    }
    home.done(&["exec", "web", "--", "touch", "/workspace/stop"]);
    let took = begin.elapsed();
    let mut total = 0;
    for sequence in &mut sequences {
        let words = || "the end of what was printed was not stored".to_owned();
        total += eventually_or(DRAIN_LIMIT, words, || sequence.check());
    }
    let n_workers = u64::try_from(N_WORKERS).unwrap();
    let rate = total / n_workers / 1000 / took.as_secs().max(1);
    println!(
        "{n_rounds} kills, slowest return {slowest:?}; {total} bytes of {N_WORKERS} workers compared, {rate} kB/s each"
    );
    let exited = eventually("the ends of the workers", || {
        let (_, list) = home.try_ask("GET", "/api/sheds/web/sessions", None)?;
        let rows = list["sessions"].as_array()?.clone();
        let ended = |row: &Value| row["workers"][0]["exit"]["code"] == 0;
        rows.iter().all(ended).then_some(rows)
    });
    assert_eq!(exited.len(), N_WORKERS);
}

#[test]
fn workers_come_back_when_server_and_container_are_killed() {
    let home = Home::new();
    let server = home.start();
    home.done(&["create", "web", "--image", IMAGE]);
    let ask = |name: &str, restart: bool| {
        let line = format!("echo {name} prints; exec sleep 1000");
        let request = json!({
            "name": name, "title": format!("#(id) {name}"), "command": ["sh", "-c", line],
            "keep": true, "restart": restart,
        });
        home.ask("POST", "/api/sheds/web/sessions", Some(&request))
    };
    let (again, once) = (ask("again", true), ask("once", false));
    for name in ["again", "once"] {
        let path = format!("/api/sheds/web/sessions/{name}");
        eventually("what it prints", || {
            (home.ask("GET", &path, None)["workers"][0]["output_end"] != 0).then_some(())
        });
    }
    server.kill();
    docker(&["kill", &home.container("web")]);
    let _server = home.start();
    let show = |name: &str| {
        let (status, row) =
            home.try_ask("GET", &format!("/api/sheds/web/sessions/{name}"), None)?;
        (status == 200 && row["status"] == "running" && row["window_count"] == 1).then_some(row)
    };
    // The server finds that the shed was running, and starts it.
    let now = eventually("the one that is started again", || {
        show("again").filter(|row| row["workers"][0]["status"] == "running")
    });
    assert_eq!((&now["id"], &now["title"]), (&again["id"], &again["title"]));
    assert_eq!(now["workers"][0]["epoch"], 2);
    let now = eventually("the one that is not", || show("once"));
    assert_eq!((&now["id"], &now["title"]), (&once["id"], &once["title"]));
    let worker = &now["workers"][0];
    assert_eq!((&worker["epoch"], &worker["status"]), (&json!(1), &json!("exited")));
    assert_eq!(worker["reason"], "stopped with the shed");
    for name in ["again", "once"] {
        eventually("the past in the window", || {
            let pane = format!("{name}:");
            let words = ["exec", "web", "--", "tmux", "capture-pane", "-p", "-S", "-", "-t", &pane];
            home.tried(&words).1.contains(&format!("{name} prints")).then_some(())
        });
    }
}
