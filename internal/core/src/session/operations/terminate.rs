//! Ending and freezing a session's processes.

use std::time::Duration;

use shed_api::session::SessionStatus;
use shed_model::session::Managed;
use shed_model::worker::WorkerRow;
use shed_tmux::argv::{self, Target};
use tokio::time::timeout;

use super::SHOW_LIMIT;
use crate::Error;
use crate::files::worktree::checkpoint;
use crate::housekeeping::{leftover, orphans};
use crate::session::env::SessionOpEnv;
use crate::session::windows::{self, GRACE, tmux};
use shed_guest::Link;
use shed_guest::Runner;

/// Ends the session's processes, with a checkpoint of what they leave.
pub(super) async fn terminate(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    if known.row.status == SessionStatus::Waiting {
        env.resources.slots.leave(env.shed.as_str(), &env.id);
        return env.set_status(SessionStatus::Ended, env.order.why.clone()).await;
    }
    end_everything(env, GRACE).await?;
    end_leftovers(env).await;
    let mut reason = env.order.why.clone();
    if let Err(error) = checkpoint(env, "before-terminate", "").await {
        tracing::warn!(shed = %env.shed, session = %known.row.name, %error, "no checkpoint was made of a session that ended");
        let why = format!("no checkpoint was made: {error}");
        reason = Some(reason.map_or_else(|| why.clone(), |reason| format!("{reason}; {why}")));
    }
    env.set_status(SessionStatus::Ended, reason).await
}

/// Ends every worker's tree and then the tmux session.
pub(crate) async fn end_everything(env: &SessionOpEnv, grace: Duration) -> Result<(), Error> {
    let known = env.known()?;
    // The tmux session may close together with the last worker.
    env.expect_session(&listed_name(env, &known)).await;
    let alive = known.workers.iter().filter(|row| row.is_alive());
    let stopped = alive.map(|worker| windows::stop(env, worker, grace));
    let stopped = futures_util::future::join_all(stopped).await;
    kill_session(env).await?;
    stopped.into_iter().collect()
}

/// Ends processes that outlived the commands that had started them, as far as they can be found.
pub(super) async fn end_leftovers(env: &SessionOpEnv) {
    let Ok(link) = env.link() else {
        return;
    };
    let ended = async {
        let found = leftover::processes(&link).await?;
        let ours = found.iter().filter(|process| {
            process.session.as_deref() == Some(&*env.id) && !orphans::is_tmux(&process.command)
        });
        let ours: Vec<(u32, u64)> = ours.map(|process| (process.pid, process.started)).collect();
        if ours.is_empty() { Ok(()) } else { leftover::end_processes(&link, &ours).await }
    };
    if let Err(error) = ended.await {
        tracing::warn!(shed = %env.shed, session = env.id, %error, "processes that commands left behind were not ended");
    }
}

/// The name that tmux's table has for the session: it may have been renamed a moment ago.
fn listed_name(env: &SessionOpEnv, known: &Managed) -> String {
    let view = env.shed_view.borrow();
    let listed = view.table.as_ref().and_then(|table| table.marked(&known.row.id));
    listed.map_or_else(|| known.row.name.clone(), |row| row.name.clone())
}

/// Closes what is left of the session in tmux, including windows that are not workers.
pub(super) async fn kill_session(env: &SessionOpEnv) -> Result<(), Error> {
    let Ok(link) = env.link() else {
        // A shed that does not run has no tmux.
        return Ok(());
    };
    let known = env.known()?;
    let listed = env
        .shed_view
        .borrow()
        .table
        .as_ref()
        .and_then(|table| table.marked(&env.id).map(|row| (row.id, row.name.clone())));
    let (target, name) = match listed {
        Some((id, name)) => (Target::Id(id), name),
        // Made a moment ago, and not in the table yet.
        None => match windows::has_ours(env, &link, &known.row.name, &env.id).await {
            Ok(Some(target)) => (target, known.row.name.clone()),
            Ok(None) | Err(Error::NoTmux(_)) => return Ok(()),
            Err(error) => return Err(error),
        },
    };
    env.expect_session(&name).await;
    match tmux(env, &link, argv::kill_session(&target)).await {
        Ok(_) | Err(Error::NoSession { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut view = env.shed_view.clone();
    let gone = view.wait_for(|view| {
        view.table.as_ref().is_none_or(|table| table.marked(&known.row.id).is_none())
    });
    // A table that lags does not make it undone.
    timeout(SHOW_LIMIT, gone).await.map(drop).ok();
    Ok(())
}

async fn freeze_worker(link: &Link, worker: &WorkerRow, on: bool) -> Result<(), Error> {
    let asked = async {
        let mut runner = Runner::connect(link, &worker.id, worker.epoch).await?;
        if on { runner.freeze().await } else { runner.thaw().await }
    };
    match asked.await {
        // It ended just now.
        Err(shed_guest::Error::Connect(_)) => Ok(()),
        done => Ok(done?),
    }
}

pub(super) async fn freeze(env: &SessionOpEnv, on: bool) -> Result<(), Error> {
    let known = env.known()?;
    let link = env.link()?;
    let alive: Vec<&WorkerRow> = known.workers.iter().filter(|row| row.is_alive()).collect();
    for (n, worker) in alive.iter().enumerate() {
        if let Err(error) = freeze_worker(&link, worker, on).await {
            // All of it or nothing.
            for worker in alive[..n].iter().filter(|_| on) {
                freeze_worker(&link, worker, false).await.ok();
            }
            return Err(error);
        }
    }
    let status = if on { SessionStatus::Frozen } else { SessionStatus::Running };
    env.set_status(status, None).await
}
