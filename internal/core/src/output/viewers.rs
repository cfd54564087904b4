//! The viewers of workers. Each worker that is watched over a WebSocket has two tasks: one sets the window to the primary
//! viewer's size, the other writes the viewers' input. Both end with the last viewer.
//!
//! Output does not pass through here: each viewer reads the log at its own pace.

use shed_model::Rejection;
use shed_output::{MAX_COLS, MAX_ROWS};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shed_api::worker::WorkerStatus;
use shed_api::{ShedName, ShedStatus};
use shed_guest::tmux::{Command, TmuxFailure};
use shed_guest::{Link, Runner};
use shed_model::worker::WorkerRow;
use shed_tmux::argv;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::Error;
use crate::output::logs::Logs;
use crate::server::Server;
use crate::session::view::WorkView;
use crate::shed::view::View;
use shed_model::viewers::{LastSet, Size, ViewerList, size_to_set};

/// A terminal's size, within what shed can draw.
pub(crate) fn clamped(cols: u16, rows: u16) -> Size {
    Size::clamped(cols, rows, Size { cols: MAX_COLS, rows: MAX_ROWS })
}

/// How many histories are drawn at once: each takes a processor and some megabytes for a moment.
const DRAWING: usize = 2;
/// The length of a worker's input queue. Viewers wait when it is full.
const INPUT_QUEUE: usize = 4;
/// How long input of a viewer that has left may still wait for a worker that does not read. Then it is dropped.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// The watched workers of a server. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Viewers {
    watched: Arc<Mutex<HashMap<String, Arc<Watched>>>>,
    /// Permits to draw a history.
    pub(crate) drawing: Arc<Semaphore>,
}

impl Default for Viewers {
    fn default() -> Self {
        Self { watched: Arc::default(), drawing: Arc::new(Semaphore::new(DRAWING)) }
    }
}

#[derive(Debug)]
struct Watched {
    list: watch::Sender<ViewerList>,
    typing: mpsc::Sender<Input>,
}

/// Input, and the viewer's wait for its delivery.
struct Input {
    bytes: Vec<u8>,
    done: oneshot::Sender<Result<(), Error>>,
}

/// The watched worker, and what its tasks need.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) server: Arc<Server>,
    pub(crate) logs: Logs,
    /// Permits to draw a history.
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
    /// The worker's row; `None` once it was removed.
    pub(crate) fn row(&self) -> Option<WorkerRow> {
        find(&self.view.borrow(), &self.session, &self.worker)
    }

    pub(crate) fn link(&self) -> Result<Link, Error> {
        let view = self.shed_view.borrow();
        let (shed, status) = (self.shed.clone(), view.status());
        match &view.link {
            Some(link) => Ok(link.clone()),
            None if status == ShedStatus::Running => Err(Error::ShedUnreachable(shed)),
            None => Err(Error::Rejected(Rejection::NotRunning { shed, status })),
        }
    }

    /// tmux's id of the worker's window.
    pub(crate) fn window(&self) -> Option<String> {
        let table = self.shed_view.borrow().table.clone();
        table.and_then(|table| table.window_of(&self.worker))
    }

    /// The error for input to a worker whose command does not run.
    pub(crate) fn does_not_run(&self) -> Error {
        let known = self.view.borrow().sessions.get(&self.session).cloned();
        let session = known.map_or_else(|| self.session.clone(), |known| known.row.name.clone());
        let text = "the worker is not running".to_owned();
        Error::SessionBusy { shed: self.shed.clone(), session, text }
    }
}

/// The worker's row in a view.
pub(crate) fn find(view: &WorkView, session: &str, worker: &str) -> Option<WorkerRow> {
    let known = view.sessions.get(session)?;
    known.workers.iter().find(|row| row.id == worker).cloned()
}

/// A viewer on a worker's list. Dropping it removes the viewer.
#[derive(Debug)]
pub(crate) struct Viewing {
    watched: Arc<Watched>,
    id: u64,
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.watched.list.send_modify(|list| list.leave(self.id, Instant::now().into_std()));
    }
}

impl Viewers {
    /// Adds a viewer to a worker's list.
    pub(crate) fn enter(
        &self,
        subject: &Subject,
        name: Option<String>,
        drives: bool,
        size: Option<Size>,
    ) -> Result<Viewing, Error> {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = all.entry(subject.worker.clone()).or_insert_with(|| {
            let (typing, typed) = mpsc::channel(INPUT_QUEUE);
            let watched = Arc::new(Watched { list: watch::Sender::default(), typing });
            let server = &subject.server;
            server.tasks.spawn(write_input(subject.clone(), typed));
            server.tasks.spawn(set_sizes(subject.clone(), self.clone(), Arc::clone(&watched)));
            watched
        });
        let watched = Arc::clone(watched);
        // Under the lock, so that the task that removes an empty list does not remove this one.
        let mut id = None;
        watched.list.send_modify(|list| id = list.enter(name, drives, size));
        drop(all);
        let id = id.ok_or_else(|| {
            Error::Rejected(Rejection::TooLarge(
                "the worker has the maximum number of viewers".to_owned(),
            ))
        })?;
        Ok(Viewing { watched, id })
    }

    /// Removes a list without viewers; false if it has any.
    fn close(&self, worker: &str, watched: &Watched) -> bool {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = watched.list.borrow().is_empty();
        if is_empty {
            all.remove(worker);
        }
        is_empty
    }
}

impl Viewing {
    /// Changes whenever the list does.
    pub(crate) fn changes(&self) -> watch::Receiver<ViewerList> {
        self.watched.list.subscribe()
    }

    /// The viewer's id in [`Viewing::changes`].
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Sets the size of this viewer's terminal.
    pub(crate) fn resize(&self, size: Size) {
        self.watched.list.send_modify(|list| list.resize(self.id, size));
    }

    /// Makes this viewer primary, unless it is read-only.
    pub(crate) fn claim(&self) {
        self.watched.list.send_modify(|list| list.claim(self.id));
    }

    /// Writes input, byte for byte. Waits while the worker does not read.
    pub(crate) async fn input(&self, bytes: Vec<u8>) -> Result<(), Error> {
        let (done, typed) = oneshot::channel();
        let typing = Input { bytes, done };
        self.watched.typing.send(typing).await.map_err(|_| Error::ShuttingDown)?;
        typed.await.map_err(|_| Error::ShuttingDown)?
    }
}

/// Writes the viewers' input in the order of arrival, over one connection to the runner, which accepts few. Ends with the
/// last viewer or the server.
async fn write_input(subject: Subject, mut typed: mpsc::Receiver<Input>) {
    let stop = subject.server.stop.clone();
    let mut runner = None;
    loop {
        let next = tokio::select! {
            next = typed.recv() => next,
            () = stop.cancelled() => return,
        };
        let Some(Input { bytes, mut done }) = next else {
            return;
        };
        let abandoned = async {
            done.closed().await;
            tokio::time::sleep(CLOSE_GRACE).await;
        };
        let result = tokio::select! {
            result = write_one(&subject, &mut runner, &bytes) => result,
            () = abandoned => Err(Error::TimedOut("the worker did not read the input".to_owned())),
            () = stop.cancelled() => return,
        };
        if result.is_err() {
            // Connect anew for the next input.
            runner = None;
        }
        // The viewer may have left.
        done.send(result).ok();
    }
}

async fn write_one(
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
    Ok(runner.insert(there).1.input(bytes).await?)
}

/// Sets the worker's window to the primary viewer's size. Ends with the last viewer or the server.
async fn set_sizes(subject: Subject, viewers: Viewers, watched: Arc<Watched>) {
    let mut list = watched.list.subscribe();
    let mut shed_view = subject.shed_view.clone();
    let stop = subject.server.stop.clone();
    let mut last = LastSet::default();
    loop {
        let mut due = None;
        watched.list.send_if_modified(|list| {
            let n_before = list.len();
            due = list.expire(Instant::now().into_std()).map(Instant::from_std);
            list.len() != n_before
        });
        if viewers.close(&subject.worker, &watched) {
            return;
        }
        let wanted = list.borrow_and_update().size();
        let there = where_is(&shed_view.borrow_and_update(), &subject);
        if let Some((link, window, n_attached)) = there
            && let Some(size) = size_to_set(wanted, n_attached, &window, &mut last)
        {
            match resize(&link, &window, size).await {
                Ok(()) => last.size = Some(size),
                // Retried with the next change.
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

/// The worker's window, and how many tmux clients are attached to its session.
fn where_is(view: &View, subject: &Subject) -> Option<(Link, String, u32)> {
    let (link, table) = (view.link.clone()?, view.table.as_ref()?);
    let session = table.marked(&subject.session)?;
    let window = session.windows.iter().find(|window| window.mark == subject.worker)?;
    Some((link, format!("@{}", window.id), session.n_attached))
}

async fn resize(link: &Link, window: &str, size: Size) -> Result<(), Error> {
    let argv = argv::resize_window(window, size.cols, size.rows);
    match Command::new(argv).run(link).await {
        Ok(_) => Ok(()),
        Err(TmuxFailure::Guest(error)) => Err(error.into()),
        Err(failure) => Err(Error::Rejected(Rejection::Invalid(failure.to_string()))),
    }
}
