//! How the rest of the server reaches the keeper of a shed.

use shed_api::Actor;
use shed_api::shed::Lend;
use shed_engine::Found;
use shed_model::shed::ShedSpec;
use shed_model::shed::life::{Occasion, Request};
use shed_model::shed::repo::Repo;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Error;
use crate::session::handle::WorkHandle;
use crate::session::list::LastList;
use crate::shed::credential_relay::CredentialRelay;
use crate::shed::view::{ProgressState, View};

/// The options of an operation. They are not stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    /// Delete: keep the volumes.
    pub(crate) keep_volumes: bool,
    /// Delete: it interrupts a creation.
    pub(crate) cancels_creation: bool,
    /// Create: do not start it.
    pub(crate) no_start: bool,
    /// Rebuild, or create again: the new image.
    pub(crate) image: Option<String>,
    /// Create: the repository, with the password from its URL.
    pub(crate) repo: Option<Repo>,
    /// Create: what the creator lends.
    pub(crate) lend: Vec<Lend>,
}

/// What a keeper is sent.
#[derive(Debug)]
pub(crate) enum Message {
    /// A request for an operation.
    Request(RequestMessage),
    /// A new specification, which the container has already.
    ShedSpec(Box<ShedSpec>, Actor, oneshot::Sender<Result<(), Error>>),
    /// A session of this name is about to appear, end or be renamed because of this person.
    Expect(String, Actor),
    /// What the engine reports about the container.
    Seen(Option<Box<Found>>, Occasion),
}

/// A request for an operation.
#[derive(Debug)]
pub(crate) struct RequestMessage {
    pub(crate) request: Request,
    pub(crate) actor: Actor,
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Result<Answer, Error>>,
}

/// The answer to a request that was not denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// Nothing had to be done.
    Already,
}

/// A handle of a shed's keeper.
#[derive(Debug, Clone)]
pub(crate) struct KeeperHandle {
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) progress: watch::Receiver<ProgressState>,
    pub(crate) relay: CredentialRelay,
    /// Its sessions.
    pub(crate) work: WorkHandle,
    /// Their last list.
    pub(crate) list: LastList,
}

impl KeeperHandle {
    /// Sends a request and waits for the end of its operation.
    pub(crate) async fn request(
        &self,
        request: Request,
        actor: Actor,
        order: Order,
    ) -> Result<Answer, Error> {
        let answered = self.send_request(request, actor, order).await?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }

    /// Sends a request; the receiver gets the result of its operation.
    pub(crate) async fn send_request(
        &self,
        request: Request,
        actor: Actor,
        order: Order,
    ) -> Result<oneshot::Receiver<Result<Answer, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        let post = Message::Request(RequestMessage { request, actor, order, answer });
        self.messages.send(post).await.map_err(|_| self.gone())?;
        Ok(answered)
    }

    /// The keeper has ended: with its shed, or with the server.
    fn gone(&self) -> Error {
        match self.view.borrow().row.name.parse() {
            Ok(name) if self.view.borrow().gone => Error::NoShed(name),
            _ => Error::ShuttingDown,
        }
    }
}
