//! How the rest of the server reaches the session keeper of a shed.

use std::sync::Arc;
use std::time::Duration;

use shed_api::Actor;
use shed_api::session::PatchSession;
use shed_model::NewEvent;
use shed_model::session::life::Operation;
use shed_model::session::plan::Plan;
use shed_model::session::{Managed, SessionRow};
use shed_model::worker::{WorkerReport, WorkerRow};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Error;
use crate::session::view::WorkView;

/// How long a stop of the shed waits for what tmux looks like.
const STOPPING_LIMIT: Duration = Duration::from_secs(3);

/// How a operation is answered.
pub(crate) type Answer = oneshot::Sender<Result<(), Error>>;

/// What goes with a operation, and is not kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    /// Restart: agents go on with their conversation.
    pub(crate) continues: bool,
    /// Delete: also where work would be lost.
    pub(crate) force: bool,
    /// Create: nothing of it was ever begun.
    pub(crate) fresh: bool,
    /// Which worker, by id.
    pub(crate) worker: Option<String>,
    /// The worker to add.
    pub(crate) new_worker: Option<Box<WorkerRow>>,
    /// What is to be different.
    pub(crate) patch: Option<Box<PatchSession>>,
    /// Terminate: why, in words.
    pub(crate) why: Option<String>,
}

/// What may be posted.
pub(crate) enum Message {
    /// A session is to be.
    Create(Box<Plan>, Actor, oneshot::Sender<Result<(), Error>>),
    /// A tmux session made by hand is to be remembered; its windows stay as they are.
    Adopt(Box<SessionRow>, Actor, oneshot::Sender<Result<(), Error>>),
    /// Somebody wants something of a session.
    Request(RequestMessage),
    /// An operation changes what it works on.
    Change(ChangeMessage),
    /// An operation is over.
    Done(String, Result<(), Error>),
    /// Something became of a worker's command. Answered when it is written.
    Worker(WorkerReport, oneshot::Sender<Result<(), Error>>),
    /// A session is forgotten: the last change of its operation.
    Forget(String, Actor, oneshot::Sender<Result<(), Error>>),
    /// So is a worker.
    RemoveWorker(String, String, NewEvent, oneshot::Sender<Result<(), Error>>),
    /// A row that cannot be read is dropped, by its id.
    DropRecord(String, Actor, oneshot::Sender<Result<(), Error>>),
    /// The shed is about to be stopped in an orderly way.
    Stopping(oneshot::Sender<()>),
}

/// A operation, who has it, and what goes with it.
pub(crate) struct RequestMessage {
    pub(crate) session: String,
    pub(crate) operation: Operation,
    pub(crate) actor: Actor,
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Result<(), Error>>,
}

/// A change of one session, made by the keeper for an operation.
pub(crate) struct ChangeMessage {
    pub(crate) session: String,
    pub(crate) change: Box<dyn FnOnce(&mut Managed) + Send>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) done: oneshot::Sender<Result<Arc<Managed>, Error>>,
}

/// How everyone else reaches a session keeper.
#[derive(Debug, Clone)]
pub(crate) struct WorkHandle {
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) view: watch::Receiver<Arc<WorkView>>,
}

impl WorkHandle {
    /// Posts; an error if the keeper has ended.
    pub(crate) async fn post(&self, post: Message) -> Result<(), Error> {
        self.messages.send(post).await.map_err(|_| Error::ShuttingDown)
    }

    /// The shed is about to stop: what tmux looks like is written first, if it can be told soon.
    pub(crate) async fn stopping(&self) {
        let (done, written) = oneshot::channel();
        if self.post(Message::Stopping(done)).await.is_ok() {
            tokio::time::timeout(STOPPING_LIMIT, written).await.map(drop).ok();
        }
    }

    /// Posts a operation and waits for its end.
    pub(crate) async fn request(
        &self,
        session: &str,
        operation: Operation,
        actor: Actor,
        order: Order,
    ) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let post = RequestMessage { session: session.to_owned(), operation, actor, order, answer };
        self.post(Message::Request(post)).await?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }
}
