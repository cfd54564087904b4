//! The user's own git beside ours: neither fails because of the other.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Repo, done, try_git};

/// How many commits are made beside.
const N_COMMITS: usize = 200;

#[test]
fn commits_checkpoints_and_numbers_do_not_disturb_each_other() {
    let repo = Repo::new();
    let (over, n_ours) = (AtomicBool::new(false), AtomicUsize::new(0));
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
        for n in 0..N_COMMITS {
            repo.write("a", format!("{n}\n"));
            repo.write(&format!("new/{n}"), "x");
            for words in [["add", "-A", "."].as_slice(), &["commit", "-q", "-m", "x"]] {
                let output = try_git(&repo.top(), words);
                if !output.status.success() {
                    failures.push(String::from_utf8_lossy(&output.stderr).into_owned());
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(failures.is_empty(), "{failures:?}");
    });
    assert!(n_ours.load(Ordering::Relaxed) > 10);
    assert_eq!(repo.git(&["rev-list", "--count", "HEAD"]).trim(), (N_COMMITS + 1).to_string());
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
            let began = Instant::now();
            repo.snapshot();
            began.elapsed()
        })
        .collect();
    times.sort();
    eprintln!("checkpoints of 2,000 files took {times:?}");
    // Ten times what it takes on a quiet machine.
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
