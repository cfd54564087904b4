//! `orphans` and `spools`: lists processes and spools of sessions, and stops or removes those that the server names. The
//! formats are in [`shed_link::leftover`]. The server decides which of them no session owns.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use shed_api::name::printable;
use shed_link::leftover::{
    END_GRACE_MS, MAX_COMMAND_BYTES, MAX_MARKED, MAX_SPOOLS, Marked, SpoolDir,
};
use shed_link::spool::WorkerId;

use crate::clock::time_until;
use crate::collect::is_abandoned;
use crate::git::size;
use crate::log;
use crate::process_tree::{self, descendants, number};

/// The most bytes of a process's environment that are read. A variable has at most 128 KiB; ours are among the first.
const MAX_ENVIRON_BYTES: u64 = 1 << 20;
/// The longest mark, in bytes; ours have 32 digits.
const MAX_MARK_BYTES: usize = 64;
/// How long processes may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Prints the processes in the container that carry a mark.
pub(crate) fn list() -> ExitCode {
    let mut found: Vec<Marked> = all_processes().into_iter().filter_map(marked).collect();
    found.truncate(MAX_MARKED);
    print(&found)
}

/// Stops processes, each given as `PID:STARTED`.
pub(crate) fn stop(processes: &[String]) -> ExitCode {
    let Some(wanted) = processes
        .iter()
        .take(MAX_MARKED)
        .map(|word| parse(word))
        .collect::<Option<BTreeMap<_, _>>>()
    else {
        log::line("shed-init: orphans: invalid process; expected PID:STARTED");
        return ExitCode::FAILURE;
    };
    // A pidfd always refers to the same process. The process is checked after the pidfd was opened, so that a reused
    // process id is noticed.
    let held: Vec<OwnedFd> = all_processes()
        .into_iter()
        .filter(|pid| wanted.contains_key(&number(*pid)))
        .filter_map(|pid| {
            let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            let is_wanted = marked(pid).is_some_and(|it| wanted.get(&it.pid) == Some(&it.started));
            is_wanted.then_some(fd)
        })
        .collect();
    // Shells ignore SIGTERM, many programs ignore SIGHUP, and a stopped process handles neither before SIGCONT.
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
        // Fails when it has ended.
        pidfd_send_signal(fd, signal).ok();
    }
}

/// Waits until all have ended; `false` if the limit passes before.
fn all_gone(held: &[OwnedFd], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    held.iter().all(|fd| {
        // A pidfd is readable when its process has ended.
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&time_until(deadline)))
            .is_ok_and(|n| n > 0)
    })
}

/// All living processes in the container: the descendants of process 1, or of the supervisor in a test.
fn all_processes() -> Vec<Pid> {
    let daemon = rustix::process::getppid();
    let supervisor = daemon.and_then(process_tree::parent).or(daemon);
    let below = supervisor.map(descendants).unwrap_or_default();
    below.into_iter().filter(|process| !process.has_ended()).map(|process| process.pid).collect()
}

/// A process that carries a mark; `None` for other processes and for those that we may not read.
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
    let started = process_tree::start_time(pid)?;
    Some(Marked {
        pid: number(pid),
        started,
        command: printable_command(&command),
        session,
        worker,
    })
}

/// The value of a mark. Ours are alphanumeric; any other value is ignored.
fn mark(environ: &[u8], key: &str) -> Option<String> {
    let value = environ.split(|byte| *byte == 0).find_map(|it| it.strip_prefix(key.as_bytes()))?;
    let plain = !value.is_empty()
        && value.len() <= MAX_MARK_BYTES
        && value.iter().all(u8::is_ascii_alphanumeric);
    plain.then(|| String::from_utf8_lossy(value).into_owned())
}

/// A command line, made printable.
fn printable_command(command: &[u8]) -> String {
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    printable(words.join(" ").trim_end())
}

/// Prints the spools in a directory, or removes those of the given workers.
pub(crate) fn spools(spool: &str, workers: &[String]) -> ExitCode {
    let spool = Path::new(spool);
    if workers.is_empty() {
        let entries = fs::read_dir(spool).into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let worker = entry.file_name().to_str()?.parse().ok()?;
            entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| measure(spool, worker))
        });
        return print(&found.take(MAX_SPOOLS).collect::<Vec<_>>());
    }
    for worker in workers.iter().take(MAX_SPOOLS) {
        let worker = match worker.parse::<WorkerId>() {
            Ok(worker) => worker,
            Err(error) => {
                log::line(&format!("shed-init: spools: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let path = spool.join(worker.to_string());
        if measure(spool, worker).held {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::line(&format!("shed-init: spools: {}: {error}", path.display()));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(spool: &Path, worker: WorkerId) -> SpoolDir {
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
        // The reader has closed the pipe.
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

/// Parses `PID:STARTED`.
fn parse(word: &str) -> Option<(u32, u64)> {
    let (pid, started) = word.split_once(':')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};

    use super::*;
    use crate::spool_record::LOCK;

    #[test]
    fn only_alphanumeric_marks_are_accepted() {
        let environ = b"A=1\0SHED_SESSION_ID=0a1b\0SHED_WORKER_ID=x y\0";
        assert_eq!(mark(environ, "SHED_SESSION_ID=").as_deref(), Some("0a1b"));
        assert_eq!(mark(environ, "SHED_WORKER_ID="), None);
        assert_eq!(mark(b"XSHED_SESSION_ID=1\0SHED_SESSION_ID=", "SHED_SESSION_ID="), None);
        assert_eq!(mark("SHED_SESSION_ID=\u{1b}[".as_bytes(), "SHED_SESSION_ID="), None);
    }

    #[test]
    fn a_process_is_given_by_id_and_start_time() {
        assert_eq!(parse("7:12"), Some((7, 12)));
        for bad in ["7", "7:", ":7", "-7:1", "7:1:1", "all"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(printable_command(b"sh\0-c\0a\x1b[\xff\0"), "sh -c a\u{fffd}[\u{fffd}");
    }

    #[test]
    fn a_spool_is_measured_and_is_not_removed_while_it_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let id = "0".repeat(32);
        let epoch = dir.path().join(&id).join("1");
        fs::create_dir_all(&epoch).unwrap();
        fs::write(epoch.join("x"), vec![1; 8192]).unwrap();
        let lock = fs::File::create(epoch.join(LOCK)).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let seen = measure(dir.path(), id.parse().unwrap());
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
