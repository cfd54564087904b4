//! Events about sessions.

use chrono::{DateTime, Utc};
use shed_api::{Actor, EventKind};
use shed_model::NewEvent;
use shed_model::session::SessionRow;
use shed_model::worker::WorkerRow;

/// The event that a session has this status now.
pub(crate) fn status_event(at: DateTime<Utc>, row: &SessionRow, actor: &Actor) -> NewEvent {
    let note = match &row.reason {
        Some(reason) => format!("{}: {reason}", row.status),
        None => row.status.to_string(),
    };
    NewEvent::new(at, EventKind::SessionStatus, actor.clone())
        .shed(&row.shed)
        .session(&row.name)
        .note(note)
}

/// The event that a worker's command is being started.
pub(crate) fn started_event(
    at: DateTime<Utc>,
    session: &SessionRow,
    worker: &WorkerRow,
    actor: &Actor,
) -> NewEvent {
    NewEvent::new(at, EventKind::WorkerStarted, actor.clone())
        .shed(&session.shed)
        .session(&session.name)
        .note(worker.name.clone())
}
