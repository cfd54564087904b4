//! What becomes of workers' commands, as their spools and runners tell it.

use chrono::DateTime;
use shed_api::worker::WorkerStatus;
use shed_api::{Actor, EventKind};
use shed_model::NewEvent;
use shed_model::worker::WorkerRow;

use super::end_note;
use super::{Keeper, WITH_SHED, WorkerEnd, WorkerNews};
use crate::Error;
use shed_model::session::Managed;

impl Keeper {
    /// Writes what became of a worker.
    pub(super) async fn take_news(&mut self, news: WorkerNews) -> Result<(), Error> {
        let all = self.all();
        let found = all.iter().find_map(|known| {
            let worker = known.workers.iter().find(|row| row.id == news.worker)?;
            Some((known.row.clone(), worker.clone()))
        });
        let Some((session, before)) = found else {
            return Ok(());
        };
        // One that is being started has nothing to show yet.
        let is_begun = news.what == WorkerEnd::Lost
            && before.status == WorkerStatus::Starting
            && self.is_busy(&session.id);
        if before.epoch != news.epoch || is_begun {
            return Ok(());
        }
        let Some(mut after) = with_news(&before, &news) else {
            return Ok(());
        };
        // While a shed stops, commands cannot be started either.
        let is_of_shed = after.reason.is_none() || matches!(news.what, WorkerEnd::Refused(_));
        if after.status == WorkerStatus::Exited && is_of_shed && self.ended_with_shed(&before) {
            after.reason = Some(WITH_SHED.to_owned());
        }
        let mut events = Vec::new();
        if let Some(note) = end_note(&after).filter(|_| after.status == WorkerStatus::Exited) {
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
        self.settle_place(&session.id);
        Ok(())
    }
}

/// The worker's row after news; `None` when they tell nothing new.
fn with_news(before: &WorkerRow, news: &WorkerNews) -> Option<WorkerRow> {
    let at = i64::try_from(news.at_ms).ok().and_then(DateTime::from_timestamp_millis);
    let ended = WorkerRow { status: WorkerStatus::Exited, ended_at: at, ..before.clone() };
    let after = match &news.what {
        WorkerEnd::Started if before.status == WorkerStatus::Starting => {
            let started_at = at.or(before.started_at);
            WorkerRow { status: WorkerStatus::Running, started_at, ..before.clone() }
        }
        WorkerEnd::Started => return None,
        WorkerEnd::Exited(status) => WorkerRow { exit: Some((*status).into()), ..ended },
        // Told once is told.
        WorkerEnd::Refused(_) | WorkerEnd::Lost if before.status == WorkerStatus::Exited => {
            return None;
        }
        WorkerEnd::Refused(why) => WorkerRow { reason: Some(why.clone()), ..ended },
        WorkerEnd::Lost => WorkerRow { reason: Some(WITH_SHED.to_owned()), ..ended },
    };
    (after != *before).then_some(after)
}
