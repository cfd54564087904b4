//! Which session a terminal shows, whatever happens to the session's name.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shed_api::problem::exit;
use shed_api::session::Session;
use shed_api::{Shed, ShedStatus};
use shed_client::Client;
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// How often a session is looked up that was created just now and may not be listed yet.
const MAX_LOOKUPS: u32 = 100;
/// Delay before it is looked up again.
const LOOKUP_DELAY: Duration = Duration::from_millis(50);

/// A session, as it was when the terminal was attached: what was found out about it until the terminal ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// When the shed began to run. tmux gives its ids again when it starts again.
    running_since: Option<DateTime<Utc>>,
    /// The id of a managed session, or tmux's id of an unmanaged one; and when it was created.
    session: Option<(String, DateTime<Utc>)>,
}

/// The search for the identity of a session, beside its terminal. Dropping it ends the search.
pub(super) struct LookUp {
    found: Arc<Mutex<Identity>>,
    task: JoinHandle<()>,
}

impl Drop for LookUp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LookUp {
    /// Looks up the session that was attached to by this reference.
    pub(super) fn start(client: Client, name: String, reference: String) -> Self {
        let found = Arc::<Mutex<Identity>>::default();
        let task = tokio::spawn(look_up(client, name, reference, Arc::clone(&found)));
        Self { found, task }
    }

    /// What was found so far.
    pub(super) fn found(&self) -> Identity {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn look_up(client: Client, name: String, reference: String, found: Arc<Mutex<Identity>>) {
    let Ok(shed) = client.shed(&name).await else {
        return;
    };
    found.lock().unwrap_or_else(PoisonError::into_inner).running_since = Some(shed.status_since);
    for _ in 0..MAX_LOOKUPS {
        match client.session(&name, &reference).await {
            Ok(Session { id, created_at, .. }) => {
                found.lock().unwrap_or_else(PoisonError::into_inner).session =
                    Some((id, created_at));
                return;
            }
            Err(error) if error.exit_status() == exit::NOT_FOUND => {
                tokio::time::sleep(LOOKUP_DELAY).await;
            }
            Err(_) => return,
        }
    }
}

/// What to attach to again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Again {
    /// The session with this id.
    Id(String),
    /// The session that was restored under the old name.
    Name,
    /// It has ended.
    Ended,
}

impl Identity {
    /// Whether the shed was started again since.
    pub(super) fn is_of_earlier_run(&self, shed: &Shed) -> bool {
        let since = self.running_since;
        shed.status == ShedStatus::Running && since.is_some_and(|since| since != shed.status_since)
    }

    /// The reference with which to attach again; `given` is the one that the user gave.
    pub(super) async fn reference(
        &self,
        client: &Client,
        name: &str,
        given: &str,
    ) -> Result<String, Failure> {
        let Some((id, _)) = &self.session else {
            return Ok(given.to_owned());
        };
        if !id.starts_with('$') {
            return Ok(id.clone());
        }
        let shed = client.shed(name).await?;
        let listed = match client.session(name, id).await {
            Ok(listed) => Some(listed),
            // After a restart of the server the list may be incomplete; whoever attaches asks tmux.
            Err(error) if error.exit_status() == exit::NOT_FOUND => None,
            Err(error) => return Err(error.into()),
        };
        match self.again(&shed, listed.as_ref()) {
            Again::Id(id) => Ok(id),
            Again::Name => Ok(given.to_owned()),
            Again::Ended => Err(Failure::not_found(format!("session {name}/{given} has ended"))),
        }
    }

    /// For an unmanaged session; `listed` is the session that has its id now.
    fn again(&self, shed: &Shed, listed: Option<&Session>) -> Again {
        let Some((id, created_at)) = &self.session else {
            return Again::Name;
        };
        if self.running_since != Some(shed.status_since) {
            return Again::Name;
        }
        match listed {
            // tmux itself was started again: all its earlier sessions have ended.
            Some(listed) if listed.kind.is_none() && listed.created_at != *created_at => {
                Again::Ended
            }
            // With another id it was adopted meanwhile.
            Some(listed) => Again::Id(listed.id.clone()),
            None => Again::Id(id.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use shed_api::session::SessionType;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn shed(since: i64) -> Shed {
        let json = serde_json::json!({
            "name": "a", "status": "running", "created_at": at(1), "status_since": at(since),
            "image": "x", "limits": { "cpus": 1.0, "memory_bytes": 1, "pids": 1 },
            "network": "open", "mounts": [], "env": [], "allow_agent_forwarding": false,
            "link": { "connected": true, "outdated": false }, "session_count": 0
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_unmanaged_session_is_found_by_the_id_of_this_run_only() {
        let session = Some(("$3".to_owned(), at(20)));
        let known = Identity { session, running_since: Some(at(10)) };
        let found = |id: &str, created: i64, kind: Option<SessionType>| Session {
            id: id.to_owned(),
            created_at: at(created),
            kind,
            ..Session::default()
        };
        let by = |id: &str| Again::Id(id.to_owned());
        assert_eq!(known.again(&shed(10), Some(&found("$3", 20, None))), by("$3"));
        assert_eq!(known.again(&shed(10), None), by("$3"));
        // tmux itself was started again, and gave the id to another session.
        assert_eq!(known.again(&shed(10), Some(&found("$3", 30, None))), Again::Ended);
        let adopted = found("0123", 30, Some(SessionType::Quick));
        assert_eq!(known.again(&shed(10), Some(&adopted)), by("0123"));
        // The shed was started again, and the session restored.
        assert_eq!(known.again(&shed(40), Some(&found("$3", 20, None))), Again::Name);
        assert!(known.is_of_earlier_run(&shed(40)) && !known.is_of_earlier_run(&shed(10)));
    }
}
