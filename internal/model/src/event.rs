//! What happened, before the store gives it a number.

use chrono::{DateTime, Utc};
use shed_api::{Actor, EventKind, ShedStatus};

/// An event that is not stored yet. The store gives it its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// When it happened, by the server's clock; for an event from a shed, when the server learned of it.
    pub at: DateTime<Utc>,
    /// What changed. The kind decides which of the fields below are set.
    pub kind: EventKind,
    /// Who caused it: a person, a shed or the server. Never left out.
    pub actor: Actor,
    /// The name of the shed; `None` if the event is about the server.
    pub shed: Option<String>,
    /// The name of the session in that shed; `None` if the event is not about a session.
    pub session: Option<String>,
    /// The shed's new status; `None` if the event does not change it.
    pub status: Option<ShedStatus>,
    /// One line for people, such as a reason, an old name or an exit status; `None` if there is nothing to add.
    pub note: Option<String>,
}

impl NewEvent {
    /// An event about the server, without a note.
    pub fn new(at: DateTime<Utc>, kind: EventKind, actor: Actor) -> Self {
        Self { at, kind, actor, shed: None, session: None, status: None, note: None }
    }

    /// Names the shed it is about.
    #[must_use]
    pub fn shed(mut self, name: &str) -> Self {
        self.shed = Some(name.to_owned());
        self
    }

    /// Names the session it is about; [`Self::shed`] names its shed.
    #[must_use]
    pub fn session(mut self, name: &str) -> Self {
        self.session = Some(name.to_owned());
        self
    }

    /// Adds a line for people.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_what_it_is_about() {
        let event = NewEvent::new(DateTime::UNIX_EPOCH, EventKind::SessionRemoved, Actor::Server);
        assert_eq!((&event.shed, &event.session, &event.note), (&None, &None, &None));
        let event = event.shed("a").session("s").note("why");
        let said = [event.shed, event.session, event.note].map(Option::unwrap_or_default);
        assert_eq!(said, ["a", "s", "why"]);
    }
}
