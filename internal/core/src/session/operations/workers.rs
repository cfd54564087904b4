//! Adding, restarting and removing one worker.

use shed_api::EventKind;
use shed_model::session::Managed;
use shed_model::worker::{Opening, WorkerRow};
use shed_model::{NewEvent, Rejection};
use tokio::sync::oneshot;

use crate::Error;
use crate::session::env::SessionOpEnv;
use crate::session::handle::Message;
use crate::session::hooks::close_window;
use crate::session::windows::{self, GRACE};

pub(super) async fn add_worker(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let Some(row) = env.order.new_worker.clone() else {
        return Err(Error::Rejected(Rejection::Invalid("there is no worker to add".to_owned())));
    };
    if known.workers.iter().any(|other| other.name == row.name) {
        return Err(Error::WorkerExists {
            session: known.row.name.clone(),
            worker: row.name.clone(),
        });
    }
    let (id, keep) = (row.id.clone(), row.spec.keep);
    let added = *row;
    env.change(
        move |known| {
            known.workers.push(added);
            // There is something now that is worth coming back to.
            known.row.spec.closes &= !keep;
        },
        Vec::new(),
    )
    .await?;
    windows::open(env, &id, &Opening::Command { continues: false }).await
}

fn meant(env: &SessionOpEnv, known: &Managed) -> Result<WorkerRow, Error> {
    let id = env.order.worker.clone().unwrap_or_default();
    let found = known.workers.iter().find(|row| row.id == id).cloned();
    found.ok_or_else(|| Error::NoWorker { session: known.row.name.clone(), worker: id })
}

pub(super) async fn restart_worker(env: &SessionOpEnv) -> Result<(), Error> {
    let worker = meant(env, &*env.known()?)?;
    windows::stop(env, &worker, GRACE).await?;
    let opening = Opening::Command { continues: env.order.continues };
    windows::open(env, &worker.id, &opening).await?;
    windows::stays(env, &worker.id).await
}

pub(super) async fn remove_worker(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let worker = meant(env, &known)?;
    if worker.is_alive() {
        windows::stop(env, &worker, GRACE).await?;
    }
    close_window(env, &worker.id).await;
    let event = NewEvent::new(env.now(), EventKind::WorkerRemoved, env.actor.clone())
        .shed(env.shed.as_str())
        .session(&known.row.name)
        .note(worker.name.clone());
    let (done, removed) = oneshot::channel();
    let post = Message::RemoveWorker(env.id.clone(), worker.id, event, done);
    env.messages.send(post).await.map_err(|_| Error::ShuttingDown)?;
    removed.await.map_err(|_| Error::ShuttingDown)?
}
