//! Changes of rows: written first, then shown.

use std::sync::Arc;

use shed_api::session::SessionStatus;
use shed_api::{Actor, EventKind};
use shed_model::NewEvent;
use shed_model::session::{Deletion, Managed, SessionRow};
use shed_model::worker::WorkerRow;
use shed_store::StoreError;

use super::SessionKeeper;
use crate::Error;
use crate::session::events::status_event;
use crate::session::handle::ChangeMessage;

impl SessionKeeper {
    pub(super) async fn take_change(&mut self, post: ChangeMessage) {
        let ChangeMessage { session, change, events, starts_over, done } = post;
        let before = self.known(&session);
        let changed = self.change(&session, change, events).await;
        if let (Some(before), Ok(after), Some(link)) = (before, &changed, starts_over) {
            let is_new = |row: &&WorkerRow| row.is_starting() && !before.workers.contains(row);
            for row in after.workers.iter().filter(is_new) {
                self.starts.begin(&session, &row.id, row.epoch, link.clone());
            }
        }
        done.send(changed).ok();
    }

    /// Written, then shown.
    pub(super) async fn change(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Managed),
        events: Vec<NewEvent>,
    ) -> Result<Arc<Managed>, Error> {
        let Some(known) = self.known(id) else {
            return Err(Error::NoSession { shed: self.shed.clone(), session: id.to_owned() });
        };
        let mut after = Managed::clone(&known);
        change(&mut after);
        let row = (after.row != known.row).then(|| after.row.clone());
        let workers: Vec<WorkerRow> =
            after.workers.iter().filter(|row| !known.workers.contains(row)).cloned().collect();
        if row.is_some() || !workers.is_empty() || !events.is_empty() {
            self.server.store.write_session(row, workers, events).await?;
        }
        self.put(after);
        self.known(id).ok_or(Error::ShuttingDown)
    }

    pub(super) async fn set_status(
        &mut self,
        id: &str,
        status: SessionStatus,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<(), Error> {
        let Some(known) = self.known(id) else {
            return Ok(());
        };
        let now = self.now();
        let row = SessionRow { status, reason, status_since: now, ..known.row.clone() };
        let event = status_event(now, &row, actor);
        self.change(id, move |known| known.row = row, vec![event]).await.map(drop)
    }

    /// Writes the status of an operation that begins, and the options of a deletion.
    pub(super) async fn enter_status(
        &mut self,
        id: &str,
        status: SessionStatus,
        force: Option<bool>,
        actor: &Actor,
    ) -> Result<(), Error> {
        let Some(known) = self.known(id) else {
            return Ok(());
        };
        let (now, before) = (self.now(), &known.row);
        let mut row = SessionRow { status, ..before.clone() };
        // A resumed deletion keeps the status from before its first attempt.
        row.spec.deletion = force.map(|force| {
            let was = before.spec.deletion.map_or(before.status, |deletion| deletion.was);
            Deletion { force, was }
        });
        let mut events = Vec::new();
        if before.status != status {
            row.reason = None;
            row.status_since = now;
            events.push(status_event(now, &row, actor));
        }
        self.change(id, move |known| known.row = row, events).await.map(drop)
    }

    pub(super) async fn forget(&mut self, id: &str, actor: &Actor) -> Result<(), Error> {
        let Some(known) = self.known(id) else {
            return Ok(());
        };
        let event = NewEvent::new(self.now(), EventKind::SessionRemoved, actor.clone())
            .shed(self.shed.as_str())
            .session(&known.row.name);
        let removed = self.server.store.remove_session(id.to_owned(), event.clone()).await;
        match removed {
            Err(StoreError::DiskFull) if self.server.store.give_back() => {
                self.server.store.remove_session(id.to_owned(), event).await?;
            }
            removed => removed?,
        }
        self.show(|view| view.forget(id));
        Ok(())
    }

    /// Removes a row that cannot be read; leaves any other row.
    pub(super) async fn drop_record(&mut self, id: &str, actor: &Actor) -> Result<(), Error> {
        let record = self.view.borrow().unreadable.iter().find(|record| record.id == id).cloned();
        let Some(record) = record else {
            return Ok(());
        };
        let event = NewEvent::new(self.now(), EventKind::SessionRemoved, actor.clone())
            .shed(self.shed.as_str())
            .session(&record.name)
            .note("its record could not be read");
        self.server.store.drop_record(id.to_owned(), event).await?;
        // The rows of its workers are removed with a session.
        self.show(|view| view.unreadable.retain(|it| it.id != id && it.session != id));
        Ok(())
    }

    pub(super) async fn remove_worker(
        &mut self,
        session: &str,
        worker: String,
        event: NewEvent,
    ) -> Result<(), Error> {
        self.server.store.remove_worker(worker.clone(), event).await?;
        if let Some(known) = self.known(session) {
            let mut known = Managed::clone(&known);
            known.workers.retain(|row| row.id != worker);
            self.put(known);
        }
        self.settle_slot(session);
        Ok(())
    }
}
