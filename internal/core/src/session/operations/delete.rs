//! Deleting a session. Uncommitted and unpushed work stops a deletion without `force`; with it, it goes to the trash.

use std::sync::Arc;

use shed_model::session::{Managed, SessionRow, deletion};
use shed_model::worker::WorkerRow;
use tokio::sync::oneshot;

use super::terminate::{end_everything, end_leftovers};
use crate::Error;
use crate::files::worktree::{last_checkpoint, remove_worktree, survey};
use crate::housekeeping::disk_space;
use crate::output::collector::blocking;
use crate::session::env::SessionOpEnv;
use crate::session::events::status_event;
use crate::session::handle::Message;
use crate::session::hooks::tear_down;
use crate::session::windows::GRACE;

/// Ends and deletes a session.
pub(super) async fn delete(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let mut has_ended = false;
    let result = try_delete(env, &known, &mut has_ended).await;
    if let Err(error) = &result {
        // As it was, or as far as it came: it can be tried again.
        let alive = env.known()?.workers.iter().any(WorkerRow::is_alive);
        let table = env.shed_view.borrow().table.clone();
        let is_there = alive || table.is_some_and(|table| table.marked(&env.id).is_some());
        let status = known.row.undeleted_status(is_there, has_ended);
        let row = SessionRow {
            status,
            reason: Some(error.to_string()),
            status_since: env.now(),
            ..known.row.clone()
        };
        let event = status_event(row.status_since, &row, &env.actor);
        env.change(
            move |known| {
                known.row.status = row.status;
                known.row.reason = row.reason;
                known.row.status_since = row.status_since;
                known.row.spec.deletion = None;
            },
            vec![event],
        )
        .await?;
    }
    result
}

/// `has_ended` becomes true when its processes begin to be ended.
async fn try_delete(
    env: &SessionOpEnv,
    known: &Managed,
    has_ended: &mut bool,
) -> Result<(), Error> {
    let spec = &known.row.spec;
    if !known.row.owns_worktree() {
        make_space(env, known).await;
        *has_ended = true;
        end_everything(env, GRACE).await?;
        end_leftovers(env).await;
        return forget(env).await;
    }
    let sharers: Vec<String> = {
        let view = env.view.borrow();
        let shares = |other: &&Arc<Managed>| other.row.spec.shares.as_deref() == Some(&env.id);
        view.sessions.values().filter(shares).map(|other| other.row.name.clone()).collect()
    };
    if !sharers.is_empty() {
        let text = format!("its worktree is shared by {}", sharers.join(", "));
        return Err(Error::SessionBusy {
            shed: env.shed.clone(),
            session: known.row.name.clone(),
            text,
        });
    }
    let link = env.link()?;
    // A deletion that is refused leaves the session as it is: its processes run on.
    let (risk, saves) = survey(&link, known).await?;
    let (name, force) = (&known.row.name, env.order.force);
    if let Some(refused) = deletion::refusal(&env.shed, name, &spec.directory, &risk, force) {
        return Err(Error::Rejected(refused));
    }
    make_space(env, known).await;
    *has_ended = true;
    end_everything(env, GRACE).await?;
    if !spec.teardown.is_empty() {
        tear_down(env, spec.teardown.clone()).await?;
    }
    end_leftovers(env).await;
    // What is not committed goes to the trash as a checkpoint.
    if !saves {
        last_checkpoint(env).await?;
    }
    remove_worktree(&link, known).await?;
    forget(env).await
}

/// On a full disk the output of a session goes with it, and first: the rest of the deletion needs space.
async fn make_space(env: &SessionOpEnv, known: &Managed) {
    let output_dir = env.server.settings.sessions.output_dir.clone();
    let workers: Vec<String> = known.workers.iter().map(|row| row.id.clone()).collect();
    let (logs, shed, store) =
        (env.resources.logs.clone(), env.shed.clone(), env.server.store.clone());
    let removed = blocking(move || {
        if disk_space::full(&output_dir).is_some() {
            for worker in &workers {
                logs.discard(shed.as_str(), worker)?;
            }
        }
        store.keep_reserve();
        Ok(())
    });
    if let Err(error) = removed.await {
        tracing::warn!(shed = %env.shed, session = %known.row.name, %error, "output was not removed from a full disk");
    }
}

/// Removes a session's rows. Its output stays until it is tidied up, unless the disk is full.
pub(super) async fn forget(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    forget_rows(env, &known).await?;
    make_space(env, &known).await;
    Ok(())
}

async fn forget_rows(env: &SessionOpEnv, known: &Managed) -> Result<(), Error> {
    let (done, forgotten) = oneshot::channel();
    let post = Message::Forget(known.row.id.clone(), env.actor.clone(), done);
    env.messages.send(post).await.map_err(|_| Error::ShuttingDown)?;
    forgotten.await.map_err(|_| Error::ShuttingDown)?
}
