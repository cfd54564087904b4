//! What every task of the server shares: a leaf that knows no registry and no keeper.

use std::sync::Arc;

use shed_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::session::submit::Turns;
use crate::settings::{Clock, Settings};
use crate::tasks::Tasks;
use crate::uptime::UptimeClock;
use shed_engine::Engine;
use shed_guest::Transport;

/// Settings, store, engine, clock and the tasks' life.
pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    /// How shed-init in each container is reached.
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: Clock,
    pub(crate) uptime: UptimeClock,
    /// Every task is spawned here and waited for at the end.
    pub(crate) tasks: Tasks,
    /// Cancelled when the server shuts down, after the doors have ended.
    pub(crate) stop: CancellationToken,
    /// The doors' tasks. They end first, so that a request in progress still finds everything in place.
    pub(crate) door_tasks: TaskTracker,
    /// Cancelled when the server begins to shut down.
    pub(crate) door_stop: CancellationToken,
    /// Counts changes of any shed's view. Readers are woken and read the views; the number itself means nothing.
    pub(crate) bell: watch::Sender<u64>,
    /// Who submits to which pane.
    pub(crate) turns: Turns,
}

impl Server {
    pub(crate) fn new(
        settings: Settings,
        store: Store,
        engine: Arc<dyn Engine>,
        transport: Arc<dyn Transport>,
        clock: Clock,
    ) -> Self {
        Self {
            settings,
            store,
            engine,
            transport,
            clock,
            uptime: UptimeClock::start(),
            tasks: Tasks::new(),
            stop: CancellationToken::new(),
            door_tasks: TaskTracker::new(),
            door_stop: CancellationToken::new(),
            bell: watch::Sender::new(0),
            turns: Turns::default(),
        }
    }

    /// Wakes everyone who waits for a change of a view.
    pub(crate) fn ring(&self) {
        self.bell.send_modify(|generation| *generation += 1);
    }
}
