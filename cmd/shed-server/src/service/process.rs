//! Processes as `/proc` shows them.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A process. Pids are reused, so the start time is part of its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In clock ticks since boot; field 22 of `/proc/PID/stat`.
    start_time: u64,
}

impl Process {
    /// The process that has this pid now. None for a zombie: it has ended, whenever its parent reaps it.
    pub(crate) fn find(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_time })
    }

    /// Whether it still exists.
    pub(crate) fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Path of its program; ends with ` (deleted)` if the file was replaced since. None for another user's process.
    pub(crate) fn program(self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Its command line, split into words.
    pub(crate) fn arguments(self) -> Vec<OsString> {
        let text = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        text.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
    }

    /// Sends SIGTERM. A process that has ended is not an error.
    pub(crate) fn terminate(self) -> std::io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let Some(pid) = pid.filter(|_| self.is_alive()) else { return Ok(()) };
        match rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the words of a command line are those of a server with this ready file.
pub(crate) fn is_server_of(program: &Path, arguments: &[OsString], ready_file: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let has_ready_file = arguments.windows(2).any(|pair| {
        matches!(pair, [option, value] if option == "--ready-file" && Path::new(value) == ready_file)
    });
    name.starts_with("shed-server") && has_ready_file
}

/// The data directory that a server was started with.
pub(crate) fn data_dir_of(arguments: &[OsString]) -> Option<PathBuf> {
    let mut pairs = arguments.windows(2);
    pairs.find_map(|pair| (pair[0] == "--data-dir").then(|| PathBuf::from(&pair[1])))
}

/// The form of pid files.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start_time)
    }
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("invalid pid file {text:?}; expected PID STARTTIME");
        let (pid, start_time) = text.trim().split_once(' ').ok_or_else(invalid)?;
        Ok(Self {
            pid: pid.parse().map_err(|_| invalid())?,
            start_time: start_time.parse().map_err(|_| invalid())?,
        })
    }
}

/// State and start time in the text of `/proc/PID/stat`. The second field, the program's name in parentheses, may contain
/// anything.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_start_time_are_parsed_after_any_program_name() {
        let text = "7 (a) R 1 (b) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3\n";
        assert_eq!(parse_stat(text), Some(('S', 98765)));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_known_by_pid_and_start_time() {
        let this = Process::find(std::process::id()).unwrap();
        assert!(this.is_alive());
        assert_eq!(this.to_string().parse(), Ok(this));
        assert!(!Process { start_time: this.start_time + 1, ..this }.is_alive());
        for bad in ["", "7", "x 7", "7 x"] {
            assert!(bad.parse::<Process>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_zombie_does_not_count_as_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        // Returns when the child has exited, and leaves it a zombie.
        let flags = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), flags).unwrap();
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
        assert_eq!(Process::find(child.id()), None);
        child.wait().unwrap();
    }

    #[test]
    fn a_server_is_known_by_program_and_ready_file() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let ready = Path::new("/s/ready");
        let good = words("x serve --socket /a --ready-file /s//ready --http 1");
        assert!(is_server_of(Path::new("/b/shed-server (deleted)"), &good, ready));
        assert!(!is_server_of(Path::new("/b/vim"), &good, ready));
        assert_eq!(data_dir_of(&good), None);
        let with_data = words("x serve --data-dir /data --ready-file /ready");
        assert_eq!(data_dir_of(&with_data), Some(PathBuf::from("/data")));
        let other = words("x serve --ready-file /other/ready");
        assert!(!is_server_of(Path::new("/b/shed-server"), &other, ready));
    }
}
