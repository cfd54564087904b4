//! The daemon: the part of shed-init that talks to the server. It has one thread. A panic ends the process, and the
//! supervisor starts it again.

mod container_socket;
mod link;
mod offers;
mod pace;
mod processes;
mod run;
mod state;
mod tmux;
mod tmux_socket;
mod tmux_state;

use std::process::ExitCode;
use std::sync::Arc;

use crate::launch::Stages;
use crate::reaper::Reaper;
use crate::settings::Settings;
use crate::{confine, log, process_tree};

use offers::Offers;
use state::State;
use tmux_socket::TmuxSocket;
use tmux_state::TmuxState;

/// The subcommand that the supervisor passes. Tests find the daemon's process by this word.
pub(crate) const SUBCOMMAND: &str = "worker";

/// Runs until it is killed. `args` are the flags of [`Settings`].
pub(crate) fn main(args: &[String]) -> ExitCode {
    let Some(settings) = Settings::from_args_or_log(args) else {
        return ExitCode::FAILURE;
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::line(&format!("shed-init: cannot start the async runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> ExitCode {
    let reaper = Reaper::default();
    let state = Arc::new(State {
        socket: TmuxSocket::load(&settings),
        settings,
        boot: boot_id(),
        stages: Stages::new(reaper.clone()),
        offers: Offers::default(),
        confine: confine::unavailable(),
        tmux: TmuxState::default(),
    });
    tokio::spawn(reaper.run());
    let tasks = [
        tokio::spawn(tmux::run(Arc::clone(&state))),
        tokio::spawn(container_socket::run(Arc::clone(&state))),
        tokio::spawn(link::run(Arc::clone(&state))),
    ];
    for task in tasks {
        // The tasks run forever. When one panics the daemon exits, since it would not work without it.
        if let Err(error) = task.await {
            log::line(&format!("shed-init: {error}"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The start time of the supervisor, which is the same for all daemons of one start of the container.
fn boot_id() -> String {
    let supervisor = rustix::process::getppid();
    supervisor.and_then(process_tree::start_time).unwrap_or(0).to_string()
}
