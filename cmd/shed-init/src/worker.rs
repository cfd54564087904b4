//! The worker: everything that talks. One thread; a panic ends it and the supervisor starts it again.

use std::process::ExitCode;
use std::sync::Arc;

use crate::box_socket::Offers;
use crate::launch::Stages;
use crate::place::Place;
use crate::reaper::Reaper;
use crate::say;
use crate::watch::Watcher;
use crate::{box_socket, confine, link};

/// What the worker's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Directories and user.
    pub(crate) place: Place,
    /// Differs after each start of the worker's supervisor.
    pub(crate) boot: String,
    /// Where processes begin.
    pub(crate) stages: Stages,
    /// Commands that wait for their runner.
    pub(crate) offers: Offers,
    /// Why no command can be confined here; `None` when it can.
    pub(crate) confine: Option<String>,
    /// tmux's state.
    pub(crate) watcher: Watcher,
}

/// Runs until it is killed. `args` are the flags of [`Place`].
pub(crate) fn main(args: &[String]) -> ExitCode {
    let place = match Place::from_args(args) {
        Ok(place) => place,
        Err(error) => {
            say(&format!("shed-init: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("shed-init: no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(serve(place))
}

async fn serve(place: Place) -> ExitCode {
    let reaper = Reaper::default();
    let shared = Arc::new(Shared {
        place,
        boot: boot_id(),
        stages: Stages::new(reaper.clone()),
        offers: Offers::default(),
        confine: confine::unavailable(),
        watcher: Watcher::default(),
    });
    tokio::spawn(reaper.run());
    let tasks = [
        tokio::spawn(crate::watch::run(Arc::clone(&shared))),
        tokio::spawn(box_socket::run(Arc::clone(&shared))),
        tokio::spawn(link::run(Arc::clone(&shared))),
    ];
    for task in tasks {
        // These run for ever. One that panicked takes the worker along: half a worker helps nobody.
        if let Err(error) = task.await {
            say(&format!("shed-init: {error}"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// PID 1's start time: the same for every worker of one start of the container.
fn boot_id() -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", parent())).unwrap_or_default();
    let after = stat.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
    after.split_whitespace().nth(19).unwrap_or("0").to_owned()
}

fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}
