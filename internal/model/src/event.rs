//! What happened, before the store gives it a number.

use chrono::{DateTime, Utc};
use shed_api::{Actor, EventKind, ShedStatus};

/// An event before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The time it happened.
    pub at: DateTime<Utc>,
    /// What kind of change it records.
    pub kind: EventKind,
    /// Who caused it.
    pub actor: Actor,
    /// The shed it is about.
    pub shed: Option<String>,
    /// The session it is about.
    pub session: Option<String>,
    /// The shed's status from now on.
    pub status: Option<ShedStatus>,
    /// One line for people.
    pub note: Option<String>,
}

impl NewEvent {
    /// An event about nothing in particular.
    pub fn new(at: DateTime<Utc>, kind: EventKind, actor: Actor) -> Self {
        Self { at, kind, actor, shed: None, session: None, status: None, note: None }
    }

    /// The same, about a shed.
    #[must_use]
    pub fn shed(mut self, name: &str) -> Self {
        self.shed = Some(name.to_owned());
        self
    }

    /// The same, about a session.
    #[must_use]
    pub fn session(mut self, name: &str) -> Self {
        self.session = Some(name.to_owned());
        self
    }

    /// The same with a line for people.
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
