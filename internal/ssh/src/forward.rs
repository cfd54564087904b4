//! Forwards: connections into the shed for the client, and listeners in the shed whose connections go to the client.
//!
//! The App makes all of them inside the shed, as its user. This module opens nothing on the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use shed_api::ShedName;
use shed_core::{App, Bind, Connection, Duplex, Listening, Target};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::channels::{Channels, Incoming};
use crate::pump::{self, Output};
use crate::visitor::Visitor;

/// How long a shed may take to listen. russh's loop waits for the answer, and with it the whole connection.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);
/// How long the rest of a client's data is passed on after it has closed its channel.
const LINGER: Duration = Duration::from_secs(30);
/// Listeners of one connection at the same time.
const MAX_LISTENERS: usize = 64;
/// Connections of one listener that the client has neither accepted nor refused. Further ones wait in the shed.
const MAX_OFFERS: usize = 64;
/// RFC 4254, section 5.1: the reason code of a connection that failed.
const CONNECT_FAILED: u32 = 2;

/// The context of a connection's forwards. Each task has a clone.
#[derive(Clone)]
pub(crate) struct Forwarder {
    pub(crate) app: App,
    pub(crate) visitor: Arc<Visitor>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) handle: Handle,
}

/// A listener, as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Listener {
    /// The address as the client wrote it, and the port that was bound.
    Tcp(String, u32),
    /// Path of a socket file in the shed.
    Unix(String),
    /// The client's ssh-agent.
    Agent,
}

/// The listeners of one connection. They end one by one, or all with the connection.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    open: HashMap<Listener, CancellationToken>,
}

impl Listeners {
    /// Whether another listener may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.open.len() < MAX_LISTENERS
    }

    /// Adds a listener; cancelling `stop` ends it.
    pub(crate) fn add(&mut self, listener: Listener, stop: CancellationToken) {
        self.open.insert(listener, stop);
    }

    /// Ends a listener; `false` if there is none.
    pub(crate) fn remove(&mut self, listener: &Listener) -> bool {
        self.open.remove(listener).map(|stop| stop.cancel()).is_some()
    }
}

impl Forwarder {
    /// Connects to `target` in the shed and copies bytes until both sides have ended. A task of its own.
    pub(crate) async fn connect(
        self,
        target: Target,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        let connected = match self.visitor.shed() {
            Ok(shed) => {
                let connected = tokio::select! {
                    connected = self.app.forwards().connect(&self.visitor.person, &shed, &target) => connected,
                    () = self.channels.ended() => return,
                };
                connected.map_err(|error| Box::new(error.problem()))
            }
            Err(problem) => Err(problem),
        };
        match connected {
            Ok(connection) => {
                // Registered before the client can send anything.
                let incoming = self.channels.plain(channel.id());
                reply.accept().await;
                self.pass(connection.into_stream(), channel, incoming).await;
            }
            Err(problem) => {
                let reason = problem.detail;
                reply.reject(ChannelOpenFailure::Other { code: CONNECT_FAILED, reason }).await;
            }
        }
    }

    /// Listens in the shed. `None` if that fails: SSH cannot carry the reason.
    pub(crate) async fn listen(&self, bind: &Bind) -> Option<Listening> {
        let shed: ShedName = self.visitor.shed().ok()?;
        let listening =
            timeout(LISTEN_LIMIT, self.app.forwards().listen(&self.visitor.person, &shed, bind));
        match listening.await {
            Ok(Ok(listening)) => Some(listening),
            Ok(Err(error)) => {
                tracing::debug!(%shed, %error, "cannot listen in the shed");
                None
            }
            Err(_) => None,
        }
    }

    /// Accepts connections and offers them to the client, each in a task of its own, until `stop`.
    pub(crate) async fn accept_all(
        self,
        mut listening: Listening,
        listener: Listener,
        stop: CancellationToken,
    ) {
        let offers = Arc::new(Semaphore::new(MAX_OFFERS));
        loop {
            let next = async {
                // The semaphore is never closed.
                let offer = Arc::clone(&offers).acquire_owned().await.ok()?;
                Some((offer, listening.accept().await?))
            };
            let next = tokio::select! {
                next = next => next,
                () = stop.cancelled() => None,
            };
            let Some((offer, caller)) = next else {
                return;
            };
            // Beyond the limit of channels, connections from the shed are closed.
            if self.channels.has_room() {
                self.app.tasks().spawn(self.clone().offer(caller, listener.clone(), offer));
            }
        }
    }

    /// Opens a channel to the client for a connection from the shed. The permit is held until the client answers.
    async fn offer(
        self,
        (connection, host, port): (Connection, String, u16),
        listener: Listener,
        offer: OwnedSemaphorePermit,
    ) {
        // Awaited even if the listener ends meanwhile: russh ends the connection if the client refuses a channel that nobody
        // waits for.
        let opened = match listener {
            Listener::Tcp(address, bound) => {
                let caller = u32::from(port);
                self.handle.channel_open_forwarded_tcpip(address, bound, host, caller).await
            }
            Listener::Unix(path) => self.handle.channel_open_forwarded_streamlocal(path).await,
            Listener::Agent => self.handle.channel_open_agent().await,
        };
        drop(offer);
        // The client may refuse the channel; then the connection is closed.
        if let Ok(channel) = opened {
            let incoming = self.channels.plain(channel.id());
            self.pass(connection.into_stream(), channel, incoming).await;
        }
    }

    /// Copies bytes until both sides have ended. Data that the client sent before it closed the channel is still passed on.
    async fn pass(&self, stream: Box<dyn Duplex>, channel: Channel<Msg>, incoming: Arc<Incoming>) {
        let id = channel.id();
        // The reading half is not used: see `inbox`.
        let (_, write) = channel.split();
        let (source, sink) = tokio::io::split(stream);
        let closed = || incoming.closed.cancelled();
        let out = async {
            tokio::select! {
                () = pump::send(source, &write, Output::Stdout) => drop(write.eof().await),
                () = closed() => {}
            }
        };
        let stop = self.app.stopping();
        let too_late = async {
            closed().await;
            incoming.inbox.end();
            timeout(LINGER, stop.cancelled()).await.ok();
        };
        let feed = async {
            tokio::select! {
                () = pump::feed(&incoming.inbox, sink) => {}
                () = too_late => {}
            }
        };
        tokio::join!(feed, out);
        // The connection may be gone.
        write.close().await.ok();
        self.channels.close(id);
    }
}
