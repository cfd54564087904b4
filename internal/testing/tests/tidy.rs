//! What the house promises of itself: the edges between crates, who may know whom, and that documents name what there is.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not so")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use shed_api::{Code, EventKind};

/// Every edge between our crates, normal dependencies only. `docs/ARCHITECTURE.md` tells why each is there.
const EDGES: &[(&str, &[&str])] = &[
    ("shed-api", &[]),
    ("shed-tmux", &[]),
    ("shed-model", &["shed-api"]),
    ("shed-agents", &[]),
    ("shed-engine", &["shed-api"]),
    ("shed-link", &["shed-api"]),
    ("shed-store", &["shed-api", "shed-model"]),
    (
        "shed-core",
        &[
            "shed-agents",
            "shed-api",
            "shed-engine",
            "shed-link",
            "shed-model",
            "shed-output",
            "shed-store",
            "shed-tmux",
            "shed-toml",
        ],
    ),
    ("shed-docker", &["shed-api", "shed-engine"]),
    ("shed-http", &["shed-api", "shed-core", "shed-model"]),
    ("shed-ssh", &["shed-api", "shed-core", "shed-model"]),
    ("shed-client", &["shed-api"]),
    ("shed-report", &[]),
    ("shed-output", &[]),
    ("shed-toml", &[]),
    ("shed", &["shed-api", "shed-client", "shed-report", "shed-toml"]),
    ("shed-init", &["shed-api", "shed-link", "shed-tmux"]),
    (
        "shed-server",
        &[
            "shed-agents",
            "shed-api",
            "shed-client",
            "shed-core",
            "shed-docker",
            "shed-engine",
            "shed-http",
            "shed-model",
            "shed-report",
            "shed-ssh",
            "shed-store",
            "shed-toml",
        ],
    ),
    ("shed-testing", &["shed-api", "shed-core", "shed-engine", "shed-model", "shed-store"]),
];

/// Foreign worlds, each known to one crate.
const FOREIGN: &[(&str, &str)] = &[
    ("bollard", "shed-docker"),
    ("russh", "shed-ssh"),
    ("axum", "shed-http"),
    ("rusqlite", "shed-store"),
    ("tabled", "shed-report"),
    ("vt100", "shed-output"),
    ("toml", "shed-toml"),
];

/// A longer file is two files.
const MAX_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Normal dependencies of each crate of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let of = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap();
        let normal = all.iter().filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    packages.iter().map(|it| (it["name"].as_str().unwrap().to_owned(), of(it))).collect()
}

/// Files that git knows, or would take.
fn files(suffix: &str) -> Vec<(String, String)> {
    let output = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let names = names.split('\0').filter(|name| name.ends_with(suffix) && !name.is_empty());
    let read =
        |name: &str| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?));
    let found: Vec<_> = names.filter_map(read).collect();
    assert!(!found.is_empty(), "no file ends with {suffix:?}");
    found
}

#[test]
fn the_edges_between_crates_are_the_ones_on_the_list() {
    let found = dependencies();
    let listed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    assert_eq!(
        found.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        listed.keys().copied().collect::<BTreeSet<_>>()
    );
    for (name, all) in &found {
        let ours: BTreeSet<&str> =
            all.iter().map(String::as_str).filter(|it| listed.contains_key(it)).collect();
        assert_eq!(ours, listed[name.as_str()], "edges of {name}");
    }
}

#[test]
fn each_foreign_world_is_known_to_one_crate() {
    let found = dependencies();
    for (world, crate_name) in FOREIGN {
        let who: Vec<&str> = found
            .iter()
            .filter(|(_, all)| all.contains(*world))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(who, [*crate_name], "who knows {world}");
    }
}

#[test]
fn every_problem_and_every_event_has_its_words_in_the_api_document() {
    let text = std::fs::read_to_string(root().join("docs/API.md")).unwrap();
    for code in Code::ALL {
        assert!(text.contains(&format!("`{}`", code.as_str())), "problem {}", code.as_str());
    }
    for kind in EventKind::ALL {
        assert!(text.contains(&format!("`{}`", kind.as_str())), "event {}", kind.as_str());
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (name, text) in files(".rs") {
        assert!(text.lines().count() <= MAX_LINES, "{name} has {} lines", text.lines().count());
        if name.contains("/src/") {
            assert!(text.starts_with("//!"), "{name} does not begin with what it is");
        }
    }
}

#[test]
fn nothing_is_left_to_do_without_a_plan_and_nothing_names_this_machine() {
    // Written apart, so that this file does not contain them.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["/work", "/main"].concat()];
    for suffix in [".rs", ".md", ".sh", ".toml", ".py", "Makefile", "Dockerfile"] {
        for (name, text) in files(suffix) {
            for word in &words {
                let line =
                    text.lines().find(|line| line.contains(word) && !line.contains("plans/"));
                assert!(line.is_none(), "{name}: {}", line.unwrap_or_default());
            }
        }
    }
}
