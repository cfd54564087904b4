//! How the rest of the server reaches the session keeper of a shed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shed_api::Actor;
use shed_api::session::PatchSession;
use shed_model::NewEvent;
use shed_model::session::life::Operation;
use shed_model::session::plan::Plan;
use shed_model::session::{Managed, SessionRow};
use shed_model::worker::{WorkerReport, WorkerRow};
use shed_tmux::listing::WindowRow;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::session::view::WorkView;
use shed_guest::Link;

/// How long a stop of the shed waits for tmux's layout.
const STOPPING_LIMIT: Duration = Duration::from_secs(3);

/// What was observed of a running agent's conversation.
pub(crate) struct Seen {
    pub(crate) worker: String,
    pub(crate) epoch: u64,
    /// The ids that it shows.
    pub(crate) shown: Vec<String>,
    /// Whether a prompt is recorded in the conversation it is in; `None` if that is not known.
    pub(crate) turn: Option<bool>,
}

/// Where the result of an operation goes.
pub(crate) type Answer = oneshot::Sender<Result<(), Error>>;

/// What an operation left out, in words, for its caller. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    notes: Vec<String>,
    /// Those of callers who wait for the same operation.
    others: Vec<Notes>,
}

impl Notes {
    pub(crate) fn add(&self, note: &str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.notes.push(note.to_owned());
        for other in &noted.others {
            other.add(note);
        }
    }

    /// From now on, adds to these as well.
    pub(crate) fn add_to(&self, other: &Self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).others.push(other.clone());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).notes.clone()
    }
}

/// The options of an operation. They are not stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct SessionOrder {
    /// Restart: agents resume their conversations.
    pub(crate) continues: bool,
    /// Delete: uncommitted and unpushed work goes to the trash.
    pub(crate) force: bool,
    /// Create: nothing of it was begun before.
    pub(crate) fresh: bool,
    /// Restart or remove a worker: its id.
    pub(crate) worker: Option<String>,
    /// Add a worker: its row.
    pub(crate) new_worker: Option<Box<WorkerRow>>,
    /// Patch: the changes.
    pub(crate) patch: Option<Box<PatchSession>>,
    /// Terminate: the reason, in words.
    pub(crate) why: Option<String>,
    /// Delete: ends the teardown.
    pub(crate) cut: CancellationToken,
    /// Delete: what was left out.
    pub(crate) notes: Notes,
    /// Restore: the windows that it had beside those of its workers.
    pub(crate) windows: Vec<WindowRow>,
}

/// What a session keeper is sent.
pub(crate) enum Message {
    /// Creates a session.
    Create(Box<Plan>, Actor, oneshot::Sender<Result<(), Error>>),
    /// Manages a tmux session that was unmanaged; its windows stay as they are.
    Adopt(Box<SessionRow>, Actor, oneshot::Sender<Result<(), Error>>),
    /// A request for an operation.
    Request(RequestMessage),
    /// An operation's change of its session.
    Change(ChangeMessage),
    /// The result of the operation on the session with this id.
    Done(String, Result<(), Error>),
    /// A report about a worker's command. Answered when it is written.
    Worker(WorkerMessage),
    /// What a running agent shows of its conversation.
    Conversation(Seen),
    /// Removes a session's rows: the last change of a deletion.
    Forget(String, Actor, oneshot::Sender<Result<(), Error>>),
    /// Removes a worker's row.
    RemoveWorker(String, String, NewEvent, oneshot::Sender<Result<(), Error>>),
    /// Removes a row that cannot be read, by its id.
    DropRecord(String, Actor, oneshot::Sender<Result<(), Error>>),
    /// The shed is about to stop in an orderly way.
    Stopping(oneshot::Sender<()>),
}

/// A request for an operation.
pub(crate) struct RequestMessage {
    pub(crate) session: String,
    pub(crate) operation: Operation,
    pub(crate) actor: Actor,
    pub(crate) order: SessionOrder,
    pub(crate) answer: oneshot::Sender<Result<(), Error>>,
}

/// A change of one session, made by the keeper for an operation.
pub(crate) struct ChangeMessage {
    pub(crate) session: String,
    pub(crate) change: Box<dyn FnOnce(&mut Managed) + Send>,
    pub(crate) events: Vec<NewEvent>,
    /// The link over which the operation starts the commands of workers whose start the change writes.
    pub(crate) starts_over: Option<Link>,
    pub(crate) done: oneshot::Sender<Result<Arc<Managed>, Error>>,
}

/// A report about a worker's command.
pub(crate) struct WorkerMessage {
    pub(crate) report: WorkerReport,
    /// That the start is lost: the link whose list of spools lacks it.
    pub(crate) listed_over: Option<Link>,
    pub(crate) done: oneshot::Sender<Result<(), Error>>,
}

/// A handle of a session keeper.
#[derive(Debug, Clone)]
pub(crate) struct WorkHandle {
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) view: watch::Receiver<Arc<WorkView>>,
}

impl WorkHandle {
    /// Sends a message; an error if the keeper has ended.
    pub(crate) async fn post(&self, post: Message) -> Result<(), Error> {
        self.messages.send(post).await.map_err(|_| Error::ShuttingDown)
    }

    /// Before a stop of the shed: writes tmux's layout, if that is possible soon.
    pub(crate) async fn stopping(&self) {
        let (done, written) = oneshot::channel();
        if self.post(Message::Stopping(done)).await.is_ok() {
            tokio::time::timeout(STOPPING_LIMIT, written).await.map(drop).ok();
        }
    }

    /// Sends a request and waits for the end of its operation.
    pub(crate) async fn request(
        &self,
        session: &str,
        operation: Operation,
        actor: Actor,
        order: SessionOrder,
    ) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let post = RequestMessage { session: session.to_owned(), operation, actor, order, answer };
        self.post(Message::Request(post)).await?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }
}
