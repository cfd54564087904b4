//! The client's requests, one method each. russh's loop waits for each answer, and with it the whole connection: anything
//! that takes time is a task, except listening in the shed, whose result is part of the answer.

use std::sync::Arc;

use russh::server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};
use shed_api::stream::signal_number;
use shed_core::{Bind, ExecKind, Target};

use super::Handler;
use crate::algorithms::{fingerprint, is_acceptable};
use crate::forward::Listener;
use crate::inbox::{Pushed, TRICKLE_PAUSE};
use crate::login::Login;
use crate::signals;
use crate::terminal::{self, Terminal};
use crate::visitor::{Visitor, set_variable};

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
        if !is_acceptable(key.public_key, key.algorithm) {
            return Ok(self.refuse_key(user, key.public_key));
        }
        let person = match self.door.app.access().key_holder(&fingerprint(key.public_key)).await {
            Ok(Some(person)) => person,
            Ok(None) => return Ok(self.refuse_key(user, key.public_key)),
            Err(error) => {
                tracing::error!(%error, "cannot look up keys");
                return Ok(Auth::reject());
            }
        };
        let login = Login::parse(user).map_err(|error| Box::new(error.problem()));
        self.visitor = Some(Arc::new(Visitor { person, login, endpoints: self.endpoints }));
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Error> {
        self.visit.authenticated();
        if let (Some(logged_in), Some(visitor)) = (self.logged_in.take(), &self.visitor) {
            // Fails if the connection is being closed already.
            logged_in.send(Arc::clone(visitor)).ok();
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
        // The reading half is not used: see `inbox`.
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
        if let Some(incoming) = self.channels.incoming(channel) {
            incoming.inbox.end();
        }
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        // The channel may have been closed already.
        let Some(incoming) = self.channels.incoming(channel) else {
            return Ok(());
        };
        match incoming.inbox.push(data) {
            Pushed::Ok => {}
            Pushed::Trickled => tokio::time::sleep(TRICKLE_PAUSE).await,
            Pushed::TooMuch => {
                tracing::warn!(client = %self.endpoints.client, "a channel exceeded its buffer limit and was closed");
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
        x_pixels: u32,
        y_pixels: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let terminal = Terminal::new(term, terminal::size(cols, rows, x_pixels, y_pixels), modes);
        match self.channels.prepare(channel, |pending| pending.terminal = Some(terminal)) {
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
        match self.channels.prepare(channel, |pending| set_variable(&mut pending.env, name, value))
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
        self.run(channel, ExecKind::Line(line.to_vec()), session)
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
        x_pixels: u32,
        y_pixels: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let size = terminal::size(cols, rows, x_pixels, y_pixels);
        // Zeros mean that the client does not know its size; the terminal keeps its own.
        if size.cols > 0 && size.rows > 0 {
            self.channels.resize(channel, size);
        }
        session.channel_success(channel)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _: &mut Session,
    ) -> Result<(), Error> {
        if let Some(number) = signal_number(signals::name(&signal)) {
            self.channels.signal(channel, number);
        }
        Ok(())
    }

    async fn agent_request(&mut self, _: ChannelId, session: &mut Session) -> Result<bool, Error> {
        if self.agent.is_some() {
            return Ok(true);
        }
        let forwarder = self.forwarder(session)?;
        Ok(self.listen(Bind::Agent, |_| Listener::Agent, forwarder).await?.is_some())
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
        let listener = |port| Listener::Tcp(address.to_owned(), port);
        let forwarder = self.forwarder(session)?;
        let bound = self.listen(Bind::Tcp(address.to_owned(), wanted), listener, forwarder).await?;
        *port = bound.unwrap_or(*port);
        Ok(bound.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove(&Listener::Tcp(address.to_owned(), port)))
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let listener = |_| Listener::Unix(path.to_owned());
        let forwarder = self.forwarder(session)?;
        Ok(self.listen(Bind::Unix(path.to_owned()), listener, forwarder).await?.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove(&Listener::Unix(path.to_owned())))
    }
}
