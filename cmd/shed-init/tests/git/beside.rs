//! The user's git and shed's git at the same time: neither fails because of the other.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Repo, done, try_git};

/// The least number of commits of the user, and of shed's operations, that run at the same time.
const N_OPERATIONS: usize = 40;
/// The most commits, in case that shed's operations fail or starve.
const MAX_COMMITS: usize = 1_000;

#[test]
fn commits_checkpoints_and_counts_do_not_disturb_each_other() {
    let repo = Repo::new();
    let (over, n_ours) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut n_commits = 0;
    thread::scope(|scope| {
        for request in [
            json!({"snapshot": {"view": repo.view(), "kind": "timer"}}),
            json!({"numbers": {"view": repo.view(), "base": {"fork": "main"}}}),
        ] {
            let (over, n_ours) = (&over, &n_ours);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    done(request.clone());
                    n_ours.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut failures = Vec::new();
        let is_enough =
            |n_commits| n_commits >= N_OPERATIONS && n_ours.load(Ordering::Relaxed) >= N_OPERATIONS;
        while !is_enough(n_commits) && n_commits < MAX_COMMITS {
            let n = n_commits;
            repo.write("a", format!("{n}\n"));
            repo.write(&format!("new/{n}"), "x");
            for words in [["add", "-A", "."].as_slice(), &["commit", "-q", "-m", "x"]] {
                let output = try_git(&repo.top(), words);
                if !output.status.success() {
                    failures.push(String::from_utf8_lossy(&output.stderr).into_owned());
                }
            }
            n_commits += 1;
        }
        over.store(true, Ordering::Relaxed);
        assert!(failures.is_empty(), "{failures:?}");
    });
    assert!(n_ours.load(Ordering::Relaxed) >= N_OPERATIONS);
    assert_eq!(repo.git(&["rev-list", "--count", "HEAD"]).trim(), (n_commits + 1).to_string());
}

#[test]
fn a_checkpoint_of_two_thousand_files_is_fast() {
    let repo = Repo::new();
    for n in 0..2_000 {
        repo.write(&format!("d{}/f{n}", n % 40), format!("line {n}\n"));
    }
    repo.commit("many");
    repo.snapshot();
    let mut times: Vec<Duration> = (0..5)
        .map(|n| {
            repo.write("d1/f1", format!("{n}\n"));
            let start = Instant::now();
            repo.snapshot();
            start.elapsed()
        })
        .collect();
    times.sort();
    eprintln!("checkpoints of 2,000 files took {times:?}");
    // Ten times the duration on an idle machine.
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
    assert!(
        Command::new("git")
            .arg("fsck")
            .arg("--no-dangling")
            .current_dir(repo.top())
            .output()
            .unwrap()
            .status
            .success()
    );
}
