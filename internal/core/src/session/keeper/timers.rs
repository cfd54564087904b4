//! What is due at a time: runtime limits, timed checkpoints, and the end of sessions whose windows are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::SessionKeeper;
use crate::files::worktree;
use crate::session::handle::SessionOrder;
use shed_model::session::Managed;
use shed_model::session::life::Operation;

/// Between two attempts to end a session whose runtime limit is reached.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

impl SessionKeeper {
    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let uptime = self.server.uptime.now();
        let limits = self.all().into_iter().filter_map(|known| {
            let id = &known.row.id;
            let due = Instant::now() + known.row.runtime_left(self.now(), &uptime)?;
            let again = self.not_before.get(id).map_or(due, |again| due.max(*again));
            (self.time_counts() && !self.is_busy(id)).then_some(again)
        });
        let vanished = self.vanished.values().copied();
        let now = Instant::now();
        let checkpoints =
            self.all().into_iter().filter_map(|known| self.checkpoint_due(&known, now));
        limits.chain(vanished).chain(checkpoints).chain(self.layout_due).min()
    }

    pub(super) async fn take_due(&mut self) {
        self.make_checkpoints();
        let now = Instant::now();
        if self.layout_due.is_some_and(|due| due <= now) {
            self.layout_due = None;
            self.write_layout(false).await;
        }
        let over: Vec<String> = self
            .vanished
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.vanished.remove(&id);
            if self.can_act() && !self.is_busy(&id) {
                self.end_by_itself(&id).await;
            }
        }
        self.not_before.retain(|_, again| *again > now);
        let uptime = self.server.uptime.now();
        for known in self.all() {
            let row = &known.row;
            let left = row.runtime_left(self.now(), &uptime);
            let may = self.time_counts() && !self.not_before.contains_key(&row.id);
            if may && left.is_some_and(|left| left.is_zero()) && !self.is_busy(&row.id) {
                // An attempt that fails is repeated after a pause.
                self.not_before.insert(row.id.clone(), now + RETRY_PAUSE);
                let order = SessionOrder {
                    why: Some("runtime limit reached".to_owned()),
                    ..SessionOrder::default()
                };
                let job = self.own(Operation::Terminate, order);
                self.insert(&row.id, job).await;
            }
        }
    }

    /// Whether sessions can be at their runtime limit: one that stopped with its shed is restored first.
    fn time_counts(&self) -> bool {
        let will_be_compared =
            self.shed_view.borrow().can_be_compared() && !self.view.borrow().reconciled;
        self.can_act() && !will_be_compared
    }

    /// When the next checkpoint of a session with timed checkpoints is due; the first one is due at once, that is at `now`.
    fn checkpoint_due(&self, known: &Managed, now: Instant) -> Option<Instant> {
        let period = known.row.checkpoint_period().filter(|_| self.can_act())?;
        let last = self.checkpointed.get(&known.row.id);
        Some(last.map_or(now, |last| *last + period))
    }

    /// Makes the checkpoints that are due. A checkpoint without changes is not made.
    fn make_checkpoints(&mut self) {
        let now = Instant::now();
        for known in self.all() {
            let due = self.checkpoint_due(&known, now).is_some_and(|due| due <= now);
            let (true, Some(link)) = (due, self.link.clone()) else {
                continue;
            };
            self.checkpointed.insert(known.row.id.clone(), now);
            let (server, shed) = (Arc::clone(&self.server), self.shed.clone());
            self.server.tasks.spawn(async move {
                let made = worktree::timer_checkpoint(&server, &link, &known).await;
                if let Err(error) = made {
                    tracing::warn!(%shed, session = %known.row.name, %error, "a timed checkpoint failed");
                }
            });
        }
        let view = self.view.borrow().clone();
        self.checkpointed.retain(|id, _| view.sessions.contains_key(id));
    }
}
