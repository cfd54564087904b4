//! Reports about workers' commands, from their spools and runners.

use shed_api::worker::WorkerStatus;
use shed_api::{Actor, EventKind};
use shed_model::NewEvent;
use shed_model::session::Managed;
use shed_model::worker::{STOPPED_WITH_SHED, WorkerChange, WorkerReport};

use super::SessionKeeper;
use crate::Error;

impl SessionKeeper {
    /// Writes what a report changes.
    pub(super) async fn take_worker_report(&mut self, report: WorkerReport) -> Result<(), Error> {
        let all = self.all();
        let found = all.iter().find_map(|known| {
            let worker = known.workers.iter().find(|row| row.id == report.worker)?;
            Some((known.row.clone(), worker.clone()))
        });
        let Some((session, before)) = found else {
            return Ok(());
        };
        // A start that an operation has just written has no spool yet.
        let is_begun = report.change == WorkerChange::Lost
            && before.status == WorkerStatus::Starting
            && self.is_busy(&session.id);
        let Some(mut after) = before.after(&report).filter(|_| !is_begun) else {
            return Ok(());
        };
        // While a shed stops, commands cannot be started either.
        let is_of_shed =
            after.reason.is_none() || matches!(report.change, WorkerChange::Refused(_));
        if after.status == WorkerStatus::Exited && is_of_shed && self.ended_with_shed(&before) {
            after.reason = Some(STOPPED_WITH_SHED.to_owned());
        }
        let mut events = Vec::new();
        if let Some(note) = after.end_note().filter(|_| after.status == WorkerStatus::Exited) {
            let actor = Actor::Shed(self.shed.clone());
            let event = NewEvent::new(self.now(), EventKind::WorkerExited, actor);
            let event = event.shed(self.shed.as_str()).session(&session.name);
            events.push(event.note(format!("{} {note}", after.name)));
        }
        let replace = move |known: &mut Managed| {
            for row in &mut known.workers {
                if row.id == after.id {
                    *row = after.clone();
                }
            }
        };
        self.change(&session.id, replace, events).await?;
        self.settle_slot(&session.id);
        Ok(())
    }
}
