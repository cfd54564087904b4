//! The processes below one: to be signalled, counted and stopped as a whole.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a tree may take to stand still. A process that is in the kernel stops when it comes back from there.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks at processes that are about to stop.
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

/// A process, as the kernel tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: Pid,
    /// The letter of its state: `R`, `S`, `T`, `Z` …
    pub(crate) state: u8,
}

impl Process {
    /// Whether it has ended and waits to be reaped.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// Whether it stands still, by a signal or under a debugger.
    fn is_stopped(self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// All descendants of a process, parents before their children.
pub(crate) fn descendants(root: Pid) -> Vec<Process> {
    let mut all: Vec<(Process, i32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        // It may have ended since the directory was read.
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some((state, parent)) = parse_stat(&stat) {
            all.push((Process { pid, state }, parent));
        }
    }
    below(root, &all)
}

/// State and parent in a line of `/proc/PID/stat`.
fn parse_stat(stat: &[u8]) -> Option<(u8, i32)> {
    // The command is in parentheses and may hold anything; what follows it does not.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// The parent of a process; `None` where there is none, or it cannot be seen.
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    let (_, parent) = parse_stat(&stat_of(pid)?)?;
    Pid::from_raw(parent)
}

/// When a process was started, in the kernel's clock ticks since it began.
pub(crate) fn started(pid: Pid) -> Option<u64> {
    parse_started(&stat_of(pid)?)
}

fn stat_of(pid: Pid) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()
}

/// The start in a line of `/proc/PID/stat`: the 22nd field.
fn parse_started(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn below(root: Pid, all: &[(Process, i32)]) -> Vec<Process> {
    let children = |of: Pid| {
        let of = of.as_raw_nonzero().get();
        all.iter().filter(move |(_, parent)| *parent == of).map(|(process, _)| *process)
    };
    let mut found: Vec<Process> = children(root).collect();
    // Reading takes a while; a number that came twice must not make a circle.
    let mut seen: HashSet<i32> = found.iter().map(|it| it.pid.as_raw_nonzero().get()).collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(children(parent.pid).filter(|it| seen.insert(it.pid.as_raw_nonzero().get())));
        at += 1;
    }
    found
}

/// Signals all descendants of a process, parents first.
pub(crate) fn signal(root: Pid, signals: &[Signal]) {
    for process in descendants(root) {
        for signal in signals {
            // It may have ended since.
            kill_process(process.pid, *signal).ok();
        }
    }
}

/// The processes that [`freeze`] stopped, parents first.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    stopped: Vec<Pid>,
}

/// Stops every descendant of a process and looks again until no other has come and all stand still, at most
/// [`FREEZE_LIMIT`]. A process whose stop is pending cannot fork, so each look finds fewer new ones. What was stopped
/// already is left to whoever stopped it.
///
/// A process that waits in the kernel (`D`) with its stop pending counts as still: it stops before it does anything of its
/// own. One that waits for the `execve` of a child it made by `vfork`, and that was stopped, stays so until the thaw.
pub(crate) fn freeze(root: Pid, frozen: &mut Frozen) -> Result<(), String> {
    let deadline = Instant::now() + FREEZE_LIMIT;
    loop {
        let mut is_still = true;
        for process in descendants(root) {
            if process.has_ended() || process.is_stopped() {
                continue;
            }
            let is_known = frozen.stopped.contains(&process.pid);
            if is_known && process.state == b'D' {
                continue;
            }
            is_still = false;
            // Parents first: a shell must not see its job stop.
            if kill_process(process.pid, Signal::STOP).is_ok() && !is_known {
                frozen.stopped.push(process.pid);
            }
        }
        if is_still {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err("some processes did not stop".to_owned());
        }
        std::thread::sleep(FREEZE_PAUSE);
    }
}

/// Continues what was stopped, children first: a shell that wakes must find its job running.
pub(crate) fn thaw(root: Pid, frozen: Frozen) {
    // A number may be somebody else's by now; only what is still below us is ours.
    let alive: HashSet<i32> =
        descendants(root).iter().map(|it| it.pid.as_raw_nonzero().get()).collect();
    for pid in frozen.stopped.into_iter().rev() {
        if alive.contains(&pid.as_raw_nonzero().get()) {
            kill_process(pid, Signal::CONT).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    #[test]
    fn a_command_may_have_any_name() {
        assert_eq!(parse_stat(b"12 (a) R 1 (b) T 7 3 3"), Some((b'T', 7)));
        assert_eq!(parse_stat(b"12 (\xff\n) S 1 2"), Some((b'S', 1)));
        let line = b"12 (a) 9) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2";
        assert_eq!(parse_started(line), Some(777));
        assert_eq!(parse_started(b"12 (a) S 1 2"), None);
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"12 (a)"), None);
    }

    #[test]
    fn a_tree_is_found_parents_first_and_a_circle_ends() {
        let process = |number, parent| (Process { pid: pid(number), state: b'S' }, parent);
        let all = [process(5, 4), process(4, 2), process(3, 2), process(9, 1), process(2, 5)];
        let numbers = |root| -> Vec<i32> {
            below(pid(root), &all).iter().map(|it| it.pid.as_raw_nonzero().get()).collect()
        };
        assert_eq!(numbers(2), [4, 3, 5, 2]);
        assert_eq!(numbers(1), [9]);
        assert_eq!(numbers(7), [0; 0]);
    }
}
