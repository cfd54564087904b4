//! The server is killed at random moments: sessions keep running, clients reconnect, and operations under way end.
//!
//! `SHED_KILL_ROUNDS` is the number of kills (default 200), `SHED_KILL_SEED` the seed of the random numbers, which is printed.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use shed_testing::{Terminal, docker};

use crate::support::{Home, IMAGE, SMALL_IMAGE, eventually, json};

/// How long a client may take to reconnect after the server serves again.
const BACK_LIMIT: Duration = Duration::from_secs(1);
/// The longest wait before a kill.
const LONGEST_MS: u64 = 250;
/// A shed is being created in one of this many rounds.
const CREATE_EVERY: u64 = 4;
/// The process of shed-init that serves the link dies too in one of this many rounds.
const WORKER_EVERY: u64 = 5;

/// Reproducible random numbers (xorshift).
pub(crate) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The number of rounds, and random numbers from the seed, which is printed.
#[expect(clippy::print_stdout, reason = "a test that fails is repeated with these numbers")]
pub(crate) fn rounds(default: u64) -> (u64, Random) {
    let (n_rounds, seed) = (number("SHED_KILL_ROUNDS").unwrap_or(default), seed());
    println!("SHED_KILL_SEED={seed} SHED_KILL_ROUNDS={n_rounds}");
    (n_rounds, Random::new(seed))
}

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The seed of `SHED_KILL_SEED`, else one from the clock.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    number("SHED_KILL_SEED").unwrap_or(u64::from(now.subsec_nanos()) | 1)
}

/// What must not change: the sessions with their ids and creation times. None while they are not all known.
fn snapshot(home: &Home) -> Option<serde_json::Value> {
    let (status, text) = home.tried(&["--json", "sessions", "web"]);
    let list = (status == Some(0)).then(|| json(&text))?;
    let warned = list["warnings"].as_array().is_some_and(|all| !all.is_empty());
    let rows = list["sessions"].as_array()?;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row["id"].clone(), row["name"].clone(), row["created_at"].clone()))
        .collect();
    (!warned).then(|| serde_json::json!(rows))
}

fn pane_pids(home: &Home) -> String {
    let ids =
        ["exec", "web", "--", "tmux", "list-panes", "-a", "-F", "#{session_name} #{pane_pid}"];
    home.done(&ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_clients_survive_kills_of_the_server() {
    let (n_rounds, mut random) = rounds(200);
    let home = Home::new();
    let mut server = home.start();
    home.done(&["create", "web", "--image", IMAGE]);
    home.done(&["sessions", "new", "web", "work"]);
    home.done(&["sessions", "new", "web", "other"]);
    let before = eventually("the sessions are listed", || {
        snapshot(&home).filter(|rows| rows.as_array().is_some_and(|rows| rows.len() == 2))
    });
    let pids = pane_pids(&home);
    let mut person = Terminal::start(home.shed(&["attach", "web", "-S", "work"]).into(), 80, 24);
    person.keys("echo be''gin\r").await;
    person.until("begin").await;
    let first = docker(&["inspect", "-f", "{{.State.Pid}}", &home.container("web")]);

    let mut slowest = Duration::ZERO;
    for round in 0..n_rounds {
        let running = spawn(&home, &["exec", "web", "--", "sh", "-c", "sleep 0.1; exit 7"]);
        let made = format!("r{round}");
        let creating = (random.below(CREATE_EVERY) == 0)
            .then(|| spawn(&home, &["create", &made, "--image", SMALL_IMAGE]));
        // The random moment is what this test is about.
        tokio::time::sleep(Duration::from_millis(random.below(LONGEST_MS))).await;
        server.kill();
        if random.below(WORKER_EVERY) == 0 {
            kill_worker(&first);
        }
        server = home.start();
        let back = Instant::now();
        // tmux switches the screen when a client attaches. Input before that is lost.
        person.until("\x1b[?1049h").await;
        person.keys(&format!("echo ro''und-{round}-\r")).await;
        person.until(&format!("round-{round}-")).await;
        let took = back.elapsed();
        slowest = slowest.max(took);
        assert!(took < BACK_LIMIT, "round {round}: the client was back after {took:?}");

        let ended = running.wait_with_output().unwrap().status.code();
        assert!(matches!(ended, Some(7 | 5)), "round {round}: exec ended with {ended:?}");
        if let Some(creating) = creating {
            let output = creating.wait_with_output().unwrap();
            let status = eventually("the creation is over", || {
                let (code, text) = home.tried(&["--json", "show", &made]);
                match code {
                    // Killed before it answered, so it did not have to create the shed.
                    Some(3) => Some("none".to_owned()),
                    Some(0) => {
                        let status = json(&text)["status"].as_str().unwrap().to_owned();
                        (!matches!(status.as_str(), "creating" | "starting")).then_some(status)
                    }
                    _ => None,
                }
            });
            match status.as_str() {
                "none" => assert_ne!(output.status.code(), Some(0), "round {round}"),
                "running" => home.done(&["delete", "-f", &made]).clear(),
                other => panic!("round {round}: {made} is {other}"),
            }
        }
        let after = eventually("the sessions are back", || snapshot(&home));
        assert_eq!(after, before, "round {round}");
    }
    println!("slowest client: {slowest:?}");
    assert_eq!(pane_pids(&home), pids, "a process in a session was replaced");
    let sheds = json(&home.done(&["--json", "list"]));
    assert_eq!(sheds["sheds"].as_array().unwrap().len(), 1, "{sheds}");
    let (label, value) = home.run.label();
    // A later server removes the containers with which a killed one inspected images.
    let containers = docker(&[
        "ps",
        "-a",
        "--filter",
        "label=shed=true",
        "--filter",
        &format!("label={label}={value}"),
        "--format",
        "{{.Names}}",
    ]);
    assert_eq!(containers, home.container("web"));
    person.keys("\x02d").await;
    assert_eq!(person.end().await.1, Some(0));
}

fn spawn(home: &Home, words: &[&str]) -> Child {
    home.shed(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills the child of the shed-init whose supervisor is `first`. There may be none at this moment.
fn kill_worker(first: &str) {
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    for pid in children.split_whitespace() {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if words.split('\0').nth(1) == Some("worker") {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}
