//! The child stage: a fresh copy of shed-init that becomes a session leader, takes the user, the terminal and the directory,
//! and then executes the command. Doing this after an `execve` rather than between fork and exec needs no unsafe code and
//! allows error messages.
//!
//! Its standard input is a socket. It reads one [`ChildCommand`] with the command's descriptors. On failure it writes one
//! [`Refusal`]; on success `execve` closes the socket.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Signal, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use serde::{Deserialize, Serialize};
use shed_link::{Confine, Io, Refusal, recv_blocking, send_blocking};

use crate::environment::{self, Environment};
use crate::launch::Words;
use crate::{confine, locale, log, term};

/// What the child stage executes, and how. The descriptors of [`Io`] are sent with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChildCommand {
    /// The program, looked up in the `PATH` of `env`, and its arguments.
    pub(crate) words: Words,
    /// Its environment.
    pub(crate) env: Environment,
    /// The locale, added to the environment if the image has it.
    pub(crate) locale: Environment,
    /// Its working directory.
    pub(crate) directory: String,
    /// The working directory if `directory` is only a default and cannot be entered.
    pub(crate) fallback_directory: Option<String>,
    /// The uid, gid and groups to take; `None` keeps ours.
    pub(crate) become_user: Option<(u32, u32, Vec<u32>)>,
    /// Its standard input, output and error.
    pub(crate) io: Io,
    /// Whether it gets SIGHUP when the daemon ends.
    pub(crate) tied: bool,
    /// Limits what it may write to; not limited when absent.
    pub(crate) confine: Option<Confine>,
}

/// Reads the command and executes it.
pub(crate) fn main() -> ExitCode {
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let Ok(Some((command, fds))) = recv_blocking::<ChildCommand>(control.as_fd()) else {
        return ExitCode::FAILURE;
    };
    let refusal = execute(command, fds);
    // Fails when our parent has ended.
    send_blocking(control.as_fd(), &refusal, &[]).ok();
    ExitCode::FAILURE
}

/// Executes `program` in place of this process. It makes a command of several words for tmux, which would pass a single
/// word to a shell.
pub(crate) fn exec(program: &str, args: &[String]) -> ExitCode {
    let error = Command::new(program).args(args).exec();
    log::line(&format!("cannot run {program:?}: {error}"));
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Returns only on failure.
fn execute(command: ChildCommand, fds: Vec<OwnedFd>) -> Refusal {
    let resources = |what: &str, error: Errno| Refusal::NoResources(format!("{what}: {error}"));
    // Under memory pressure the kernel shall kill commands rather than shed-init or tmux.
    std::fs::write("/proc/self/oom_score_adj", "0").ok();
    if let Err(error) = rustix::process::setsid() {
        return resources("setsid", error);
    }
    if let Some((uid, gid, groups)) = &command.become_user
        && let Err(error) = become_user(*uid, *gid, groups)
    {
        return resources("cannot become the user", error);
    }
    if command.tied {
        // After the change of user, which clears it.
        rustix::process::set_parent_process_death_signal(Some(Signal::HUP)).ok();
    }
    if let Err(refusal) = enter_directory(&command) {
        return refusal;
    }
    let mut env = command.env;
    environment::extend(&mut env, locale::settle(command.locale));
    if let Err(refusal) = set_up_io(command.io, fds, &mut env) {
        return refusal;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Last, since it limits what can be opened.
    if let Some(confine) = &command.confine
        && let Err(why) = confine::apply(confine)
    {
        return Refusal::CannotConfine(why);
    }
    let Words { program, arg0, args, last } = command.words;
    let error = Command::new(&program)
        .arg0(arg0)
        .args(args)
        .args(last.map(OsString::from_vec))
        .env_clear()
        .envs(env)
        .exec();
    Refusal::NotExecutable {
        program,
        missing: error.kind() == std::io::ErrorKind::NotFound,
        why: error.to_string(),
    }
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // These calls change one thread. The child stage has only one.
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn enter_directory(command: &ChildCommand) -> Result<(), Refusal> {
    let Err(error) = std::env::set_current_dir(&command.directory) else {
        return Ok(());
    };
    let fallback = command.fallback_directory.iter().map(String::as_str).chain(["/"]);
    if command.fallback_directory.is_some()
        && fallback.into_iter().any(|directory| std::env::set_current_dir(directory).is_ok())
    {
        return Ok(());
    }
    Err(Refusal::NoDirectory { directory: command.directory.clone(), why: error.to_string() })
}

fn set_up_io(io: Io, fds: Vec<OwnedFd>, env: &mut Environment) -> Result<(), Refusal> {
    let failed =
        |error: Errno| Refusal::NoResources(format!("cannot set up input and output: {error}"));
    let wrong = || {
        Refusal::Invalid(
            "the descriptors of the request do not match its input and output".to_owned(),
        )
    };
    match io {
        Io::Pipes => {
            let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds).map_err(|_| wrong())?;
            dup_stdio(&stdin, &stdout, &stderr).map_err(failed)
        }
        Io::Tty { cols, rows, pixels: (width, height) } => {
            let [socket] = <[OwnedFd; 1]>::try_from(fds).map_err(|_| wrong())?;
            let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: width, ws_ypixel: height };
            let (master, slave) = open_terminal(size).map_err(failed)?;
            send_blocking(socket.as_fd(), &(), &[master.as_fd()])
                .map_err(|error| Refusal::NoResources(error.to_string()))?;
            dup_stdio(&slave, &slave, &slave).map_err(failed)?;
            set_ssh_tty(&slave, env);
            set_term(env);
            Ok(())
        }
        Io::Socket | Io::Null => {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            let null = null.map_err(failed)?;
            let stdin = fds.first().unwrap_or(&null);
            dup_stdio(stdin, &null, &null).map_err(failed)
        }
        Io::OutputSocket | Io::Prelude => Err(wrong()),
    }
}

fn dup_stdio(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Errno> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}

/// Opens a new terminal and makes it our controlling terminal. It belongs to the user, as which it is opened.
fn open_terminal(size: Winsize) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    tcsetwinsize(&slave, size)?;
    // Input is UTF-8: erasing a character must erase all its bytes.
    let mut termios = tcgetattr(&slave)?;
    termios.input_modes.insert(InputModes::IUTF8);
    tcsetattr(&slave, OptionalActions::Now, &termios)?;
    rustix::process::ioctl_tiocsctty(&slave)?;
    Ok((master, slave))
}

/// Sets `SSH_TTY` to the terminal's name for a command that was started through SSH, as sshd does.
fn set_ssh_tty(slave: &OwnedFd, env: &mut Environment) {
    if environment::get(env, "SSH_CONNECTION").is_some()
        && let Ok(name) = rustix::termios::ttyname(slave, Vec::new())
        && let Ok(name) = name.into_string()
    {
        environment::set(env, "SSH_TTY".to_owned(), name);
    }
}

/// Sets `TERM` to a terminal that the image knows.
fn set_term(env: &mut Environment) {
    let value = |name: &str| environment::get(env, name).unwrap_or_default();
    let chosen = term::choose(value("TERM"), value("HOME"));
    environment::set(env, "TERM".to_owned(), chosen);
}
