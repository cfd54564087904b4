//! The operations on a session, started by its keeper. They act on git, tmux and runners in the container, and change rows
//! through the keeper, before they act. Each can be resumed after a crash of the server.

mod create;
mod delete;
mod patch;
mod restore;
mod terminate;
mod workers;

pub(crate) use terminate::end_everything;

use std::time::Duration;

use shed_model::session::Restarting;
use shed_model::session::life::Operation;
use tokio::time::timeout;

use crate::Error;
use crate::session::env::SessionOpEnv;
use crate::session::handle::Message;

/// How long tmux's table may take to show a change.
const SHOW_LIMIT: Duration = Duration::from_secs(2);
/// Runs an operation to its end and reports it.
pub(crate) async fn run(operation: Operation, env: SessionOpEnv) {
    let (id, messages) = (env.id.clone(), env.messages.clone());
    // A panic ends this operation and must not block the session for ever.
    let ended = tokio::spawn(async move { dispatch(operation, &env).await }).await;
    let result = ended.unwrap_or_else(|_| {
        let text = "internal error; see the server's log";
        Err(Error::Failed(crate::Failure::new(shed_api::Code::Internal, text)))
    });
    // The keeper is gone when this fails: the server is going away.
    messages.send(Message::Done(id, result)).await.ok();
}

async fn dispatch(operation: Operation, env: &SessionOpEnv) -> Result<(), Error> {
    match operation {
        Operation::Create => create::create(env).await,
        Operation::Restore => restore::restore(env).await,
        Operation::Terminate => terminate::terminate(env).await,
        Operation::Restart => resumable(env, Box::pin(create::restart(env))).await,
        Operation::Delete => delete::delete(env).await,
        Operation::Freeze => terminate::freeze(env, true).await,
        Operation::Thaw => terminate::freeze(env, false).await,
        Operation::AddWorker => workers::add_worker(env).await,
        Operation::RestartWorker => resumable(env, Box::pin(workers::restart_worker(env))).await,
        Operation::RemoveWorker => workers::remove_worker(env).await,
        Operation::Patch => patch::patch(env).await,
    }
}

/// Carries out a restart, which is stored as long as it runs: a restart that the end of the server interrupts has ended
/// processes and not started them again.
async fn resumable(
    env: &SessionOpEnv,
    restart: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let restarting =
        Restarting { worker: env.order.worker.clone(), continues: env.order.continues };
    env.change(|known| known.row.spec.restarting = Some(restarting), Vec::new()).await?;
    let restarted = restart.await;
    if !env.cancel.is_cancelled() {
        env.change(|known| known.row.spec.restarting = None, Vec::new()).await?;
    }
    restarted
}

/// Waits until the table shows the session, so that its creator can list it.
async fn shown(env: &SessionOpEnv) {
    let mut view = env.shed_view.clone();
    let link = env.link().ok();
    let there = view.wait_for(|view| {
        // A shed that went shows nothing more.
        view.link != link
            || view.table.as_ref().is_some_and(|table| table.marked(&env.id).is_some())
    });
    // One that ended at once is never shown.
    timeout(SHOW_LIMIT, there).await.map(drop).ok();
}
