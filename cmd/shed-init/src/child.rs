//! The child stage: a fresh copy of shed-init that becomes the session leader, the user and the terminal, and at last
//! the command. Doing this after an `execve` instead of between fork and exec needs no unsafe code and may fail in words.
//!
//! Its standard input is a socket. It reads one [`Order`] with the command's descriptors; on failure it writes one
//! [`Refusal`]; on success the socket closes by itself at `execve`.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Signal, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use serde::{Deserialize, Serialize};
use shed_link::{Confine, Io, Refusal, recv_blocking, send_blocking};

use crate::{confine, term};

/// Everything the child stage needs to know; the descriptors of [`Io`] come with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The program, looked up in the `PATH` of `env`.
    pub(crate) program: String,
    /// What it sees as its name.
    pub(crate) arg0: String,
    /// The rest of its words.
    pub(crate) args: Vec<String>,
    /// Its whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) directory: String,
    /// Where it starts when `directory` was only a default and is not there.
    pub(crate) fallback_directory: Option<String>,
    /// Whom to become; `None` stays who we are.
    pub(crate) become_user: Option<(u32, u32, Vec<u32>)>,
    /// Its input and output.
    pub(crate) io: Io,
    /// Whether it must end with the worker.
    pub(crate) tied: bool,
    /// What it may write to; everything the user may when absent.
    pub(crate) confine: Option<Confine>,
}

/// Reads the order and becomes it.
pub(crate) fn main() -> ExitCode {
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let Ok(Some((order, fds))) = recv_blocking::<Order>(control.as_fd()) else {
        return ExitCode::FAILURE;
    };
    let refusal = become_order(order, fds);
    // The worker may be gone; then nobody is left to tell.
    send_blocking(control.as_fd(), &refusal, &[]).ok();
    ExitCode::FAILURE
}

/// Runs `program` with `words` in place of this process: gives tmux a command of two words, so that it asks no shell.
pub(crate) fn exec_words(program: &str, words: &[String]) -> ExitCode {
    let error = Command::new(program).args(words).exec();
    crate::say(&format!("cannot run {program:?}: {error}"));
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Returns only on failure.
fn become_order(order: Order, fds: Vec<OwnedFd>) -> Refusal {
    let resources = |what: &str, error: Errno| Refusal::NoResources(format!("{what}: {error}"));
    // Under memory pressure the kernel ends what a person started, not shed-init or tmux.
    std::fs::write("/proc/self/oom_score_adj", "0").ok();
    if let Err(error) = rustix::process::setsid() {
        return resources("setsid", error);
    }
    if let Some((uid, gid, groups)) = &order.become_user
        && let Err(error) = become_user(*uid, *gid, groups)
    {
        return resources("cannot become the user", error);
    }
    if order.tied {
        // Set after the change of user, which clears it.
        rustix::process::set_parent_process_death_signal(Some(Signal::HUP)).ok();
    }
    if let Err(refusal) = enter(&order) {
        return refusal;
    }
    let mut env = order.env;
    if let Err(refusal) = take_io(order.io, fds, &mut env) {
        return refusal;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Last, when everything that must be opened is open.
    if let Some(confine) = &order.confine
        && let Err(why) = confine::apply(confine)
    {
        return Refusal::CannotConfine(why);
    }
    let error = Command::new(&order.program)
        .arg0(&order.arg0)
        .args(&order.args)
        .env_clear()
        .envs(env)
        .exec();
    Refusal::NotExecutable {
        program: order.program,
        missing: error.kind() == std::io::ErrorKind::NotFound,
        why: error.to_string(),
    }
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // The child stage has one thread, so what holds for the thread holds for the process.
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn enter(order: &Order) -> Result<(), Refusal> {
    let Err(error) = std::env::set_current_dir(&order.directory) else {
        return Ok(());
    };
    let fallback = order.fallback_directory.iter().map(String::as_str).chain(["/"]);
    if order.fallback_directory.is_some()
        && fallback.into_iter().any(|directory| std::env::set_current_dir(directory).is_ok())
    {
        return Ok(());
    }
    Err(Refusal::NoDirectory { directory: order.directory.clone(), why: error.to_string() })
}

fn take_io(io: Io, fds: Vec<OwnedFd>, env: &mut Vec<(String, String)>) -> Result<(), Refusal> {
    let failed =
        |error: Errno| Refusal::NoResources(format!("cannot set up input and output: {error}"));
    let wrong =
        || Refusal::Invalid("a process was asked for with the wrong descriptors".to_owned());
    match io {
        Io::Pipes => {
            let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds).map_err(|_| wrong())?;
            dup_stdio(&stdin, &stdout, &stderr).map_err(failed)
        }
        Io::Tty { cols, rows } => {
            let [socket] = <[OwnedFd; 1]>::try_from(fds).map_err(|_| wrong())?;
            let (master, slave) = open_terminal(cols, rows).map_err(failed)?;
            send_blocking(socket.as_fd(), &(), &[master.as_fd()])
                .map_err(|error| Refusal::NoResources(error.to_string()))?;
            dup_stdio(&slave, &slave, &slave).map_err(failed)?;
            name_terminal(&slave, env);
            settle_term(env);
            Ok(())
        }
        Io::Socket | Io::Null => {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            let null = null.map_err(failed)?;
            let stdin = fds.first().unwrap_or(&null);
            dup_stdio(stdin, &null, &null).map_err(failed)
        }
        Io::Tap | Io::Prelude => Err(wrong()),
    }
}

fn dup_stdio(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Errno> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}

/// A new terminal, ours as the controlling one. Opened as the user, so that it belongs to the user.
fn open_terminal(cols: u16, rows: u16) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size)?;
    // Everything here is UTF-8: erasing a character erases all its bytes.
    let mut termios = tcgetattr(&slave)?;
    termios.input_modes.insert(InputModes::IUTF8);
    tcsetattr(&slave, OptionalActions::Now, &termios)?;
    rustix::process::ioctl_tiocsctty(&slave)?;
    Ok((master, slave))
}

/// What sshd tells a program of its terminal, for those that came by SSH.
fn name_terminal(slave: &OwnedFd, env: &mut Vec<(String, String)>) {
    if env.iter().any(|(key, _)| key == "SSH_CONNECTION")
        && let Ok(name) = rustix::termios::ttyname(slave, Vec::new())
        && let Ok(name) = name.into_string()
    {
        env.push(("SSH_TTY".to_owned(), name));
    }
}

fn settle_term(env: &mut Vec<(String, String)>) {
    let value =
        |name: &str| env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let chosen =
        term::choose(&value("TERM").unwrap_or_default(), &value("HOME").unwrap_or_default());
    env.retain(|(key, _)| key != "TERM");
    env.push(("TERM".to_owned(), chosen));
}
