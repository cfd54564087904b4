//! Forwards: connections into the shed for the client, and listeners in the shed whose connections go to the client.
//!
//! All of them are made in the shed, as its user, by the App. Nothing is opened here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use shed_api::ShedName;
use shed_core::{App, Bind, Connection, Duplex, Listening, Target};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::channels::{Channels, Lane};
use crate::pump::{self, Way};
use crate::visitor::Visitor;

/// How long a shed may take to listen. russh's loop waits for it, and with it everything on the connection.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);
/// How long the rest of what a client said is passed on when it has closed its channel.
const LINGER: Duration = Duration::from_secs(30);
/// Listeners of one connection.
const MAX_LISTENERS: usize = 64;
/// RFC 4254, section 5.1: the reason code of a connection that did not come about.
const CONNECT_FAILED: u32 = 2;

/// What forwards need. Clones are for the tasks.
#[derive(Clone)]
pub(crate) struct Forwarder {
    pub(crate) app: App,
    pub(crate) visitor: Arc<Visitor>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) handle: Handle,
}

/// A listener, as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// An address in the client's words, and the port that was bound.
    Tcp(String, u32),
    /// A socket file.
    Unix(String),
    /// The client's ssh-agent.
    Agent,
}

/// The listeners of one connection. Cancelled one by one, or all by the connection's end.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    open: HashMap<Place, CancellationToken>,
}

impl Listeners {
    /// Whether one more may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.open.len() < MAX_LISTENERS
    }

    /// Remembers a listener; `stop` ends it.
    pub(crate) fn add(&mut self, place: Place, stop: CancellationToken) {
        self.open.insert(place, stop);
    }

    /// Ends a listener, if there is one.
    pub(crate) fn remove(&mut self, place: &Place) -> bool {
        self.open.remove(place).map(|stop| stop.cancel()).is_some()
    }
}

impl Forwarder {
    /// Connects in the shed and passes bytes until both sides have ended. A task of its own.
    pub(crate) async fn connect(
        self,
        target: Target,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        let connected = match self.visitor.shed() {
            Ok(shed) => {
                let connected = self.app.connect(&self.visitor.person, &shed, &target).await;
                connected.map_err(|error| Box::new(error.problem()))
            }
            Err(problem) => Err(problem),
        };
        match connected {
            Ok(connection) => {
                // Known before the client can send anything.
                let lane = self.channels.plain(channel.id());
                reply.accept().await;
                self.pass(connection.into_stream(), channel, lane).await;
            }
            Err(problem) => {
                let reason = problem.detail;
                reply.reject(ChannelOpenFailure::Other { code: CONNECT_FAILED, reason }).await;
            }
        }
    }

    /// Listens in the shed. `None` if that cannot be; SSH has no words for why.
    pub(crate) async fn listen(&self, bind: &Bind) -> Option<Listening> {
        let shed: ShedName = self.visitor.shed().ok()?;
        let listening = timeout(LISTEN_LIMIT, self.app.listen(&self.visitor.person, &shed, bind));
        match listening.await {
            Ok(Ok(listening)) => Some(listening),
            Ok(Err(error)) => {
                tracing::debug!(%shed, %error, "no listener");
                None
            }
            Err(_) => None,
        }
    }

    /// Takes connections and passes them to the client, each in a task of its own, until `stop`.
    pub(crate) async fn accept_all(
        self,
        mut listening: Listening,
        place: Place,
        stop: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listening.accept() => accepted,
                () = stop.cancelled() => None,
            };
            let Some((connection, host, port)) = accepted else {
                return;
            };
            // Beyond what one connection may have open, callers in the shed are hung up on.
            if self.channels.has_room() {
                let one = self.clone().offer(connection, place.clone(), host, port, stop.clone());
                self.app.tasks().spawn(one);
            }
        }
    }

    /// Opens a channel to the client for a connection of the shed's.
    async fn offer(
        self,
        connection: Connection,
        place: Place,
        host: String,
        port: u16,
        stop: CancellationToken,
    ) {
        let opening = async {
            match place {
                Place::Tcp(address, bound) => {
                    let caller = u32::from(port);
                    self.handle.channel_open_forwarded_tcpip(address, bound, host, caller).await
                }
                Place::Unix(path) => self.handle.channel_open_forwarded_streamlocal(path).await,
                Place::Agent => self.handle.channel_open_agent().await,
            }
        };
        let opened = tokio::select! {
            opened = opening => opened,
            () = stop.cancelled() => return,
        };
        // A client that does not want it says so; its reasons are its own.
        if let Ok(channel) = opened {
            let lane = self.channels.plain(channel.id());
            self.pass(connection.into_stream(), channel, lane).await;
        }
    }

    /// Passes bytes until both sides have ended. A client that closes has still said what it said before.
    async fn pass(&self, stream: Box<dyn Duplex>, channel: Channel<Msg>, lane: Arc<Lane>) {
        let id = channel.id();
        // Without the reading half: see `inbox`.
        let (_, write) = channel.split();
        let (source, sink) = tokio::io::split(stream);
        let closed = || lane.closed.cancelled();
        let out = async {
            tokio::select! {
                () = pump::send(source, &write, Way::Output) => drop(write.eof().await),
                () = closed() => {}
            }
        };
        let stop = self.app.stopping();
        let too_late = async {
            closed().await;
            lane.inbox.end();
            timeout(LINGER, stop.cancelled()).await.ok();
        };
        let feed = async {
            tokio::select! {
                () = pump::feed(&lane.inbox, sink) => {}
                () = too_late => {}
            }
        };
        tokio::join!(feed, out);
        // The connection may be gone.
        write.close().await.ok();
        self.channels.close(id);
    }
}
