//! The runner: the parent of a command in a tmux window. It starts the command on a terminal of its own, shows its output in
//! the window and knows its exact exit status.
//!
//! A command of `shed exec` sends its output to the server through an output socket ([`exec`]). A worker's command has a
//! spool and a control socket instead ([`worker`]).

mod command;
mod control;
mod exec;
mod limits;
mod output;
mod poll;
mod spool;
mod window;
mod worker;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use shed_link::{Claim, Claimed, Spawn, Status, recv_blocking, send_blocking};

use crate::{log, unix_path};

/// Claims the command of `token` at shed-init's socket in the container and runs it.
pub(crate) fn main(socket: &str, token: &str) -> ExitCode {
    let ended = claim(socket, token).and_then(|(mut spawn, fd)| match spawn.worker.take() {
        Some(spec) => worker::run(spawn, &spec, &fd),
        None => exec::run(spawn, fd),
    });
    match ended {
        Ok(Status::Code(code)) => ExitCode::from(code),
        Ok(Status::Signal(signal)) => ExitCode::from(128_u8.saturating_add(signal)),
        Err(error) => {
            log::line(&format!("shed-init: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn claim(socket: &str, token: &str) -> Result<(Spawn, OwnedFd), String> {
    let stream = unix_path::connect(Path::new(socket))
        .map_err(|error| format!("cannot connect to {socket}: {error}"))?;
    let claim = Claim { token: token.to_owned() };
    send_blocking(stream.as_fd(), &claim, &[]).map_err(|error| error.to_string())?;
    match recv_blocking::<Claimed>(stream.as_fd()).map_err(|error| error.to_string())? {
        Some((Claimed::Spawn(spawn), fds)) => match <[OwnedFd; 1]>::try_from(fds) {
            Ok([descriptor]) => Ok((*spawn, descriptor)),
            Err(_) => Err("the command came without its descriptor".to_owned()),
        },
        Some((Claimed::Unknown, _)) | None => {
            Err("the command of this window was already started or its offer has expired"
                .to_owned())
        }
    }
}
