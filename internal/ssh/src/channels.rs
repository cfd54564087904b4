//! The open channels of one connection: where their bytes go and what may still be asked of them.
//!
//! Shared between russh's loop, which fills inboxes and passes requests on, and the channels' tasks. Knows no shed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::server::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::inbox::{Flow, Inbox};
use crate::terminal::Terminal;

/// Channels open at once. An editor has tens, a browser through `-D` a hundred or two.
const MAX_OPEN: usize = 512;
/// Channels in the life of a connection. russh keeps about 3 kB of each one that the server closed first, so a connection
/// that lives for ever would grow for ever. At the end of its life OpenSSH's client makes a new one by itself.
const MAX_EVER: usize = 10_000;
/// Signals that wait to be delivered. More are dropped.
const MAX_SIGNALS: usize = 16;

/// Where a channel's bytes go, and its end.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What the client sent.
    pub(crate) inbox: Inbox,
    /// Cancelled when the channel or the connection is gone.
    pub(crate) closed: CancellationToken,
}

/// A session channel before anything runs behind it.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The way to the client.
    pub(crate) write: ChannelWriteHalf<Msg>,
    /// The client's variables.
    pub(crate) env: Vec<(String, String)>,
    /// The terminal it asked for.
    pub(crate) terminal: Option<Terminal>,
}

/// What a running program is told.
#[derive(Debug)]
pub(crate) struct Steering {
    /// The newest size of its terminal.
    pub(crate) sizes: watch::Receiver<(u16, u16)>,
    /// Signals, in order.
    pub(crate) signals: mpsc::Receiver<u8>,
}

#[derive(Debug)]
enum Stage {
    /// Bytes only.
    Plain,
    Waiting(Box<Waiting>),
    Running {
        sizes: watch::Sender<(u16, u16)>,
        signals: mpsc::Sender<u8>,
    },
}

#[derive(Debug)]
struct Entry {
    lane: Arc<Lane>,
    stage: Stage,
}

/// The channels of one connection.
#[derive(Debug)]
pub(crate) struct Channels {
    flow: Arc<Flow>,
    entries: Mutex<HashMap<ChannelId, Entry>>,
    n_ever: AtomicUsize,
    /// Cancelled with the connection.
    ended: CancellationToken,
    /// Cancelled when the connection has had its share of channels and none is open.
    spent: CancellationToken,
}

impl Channels {
    pub(crate) fn new(ended: CancellationToken, spent: CancellationToken) -> Self {
        let (flow, entries, n_ever) = (Arc::default(), Mutex::default(), AtomicUsize::new(0));
        Self { flow, entries, n_ever, ended, spent }
    }

    /// The window to grant next.
    pub(crate) fn window(&self) -> u32 {
        self.flow.window()
    }

    /// Whether one more may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.n_ever.load(Ordering::Relaxed) < MAX_EVER && self.entries().len() < MAX_OPEN
    }

    /// Adds a channel for bytes only, or finds it: one that the server opened is known to russh's loop and to its task in
    /// either order.
    pub(crate) fn plain(&self, id: ChannelId) -> Arc<Lane> {
        Arc::clone(&self.entries().entry(id).or_insert_with(|| self.entry(Stage::Plain)).lane)
    }

    /// Adds a session channel.
    pub(crate) fn session(&self, write: ChannelWriteHalf<Msg>) {
        let id = write.id();
        let waiting = Waiting { write, env: Vec::new(), terminal: None };
        let entry = self.entry(Stage::Waiting(Box::new(waiting)));
        self.entries().insert(id, entry);
    }

    fn entry(&self, stage: Stage) -> Entry {
        self.n_ever.fetch_add(1, Ordering::Relaxed);
        let lane = Lane { inbox: Inbox::new(&self.flow), closed: self.ended.child_token() };
        Entry { lane: Arc::new(lane), stage }
    }

    /// Where a channel's bytes go; `None` when it is gone.
    pub(crate) fn lane(&self, id: ChannelId) -> Option<Arc<Lane>> {
        self.entries().get(&id).map(|entry| Arc::clone(&entry.lane))
    }

    /// Changes a session channel before anything runs; `None` when something does.
    pub(crate) fn prepare<T>(
        &self,
        id: ChannelId,
        act: impl FnOnce(&mut Waiting) -> T,
    ) -> Option<T> {
        match &mut self.entries().get_mut(&id)?.stage {
            Stage::Waiting(waiting) => Some(act(waiting)),
            Stage::Plain | Stage::Running { .. } => None,
        }
    }

    /// Takes a session channel to run something behind it; `None` when something does already.
    pub(crate) fn start(&self, id: ChannelId) -> Option<(Waiting, Arc<Lane>, Steering)> {
        let mut entries = self.entries();
        let entry = entries.get_mut(&id)?;
        if !matches!(entry.stage, Stage::Waiting(_)) {
            return None;
        }
        let (sizes, size) = watch::channel((0, 0));
        let (signals, signal) = mpsc::channel(MAX_SIGNALS);
        let before = std::mem::replace(&mut entry.stage, Stage::Running { sizes, signals });
        let Stage::Waiting(waiting) = before else {
            return None;
        };
        let steering = Steering { sizes: size, signals: signal };
        Some((*waiting, Arc::clone(&entry.lane), steering))
    }

    /// The terminal's new size.
    pub(crate) fn resize(&self, id: ChannelId, cols: u16, rows: u16) {
        match self.entries().get_mut(&id).map(|entry| &mut entry.stage) {
            Some(Stage::Running { sizes, .. }) => drop(sizes.send_replace((cols, rows))),
            Some(Stage::Waiting(waiting)) => {
                if let Some(terminal) = &mut waiting.terminal {
                    (terminal.tty.cols, terminal.tty.rows) = (cols, rows);
                }
            }
            Some(Stage::Plain) | None => {}
        }
    }

    /// A signal for what runs.
    pub(crate) fn signal(&self, id: ChannelId, number: u8) {
        if let Some(Entry { stage: Stage::Running { signals, .. }, .. }) = self.entries().get(&id) {
            // What has so many signals waiting has enough.
            signals.try_send(number).ok();
        }
    }

    /// The channel is gone.
    pub(crate) fn close(&self, id: ChannelId) {
        let mut entries = self.entries();
        if let Some(entry) = entries.remove(&id) {
            entry.lane.closed.cancel();
        }
        if entries.is_empty() && self.n_ever.load(Ordering::Relaxed) >= MAX_EVER {
            self.spent.cancel();
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ChannelId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
