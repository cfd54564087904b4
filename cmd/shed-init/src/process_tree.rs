//! Processes in `/proc`: the descendants of a process, which are signalled, counted and suspended together, and facts about
//! single processes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long it may take until all processes are suspended. A process in a system call stops when the call returns.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
/// The pause between two checks of processes that are about to stop.
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

/// A process with its state from `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its process id.
    pub(crate) pid: Pid,
    /// The letter of its state, such as `R`, `S`, `T` or `Z`.
    pub(crate) state: u8,
}

impl Process {
    /// Whether it has ended and is not reaped yet.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// Whether it is stopped, by a signal or a debugger.
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
        // It may have ended after the directory was read.
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some((state, parent)) = parse_stat(&stat) {
            all.push((Process { pid, state }, parent));
        }
    }
    below(root, &all)
}

/// The state and the parent in a line of `/proc/PID/stat`.
fn parse_stat(stat: &[u8]) -> Option<(u8, i32)> {
    let mut fields = stat_fields(stat)?;
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// The parent of a process; `None` if it has none or is not visible.
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    let (_, parent) = parse_stat(&stat_of(pid)?)?;
    Pid::from_raw(parent)
}

/// Whether the process with this start time is still running.
pub(crate) fn runs_since(pid: Pid, start: u64) -> bool {
    let stat = stat_of(pid).unwrap_or_default();
    let has_ended = parse_stat(&stat).is_none_or(|(state, _)| Process { pid, state }.has_ended());
    !has_ended && parse_start_time(&stat) == Some(start)
}

/// The start time of a process, in clock ticks since boot.
pub(crate) fn start_time(pid: Pid) -> Option<u64> {
    parse_start_time(&stat_of(pid)?)
}

fn stat_of(pid: Pid) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()
}

/// The start time in a line of `/proc/PID/stat`: the 22nd field.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    stat_fields(stat)?.nth(19)?.parse().ok()
}

/// The fields of a line of `/proc/PID/stat` from the third one, the state, on.
fn stat_fields(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    // The second field is the command's name in parentheses, which may contain anything. The other fields are numbers.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace())
}

/// A process id as the number that messages carry.
pub(crate) fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// The name of the foreground command on the terminal of a runner's child. `None` if the process is not a runner.
pub(crate) fn foreground_of_runner(runner: u32) -> Option<String> {
    let command_line = std::fs::read(format!("/proc/{runner}/cmdline")).ok()?;
    if command_line.split(|byte| *byte == 0).nth(1)? != b"run" {
        return None;
    }
    let children =
        std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    let stat = std::fs::read(format!("/proc/{child}/stat")).ok()?;
    // The eighth field: the foreground process group of its terminal.
    let group = stat_fields(&stat)?.nth(5)?;
    let name = std::fs::read_to_string(format!("/proc/{group}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

fn below(root: Pid, all: &[(Process, i32)]) -> Vec<Process> {
    let children = |of: Pid| {
        let of = of.as_raw_nonzero().get();
        all.iter().filter(move |(_, parent)| *parent == of).map(|(process, _)| *process)
    };
    let mut found: Vec<Process> = children(root).collect();
    // Process ids may be reused while `/proc` is read. A process that appears twice must not lead to an endless loop.
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
            // Fails when it has ended.
            kill_process(process.pid, *signal).ok();
        }
    }
}

/// The processes that [`freeze`] has stopped, parents first.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    stopped: Vec<Pid>,
}

/// Stops all descendants of a process with SIGSTOP. It checks again until no new descendant appears and all are stopped, at
/// most for [`FREEZE_LIMIT`]. A process with a pending stop cannot fork, so that each check finds fewer new ones. A process
/// that was stopped before is not recorded, so that [`thaw`] does not continue it.
///
/// A process that waits in the kernel (`D`) with its stop pending counts as stopped: it stops before it runs again. A process
/// that waits for a stopped child, created by `vfork`, to call `execve` stays in that state until the thaw.
pub(crate) fn freeze(root: Pid, frozen: &mut Frozen) -> Result<(), String> {
    let deadline = Instant::now() + FREEZE_LIMIT;
    loop {
        let mut all_stopped = true;
        for process in descendants(root) {
            if process.has_ended() || process.is_stopped() {
                continue;
            }
            let is_known = frozen.stopped.contains(&process.pid);
            if is_known && process.state == b'D' {
                continue;
            }
            all_stopped = false;
            // Parents first, so that a shell does not notice that its job stops.
            if kill_process(process.pid, Signal::STOP).is_ok() && !is_known {
                frozen.stopped.push(process.pid);
            }
        }
        if all_stopped {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err("some processes did not stop".to_owned());
        }
        std::thread::sleep(FREEZE_PAUSE);
    }
}

/// Continues the processes that [`freeze`] stopped, children first, so that a shell finds its job running.
pub(crate) fn thaw(root: Pid, frozen: Frozen) {
    // A process id may have been reused; only descendants are continued.
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
    fn a_command_name_with_parentheses_does_not_confuse_the_parser() {
        assert_eq!(parse_stat(b"12 (a) R 1 (b) T 7 3 3"), Some((b'T', 7)));
        assert_eq!(parse_stat(b"12 (\xff\n) S 1 2"), Some((b'S', 1)));
        let line = b"12 (a) 9) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2";
        assert_eq!(parse_start_time(line), Some(777));
        assert_eq!(parse_start_time(b"12 (a) S 1 2"), None);
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"12 (a)"), None);
    }

    #[test]
    fn descendants_are_found_parents_first_and_a_loop_ends() {
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
