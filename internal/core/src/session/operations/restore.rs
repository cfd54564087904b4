//! Restoring a session after its shed has stopped and started.

use std::time::Duration;

use shed_agents::Agent;
use shed_api::ShedStatus;
use shed_guest::Link;
use shed_model::worker::WorkerRow;
use tokio::time::timeout;

use super::shown;
use crate::Error;
use crate::session::env::SessionOpEnv;
use crate::session::{plain_windows, windows};

/// How long the collector may take to report what ended with the shed.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// Restores a session: its windows with their past output, and the commands that are started again.
pub(super) async fn restore(env: &SessionOpEnv) -> Result<(), Error> {
    let link = env.link()?;
    tokio::select! {
        () = settle(env) => {}
        () = env.shed_stops() => return Err(Error::ShedUnreachable(env.shed.clone())),
    }
    let known = env.known()?;
    let mut lost = Vec::new();
    for worker in known.workers.iter().filter(|row| !row.spec.hook) {
        match worker.restored(env.shed.as_str(), &known.row.name, resumes(env, worker)) {
            Some(opening) => {
                if let Err(error) = windows::open(env, &worker.id, &opening).await {
                    if is_stopping(env, &link) {
                        // The shed is stopping again: the session stays as it is and is restored with it.
                        return Err(error);
                    }
                    lost.push(format!("{}: {error}", worker.name));
                }
            }
            None => lost.push(format!("{}: its window had closed", worker.name)),
        }
    }
    let n_workers = known.workers.iter().filter(|row| !row.spec.hook).count();
    let mut came_back = n_workers > lost.len();
    match plain_windows::reopen(env, &env.order.windows).await {
        Ok(reopened) => {
            came_back |= reopened.n_windows > 0;
            lost.extend(reopened.lost);
        }
        Err(error) if is_stopping(env, &link) => return Err(error),
        Err(error) => lost.push(format!("its windows: {error}")),
    }
    if !came_back && lost.is_empty() {
        lost.push("its windows: they were not stored before the shed stopped".to_owned());
    }
    let reason = plain_windows::reason(&lost);
    let status = known.row.restored_status(came_back, !lost.is_empty());
    env.set_status(status, reason).await?;
    if came_back {
        shown(env).await;
    }
    Ok(())
}

/// Whether the shed is stopping again.
fn is_stopping(env: &SessionOpEnv, link: &Link) -> bool {
    let runs = env.shed_view.borrow().status() == ShedStatus::Running;
    !runs || link.gone().is_cancelled()
}

/// Whether a worker's agent can resume its conversation.
fn resumes(env: &SessionOpEnv, worker: &WorkerRow) -> bool {
    worker.spec.agent.as_ref().is_some_and(|agent| {
        let agents = &env.server.settings.sessions.agents;
        agents.get(agent).is_some_and(Agent::resumes_by_id)
    })
}

/// Waits until the end of every worker is reported.
async fn settle(env: &SessionOpEnv) {
    let mut view = env.view.clone();
    let settled = view.wait_for(|view| {
        let known = view.sessions.get(&env.id);
        known.is_none_or(|known| known.workers.iter().all(|row| !row.is_alive()))
    });
    timeout(SETTLE_LIMIT, settled).await.map(drop).ok();
}
