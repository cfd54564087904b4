//! Events about sessions.

use chrono::{DateTime, Utc};
use shed_api::{Actor, EventKind};
use shed_model::NewEvent;
use shed_model::session::SessionRow;

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
