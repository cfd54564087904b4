//! `shed-server service stop`.

use std::time::Duration;

use anyhow::bail;
use shed_api::problem::exit;
use tokio::time::Instant;

use crate::globals::Globals;
use crate::print::say;

use super::decide::{self, STOP_LIMIT, Stop};
use super::layout::{Layout, remove_if_exists};
use super::process::Process;
use super::{log, seen, status, unit};

/// How often the process is looked at meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// Runs the command.
pub(crate) async fn run(layout: &Layout, globals: &Globals) -> anyhow::Result<u8> {
    // Without a state directory nothing was ever started, and none should be created.
    let _lock = if layout.state_dir.exists() { Some(layout.lock()?) } else { None };
    let (seen, _) = seen::inspect(layout);
    let what = decide::stop(&seen);
    stop(layout, what).await?;
    say(match what {
        Stop::Nothing => "no server is running that `service start` started",
        Stop::Unit | Stop::Process(_) => "stopped the server",
    });
    status::print_json(layout, globals).await?;
    Ok(exit::OK)
}

/// Stops it and waits until it has ended.
pub(crate) async fn stop(layout: &Layout, what: Stop) -> anyhow::Result<()> {
    match what {
        Stop::Nothing => return Ok(()),
        Stop::Unit => unit::stop()?,
        Stop::Process(process) => {
            process.terminate()?;
            wait_for_end(layout, process).await?;
        }
    }
    remove_if_exists(&layout.pid_file())?;
    remove_if_exists(&layout.ready_file())
}

async fn wait_for_end(layout: &Layout, process: Process) -> anyhow::Result<()> {
    let deadline = Instant::now() + STOP_LIMIT;
    while process.is_alive() {
        if Instant::now() >= deadline {
            log::show(layout);
            bail!(
                "the server (pid {pid}) did not stop within {} s of SIGTERM; kill it: kill -KILL {pid}",
                STOP_LIMIT.as_secs(),
                pid = process.pid
            );
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
