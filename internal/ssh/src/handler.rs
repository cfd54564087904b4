//! The state of one connection, and what its requests have in common. The requests themselves are in `requests`.

mod requests;

use std::sync::Arc;

use russh::keys::{Algorithm, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, Error};
use shed_core::{Bind, ExecKind, Target};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::algorithms::{fingerprint, is_acceptable};
use crate::channels::Channels;
use crate::forward::{Forwarder, Listener, Listeners};
use crate::gate::Visit;
use crate::program::Program;
use crate::server::Door;
use crate::visitor::{Endpoints, Visitor};

/// The state of one connection. Dropping it ends the connection's tasks.
pub(crate) struct Handler {
    door: Arc<Door>,
    visit: Arc<Visit>,
    endpoints: Endpoints,
    /// `Some` once the client has proven a key; russh passes no other request before.
    visitor: Option<Arc<Visitor>>,
    /// Taken and sent when the client has logged in.
    logged_in: Option<oneshot::Sender<Arc<Visitor>>>,
    channels: Arc<Channels>,
    listeners: Listeners,
    /// Path in the shed of the socket of the client's ssh-agent, while it is forwarded.
    agent: Option<String>,
    ended: CancellationToken,
    _end: DropGuard,
}

/// What a handler reports to its connection's task.
pub(crate) struct HandlerEvents {
    /// The client that has logged in; an error if the connection ended before.
    pub(crate) logged_in: oneshot::Receiver<Arc<Visitor>>,
    /// Cancelled when the connection has reached its limit of channels and none is open.
    pub(crate) exhausted: CancellationToken,
    /// The connection's channels.
    pub(crate) channels: Arc<Channels>,
}

impl Handler {
    pub(crate) fn new(
        door: Arc<Door>,
        visit: Arc<Visit>,
        endpoints: Endpoints,
    ) -> (Self, HandlerEvents) {
        let (login_sender, logged_in) = oneshot::channel();
        let (ended, exhausted) = (CancellationToken::new(), CancellationToken::new());
        let channels = Arc::new(Channels::new(ended.clone(), exhausted.clone()));
        let handler = Self {
            door,
            visit,
            endpoints,
            visitor: None,
            logged_in: Some(login_sender),
            channels: Arc::clone(&channels),
            listeners: Listeners::default(),
            agent: None,
            _end: ended.clone().drop_guard(),
            ended,
        };
        (handler, HandlerEvents { logged_in, exhausted, channels })
    }

    fn visitor(&self) -> Result<Arc<Visitor>, Error> {
        self.visitor.clone().ok_or(Error::NotAuthenticated)
    }

    fn forwarder(&self, session: &Session) -> Result<Forwarder, Error> {
        Ok(Forwarder {
            app: self.door.app.clone(),
            visitor: self.visitor()?,
            channels: Arc::clone(&self.channels),
            handle: session.handle(),
        })
    }

    /// Runs a program on a session channel. The request is answered with success at once, since a later answer could be
    /// taken for that of another request; if the program cannot start, the channel reports it.
    fn run(&mut self, id: ChannelId, kind: ExecKind, session: &mut Session) -> Result<(), Error> {
        let Some((pending, incoming, events)) = self.channels.start(id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let program = Program {
            app: self.door.app.clone(),
            api: self.door.options.api.clone(),
            visitor: self.visitor()?,
            kind,
            agent: self.agent.clone(),
            pending,
            incoming,
            events,
            channels: Arc::clone(&self.channels),
            handle: session.handle(),
        };
        self.door.app.tasks().spawn(program.run());
        Ok(())
    }

    /// Listens in the shed; the port on success, which is 0 for a socket file.
    async fn listen(
        &mut self,
        bind: Bind,
        listener: impl FnOnce(u32) -> Listener,
        forwarder: Forwarder,
    ) -> Result<Option<u32>, Error> {
        if !self.listeners.has_room() {
            return Ok(None);
        }
        let Some(listening) = forwarder.listen(&bind).await else {
            return Ok(None);
        };
        if bind == Bind::Agent {
            self.agent.clone_from(&listening.path);
        }
        let (port, stop) = (u32::from(listening.port), self.ended.child_token());
        let listener = listener(port);
        self.listeners.add(listener.clone(), stop.clone());
        let tasks = self.door.app.tasks();
        tasks.spawn(forwarder.accept_all(listening, listener, stop));
        Ok(Some(port))
    }

    fn connect(
        &self,
        target: Target,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &Session,
    ) -> Result<(), Error> {
        let connecting = self.forwarder(session)?.connect(target, channel, reply);
        self.door.app.tasks().spawn(connecting);
        Ok(())
    }

    fn refuse_key(&self, user: &str, key: &PublicKey) -> Auth {
        self.visit.failed();
        let (client, fingerprint) = (self.endpoints.client, fingerprint(key));
        let user = shed_api::name::printable(user);
        tracing::debug!(%client, user, fingerprint, "a key was refused");
        Auth::reject()
    }

    /// Whether a key may log in, so that the client should sign with it.
    async fn is_known(&self, key: &PublicKey, algorithm: &Algorithm) -> bool {
        if !is_acceptable(key, algorithm) {
            return false;
        }
        let known = self.door.app.access().knows_key(&fingerprint(key)).await;
        known.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot look up keys");
            false
        })
    }
}
