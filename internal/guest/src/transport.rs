//! How the server reaches the shed-init of a container, as traits.
//!
//! ```text
//!   Transport::listen(shed) ─▶ Listener ── accept ─▶ Caller ── admit ─▶ Wire: Sender, Receiver, Streams
//!   Streams::pipes() ─▶ Opened { ends, near };   Sender::send(request, ends);   near.await ─▶ Pipes
//! ```
//!
//! A request that starts a process carries the *far* ends of its streams; the *near* ends are the server's. Only the
//! transport knows what they are: descriptors of one kernel, or names under which the other side dials.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shed_api::ShedName;
use shed_link::{Request, Welcome};

use crate::Error;
use crate::connection::Connection;
use crate::stream::{Input, Output};
use crate::terminal::Terminal;

/// What a transport answers with, later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The server's end of a stream: ready once the other side has taken its end.
pub type Near<T> = Pending<'static, T>;

/// A way to reach containers. One per server.
pub trait Transport: Send + Sync + 'static {
    /// Listens for the shed-init of a shed. Replaces an earlier listener of the same shed.
    fn listen(&self, shed: &ShedName) -> Result<Box<dyn Listener>, Error>;

    /// Removes what [`Self::listen`] left for a shed that is deleted.
    fn forget(&self, shed: &ShedName) -> Result<(), Error>;
}

/// Waits for the shed-init of one shed.
pub trait Listener: Send {
    /// The next connection, of anybody. Safe to drop and call again.
    fn accept(&mut self) -> Pending<'_, Box<dyn Caller>>;
}

/// A connection that is not authenticated yet.
pub trait Caller: Send {
    /// Checks that this is the shed's shed-init, before anything it sent is interpreted. `None` if it is not.
    fn admit(self: Box<Self>) -> Near<Option<Wire>>;
}

/// An authenticated connection to a shed-init.
pub struct Wire {
    /// The half that sends the welcome and requests.
    pub sender: Box<dyn Sender>,
    /// The half that receives shed-init's messages, in the order they were sent.
    pub receiver: Box<dyn Receiver>,
    /// Opens streams whose far ends go with requests on this wire.
    pub streams: Arc<dyn Streams>,
}

/// What the server sends on a wire.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Outgoing<'a> {
    /// The answer to shed-init's hello.
    Welcome(&'a Welcome),
    /// A request; the far ends of its streams go with it.
    Request(&'a Request),
}

/// The sending half of a wire.
pub trait Sender: Send {
    /// Sends one message, with the far ends that belong to it. Dropping the future may leave half a message behind: end the
    /// wire then.
    fn send<'a>(&'a mut self, message: Outgoing<'a>, ends: Ends) -> Pending<'a, ()>;
}

/// The receiving half of a wire.
pub trait Receiver: Send {
    /// The next message; `None` when the other side has ended. Safe to drop and call again.
    fn recv(&mut self) -> Pending<'_, Option<RawMessage>>;
}

/// A message from a container: JSON that nobody has checked. Its size is limited by the transport.
#[derive(Debug, Clone)]
pub struct RawMessage(Vec<u8>);

impl RawMessage {
    /// Wraps the bytes of a message.
    pub fn new(json: Vec<u8>) -> Self {
        Self(json)
    }

    /// Its length in bytes.
    pub fn n_bytes(&self) -> usize {
        self.0.len()
    }

    /// Reads it as a value of this type. What does not fit costs no memory, unlike a tree of JSON values.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

/// Opens streams into a container.
pub trait Streams: Send + Sync + std::fmt::Debug {
    /// Three streams for a process without a terminal ([`shed_link::Io::Pipes`]).
    fn pipes(&self) -> Result<Opened<Pipes>, Error>;

    /// The terminal that shed-init makes for a process ([`shed_link::Io::Tty`]).
    fn terminal(&self) -> Result<Opened<TerminalEnds>, Error>;

    /// One connection: to a program that has it as its input ([`shed_link::Io::Socket`]), or to a runner
    /// ([`shed_link::Op::Offer`]).
    fn connection(&self) -> Result<Opened<Connection>, Error>;

    /// A helper program of shed-init's that sends messages, some of them with a connection: `connect` and `listen`.
    fn helper(&self) -> Result<Opened<Helper>, Error>;
}

/// Streams that were opened.
pub struct Opened<T> {
    /// The far ends, for [`Sender::send`].
    pub ends: Ends,
    /// The near ends. Await it only once the request was answered.
    pub near: Near<T>,
}

/// Far ends of streams. Only the transport that made them knows what they are.
pub struct Ends(Option<Box<dyn Any + Send>>);

impl Ends {
    /// None: the request carries no stream.
    pub fn none() -> Self {
        Self(None)
    }

    /// Wraps the ends of a transport.
    pub fn new<T: Any + Send>(ends: T) -> Self {
        Self(Some(Box::new(ends)))
    }

    /// Unwraps them; the default if there are none, or if another transport made them.
    pub fn take<T: Any + Default>(self) -> T {
        self.0.and_then(|ends| ends.downcast().ok()).map(|ends| *ends).unwrap_or_default()
    }
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ends").field(&self.0.is_some()).finish()
    }
}

/// Near ends of a process without a terminal.
#[derive(Debug)]
pub struct Pipes {
    /// Written to the process's standard input. Dropping it closes that.
    pub input: Input,
    /// Read from its standard output; ends when all holders of the other end have closed it.
    pub output: Output,
    /// Read from its standard error; ends like `output`.
    pub errors: Output,
}

/// Near ends of a process with a terminal.
#[derive(Debug)]
pub struct TerminalEnds {
    /// Written to the terminal as if typed. Dropping it does not close the terminal.
    pub input: Input,
    /// Read from the terminal: what the programs on it print.
    pub output: Output,
    /// Changes the terminal's size and reads its modes.
    pub terminal: Arc<dyn Terminal>,
}

/// A helper program in a container. Dropping it ends the helper, which then removes what it made there.
pub struct Helper(Box<dyn HelperMessages>);

/// A helper's messages, as a transport receives them.
pub trait HelperMessages: Send {
    /// The next message, with its connection if it has one; `None` at the end. Safe to drop and call again.
    fn next(&mut self) -> Pending<'_, Option<(RawMessage, Option<Connection>)>>;
}

impl Helper {
    /// Wraps the messages of a transport.
    pub fn new(messages: Box<dyn HelperMessages>) -> Self {
        Self(messages)
    }

    /// The next message, with its connection if it has one; `None` at the end, or when the helper sends something else.
    /// Safe to drop and call again.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Option<(T, Option<Connection>)> {
        let (message, connection) = self.0.next().await.ok()??;
        Some((message.parse().ok()?, connection))
    }
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helper").finish_non_exhaustive()
    }
}
