//! What the client asks, heard one thing at a time. russh's loop waits for each answer, and with it the whole connection:
//! whatever takes time is a task, except listening in the shed, which must be answered.

use std::sync::Arc;

use russh::keys::{Algorithm, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};
use shed_api::stream::signal_number;
use shed_core::{Bind, ExecKind, Target};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::algorithms::{fingerprint, is_good_enough};
use crate::channels::Channels;
use crate::forward::{Forwarder, Listeners, Place};
use crate::gate::Visit;
use crate::inbox::{Pushed, TRICKLE_PAUSE};
use crate::login::Login;
use crate::program::Program;
use crate::server::Door;
use crate::terminal::{self, Terminal};
use crate::visitor::{Ends, Visitor, set_variable};

/// One connection's ears. Its drop is the connection's end.
pub(crate) struct Handler {
    door: Arc<Door>,
    visit: Arc<Visit>,
    ends: Ends,
    /// `Some` from the moment a key is proven; russh asks for nothing before.
    visitor: Option<Arc<Visitor>>,
    /// Told when somebody has logged in.
    logged_in: Option<oneshot::Sender<()>>,
    channels: Arc<Channels>,
    listeners: Listeners,
    /// Where the client's agent is reached in the shed.
    agent: Option<String>,
    ended: CancellationToken,
    _end: DropGuard,
}

/// What a handler tells and what can be told of it.
pub(crate) struct Told {
    /// Somebody has logged in; an error if the connection ended before.
    pub(crate) logged_in: oneshot::Receiver<()>,
    /// The connection has had its share of channels.
    pub(crate) spent: CancellationToken,
}

impl Handler {
    pub(crate) fn new(door: Arc<Door>, visit: Arc<Visit>, ends: Ends) -> (Self, Told) {
        let (tell, logged_in) = oneshot::channel();
        let (ended, spent) = (CancellationToken::new(), CancellationToken::new());
        let channels = Arc::new(Channels::new(ended.clone(), spent.clone()));
        let handler = Self {
            door,
            visit,
            ends,
            visitor: None,
            logged_in: Some(tell),
            channels,
            listeners: Listeners::default(),
            agent: None,
            _end: ended.clone().drop_guard(),
            ended,
        };
        (handler, Told { logged_in, spent })
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

    /// Runs something behind a session channel. That it could not be started is told on the channel, so the answer to the
    /// request is always yes, and at once: a later one could be taken for the answer to another request.
    fn run(&mut self, id: ChannelId, kind: ExecKind, session: &mut Session) -> Result<(), Error> {
        let Some((waiting, lane, steering)) = self.channels.start(id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let program = Program {
            app: self.door.app.clone(),
            api: self.door.options.api.clone(),
            visitor: self.visitor()?,
            kind,
            agent: self.agent.clone(),
            waiting,
            lane,
            steering,
            channels: Arc::clone(&self.channels),
            handle: session.handle(),
        };
        self.door.app.tasks().spawn(program.run());
        Ok(())
    }

    /// Starts to listen; the port on success.
    async fn listen(
        &mut self,
        bind: Bind,
        place: impl FnOnce(u32) -> Place,
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
        let place = place(port);
        self.listeners.add(place.clone(), stop.clone());
        let tasks = self.door.app.tasks();
        tasks.spawn(forwarder.accept_all(listening, place, stop));
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
        let (client, fingerprint) = (self.ends.client, fingerprint(key));
        let user = shed_api::name::printable(user);
        tracing::debug!(%client, user, fingerprint, "an unknown key");
        Auth::reject()
    }

    /// Whether a key is worth a signature.
    async fn is_known(&self, key: &PublicKey, algorithm: &Algorithm) -> bool {
        if !is_good_enough(key, algorithm) {
            return false;
        }
        let known = self.door.app.credentials().knows_key(&fingerprint(key)).await;
        known.unwrap_or_else(|error| {
            tracing::error!(%error, "keys cannot be looked up");
            false
        })
    }
}

impl russh::server::Handler for Handler {
    type Error = Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        if self.is_known(offer.public_key, offer.algorithm).await {
            return Ok(Auth::Accept);
        }
        Ok(self.refuse_key(user, offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        if !is_good_enough(key.public_key, key.algorithm) {
            return Ok(self.refuse_key(user, key.public_key));
        }
        let person =
            match self.door.app.credentials().key_holder(&fingerprint(key.public_key)).await {
                Ok(Some(person)) => person,
                Ok(None) => return Ok(self.refuse_key(user, key.public_key)),
                Err(error) => {
                    tracing::error!(%error, "keys cannot be looked up");
                    return Ok(Auth::reject());
                }
            };
        let login = Login::parse(user).map_err(|error| Box::new(error.problem()));
        self.visitor = Some(Arc::new(Visitor { person, login, ends: self.ends }));
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Error> {
        self.visit.welcome();
        if let Some(logged_in) = self.logged_in.take() {
            // Its end is being made already.
            logged_in.send(()).ok();
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if !self.channels.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        // Without the reading half: see `inbox`.
        let (_, write) = channel.split();
        self.channels.session(write);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        match u16::try_from(port) {
            Ok(port) if self.channels.has_room() => {
                self.connect(Target::Tcp(host.to_owned(), port), channel, reply, session)
            }
            Ok(_) | Err(_) => {
                reply.reject(ChannelOpenFailure::ResourceShortage).await;
                Ok(())
            }
        }
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        if !self.channels.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.connect(Target::Unix(path.to_owned()), channel, reply, session)
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.channels.plain(id);
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Error> {
        self.channels.close(channel);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Error> {
        if let Some(lane) = self.channels.lane(channel) {
            lane.inbox.end();
        }
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        // What runs there may have ended already.
        let Some(lane) = self.channels.lane(channel) else {
            return Ok(());
        };
        match lane.inbox.push(data) {
            Pushed::Fine => {}
            Pushed::Trickled => tokio::time::sleep(TRICKLE_PAUSE).await,
            Pushed::TooMuch => {
                tracing::warn!(client = %self.ends.client, "a channel took more than it may and was closed");
                self.channels.close(channel);
                session.close(channel)?;
            }
        }
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.channels.window()
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let terminal = Terminal::new(term, cols, rows, modes);
        match self.channels.prepare(channel, |waiting| waiting.terminal = Some(terminal)) {
            Some(()) => session.channel_success(channel),
            None => session.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        match self.channels.prepare(channel, |waiting| set_variable(&mut waiting.env, name, value))
        {
            Some(true) => session.channel_success(channel),
            Some(false) | None => session.channel_failure(channel),
        }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.run(channel, ExecKind::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        match str::from_utf8(line) {
            Ok(line) => self.run(channel, ExecKind::Line(line.to_owned()), session),
            Err(_) => session.channel_failure(channel),
        }
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        match name {
            "sftp" => self.run(channel, ExecKind::Sftp, session),
            _ => session.channel_failure(channel),
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let (cols, rows) = terminal::size(cols, rows);
        // A client that does not know its size keeps the one it has.
        if cols > 0 && rows > 0 {
            self.channels.resize(channel, cols, rows);
        }
        session.channel_success(channel)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _: &mut Session,
    ) -> Result<(), Error> {
        if let Some(number) = signal_number(signal_name(&signal)) {
            self.channels.signal(channel, number);
        }
        Ok(())
    }

    async fn agent_request(&mut self, _: ChannelId, session: &mut Session) -> Result<bool, Error> {
        if self.agent.is_some() {
            return Ok(true);
        }
        let forwarder = self.forwarder(session)?;
        Ok(self.listen(Bind::Agent, |_| Place::Agent, forwarder).await?.is_some())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let Ok(wanted) = u16::try_from(*port) else {
            return Ok(false);
        };
        let place = |port| Place::Tcp(address.to_owned(), port);
        let forwarder = self.forwarder(session)?;
        let bound = self.listen(Bind::Tcp(address.to_owned(), wanted), place, forwarder).await?;
        *port = bound.unwrap_or(*port);
        Ok(bound.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove(&Place::Tcp(address.to_owned(), port)))
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let place = |_| Place::Unix(path.to_owned());
        let forwarder = self.forwarder(session)?;
        Ok(self.listen(Bind::Unix(path.to_owned()), place, forwarder).await?.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove(&Place::Unix(path.to_owned())))
    }
}

fn signal_name(signal: &Sig) -> &str {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
}
