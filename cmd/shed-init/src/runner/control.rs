//! The connections on the control socket of a worker's runner.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use shed_link::control::{MAX_FRAME_BYTES, Reply, RunnerRequest};

/// The most connections at once: those of the server, and those of its previous process. Further ones are accepted later.
const MAX_CLIENTS: usize = 8;
/// The most bytes of one read.
const READ_BYTES: usize = 16 << 10;
/// The most bytes that are buffered for a client: one complete frame.
const MAX_INBOX_BYTES: usize = MAX_FRAME_BYTES;

/// The listening socket and its connections.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: UnixListener,
    connected: Vec<Client>,
    next_id: u64,
}

#[derive(Debug)]
struct Client {
    id: u64,
    socket: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// It has requested a stop, which is answered at the end. Until then no further request is read.
    waits_for_end: bool,
    /// It has closed its side. Requests received before are still carried out.
    has_ended: bool,
    is_gone: bool,
}

/// Identifies a connection; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientId(u64);

impl Clients {
    /// Serves a non-blocking listening socket.
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self { listener, connected: Vec::new(), next_id: 0 }
    }

    /// The descriptors to poll; the listener has no id. A client whose next request cannot be handled now is left out.
    pub(crate) fn interests(
        &self,
    ) -> impl Iterator<Item = (Option<ClientId>, BorrowedFd<'_>, PollFlags)> {
        let has_room = self.connected.len() < MAX_CLIENTS;
        let listener = has_room.then(|| (None, self.listener.as_fd(), PollFlags::IN));
        let clients = self.connected.iter().filter_map(|client| {
            let mut flags = PollFlags::empty();
            if client.may_be_read() {
                flags |= PollFlags::IN;
            }
            if !client.outbox.is_empty() {
                flags |= PollFlags::OUT;
            }
            let is_waited_for = !flags.is_empty();
            is_waited_for.then(|| (Some(ClientId(client.id)), client.socket.as_fd(), flags))
        });
        listener.into_iter().chain(clients)
    }

    /// Accepts a connection.
    pub(crate) fn accept(&mut self) {
        // Fails when the client has closed the connection in between.
        if let Ok((socket, _)) = self.listener.accept() {
            self.connected.push(Client {
                id: self.next_id,
                socket,
                inbox: Vec::new(),
                outbox: Vec::new(),
                waits_for_end: false,
                has_ended: false,
                is_gone: false,
            });
            self.next_id += 1;
        }
    }

    /// Writes and reads what is possible without blocking.
    pub(crate) fn move_bytes(&mut self, ClientId(id): ClientId) {
        if let Some(client) = self.connected.iter_mut().find(|client| client.id == id) {
            client.send();
            client.receive();
        }
    }

    /// The next request of a client whose last request was answered. Input requests wait while `accepts_input` is false. A
    /// client that violates the protocol is disconnected.
    pub(crate) fn next_request(
        &mut self,
        accepts_input: bool,
    ) -> Option<(ClientId, RunnerRequest)> {
        let mut next = None;
        for client in &mut self.connected {
            if client.is_gone || !client.may_ask() || next.is_some() {
                continue;
            }
            match RunnerRequest::decode(&client.inbox) {
                Ok(Some((RunnerRequest::Input(_), _))) if !accepts_input => {}
                Ok(Some((request, n_bytes))) => {
                    client.inbox.drain(..n_bytes);
                    next = Some((ClientId(client.id), request));
                }
                Ok(None) => client.is_gone = client.has_ended,
                Err(_) => client.is_gone = true,
            }
        }
        self.connected.retain(|client| !client.is_gone);
        next
    }

    /// Sends an answer.
    pub(crate) fn reply(&mut self, ClientId(id): ClientId, reply: &Reply) {
        if let Some(client) = self.connected.iter_mut().find(|client| client.id == id) {
            client.outbox.extend(reply.encode());
            client.send();
        }
    }

    /// Has [`Clients::report_end`] answer the client's last request.
    pub(crate) fn wait_for_end(&mut self, ClientId(id): ClientId) {
        if let Some(client) = self.connected.iter_mut().find(|client| client.id == id) {
            client.waits_for_end = true;
        }
    }

    /// Answers the requests to stop, after all processes have ended.
    pub(crate) fn report_end(&mut self) {
        for client in self.connected.iter_mut().filter(|client| client.waits_for_end) {
            client.outbox.extend(Reply::Done.encode());
            client.send();
        }
    }
}

impl Client {
    fn may_ask(&self) -> bool {
        !self.waits_for_end && self.outbox.is_empty()
    }

    fn may_be_read(&self) -> bool {
        self.may_ask() && !self.has_ended && self.inbox.len() < MAX_INBOX_BYTES
    }

    fn send(&mut self) {
        while !self.outbox.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, &self.outbox, flags) {
                Ok(n_written) => drop(self.outbox.drain(..n_written)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => {
                    self.outbox.clear();
                    self.is_gone = true;
                }
            }
        }
    }

    fn receive(&mut self) {
        if !self.may_be_read() {
            return;
        }
        let filled = self.inbox.len();
        let room = READ_BYTES.min(MAX_INBOX_BYTES - filled);
        self.inbox.resize(filled + room, 0);
        let read = recv(&self.socket, &mut self.inbox[filled..], RecvFlags::DONTWAIT);
        self.inbox.truncate(filled + read.map_or(0, |(n_read, _)| n_read));
        match read {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => self.has_ended = true,
            Ok(_) => {}
        }
    }
}
