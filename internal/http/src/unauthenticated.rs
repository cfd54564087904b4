//! Connections over TCP on which nobody has authenticated yet. They are the first to go when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// All such connections of a listener, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unauthenticated(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    n_entered: u64,
    connections: BTreeMap<u64, CancellationToken>,
}

/// One of them; it ends with its last clone, or when somebody has authenticated.
#[derive(Debug, Clone)]
pub(crate) struct PendingConnection(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    unauthenticated: Unauthenticated,
    id: u64,
    cut: CancellationToken,
}

impl Unauthenticated {
    /// Adds a connection.
    pub(crate) fn enter(&self) -> PendingConnection {
        let cut = CancellationToken::new();
        let mut open = self.open();
        open.n_entered += 1;
        let id = open.n_entered;
        open.connections.insert(id, cut.clone());
        PendingConnection(Arc::new(Entry { unauthenticated: self.clone(), id, cut }))
    }

    /// Closes the oldest one, if there is one.
    pub(crate) fn close_oldest(&self) {
        if let Some((_, cut)) = self.open().connections.pop_first() {
            cut.cancel();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingConnection {
    /// Somebody has authenticated on the connection: it is not closed for others any more.
    pub(crate) fn authenticated(&self) {
        self.0.leave();
    }

    /// Waits until the connection must be closed.
    pub(crate) async fn closed(&self) {
        self.0.cut.cancelled().await;
    }
}

impl Entry {
    fn leave(&self) {
        self.unauthenticated.open().connections.remove(&self.id);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_has_not_authenticated_is_closed() {
        let unauthenticated = Unauthenticated::default();
        let [known, ended, oldest, newer] = [(); 4].map(|()| unauthenticated.enter());
        known.authenticated();
        drop(ended);
        unauthenticated.close_oldest();
        let is_closed = |pending: &PendingConnection| pending.0.cut.is_cancelled();
        assert!(is_closed(&oldest) && !is_closed(&known) && !is_closed(&newer));
        unauthenticated.close_oldest();
        assert!(is_closed(&newer));
        unauthenticated.close_oldest();
        assert!(!is_closed(&known));
    }
}
