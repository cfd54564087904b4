//! The open channels of one connection: where their input goes and which requests they still accept.
//!
//! Shared between russh's loop, which fills inboxes and passes requests on, and the channels' tasks. Independent of sheds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::server::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use shed_core::WindowSize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::inbox::{Flow, Inbox};
use crate::terminal::Terminal;

/// Channels of a connection open at the same time. An editor has tens, a browser through `-D` one or two hundred.
const MAX_OPEN: usize = 512;
/// Channels of a connection over its whole life. russh keeps about 3 kB of each one that the server closed first, so memory
/// would grow without bound. When the connection is closed, OpenSSH's client opens a new one by itself.
const MAX_TOTAL: usize = 10_000;
/// Signals of a channel that wait to be delivered. Further ones are dropped.
const MAX_SIGNALS: usize = 16;

/// The receiving side of a channel.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Bytes from the client that are not used yet.
    pub(crate) inbox: Inbox,
    /// Cancelled when the channel or the connection is closed.
    pub(crate) closed: CancellationToken,
}

/// A session channel before a program runs on it.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The sending side of the channel.
    pub(crate) write: ChannelWriteHalf<Msg>,
    /// Environment variables that the client has set.
    pub(crate) env: Vec<(String, String)>,
    /// The terminal that the client has requested, if any.
    pub(crate) terminal: Option<Terminal>,
}

/// The client's requests to a running program.
#[derive(Debug)]
pub(crate) struct TerminalEvents {
    /// The newest size of the terminal.
    pub(crate) sizes: watch::Receiver<WindowSize>,
    /// Signal numbers, in order.
    pub(crate) signals: mpsc::Receiver<u8>,
}

#[derive(Debug)]
enum Stage {
    /// A forwarded connection, which has no requests.
    Plain,
    Pending(Box<Pending>),
    Running {
        sizes: watch::Sender<WindowSize>,
        signals: mpsc::Sender<u8>,
    },
}

#[derive(Debug)]
struct Entry {
    incoming: Arc<Incoming>,
    stage: Stage,
}

/// The channels of one connection.
#[derive(Debug)]
pub(crate) struct Channels {
    flow: Arc<Flow>,
    entries: Mutex<HashMap<ChannelId, Entry>>,
    n_total: AtomicUsize,
    had_session: AtomicBool,
    /// Cancelled with the connection.
    ended: CancellationToken,
    /// Cancelled when the connection has used [`MAX_TOTAL`] channels and none is open.
    exhausted: CancellationToken,
}

impl Channels {
    pub(crate) fn new(ended: CancellationToken, exhausted: CancellationToken) -> Self {
        let (flow, entries, n_total) = (Arc::default(), Mutex::default(), AtomicUsize::new(0));
        Self { flow, entries, n_total, had_session: AtomicBool::new(false), ended, exhausted }
    }

    /// The window to grant next, in bytes.
    pub(crate) fn window(&self) -> u32 {
        self.flow.window()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether another channel may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.n_total.load(Ordering::Relaxed) < MAX_TOTAL && self.entries().len() < MAX_OPEN
    }

    /// Adds a channel of a forwarded connection, or finds it: of a channel that the server opened, russh's loop and the
    /// channel's task learn in either order.
    pub(crate) fn plain(&self, id: ChannelId) -> Arc<Incoming> {
        Arc::clone(&self.entries().entry(id).or_insert_with(|| self.entry(Stage::Plain)).incoming)
    }

    /// Adds a session channel.
    pub(crate) fn session(&self, write: ChannelWriteHalf<Msg>) {
        self.had_session.store(true, Ordering::Relaxed);
        let id = write.id();
        let pending = Pending { write, env: Vec::new(), terminal: None };
        let entry = self.entry(Stage::Pending(Box::new(pending)));
        self.entries().insert(id, entry);
    }

    /// Whether there is or was a session channel.
    pub(crate) fn had_session(&self) -> bool {
        self.had_session.load(Ordering::Relaxed)
    }

    fn entry(&self, stage: Stage) -> Entry {
        self.n_total.fetch_add(1, Ordering::Relaxed);
        let incoming = Incoming { inbox: Inbox::new(&self.flow), closed: self.ended.child_token() };
        Entry { incoming: Arc::new(incoming), stage }
    }

    /// The receiving side of a channel; `None` when the channel is closed.
    pub(crate) fn incoming(&self, id: ChannelId) -> Option<Arc<Incoming>> {
        self.entries().get(&id).map(|entry| Arc::clone(&entry.incoming))
    }

    /// Changes a session channel before a program runs on it; `None` when one does.
    pub(crate) fn prepare<T>(
        &self,
        id: ChannelId,
        act: impl FnOnce(&mut Pending) -> T,
    ) -> Option<T> {
        match &mut self.entries().get_mut(&id)?.stage {
            Stage::Pending(pending) => Some(act(pending)),
            Stage::Plain | Stage::Running { .. } => None,
        }
    }

    /// Takes a session channel to run a program on it; `None` when one runs already.
    pub(crate) fn start(&self, id: ChannelId) -> Option<(Pending, Arc<Incoming>, TerminalEvents)> {
        let mut entries = self.entries();
        let entry = entries.get_mut(&id)?;
        if !matches!(entry.stage, Stage::Pending(_)) {
            return None;
        }
        let (sizes, size) = watch::channel(WindowSize::default());
        let (signals, signal) = mpsc::channel(MAX_SIGNALS);
        let before = std::mem::replace(&mut entry.stage, Stage::Running { sizes, signals });
        let Stage::Pending(pending) = before else {
            return None;
        };
        let events = TerminalEvents { sizes: size, signals: signal };
        Some((*pending, Arc::clone(&entry.incoming), events))
    }

    /// Sets a new size of the channel's terminal.
    pub(crate) fn resize(&self, id: ChannelId, size: WindowSize) {
        match self.entries().get_mut(&id).map(|entry| &mut entry.stage) {
            Some(Stage::Running { sizes, .. }) => drop(sizes.send_replace(size)),
            Some(Stage::Pending(pending)) => {
                if let Some(terminal) = &mut pending.terminal {
                    terminal.resize(size);
                }
            }
            Some(Stage::Plain) | None => {}
        }
    }

    /// Delivers a signal to the running program.
    pub(crate) fn signal(&self, id: ChannelId, number: u8) {
        if let Some(Entry { stage: Stage::Running { signals, .. }, .. }) = self.entries().get(&id) {
            // Dropped beyond `MAX_SIGNALS`.
            signals.try_send(number).ok();
        }
    }

    /// Removes a closed channel.
    pub(crate) fn close(&self, id: ChannelId) {
        let mut entries = self.entries();
        if let Some(entry) = entries.remove(&id) {
            entry.incoming.closed.cancel();
        }
        if entries.is_empty() && self.n_total.load(Ordering::Relaxed) >= MAX_TOTAL {
            self.exhausted.cancel();
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ChannelId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
