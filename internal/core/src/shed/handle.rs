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
use crate::shed::credential_relay::CredentialRelay;
use crate::shed::view::{ProgressState, View};

/// What goes with a request, and is not kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    /// Delete: leave the volumes.
    pub(crate) keep_volumes: bool,
    /// Delete: it interrupts a creation.
    pub(crate) cancels_creation: bool,
    /// Create: leave it stopped.
    pub(crate) no_start: bool,
    /// Rebuild, retry: the new image.
    pub(crate) image: Option<String>,
    /// Create: with the password from its URL.
    pub(crate) repo: Option<Repo>,
    /// Create: what the creator lends.
    pub(crate) lend: Vec<Lend>,
}

/// What a door may post.
#[derive(Debug)]
pub(crate) enum Message {
    /// Somebody wants something.
    Request(RequestMessage),
    /// What is asked for from now on; already true of the box.
    ShedSpec(Box<ShedSpec>, Actor, oneshot::Sender<Result<(), Error>>),
    /// A session is about to appear, go or be renamed because of somebody.
    Expect(String, Actor),
    /// The engine was looked at.
    Seen(Option<Box<Found>>, Occasion),
}

/// A request, who has it, and what goes with it.
#[derive(Debug)]
pub(crate) struct RequestMessage {
    pub(crate) request: Request,
    pub(crate) actor: Actor,
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Result<Answer, Error>>,
}

/// A request come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// It was so before.
    Already,
}

/// How everyone else reaches a keeper.
#[derive(Debug, Clone)]
pub(crate) struct KeeperHandle {
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) progress: watch::Receiver<ProgressState>,
    pub(crate) relay: CredentialRelay,
    /// Its sessions.
    pub(crate) work: WorkHandle,
}

impl KeeperHandle {
    /// Posts a request and waits for its end.
    pub(crate) async fn request(
        &self,
        request: Request,
        actor: Actor,
        order: Order,
    ) -> Result<Answer, Error> {
        let answered = self.send_request(request, actor, order).await?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }

    /// Posts a request; the receiver tells its end.
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
