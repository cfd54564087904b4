//! The viewers of workers: a room for each worker that somebody watches over a WebSocket. Its task gives the window the
//! primary's size, its typist types; both end with the last viewer.
//!
//! What is printed does not pass through here: each viewer reads the log at its own pace.

use shed_model::Rejection;
use shed_output::{MAX_COLS, MAX_ROWS};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shed_api::worker::WorkerStatus;
use shed_api::{ShedName, ShedStatus};
use shed_link::{Run, Status};
use shed_model::worker::WorkerRow;
use shed_tmux::argv;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::Error;
use crate::box_link::BoxLink;
use crate::output::logs::Logs;
use crate::server::Server;
use crate::session::control::Runner;
use crate::session::view::WorkView;
use crate::shed::view::View;
use shed_model::viewers::{LastSet, Size, ViewerList, size_to_set};

/// A terminal's size, within what shed can draw.
pub(crate) fn clamped(cols: u16, rows: u16) -> Size {
    Size::clamped(cols, rows, Size { cols: MAX_COLS, rows: MAX_ROWS })
}

/// Histories that are drawn at once: each takes a processor and some megabytes for a moment.
const DRAWING: usize = 2;
/// Pieces of input that wait for a worker. Viewers wait beyond that.
const TYPING: usize = 4;
/// What somebody typed who then went away is typed within this, or not at all: the worker does not read.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);
/// How long tmux may take.
const TMUX_LIMIT_MS: u64 = 10_000;

/// The rooms of a server. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Viewers {
    rooms: Arc<Mutex<HashMap<String, Arc<Room>>>>,
    /// Whoever draws a history holds one.
    pub(crate) drawing: Arc<Semaphore>,
}

impl Default for Viewers {
    fn default() -> Self {
        Self { rooms: Arc::default(), drawing: Arc::new(Semaphore::new(DRAWING)) }
    }
}

#[derive(Debug)]
struct Room {
    list: watch::Sender<ViewerList>,
    typing: mpsc::Sender<Typing>,
}

/// What is typed, and who waits for it to be taken.
struct Typing {
    bytes: Vec<u8>,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Which worker, and where it is seen.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) server: Arc<Server>,
    pub(crate) logs: Logs,
    /// Whoever draws a history holds a permit.
    pub(crate) drawing: Arc<Semaphore>,
    pub(crate) shed: ShedName,
    /// The session's id.
    pub(crate) session: String,
    /// The worker's id.
    pub(crate) worker: String,
    pub(crate) shed_view: watch::Receiver<View>,
    pub(crate) view: watch::Receiver<Arc<WorkView>>,
}

impl Subject {
    /// What is remembered of it; `None` once it was removed.
    pub(crate) fn row(&self) -> Option<WorkerRow> {
        find(&self.view.borrow(), &self.session, &self.worker)
    }

    fn link(&self) -> Result<BoxLink, Error> {
        let view = self.shed_view.borrow();
        let (shed, status) = (self.shed.clone(), view.status());
        match &view.link {
            Some(link) => Ok(link.clone()),
            None if status == ShedStatus::Running => Err(Error::ShedUnreachable(shed)),
            None => Err(Error::Rejected(Rejection::NotRunning { shed, status })),
        }
    }

    /// What is said to whoever types into nothing.
    pub(crate) fn does_not_run(&self) -> Error {
        let known = self.view.borrow().sessions.get(&self.session).cloned();
        let session = known.map_or_else(|| self.session.clone(), |known| known.row.name.clone());
        let text = "the worker does not run".to_owned();
        Error::SessionBusy { shed: self.shed.clone(), session, text }
    }
}

/// The worker's row in a view.
pub(crate) fn find(view: &WorkView, session: &str, worker: &str) -> Option<WorkerRow> {
    let known = view.sessions.get(session)?;
    known.workers.iter().find(|row| row.id == worker).cloned()
}

/// A viewer's place. Dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.list.send_modify(|list| list.leave(self.id, Instant::now().into_std()));
    }
}

impl Viewers {
    /// Takes a place among a worker's viewers.
    pub(crate) fn enter(
        &self,
        subject: &Subject,
        name: Option<String>,
        drives: bool,
        size: Option<Size>,
    ) -> Result<Place, Error> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let room = rooms.entry(subject.worker.clone()).or_insert_with(|| {
            let (typing, typed) = mpsc::channel(TYPING);
            let room = Arc::new(Room { list: watch::Sender::default(), typing });
            let server = &subject.server;
            server.tasks.spawn(type_all(subject.clone(), typed));
            server.tasks.spawn(give_sizes(subject.clone(), self.clone(), Arc::clone(&room)));
            room
        });
        let room = Arc::clone(room);
        // Before the rooms can be looked at by the task that would close this one.
        let mut id = None;
        room.list.send_modify(|list| id = list.enter(name, drives, size));
        drop(rooms);
        let id = id.ok_or_else(|| {
            Error::Rejected(Rejection::TooLarge(
                "the worker has as many viewers as it can have".to_owned(),
            ))
        })?;
        Ok(Place { room, id })
    }

    /// Ends a room in which nobody is; false if somebody is.
    fn close(&self, worker: &str, room: &Room) -> bool {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = room.list.borrow().is_empty();
        if is_empty {
            rooms.remove(worker);
        }
        is_empty
    }
}

impl Place {
    /// Says "look" when a primary may be another.
    pub(crate) fn changes(&self) -> watch::Receiver<ViewerList> {
        self.room.list.subscribe()
    }

    /// Names this place in [`Place::changes`].
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// This viewer's size.
    pub(crate) fn resize(&self, size: Size) {
        self.room.list.send_modify(|list| list.resize(self.id, size));
    }

    /// It wants to be the one whose size counts.
    pub(crate) fn claim(&self) {
        self.room.list.send_modify(|list| list.claim(self.id));
    }

    /// Types, exactly. Waits while the worker does not read.
    pub(crate) async fn input(&self, bytes: Vec<u8>) -> Result<(), Error> {
        let (done, typed) = oneshot::channel();
        let typing = Typing { bytes, done };
        self.room.typing.send(typing).await.map_err(|_| Error::ShuttingDown)?;
        typed.await.map_err(|_| Error::ShuttingDown)?
    }
}

/// Types what the viewers of a worker type, in the order it comes. One connection to the runner for all: it takes few.
/// Ends with the room or the server.
async fn type_all(subject: Subject, mut typed: mpsc::Receiver<Typing>) {
    let stop = subject.server.stop.clone();
    let mut runner = None;
    loop {
        let next = tokio::select! {
            next = typed.recv() => next,
            () = stop.cancelled() => return,
        };
        let Some(Typing { bytes, mut done }) = next else {
            return;
        };
        let last_up = async {
            done.closed().await;
            tokio::time::sleep(FAREWELL_LIMIT).await;
        };
        let result = tokio::select! {
            result = type_one(&subject, &mut runner, &bytes) => result,
            () = last_up => Err(Error::TimedOut("the worker did not take what was typed".to_owned())),
            () = stop.cancelled() => return,
        };
        if result.is_err() {
            // The next one finds out what is there by then.
            runner = None;
        }
        // Who went away does not hear it.
        done.send(result).ok();
    }
}

async fn type_one(
    subject: &Subject,
    runner: &mut Option<(u64, Runner)>,
    bytes: &[u8],
) -> Result<(), Error> {
    let row = subject.row();
    let row = row.filter(|row| row.status == WorkerStatus::Running);
    let row = row.ok_or_else(|| subject.does_not_run())?;
    let there = if let Some(there) = runner.take().filter(|(epoch, _)| *epoch == row.epoch) {
        there
    } else {
        let link = subject.link()?;
        (row.epoch, Runner::connect(&link, &subject.worker, row.epoch).await?)
    };
    runner.insert(there).1.input(bytes).await
}

/// Gives the worker's window the primary's size. Ends with the last viewer, or the server.
async fn give_sizes(subject: Subject, viewers: Viewers, room: Arc<Room>) {
    let mut list = room.list.subscribe();
    let mut shed_view = subject.shed_view.clone();
    let stop = subject.server.stop.clone();
    let mut last = LastSet::default();
    loop {
        let mut due = None;
        room.list.send_if_modified(|list| {
            let n_before = list.len();
            due = list.expire(Instant::now().into_std()).map(Instant::from_std);
            list.len() != n_before
        });
        if viewers.close(&subject.worker, &room) {
            return;
        }
        let wanted = list.borrow_and_update().size();
        let there = where_is(&shed_view.borrow_and_update(), &subject);
        if let Some((link, window, n_attached)) = there
            && let Some(size) = size_to_set(wanted, n_attached, &window, &mut last)
        {
            match resize(&link, &window, size).await {
                Ok(()) => last.size = Some(size),
                // Tried again when something changes.
                Err(error) => {
                    tracing::debug!(shed = %subject.shed, %error, "a window's size was not set");
                }
            }
        }
        let expiry = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = list.changed() => if changed.is_err() { return },
            changed = shed_view.changed() => if changed.is_err() { return },
            () = expiry => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The worker's window, and how many clients of tmux look at its session.
fn where_is(view: &View, subject: &Subject) -> Option<(BoxLink, String, u32)> {
    let (link, table) = (view.link.clone()?, view.table.as_ref()?);
    let session = table.marked(&subject.session)?;
    let window = session.windows.iter().find(|window| window.mark == subject.worker)?;
    Some((link, format!("@{}", window.id), session.n_attached))
}

async fn resize(link: &BoxLink, window: &str, size: Size) -> Result<(), Error> {
    let argv = argv::resize_window(window, size.cols, size.rows);
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: TMUX_LIMIT_MS };
    let ran = link.run_with(run).await?;
    if ran.status == Status::Code(0) {
        return Ok(());
    }
    Err(Error::Rejected(Rejection::Invalid(shed_api::name::printable(&ran.stderr))))
}
