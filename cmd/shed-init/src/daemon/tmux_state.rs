//! The newest snapshot of tmux, and the requests for newer ones. The tmux watch writes it, the link reads it.

use std::time::Duration;

use shed_link::TmuxSnapshot;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// How long the link waits for the first snapshot before it connects.
const FIRST_SNAPSHOT_LIMIT: Duration = Duration::from_secs(2);

/// The state of tmux and of its observers.
#[derive(Debug)]
pub(super) struct TmuxState {
    /// The newest snapshot; `None` before the first.
    snapshot: watch::Sender<Option<TmuxSnapshot>>,
    /// When observation ends; in the past while nobody observes.
    observed_until: watch::Sender<Instant>,
    /// The image may have gained or lost tmux.
    pub(super) recheck: Notify,
    /// The server has changed something in tmux and waits for the snapshot that shows it.
    pub(super) hurry: Notify,
}

impl Default for TmuxState {
    fn default() -> Self {
        Self {
            snapshot: watch::Sender::new(None),
            observed_until: watch::Sender::new(Instant::now()),
            recheck: Notify::new(),
            hurry: Notify::new(),
        }
    }
}

impl TmuxState {
    /// Snapshots as they come. The current one counts as changed.
    pub(super) fn snapshots(&self) -> watch::Receiver<Option<TmuxSnapshot>> {
        let mut snapshots = self.snapshot.subscribe();
        snapshots.mark_changed();
        snapshots
    }

    /// Waits for the first snapshot: tmux's server is then running, or cannot be started. Two tmux servers that start at
    /// the same moment end each other.
    pub(super) async fn wait_for_first(&self) {
        let mut snapshot = self.snapshot.subscribe();
        let first = snapshot.wait_for(Option::is_some);
        timeout(FIRST_SNAPSHOT_LIMIT, first).await.ok();
    }

    /// Observes for some seconds from now; 0 ends the observation.
    pub(super) fn observe(&self, seconds: u32) {
        self.observed_until.send_replace(Instant::now() + Duration::from_secs(u64::from(seconds)));
    }

    /// Whether somebody observes now.
    pub(super) fn is_observed(&self) -> bool {
        *self.observed_until.borrow() > Instant::now()
    }

    /// Changes of the end of observation.
    pub(super) fn observation(&self) -> watch::Receiver<Instant> {
        self.observed_until.subscribe()
    }

    /// Checks again whether there is a tmux: a command that ran as root may have installed one.
    pub(super) fn recheck(&self) {
        self.recheck.notify_one();
    }

    /// Has the next change reported without delay, however many changes there were lately.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Stores a snapshot. One that is equal to the last is only sent while somebody observes.
    pub(super) fn store(&self, snapshot: TmuxSnapshot) {
        let is_observed = self.is_observed();
        self.snapshot.send_if_modified(|newest| {
            let is_new = newest.as_ref().is_none_or(|known| known.tmux != snapshot.tmux);
            if is_new || is_observed {
                *newest = Some(snapshot);
            }
            is_new || is_observed
        });
    }
}
