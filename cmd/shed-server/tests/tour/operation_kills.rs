//! The server is killed at a random moment of each operation on a shed and its sessions: none of them ends as failed, the shed
//! does what it is asked afterwards, and no session is lost.
//!
//! `SHED_KILL_ROUNDS` is the number of kills (default 30), `SHED_KILL_SEED` the seed of the random numbers, which is printed.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::kills::rounds;
use crate::support::{Home, IMAGE, eventually_or};

/// How long an interrupted operation may take to end after the server serves again.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// The operations, and the longest wait before a kill in milliseconds: about as long as the operation takes.
const OPERATIONS: &[(&[&str], u64)] = &[
    (&["stop", "web"], 400),
    (&["restart", "web"], 900),
    (&["rebuild", "web"], 1_200),
    (&["pause", "web"], 150),
    (&["sessions", "restart", "web", "kept"], 600),
    (&["checkpoint", "create", "web", "kept"], 300),
    (&["run", "web", "-w", "-n", "ROUND", "-d", "--", "sleep", "1000"], 700),
    (&["sessions", "delete", "web", "ROUND", "--force"], 500),
];

/// The shed and its sessions, once nothing is under way.
fn settled(home: &Home) -> Option<(Value, Vec<Value>)> {
    let (status, shed) = home.try_ask("GET", "/api/sheds/web", None)?;
    let is_settled = |row: &Value| {
        let under_way = ["waiting", "creating", "starting", "stopping", "removing"];
        row["status"].as_str().is_some_and(|status| !under_way.contains(&status))
    };
    if status != 200 || !is_settled(&shed) {
        return None;
    }
    let (status, list) = home.try_ask("GET", "/api/sheds/web/sessions", None)?;
    let rows = list["sessions"].as_array()?.clone();
    (status == 200 && rows.iter().all(is_settled)).then_some((shed, rows))
}

fn name(row: &Value) -> String {
    row["name"].as_str().unwrap().to_owned()
}

#[test]
fn no_operation_fails_because_the_server_is_killed() {
    let (n_rounds, mut random) = rounds(30);
    let home = Home::new();
    let mut server = home.start();
    home.done(&["create", "web", "--image", IMAGE]);
    let repository =
        "git init -q && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x";
    home.done(&["exec", "web", "--", "sh", "-c", repository]);
    home.done(&["run", "web", "-w", "-n", "kept", "-d", "--", "sleep", "1000"]);
    let mut made = vec!["kept".to_owned()];
    for round in 0..n_rounds {
        let n = usize::try_from(random.below(OPERATIONS.len() as u64)).unwrap();
        let (words, longest) = OPERATIONS[n];
        let new = format!("r{round}");
        let is_new = words[0] == "run";
        let target = if is_new { &new } else { made.last().unwrap() }.clone();
        if words[1] == "delete" && target == "kept" {
            continue;
        }
        let words: Vec<&str> = words
            .iter()
            .map(|word| if *word == "ROUND" { target.as_str() } else { word })
            .collect();
        let mut client = home.shed(&words);
        let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The random moment is what this test is about.
        let wait = random.below(longest);
        std::thread::sleep(Duration::from_millis(wait));
        server.kill();
        server = home.start();
        let output = client.wait_with_output().unwrap();
        let context = || format!("round {round}, {words:?} killed after {wait} ms: {output:?}");
        let names = eventually_or(
            SETTLE_LIMIT,
            || format!("{}: {:?}\n{}", context(), settled(&home), home.log()),
            || {
                let (shed, rows) = settled(&home)?;
                for row in rows.iter().chain([&shed]) {
                    assert_ne!(row["status"], "failed", "{}: {row}", context());
                }
                match shed["status"].as_str()? {
                    "running" => return Some(rows.iter().map(name).collect::<Vec<_>>()),
                    // An interrupted operation may be finished later than this is asked.
                    "stopped" => drop(home.tried(&["start", "web"])),
                    "paused" => drop(home.tried(&["unpause", "web"])),
                    _ => {}
                }
                None
            },
        );
        // A request of which the server knew nothing when it was killed changes nothing; any other is carried out.
        if is_new && names.contains(&new) {
            made.push(new);
        } else if words[1] == "delete" && !names.contains(&target) {
            made.pop();
        }
        let mut expected = made.clone();
        expected.sort_unstable();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(names, expected, "{}", context());
    }
    // What was interrupted left nothing in the way of the next one.
    home.done(&["run", "web", "-w", "-n", "last", "-d", "--", "sleep", "1000"]);
    home.done(&["delete", "-f", "web"]);
}
