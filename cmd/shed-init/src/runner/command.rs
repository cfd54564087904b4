//! Starting the command of a runner on a terminal of its own.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Pid;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use shed_link::{Confine, Io, Refusal, Spawn, recv_blocking};

use crate::child::ChildCommand;
use crate::environment;
use crate::launch::{control_pair, launch_blocking, no_resources, program_and_args};

/// Blocks the signals that a runner handles and returns a descriptor to read them from.
pub(super) fn block_signals() -> Result<SignalFd, String> {
    let mut set = SigSet::empty();
    for signal in [
        NixSignal::SIGCHLD,
        NixSignal::SIGWINCH,
        NixSignal::SIGHUP,
        NixSignal::SIGTERM,
        NixSignal::SIGINT,
        NixSignal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set.thread_block().map_err(|error| error.to_string())?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&set, flags).map_err(|error| error.to_string())
}

/// Starts the command on a terminal of its own with the window's size, and returns its process id and the terminal's master
/// side. The runner is already the right user and has the window's environment, to which the requested variables are added.
pub(super) fn start_command(
    spawn: Spawn,
    confine: Option<Confine>,
) -> Result<(Pid, OwnedFd), Refusal> {
    let size = tcgetwinsize(std::io::stdin()).map_err(no_resources)?;
    let mut env = environment::inherited();
    environment::extend(&mut env, spawn.env);
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let words = program_and_args(&shell, "/proc/self/exe", spawn.program)?;
    let here = std::env::current_dir()
        .map_or_else(|_| "/".to_owned(), |dir| dir.to_string_lossy().into_owned());
    let command = ChildCommand {
        words,
        env,
        locale: spawn.locale,
        fallback_directory: spawn.directory.is_none().then(|| here.clone()),
        directory: spawn.directory.unwrap_or(here),
        become_user: None,
        io: Io::Tty {
            cols: size.ws_col,
            rows: size.ws_row,
            pixels: (size.ws_xpixel, size.ws_ypixel),
        },
        tied: false,
        confine,
    };
    let (ours, theirs) = control_pair()?;
    let pid = launch_blocking(&command, &[theirs.as_fd()])?;
    drop(theirs);
    let sent = recv_blocking::<()>(ours.as_fd()).ok().flatten();
    let master = sent.and_then(|((), fds)| fds.into_iter().next());
    let master = master
        .ok_or_else(|| Refusal::NoResources("the child stage sent no terminal".to_owned()))?;
    rustix::io::ioctl_fionbio(&master, true).map_err(no_resources)?;
    Ok((pid, master))
}

/// Switches the window's terminal to raw mode, since the command's terminal processes the input. Returns the previous
/// settings; `None` if there is no terminal.
pub(super) fn set_raw_mode() -> Option<Termios> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
    Some(before)
}
