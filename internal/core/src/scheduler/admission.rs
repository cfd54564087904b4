//! The server's one [`Admission`], shared by all session keepers, and a bell for those that wait.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use shed_model::admission::{Admission, Concurrency};
use tokio::sync::watch;

/// Which sessions may run. Clones are the same. The lock is held for single decisions, never across an await.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    admission: Arc<Mutex<Admission>>,
    /// Counts the times a session left.
    bell: Arc<watch::Sender<u64>>,
}

impl Slots {
    pub(crate) fn new(limits: Concurrency) -> Self {
        let admission = Arc::new(Mutex::new(Admission::new(limits)));
        Self { admission, bell: Arc::new(watch::Sender::new(0)) }
    }

    /// Changes whenever a waiting session may be next.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// See [`Admission::enter`].
    pub(crate) fn enter(&self, shed: &str, id: &str, created_at: DateTime<Utc>) -> bool {
        self.admission().enter(shed, id, created_at)
    }

    /// See [`Admission::keep`].
    pub(crate) fn keep(&self, shed: &str, id: &str) {
        self.admission().keep(shed, id);
    }

    /// See [`Admission::leave`].
    pub(crate) fn leave(&self, shed: &str, id: &str) {
        let left = self.admission().leave(shed, id);
        if left {
            self.bell.send_modify(|generation| *generation += 1);
        }
    }

    fn admission(&self) -> std::sync::MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_rings_when_a_session_leaves_and_only_then() {
        let slots = Slots::new(Concurrency { server: Some(1), shed: None });
        let mut bell = slots.bell();
        slots.keep("a", "1");
        slots.leave("a", "unknown");
        assert!(!bell.has_changed().unwrap());
        slots.leave("a", "1");
        assert!(bell.has_changed().unwrap());
        bell.mark_unchanged();
        assert!(slots.enter("b", "2", DateTime::UNIX_EPOCH));
        assert!(!bell.has_changed().unwrap());
    }
}
