//! Random states of a worktree, and operations that remove or overwrite files. Whatever the state, what was there can be found
//! afterwards, or the operation was refused and nothing has changed.
//!
//! `SHED_STATES=2000` tries more states than the default, `SHED_SEED=N` others. A failure names its state, which the seed
//! repeats.

mod actions;
mod lab;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use shed_link::git::{GitAnswer, GitDone};

use actions::{ACTIONS, Action, Holds, LAST};
use lab::{Files, Fixture, Lab};

/// How many states are tried without `SHED_STATES`.
const N_STATES: u64 = 100;
/// The states that are tried at the same time.
const AT_ONCE: u64 = 2;
/// The most actions of a state.
const MAX_ACTIONS: u64 = 6;

/// What is done with a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Delete,
    DeleteForce,
    /// The removal of a worktree that has no session.
    Orphan,
    Terminate,
    Restore,
}

/// Forced deletions are tried more often than the rest: they may go furthest.
const OPERATIONS: [Operation; 8] = [
    Operation::Delete,
    Operation::DeleteForce,
    Operation::DeleteForce,
    Operation::DeleteForce,
    Operation::Orphan,
    Operation::Terminate,
    Operation::Restore,
    Operation::Restore,
];

/// A small generator of random numbers (splitmix64), so that a seed means the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn choose<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect(name))
}

#[test]
fn nothing_is_lost_in_any_state() {
    let (n_states, seed) = (from_env("SHED_STATES", N_STATES), from_env("SHED_SEED", 1));
    println!("seed {seed}, {n_states} states");
    let fixture = Fixture::new();
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= n_states {
                        return;
                    }
                    if let Err(text) = try_state(&fixture, seed, n) {
                        failures.lock().unwrap().push(format!("state {n}: {text}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "SHED_SEED={seed}, {} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Makes a state and does something with it.
fn try_state(fixture: &Fixture, seed: u64, n: u64) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(n));
    let operation = *random.choose(&OPERATIONS);
    let mut chosen: Vec<&Action> = Vec::new();
    for _ in 0..random.below(MAX_ACTIONS + 1) {
        let action = random.choose(&ACTIONS);
        if !chosen.iter().any(|known| known.name == action.name) {
            chosen.push(action);
        }
    }
    if random.below(3) == 0 {
        chosen.push(random.choose(&LAST));
    }
    let names: Vec<&str> = chosen.iter().map(|action| action.name).collect();
    let lab = fixture.lab();
    if operation == Operation::Restore {
        lab.ask(&json!({"snapshot": {"view": lab.view(), "kind": "manual"}}));
    }
    let failed = lab.act(&chosen);
    check(&lab, operation, &chosen, &failed)
        .map_err(|text| format!("{operation:?} after {names:?} (failed: {failed:?}): {text}"))
}

/// What was found about a marker before the operation.
struct Marker<'a> {
    action: &'a Action,
    text: String,
    /// Whether a file of the worktree has it.
    on_disk: bool,
}

fn check(
    lab: &Lab,
    operation: Operation,
    chosen: &[&Action],
    failed: &[String],
) -> Result<(), String> {
    let before = lab.files();
    // Without its record git has forgotten what only that named.
    let has_forgotten = chosen.iter().any(|action| action.name == "pruned record");
    let objects = if has_forgotten { lab.logged() } else { lab.all_objects() };
    let mut markers = Vec::new();
    for action in chosen.iter().filter(|action| !failed.contains(&action.name.to_owned())) {
        let text = action.marker();
        let on_disk = matches!(action.holds, Holds::File(name) if lab.on_disk(name, &text));
        let exists = match action.holds {
            Holds::Nothing => false,
            // An action that came later may have moved it into a stash.
            Holds::File(_) => on_disk || objects.contains(&text),
            Holds::Commit => objects.contains(&text),
            Holds::Nested(name) => before.below(&lab.place().join(name)).next().is_some(),
        };
        if exists {
            markers.push(Marker { action, text, on_disk });
        }
    }
    let certain = failed.is_empty();
    let is_clear = chosen.iter().any(|action| action.clears);
    let blocks = !is_clear && chosen.iter().any(|action| action.blocks);
    let removal = match operation {
        Operation::Delete | Operation::DeleteForce => lab.removal(Some("s")),
        Operation::Orphan => lab.removal(None),
        Operation::Terminate | Operation::Restore => json!(null),
    };
    let answer = match operation {
        Operation::DeleteForce => lab.ask(&removal),
        Operation::Delete | Operation::Orphan => match lab.ask(&lab.survey()) {
            GitAnswer::Done(done) => {
                let GitDone::Survey(risk) = *done else { return Err(format!("{done:?}")) };
                let n = risk.dirty + risk.untracked + risk.unpushed + risk.n_worktrees;
                if n + risk.n_unsaved > 0 || risk.locked {
                    return unchanged(&before, lab, |_| true);
                }
                lab.ask(&removal)
            }
            failed @ GitAnswer::Failed(_) => failed,
        },
        Operation::Terminate => {
            lab.ask(&json!({"snapshot": {"view": lab.view(), "kind": "before-terminate"}}));
            return unchanged(&before, lab, |_| true);
        }
        Operation::Restore => {
            lab.ask(&json!({"restore": {"view": lab.view(), "from": "s", "n": 1}}));
            let tree = lab.place();
            // Files of the worktree change; repositories in it do not.
            unchanged(&before, lab, |path| {
                !path.starts_with(&tree) || path.components().any(|part| part.as_os_str() == ".git")
            })?;
            // What only git's own files name is as before.
            markers
                .retain(|marker| marker.on_disk || matches!(marker.action.holds, Holds::Nested(_)));
            return found(lab, &before, &markers, has_forgotten);
        }
    };
    match answer {
        GitAnswer::Done(_) if blocks && certain => {
            Err("it was removed, with work that cannot be saved".to_owned())
        }
        GitAnswer::Done(_) if lab.tree().symlink_metadata().is_ok() => {
            Err("the directory still exists".to_owned())
        }
        GitAnswer::Failed(failure) if !blocks && certain => {
            Err(format!("it was refused: {failure:?}"))
        }
        GitAnswer::Failed(failure) if blocks && certain && failure.text.is_empty() => {
            Err("the refusal has no reason".to_owned())
        }
        GitAnswer::Failed(_) if certain => unchanged(&before, lab, |_| true),
        GitAnswer::Failed(_) => unchanged(&before, lab, |_| true)
            .or_else(|_| found(lab, &before, &markers, has_forgotten)),
        GitAnswer::Done(_) => found(lab, &before, &markers, has_forgotten),
    }
}

/// Whether all files are as before, except those that shed writes.
fn unchanged(
    before: &Files,
    lab: &Lab,
    counts: impl Fn(&std::path::Path) -> bool,
) -> Result<(), String> {
    let after = lab.files();
    let mut text = String::new();
    for path in before.changed(&after).filter(|path| counts(path) && !lab.is_ours(path)) {
        writeln!(text, "changed although nothing was removed: {}", path.display()).unwrap();
    }
    if text.is_empty() { Ok(()) } else { Err(text) }
}

/// Whether all markers can still be found: on the disk, or in what refs reach.
fn found(
    lab: &Lab,
    before: &Files,
    markers: &[Marker<'_>],
    has_forgotten: bool,
) -> Result<(), String> {
    // Of what git has forgotten, the log of a branch that stays may be the only trace.
    let reached = if has_forgotten { lab.logged() } else { lab.reached() };
    let after = lab.files();
    for Marker { action, text, .. } in markers {
        let is_found = match action.holds {
            Holds::Nothing => true,
            Holds::File(name) => lab.on_disk(name, text) || reached.contains(text),
            Holds::Commit => reached.contains(text),
            Holds::Nested(name) => {
                let directory = lab.place().join(name);
                before.below(&directory).all(|file| after.has(file))
            }
        };
        if !is_found {
            return Err(format!("{text} of {:?} is lost", action.name));
        }
    }
    Ok(())
}
