//! What an operation on a session works with, and how it changes rows: through the keeper, which writes first.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use shed_api::session::SessionStatus;
use shed_api::worker::WorkerStatus;
use shed_api::{Actor, ShedName};
use shed_model::NewEvent;
use shed_model::conversation::Conversation;
use shed_model::session::{Managed, SessionRow};
use shed_model::worker::WorkerRow;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::server::Server;
use crate::session::Resources;
use crate::session::events::{started_event, status_event};
use crate::session::handle::{ChangeMessage, Message, SessionOrder};
use crate::session::view::WorkView;
use crate::shed::view::View;
use shed_guest::Link;

/// What an operation works with.
pub(crate) struct SessionOpEnv {
    pub(crate) server: Arc<Server>,
    pub(crate) resources: Resources,
    pub(crate) shed: ShedName,
    /// The session's id.
    pub(crate) id: String,
    pub(crate) messages: mpsc::Sender<Message>,
    /// The shed's own keeper.
    pub(crate) shed_messages: mpsc::Sender<crate::shed::handle::Message>,
    pub(crate) view: watch::Receiver<Arc<WorkView>>,
    pub(crate) shed_view: watch::Receiver<View>,
    pub(crate) cancel: CancellationToken,
    pub(crate) actor: Actor,
    pub(crate) order: SessionOrder,
}

impl SessionOpEnv {
    /// The session as currently stored.
    pub(crate) fn known(&self) -> Result<Arc<Managed>, Error> {
        let view = self.view.borrow();
        view.sessions
            .get(&self.id)
            .cloned()
            .ok_or_else(|| Error::NoSession { shed: self.shed.clone(), session: self.id.clone() })
    }

    /// The shed's link.
    pub(crate) fn link(&self) -> Result<Link, Error> {
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
        self.post_change(change, events, None).await
    }

    async fn post_change(
        &self,
        change: impl FnOnce(&mut Managed) + Send + 'static,
        events: Vec<NewEvent>,
        starts_over: Option<Link>,
    ) -> Result<Arc<Managed>, Error> {
        let (done, changed) = oneshot::channel();
        let (session, change) = (self.id.clone(), Box::new(change));
        let post = ChangeMessage { session, change, events, starts_over, done };
        self.messages.send(Message::Change(post)).await.map_err(|_| Error::ShuttingDown)?;
        changed.await.map_err(|_| Error::ShuttingDown)?
    }

    pub(crate) async fn set_status(
        &self,
        status: SessionStatus,
        reason: Option<String>,
    ) -> Result<(), Error> {
        let known = self.known()?;
        let now = self.now();
        let row = SessionRow { status, reason, status_since: now, ..known.row.clone() };
        let event = status_event(now, &row, &self.actor);
        let uptime = self.server.uptime.now();
        let since = (status == SessionStatus::Running).then_some((now, uptime));
        self.change(
            move |known| {
                known.row.status = row.status;
                known.row.reason = row.reason;
                known.row.status_since = now;
                if let Some((wall, uptime)) = since {
                    known.row.spec.running_since = Some(wall);
                    known.row.spec.running_since_uptime = Some(uptime);
                }
            },
            vec![event],
        )
        .await
        .map(drop)
    }

    /// A worker's next start over this link, written before anything is started.
    pub(crate) async fn begin_epoch(
        &self,
        worker: &str,
        link: &Link,
        record: Option<Conversation>,
    ) -> Result<WorkerRow, Error> {
        let known = self.known()?;
        let now = self.now();
        let find = |known: &Managed| known.workers.iter().find(|row| row.id == worker).cloned();
        let gone =
            || Error::NoWorker { session: known.row.name.clone(), worker: worker.to_owned() };
        let row = find(&known).ok_or_else(gone)?;
        let event = started_event(now, &known.row, &row, &self.actor);
        let id = worker.to_owned();
        let after = self.post_change(
            move |known| {
                for row in known.workers.iter_mut().filter(|row| row.id == id) {
                    row.epoch += 1;
                    row.status = WorkerStatus::Starting;
                    row.exit = None;
                    row.reason = None;
                    row.started_at = Some(now);
                    row.ended_at = None;
                    if record.is_some() {
                        row.spec.record.clone_from(&record);
                    }
                }
            },
            vec![event],
            Some(link.clone()),
        );
        find(&*after.await?).ok_or_else(gone)
    }

    /// Returns when the shed stops: nothing starts in it any more, and what ends is reported after its next start.
    pub(crate) async fn shed_stops(&self) {
        let mut view = self.shed_view.clone();
        let stops = view.wait_for(View::is_stopping);
        // A keeper that is gone has stopped, or the server has.
        stops.await.map(drop).ok();
    }

    /// A session of this name is about to appear because of this operation's actor.
    pub(crate) async fn expect_session(&self, name: &str) {
        let post = crate::shed::handle::Message::Expect(name.to_owned(), self.actor.clone());
        // A keeper that has ended writes no events.
        self.shed_messages.send(post).await.ok();
    }

    pub(crate) async fn unless_cancelled<T>(
        &self,
        step: impl Future<Output = T>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = step => Ok(done),
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        }
    }
}
