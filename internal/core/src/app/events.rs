//! Events: what happened to sheds, sessions and credentials.

use std::sync::Arc;

use shed_api::{Event, Scope, ShedName};
use tokio::sync::watch;

use crate::server::Server;
use crate::{Error, Person};

/// The service for events.
#[derive(Clone)]
pub struct Events {
    pub(crate) server: Arc<Server>,
}

impl Events {
    /// The events after `after` that the person may see, oldest first, at most a thousand.
    pub async fn list(
        &self,
        person: &Person,
        mut after: i64,
        shed: Option<&ShedName>,
    ) -> Result<Vec<Event>, Error> {
        person.may(Scope::Read, "to see events")?;
        if let Some(name) = shed
            && !person.sees(name.as_str())
        {
            return Err(Error::NoShed(name.clone()));
        }
        let visible = |event: &Event| match &event.shed {
            Some(shed) => person.sees(shed),
            None => person.sheds.is_none(),
        };
        loop {
            let mut events = self.server.store.events(after, shed.map(ToString::to_string)).await?;
            let Some(last) = events.last().map(|event| event.id).filter(|last| *last > after)
            else {
                return Ok(Vec::new());
            };
            events.retain(visible);
            if !events.is_empty() {
                return Ok(events);
            }
            // Read on: a caller who got nothing would ask for the same events again.
            after = last;
        }
    }

    /// Changes when there are new events; the value is the newest id.
    pub fn bell(&self) -> watch::Receiver<i64> {
        self.server.store.bell()
    }
}
