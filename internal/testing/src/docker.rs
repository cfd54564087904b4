//! What tests make on a real Docker engine: labelled with their run, and gone with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// On everything a test makes; the value begins with its process id.
const RUN: &str = "shed.test";

/// A test's run. Whatever carries its label is removed when it is dropped, and at the next run if it was killed.
#[derive(Debug)]
pub struct DockerRun {
    id: String,
}

impl DockerRun {
    /// A new one.
    pub fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep_dead_runs();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { id: format!("{}-{count}", std::process::id()) }
    }

    /// Unlike that of any other run; letters, digits and `-`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The label's name and value.
    pub fn label(&self) -> (String, String) {
        (RUN.to_owned(), self.id.clone())
    }
}

impl Drop for DockerRun {
    fn drop(&mut self) {
        remove_run(&self.id);
    }
}

/// The CLI, whose word counts: it shares nothing with what is tested.
pub fn docker(args: &[&str]) -> String {
    let (status, stdout, stderr) = try_docker(args);
    assert!(status, "docker {args:?}: {stderr}");
    stdout
}

/// Whether it succeeded, what it printed and what it complained of.
pub fn try_docker(args: &[&str]) -> (bool, String, String) {
    let output = Command::new("docker").args(args).output().expect("the docker command");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// What a test makes: how it is listed and how it is removed, in the order in which that works.
const KINDS: [(&[&str], &[&str]); 4] = [
    (&["ps", "-aq"], &["rm", "-fv"]),
    (&["volume", "ls", "-q"], &["volume", "rm", "-f"]),
    (&["network", "ls", "-q"], &["network", "rm"]),
    (&["images", "-q"], &["rmi", "-f"]),
];

#[expect(clippy::print_stderr, reason = "this is where a test complains")]
/// Removes everything with a run's label. Called from a destructor: it complains and goes on.
fn remove_run(run: &str) {
    let filter = format!("label={RUN}={run}");
    let names = ["network", "ls", "--format", "{{.Name}}", "--filter", &filter];
    let (_, networks, _) = try_docker(&names);
    for (list, remove) in KINDS {
        let (_, found, _) = try_docker(&[list, &["--filter", &filter]].concat());
        let found: Vec<&str> = found.split_whitespace().collect();
        if found.is_empty() {
            continue;
        }
        let (done, _, why) = try_docker(&[remove, &found].concat());
        if !done {
            eprintln!("docker {remove:?} {found:?}: {why}");
        }
    }
    // Rules of the networks, which a server leaves in place when it ends. Most networks have none.
    for network in networks.split_whitespace() {
        Command::new("nft").args(["delete", "table", "inet", network]).output().ok();
    }
}

/// Removes what tests left that were killed: their process is gone.
fn sweep_dead_runs() {
    for run in runs_left() {
        let pid = run.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            remove_run(&run);
        }
    }
}

/// The runs of which there is anything.
fn runs_left() -> BTreeSet<String> {
    let filter = format!("label={RUN}");
    let mut runs = BTreeSet::new();
    for (list, _) in KINDS {
        let (_, found, _) = try_docker(&[list, &["--filter", &filter]].concat());
        let found: Vec<&str> = found.split_whitespace().collect();
        if found.is_empty() {
            continue;
        }
        // Containers and images have theirs in `Config`, the others at the top. Some may be gone by now.
        let (_, shown, _) = try_docker(&[&["inspect"], found.as_slice()].concat());
        let shown: Vec<serde_json::Value> = serde_json::from_str(&shown).unwrap_or_default();
        let label = |thing: &serde_json::Value| {
            let label = thing["Config"]["Labels"].get(RUN).or(thing["Labels"].get(RUN));
            label.and_then(serde_json::Value::as_str).map(str::to_owned)
        };
        runs.extend(shown.iter().filter_map(label));
    }
    runs
}
