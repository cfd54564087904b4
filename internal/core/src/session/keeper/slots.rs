//! The limit on running sessions: which sessions take a slot, and which wait for one.

use shed_api::session::SessionStatus;
use shed_model::lane::Lane;
use shed_model::session::life::Operation;
use shed_model::session::{SessionRow, Slot};

use super::SessionKeeper;
use super::requests::answer_all;
use crate::session::handle::SessionOrder;

impl SessionKeeper {
    /// Begins what has got a slot.
    pub(super) async fn admit(&mut self) {
        for known in self.all() {
            let row = &known.row;
            if row.status == SessionStatus::Waiting
                && !self.is_busy(&row.id)
                && self.can_act()
                && self.resources.slots.enter(self.shed.as_str(), &row.id, row.created_at)
            {
                let waited = self.turns.remove(&row.id);
                let job =
                    waited.unwrap_or_else(|| self.own(Operation::Create, SessionOrder::default()));
                self.insert(&row.id, job).await;
            }
        }
    }

    /// Restarts a session that has ended when there is a slot for it; until then it waits.
    pub(super) async fn begin_again(&mut self, row: &SessionRow) {
        if self.resources.slots.enter(self.shed.as_str(), &row.id, row.created_at) {
            return self.begin(&row.id).await;
        }
        let Some(mut job) = self.lanes.get_mut(&row.id).and_then(Lane::finish) else {
            return;
        };
        let actor = &job.payload.actor;
        let waits = self.set_status(&row.id, SessionStatus::Waiting, None, actor).await;
        let waiters = std::mem::take(&mut job.waiters);
        if !waiters.is_empty() && waits.is_err() {
            self.resources.slots.leave(self.shed.as_str(), &row.id);
            return answer_all(waiters, waits);
        }
        answer_all(waiters, Ok(()));
        self.turns.insert(row.id.clone(), job);
    }

    /// Gives the slot of a session back in which nothing runs.
    pub(super) fn settle_slot(&self, id: &str) {
        if self.is_busy(id) {
            return;
        }
        match self.known(id).map_or(Slot::None, |known| known.slot()) {
            Slot::Taken => self.resources.slots.keep(self.shed.as_str(), id),
            Slot::Wanted => {}
            Slot::None => self.resources.slots.leave(self.shed.as_str(), id),
        }
    }

    pub(super) fn give_up_slots(&self) {
        for known in self.all() {
            self.resources.slots.leave(self.shed.as_str(), &known.row.id);
            // Their output directory is removed with the shed.
            known.workers.iter().for_each(|worker| self.resources.logs.forget(&worker.id));
        }
    }
}
