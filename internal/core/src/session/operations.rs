//! The operations on a session: what its keeper starts and waits for. They act on git, tmux and runners in the box, and
//! change rows through the keeper: written before what they announce is done. Each can be begun again where it was left.

mod create;
mod delete;
mod patch;
mod restore;
mod terminate;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shed_api::session::SessionStatus;
use shed_api::worker::WorkerStatus;
use shed_api::{Actor, ShedName};
use shed_model::NewEvent;
use shed_model::session::life::Wish;
use shed_model::session::{Managed, SessionRow};
use shed_model::worker::WorkerRow;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::box_link::BoxLink;
use crate::server::Server;
use crate::session::Resources;
use crate::session::events::status_event;
use crate::session::handle::{ChangePost, Order, Post};
use crate::session::view::WorkView;
use crate::session::windows;
use crate::shed::view::View;

/// How long the table may take to show what was done.
const SHOW_LIMIT: Duration = Duration::from_secs(2);
/// What an operation works with.
pub(crate) struct OpEnv {
    pub(crate) server: Arc<Server>,
    pub(crate) resources: Resources,
    pub(crate) shed: ShedName,
    /// The session's id.
    pub(crate) id: String,
    pub(crate) posts: mpsc::Sender<Post>,
    /// The shed's own keeper.
    pub(crate) shed_posts: mpsc::Sender<crate::shed::handle::Post>,
    pub(crate) view: watch::Receiver<Arc<WorkView>>,
    pub(crate) shed_view: watch::Receiver<View>,
    pub(crate) cancel: CancellationToken,
    pub(crate) actor: Actor,
    pub(crate) order: Order,
}

/// Runs an operation to its end and reports it.
pub(crate) async fn run(wish: Wish, env: OpEnv) {
    let (id, posts) = (env.id.clone(), env.posts.clone());
    // A mistake of ours ends this operation and must not leave the session in the middle of it for ever.
    let ended = tokio::spawn(async move { dispatch(wish, &env).await }).await;
    let result = ended.unwrap_or_else(|_| {
        let text = "the server made a mistake; its log has more";
        Err(Error::Failed(crate::Failure::new(shed_api::Code::Internal, text)))
    });
    // The keeper is gone when this fails: the server is going away.
    posts.send(Post::Done(id, result)).await.ok();
}

async fn dispatch(wish: Wish, env: &OpEnv) -> Result<(), Error> {
    match wish {
        Wish::Create => create::create(env).await,
        Wish::Restore => restore::restore(env).await,
        Wish::Terminate => terminate::terminate(env).await,
        Wish::Restart => create::restart(env).await,
        Wish::Delete => delete::delete(env).await,
        Wish::Freeze => terminate::freeze(env, true).await,
        Wish::Thaw => terminate::freeze(env, false).await,
        Wish::AddWorker => workers::add_worker(env).await,
        Wish::RestartWorker => workers::restart_worker(env).await,
        Wish::RemoveWorker => workers::remove_worker(env).await,
        Wish::Patch => patch::patch(env).await,
    }
}

impl OpEnv {
    /// The session as it is remembered now.
    pub(crate) fn known(&self) -> Result<Arc<Managed>, Error> {
        let view = self.view.borrow();
        view.sessions
            .get(&self.id)
            .cloned()
            .ok_or_else(|| Error::NoSession { shed: self.shed.clone(), session: self.id.clone() })
    }

    /// The shed's link.
    pub(crate) fn link(&self) -> Result<BoxLink, Error> {
        let link = self.shed_view.borrow().link.clone();
        link.ok_or_else(|| Error::ShedUnreachable(self.shed.clone()))
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.server.clock.now()
    }

    /// Changes the session, with what happened.
    pub(crate) async fn change(
        &self,
        change: impl FnOnce(&mut Managed) + Send + 'static,
        events: Vec<NewEvent>,
    ) -> Result<Arc<Managed>, Error> {
        let (done, changed) = oneshot::channel();
        let session = self.id.clone();
        let post = ChangePost { session, change: Box::new(change), events, done };
        self.posts.send(Post::Change(post)).await.map_err(|_| Error::ShuttingDown)?;
        changed.await.map_err(|_| Error::ShuttingDown)?
    }

    async fn set_status(&self, status: SessionStatus, reason: Option<String>) -> Result<(), Error> {
        let known = self.known()?;
        let now = self.now();
        let row = SessionRow { status, reason, status_since: now, ..known.row.clone() };
        let event = status_event(now, &row, &self.actor);
        let since = (status == SessionStatus::Running).then_some(now);
        self.change(
            move |known| {
                known.row.status = row.status;
                known.row.reason = row.reason;
                known.row.status_since = now;
                known.row.spec.running_since = since.or(known.row.spec.running_since);
            },
            vec![event],
        )
        .await
        .map(drop)
    }

    /// A worker's next start, written before anything is started.
    pub(crate) async fn begin_epoch(&self, worker: &str) -> Result<WorkerRow, Error> {
        let known = self.known()?;
        let now = self.now();
        let find = |known: &Managed| known.workers.iter().find(|row| row.id == worker).cloned();
        let gone =
            || Error::NoWorker { session: known.row.name.clone(), worker: worker.to_owned() };
        let row = find(&known).ok_or_else(gone)?;
        let event = windows::started_event(now, &known.row, &row, &self.actor);
        let id = worker.to_owned();
        let after = self.change(
            move |known| {
                for row in known.workers.iter_mut().filter(|row| row.id == id) {
                    row.epoch += 1;
                    row.status = WorkerStatus::Starting;
                    row.exit = None;
                    row.reason = None;
                    row.started_at = Some(now);
                    row.ended_at = None;
                }
            },
            vec![event],
        );
        find(&*after.await?).ok_or_else(gone)
    }

    /// A session of this name is about to appear because of this operation's actor.
    pub(crate) async fn expect_session(&self, name: &str) {
        let post = crate::shed::handle::Post::Expect(name.to_owned(), self.actor.clone());
        // A keeper that has ended writes no events.
        self.shed_posts.send(post).await.ok();
    }

    pub(crate) async fn unless_called_off<T>(
        &self,
        step: impl Future<Output = T>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = step => Ok(done),
            () = self.cancel.cancelled() => Err(Error::CalledOff),
        }
    }
}

/// Waits until the table shows the session, so that whoever made it can list it.
async fn shown(env: &OpEnv) {
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
