//! Reports about workers' commands, from their spools and runners.

use shed_api::worker::WorkerStatus;
use shed_api::{Actor, EventKind};
use shed_model::NewEvent;
use shed_model::session::Managed;
use shed_model::worker::{STOPPED_WITH_SHED, WorkerChange, WorkerReport, WorkerRow};

use super::SessionKeeper;
use crate::Error;
use crate::session::handle::Seen;
use shed_guest::Link;

impl SessionKeeper {
    /// Writes what a report changes. `listed_over` is the link whose list of spools lacks a start that is reported as lost.
    pub(super) async fn take_worker_report(
        &mut self,
        report: WorkerReport,
        listed_over: Option<&Link>,
    ) -> Result<(), Error> {
        let all = self.all();
        let found = all.iter().find_map(|known| {
            let worker = known.workers.iter().find(|row| row.id == report.worker)?;
            Some((known.row.clone(), worker.clone()))
        });
        let Some((session, before)) = found else {
            return Ok(());
        };
        let goes_on = before.status == WorkerStatus::Starting
            && listed_over.is_some_and(|link| {
                self.starts.goes_on(&session.id, &before.id, before.epoch, link)
            });
        let Some(mut after) = before.after(&report).filter(|_| !goes_on) else {
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

    /// Writes what a running agent shows of its conversation.
    pub(super) async fn take_conversation(&mut self, seen: Seen) {
        let all = self.all();
        let found = all.iter().find_map(|known| {
            let is_it = |row: &&WorkerRow| row.id == seen.worker && row.epoch == seen.epoch;
            Some((known.row.id.clone(), known.workers.iter().find(is_it)?))
        });
        let Some((session, row)) = found else {
            return;
        };
        let agents = &self.server.settings.sessions.agents;
        let agent = row.spec.agent.as_ref().and_then(|agent| agents.get(agent));
        let record =
            agent.and_then(|agent| row.conversation(agent.takes_id()).seen(&seen.shown, seen.turn));
        let Some(record) = record else {
            return;
        };
        let write = move |known: &mut Managed| {
            for row in known.workers.iter_mut().filter(|row| row.id == seen.worker) {
                row.spec.record = Some(record.clone());
            }
        };
        if let Err(error) = self.change(&session, write, Vec::new()).await {
            tracing::error!(shed = %self.shed, %error, "an agent's conversation was not written");
        }
    }
}
