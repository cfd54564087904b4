//! `orphans` and `spools`: what of sessions is left in the box, told to the server and ended on its word; the forms are in
//! [`shed_link::leftover`]. Which of it belongs to nobody, the server knows.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use shed_api::name::printable;
use shed_link::leftover::{
    END_GRACE_MS, MAX_COMMAND_BYTES, MAX_MARKED, MAX_SPOOLS, Marked, SpoolDir,
};
use shed_link::spool::WorkerId;

use crate::collect::is_abandoned;
use crate::git::size;
use crate::say;
use crate::tree::{self, descendants};

/// The most of a process's environment that is read. Linux takes 128 KiB a variable; ours are among the first.
const MAX_ENVIRON_BYTES: u64 = 1 << 20;
/// The longest mark; ours have 32 digits.
const MAX_MARK_BYTES: usize = 64;
/// How long processes that got KILL may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Prints the processes of the box that carry a mark.
pub(crate) fn list() -> ExitCode {
    let mut found: Vec<Marked> = everyone().into_iter().filter_map(marked).collect();
    found.truncate(MAX_MARKED);
    print(&found)
}

/// Ends processes, each given as `PID:STARTED`.
pub(crate) fn end(processes: &[String]) -> ExitCode {
    let Some(wanted) = processes
        .iter()
        .take(MAX_MARKED)
        .map(|word| parse(word))
        .collect::<Option<BTreeMap<_, _>>>()
    else {
        say("shed-init: orphans: processes are PID:STARTED");
        return ExitCode::FAILURE;
    };
    // A descriptor stands for one process for ever; what it is, is looked at after it was opened.
    let held: Vec<OwnedFd> = everyone()
        .into_iter()
        .filter(|pid| wanted.contains_key(&number(*pid)))
        .filter_map(|pid| {
            let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            let is_it = marked(pid).is_some_and(|it| wanted.get(&it.pid) == Some(&it.started));
            is_it.then_some(fd)
        })
        .collect();
    // Shells heed one, programs the other, and one that stands still neither.
    for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
        signal_all(&held, signal);
    }
    if !all_gone(&held, Duration::from_millis(END_GRACE_MS)) {
        signal_all(&held, Signal::KILL);
        all_gone(&held, KILL_LIMIT);
    }
    ExitCode::SUCCESS
}

fn signal_all(held: &[OwnedFd], signal: Signal) {
    for fd in held {
        // It may have ended.
        pidfd_send_signal(fd, signal).ok();
    }
}

/// Waits until all have ended, at most so long.
fn all_gone(held: &[OwnedFd], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    held.iter().all(|fd| {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // Readable when the process has ended.
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)).is_ok_and(|n| n > 0)
    })
}

/// Every process of the box: in a container those below process 1, in a test those below its supervisor.
fn everyone() -> Vec<Pid> {
    let worker = rustix::process::getppid();
    let supervisor = worker.and_then(tree::parent).or(worker);
    let below = supervisor.map(descendants).unwrap_or_default();
    below.into_iter().filter(|process| !process.has_ended()).map(|process| process.pid).collect()
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// What is known of a process that carries a mark; `None` of any other, and of one that is not ours to look at.
fn marked(pid: Pid) -> Option<Marked> {
    let of = |file: &str, limit: u64| {
        let mut bytes = Vec::new();
        let file = fs::File::open(format!("/proc/{}/{file}", number(pid))).ok()?;
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let environ = of("environ", MAX_ENVIRON_BYTES)?;
    let (session, worker) = (mark(&environ, "SHED_SESSION_ID="), mark(&environ, "SHED_WORKER_ID="));
    if session.is_none() && worker.is_none() {
        return None;
    }
    let command = of("cmdline", MAX_COMMAND_BYTES as u64)?;
    let started = tree::started(pid)?;
    Some(Marked { pid: number(pid), started, command: shown(&command), session, worker })
}

/// The value of a mark. One that is not plain is none of ours.
fn mark(environ: &[u8], key: &str) -> Option<String> {
    let value = environ.split(|byte| *byte == 0).find_map(|it| it.strip_prefix(key.as_bytes()))?;
    let plain = !value.is_empty()
        && value.len() <= MAX_MARK_BYTES
        && value.iter().all(u8::is_ascii_alphanumeric);
    plain.then(|| String::from_utf8_lossy(value).into_owned())
}

/// A command line for people.
fn shown(command: &[u8]) -> String {
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    printable(words.join(" ").trim_end())
}

/// Prints the spools in a directory, or removes those of these workers.
pub(crate) fn spools(spool: &str, workers: &[String]) -> ExitCode {
    let spool = Path::new(spool);
    if workers.is_empty() {
        let entries = fs::read_dir(spool).into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let worker = entry.file_name().to_str()?.parse().ok()?;
            entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| look(spool, worker))
        });
        return print(&found.take(MAX_SPOOLS).collect::<Vec<_>>());
    }
    for worker in workers.iter().take(MAX_SPOOLS) {
        let Ok(worker) = worker.parse::<WorkerId>() else {
            say("shed-init: spools: that is no worker's id");
            return ExitCode::FAILURE;
        };
        let path = spool.join(worker.to_string());
        if look(spool, worker).held {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            say(&format!("shed-init: spools: {}: {error}", path.display()));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn look(spool: &Path, worker: WorkerId) -> SpoolDir {
    let path = spool.join(worker.to_string());
    let epochs: Vec<_> = fs::read_dir(&path).into_iter().flatten().flatten().collect();
    let written = |path: &Path| fs::symlink_metadata(path).map_or(0, |file| file.mtime());
    let in_epoch = |entry: &fs::DirEntry| {
        let files = fs::read_dir(entry.path()).into_iter().flatten().flatten();
        files.map(|file| written(&file.path())).max().unwrap_or(0).max(written(&entry.path()))
    };
    let modified = epochs.iter().map(in_epoch).max().unwrap_or(0).max(written(&path));
    let held = epochs.iter().any(|entry| !is_abandoned(&entry.path()));
    SpoolDir { worker, bytes: size(&path).0, modified, held }
}

fn print(rows: &[impl serde::Serialize]) -> ExitCode {
    let lines: Option<Vec<String>> =
        rows.iter().map(|row| serde_json::to_string(row).ok().map(|line| line + "\n")).collect();
    let written = lines.map(|lines| std::io::stdout().lock().write_all(lines.concat().as_bytes()));
    match written {
        Some(Ok(())) => ExitCode::SUCCESS,
        // Whoever asked is gone.
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

/// A process and when it was started, from `PID:STARTED`.
fn parse(word: &str) -> Option<(u32, u64)> {
    let (pid, started) = word.split_once(':')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};

    use super::*;
    use crate::record::LOCK;

    #[test]
    fn marks_are_plain_or_none() {
        let environ = b"A=1\0SHED_SESSION_ID=0a1b\0SHED_WORKER_ID=x y\0";
        assert_eq!(mark(environ, "SHED_SESSION_ID=").as_deref(), Some("0a1b"));
        assert_eq!(mark(environ, "SHED_WORKER_ID="), None);
        assert_eq!(mark(b"XSHED_SESSION_ID=1\0SHED_SESSION_ID=", "SHED_SESSION_ID="), None);
        assert_eq!(mark("SHED_SESSION_ID=\u{1b}[".as_bytes(), "SHED_SESSION_ID="), None);
    }

    #[test]
    fn a_process_is_a_number_and_a_start() {
        assert_eq!(parse("7:12"), Some((7, 12)));
        for bad in ["7", "7:", ":7", "-7:1", "7:1:1", "all"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(shown(b"sh\0-c\0a\x1b[\xff\0"), "sh -c a\u{fffd}[\u{fffd}");
    }

    #[test]
    fn a_spool_is_measured_and_goes_unless_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let id = "0".repeat(32);
        let epoch = dir.path().join(&id).join("1");
        fs::create_dir_all(&epoch).unwrap();
        fs::write(epoch.join("x"), vec![1; 8192]).unwrap();
        let lock = fs::File::create(epoch.join(LOCK)).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let seen = look(dir.path(), id.parse().unwrap());
        assert!(seen.held && seen.bytes >= 8192 && seen.modified > 0, "{seen:?}");
        let spool = dir.path().to_str().unwrap();
        spools(spool, std::slice::from_ref(&id));
        assert!(epoch.exists());
        drop(lock);
        spools(spool, &["../x".to_owned()]);
        assert!(epoch.exists());
        spools(spool, std::slice::from_ref(&id));
        assert!(!epoch.exists());
    }
}
