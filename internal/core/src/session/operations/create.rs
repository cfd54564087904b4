//! Creating a session, and starting one that has ended again.

use std::time::Duration;

use shed_api::session::{SessionStatus, SessionType};
use shed_model::worker::{Opening, WorkerRow};
use shed_tmux::listing::WindowRow;
use tokio::time::timeout;

use super::terminate::{end_everything, kill_session};
use super::{SHOW_LIMIT, delete, shown};
use crate::Error;
use crate::session::env::SessionOpEnv;
use crate::session::hooks::{place, set_up};
use crate::session::plain_windows;
use crate::session::windows::{self, GRACE};

/// How long the processes of a cancelled creation have before they are killed.
pub(crate) const NO_GRACE: Duration = Duration::from_millis(500);

/// Creates a planned session.
pub(super) async fn create(env: &SessionOpEnv) -> Result<(), Error> {
    // What a creation that the end of the server interrupted had begun goes on.
    match make(env, true, &[]).await {
        Ok(_) => Ok(()),
        // The operation that cancelled this one ends or deletes the session.
        Err(Error::Cancelled) => {
            undo(env).await;
            env.set_status(SessionStatus::Failed, Some("its creation was cancelled".to_owned()))
                .await?;
            Err(Error::Cancelled)
        }
        Err(error) => {
            let known = env.known()?;
            let has_worktree =
                known.row.spec.placed && known.row.spec.kind == SessionType::Worktree;
            if !has_worktree {
                // Nothing was made: everything is as it was.
                undo(env).await;
            }
            // A worktree stays, perhaps with work in it; so does a setup's output. A session that had to wait for its turn
            // stays too: nothing else would report its failure.
            let hook_failed = matches!(error, Error::HookFailed { .. });
            if has_worktree || hook_failed || !env.order.fresh {
                env.set_status(SessionStatus::Failed, Some(error.to_string())).await?;
            } else {
                delete::forget(env).await?;
            }
            Err(error)
        }
    }
}

/// Ends what a creation has begun. A worker that was never started has no runner: it ends with its window.
async fn undo(env: &SessionOpEnv) {
    let alive: Vec<WorkerRow> = match env.known() {
        Ok(known) => known.workers.iter().filter(|row| row.is_alive()).cloned().collect(),
        Err(_) => return,
    };
    let running = alive.iter().filter(|row| !row.is_starting());
    let stopped = running.map(|worker| windows::stop(env, worker, NO_GRACE));
    futures_util::future::join_all(stopped).await;
    // What does not go now goes when the session is deleted.
    kill_session(env).await.ok();
}

/// Opens the windows, and returns the ids of the workers in them. `continues` says whether agents go on with their
/// conversations; `others` are windows that are no worker's.
async fn make(
    env: &SessionOpEnv,
    continues: bool,
    others: &[WindowRow],
) -> Result<Vec<String>, Error> {
    place(env).await?;
    set_up(env).await?;
    let begun = !env.order.fresh;
    if begun {
        // A start that the end of the server interrupted may still be reported.
        let mut view = env.view.clone();
        let reported = view.wait_for(|view| {
            let known = view.sessions.get(&env.id);
            known.is_none_or(|known| !known.workers.iter().any(WorkerRow::is_starting))
        });
        timeout(SHOW_LIMIT, reported).await.map(drop).ok();
    }
    let workers = env.known()?.workers.clone();
    let runs = |row: &WorkerRow| begun && row.is_alive() && !row.is_starting();
    let mut opened = Vec::new();
    for worker in workers.iter().filter(|row| !row.spec.hook && !runs(row)) {
        let opening = Opening::Command { continues };
        opened.push(worker.id.clone());
        env.unless_cancelled(windows::open(env, &worker.id, &opening)).await??;
    }
    // Of an adopted session: it has no workers.
    let has_workers = workers.iter().any(|row| !row.spec.hook);
    let reopened = plain_windows::reopen(env, others).await?;
    if !has_workers && reopened.n_windows == 0 {
        plain_windows::shell(env).await?;
    }
    env.set_status(SessionStatus::Running, plain_windows::reason(&reopened.lost)).await?;
    shown(env).await;
    Ok(opened)
}

/// Starts all workers again, and completes a creation that failed.
pub(super) async fn restart(env: &SessionOpEnv) -> Result<(), Error> {
    let others = {
        let table = env.shed_view.borrow().table.clone();
        table.and_then(|table| table.marked(&env.id).map(plain_windows::of)).unwrap_or_default()
    };
    end_everything(env, GRACE).await?;
    match make(env, env.order.continues, &others).await {
        // The session runs all the same, with the others.
        Ok(opened) => {
            let stay = opened.iter().map(|worker| windows::stays(env, worker));
            futures_util::future::join_all(stay).await.into_iter().collect()
        }
        Err(error) => {
            env.set_status(SessionStatus::Failed, Some(error.to_string())).await?;
            Err(error)
        }
    }
}
