//! Watching a worker live: the frames of `…/workers/{w}/ws`.
//!
//! Everything is read from the worker's log, when its bell rings. A viewer is a position in the log: nothing is buffered
//! for one who does not read, and one who falls behind is sent the screen as it is now.

use shed_model::Rejection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use shed_api::stream::Exit;
use shed_api::worker::{Activity, WorkerServerFrame, WorkerStatus};
use shed_model::worker::WorkerRow;
use shed_output::History;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Error;
use crate::output::collector::blocking;
use crate::output::cursor::{self, Cursor, Following, Next};
use crate::output::logs::Mark;
use crate::output::viewers::{Subject, Viewing, clamped, find};
use crate::session::view::WorkView;
use crate::shed::view::View;
use shed_model::viewers::{Size, ViewerList};

/// Output that comes within this is one message.
const COALESCE: Duration = Duration::from_millis(16);
/// Between two whole screens for a viewer who cannot keep up.
const REFRESH_PAUSE: Duration = Duration::from_millis(250);
/// A worker that printed within this is active.
const ACTIVE: Duration = Duration::from_secs(2);
/// The longest name a viewer can give itself.
const MAX_NAME_BYTES: usize = 64;

/// How to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchWorker {
    /// Offset and epoch to go on from, if they are near the end of the log; nothing before them is sent.
    pub from: Option<(u64, u64)>,
    /// Drop input.
    pub read_only: bool,
    /// End with the command.
    pub once: bool,
    /// What the client calls itself, over its connections: letters, digits, `-` and `_`.
    pub name: Option<String>,
    /// Its size in columns and rows.
    pub size: Option<(u16, u16)>,
}

/// The reading half of a viewer; an [`InputWriter`](crate::InputWriter) is the other. The viewer leaves when both are
/// dropped.
pub struct Viewer {
    subject: Subject,
    viewing: Arc<Viewing>,
    read_only: bool,
    once: bool,
    mark: watch::Receiver<Mark>,
    list: watch::Receiver<ViewerList>,
    view: watch::Receiver<Arc<WorkView>>,
    shed_view: watch::Receiver<View>,
    /// `None` until the first history.
    cursor: Option<Cursor>,
    /// As of the last read of the log.
    size: Option<shed_output::Size>,
    observed: Option<Observed>,
    /// There may be something to read, but not before `not_before`.
    pending: bool,
    not_before: Instant,
    refreshed_at: Option<Instant>,
    printed_at: Option<Instant>,
    sent: Sent,
    ready: VecDeque<WorkerServerFrame>,
    over: bool,
}

/// What was known when the log was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Observed {
    mark: Mark,
    /// The command had ended before the read.
    ended: bool,
    /// There was more than was read.
    more: bool,
}

/// What was sent to the client last.
#[derive(Debug, Default)]
struct Sent {
    size: Option<(shed_output::Size, bool)>,
    activity: Option<Activity>,
    /// The epoch of the command whose end was sent.
    exit: Option<u64>,
}

/// A new viewer of a worker.
pub(crate) fn start(
    subject: Subject,
    viewing: Arc<Viewing>,
    watch: &WatchWorker,
    read_only: bool,
) -> Viewer {
    Viewer {
        read_only,
        once: watch.once,
        mark: subject.logs.mark(&subject.worker),
        list: viewing.changes(),
        view: subject.view.clone(),
        shed_view: subject.shed_view.clone(),
        cursor: watch.from.map(|(offset, epoch)| Cursor { offset, epoch }),
        size: None,
        observed: None,
        pending: false,
        not_before: Instant::now(),
        refreshed_at: None,
        printed_at: None,
        sent: Sent::default(),
        ready: VecDeque::new(),
        over: false,
        viewing,
        subject,
    }
}

impl WatchWorker {
    /// An error if the client's name cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.name.as_deref().map_or(Ok(()), check_name)
    }

    /// The client's size, within what shed can draw.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size.map(|(cols, rows)| clamped(cols, rows))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_plain) {
        let text = format!(
            "a viewer's name is 1 to {MAX_NAME_BYTES} letters, digits, dashes and underscores"
        );
        return Err(Error::Rejected(Rejection::Invalid(text)));
    }
    Ok(())
}

impl Viewer {
    /// The next frame; `None` after the last. Nothing is read from the log before this is called. Cancel-safe.
    pub async fn next(&mut self) -> Option<WorkerServerFrame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            let done = match self.observe().await {
                Ok(()) if self.ready.is_empty() => self.wait().await,
                done => done,
            };
            if let Err(error) = done {
                self.ready.push_back(WorkerServerFrame::Problem { problem: error.problem() });
                self.over = true;
            }
        }
    }

    async fn observe(&mut self) -> Result<(), Error> {
        // The worker's row is read before its log: if it has ended by then, the log is complete.
        let Subject { session, worker, .. } = &self.subject;
        let row = find(&self.view.borrow_and_update(), session, worker)
            .ok_or_else(|| Error::NoWorker { session: session.clone(), worker: worker.clone() })?;
        let has_link = self.shed_view.borrow_and_update().link.is_some();
        let ended = row.status == WorkerStatus::Exited;
        let mark = *self.mark.borrow_and_update();
        if self.is_due(mark, ended) && Instant::now() >= self.not_before {
            self.read(mark, ended).await?;
        }
        self.send_size();
        self.send_activity(row.status == WorkerStatus::Running && has_link);
        self.pending = self.is_due(mark, ended);
        if ended && !self.pending {
            self.send_exit(&row);
        }
        Ok(())
    }

    /// Whether there may be something in the log that was not read yet.
    fn is_due(&self, mark: Mark, ended: bool) -> bool {
        self.observed != Some(Observed { mark, ended, more: false })
    }

    async fn read(&mut self, mark: Mark, ended: bool) -> Result<(), Error> {
        let Subject { logs, drawing, shed, worker, .. } = &self.subject;
        let at = || (logs.clone(), shed.clone(), worker.clone());
        if let Some(from) = self.cursor {
            let (logs, shed, worker) = at();
            let follow = move || match logs.find_reader(shed.as_str(), &worker)? {
                Some(reader) => cursor::follow(&reader, from, ended).map(Some),
                None => Ok(None),
            };
            match blocking(follow).await? {
                Some(Following::Next(next)) => {
                    self.observed = Some(Observed { mark, ended, more: next.more });
                    self.take_next(from, next);
                    return Ok(());
                }
                // There is still no log.
                None if from.offset == 0 && self.observed.is_some() => {
                    self.observed = Some(Observed { mark, ended, more: false });
                    return Ok(());
                }
                Some(Following::Lost) | None => {}
            }
        }
        let pause_ends = self.refreshed_at.map(|at| at + REFRESH_PAUSE);
        if let Some(at) = pause_ends.filter(|at| Instant::now() < *at) {
            self.not_before = at;
            return Ok(());
        }
        let refresh = self.refreshed_at.is_some();
        let drawing = Arc::clone(drawing);
        let permit = drawing.acquire_owned().await.map_err(|_| Error::ShuttingDown)?;
        let (logs, shed, worker) = at();
        let draw = move || {
            let _drawing = permit;
            let reader = logs.find_reader(shed.as_str(), &worker)?;
            let at_ms = match &reader {
                Some(reader) => reader.status()?.at_ms,
                None => 0,
            };
            Ok((cursor::draw(reader.as_ref(), refresh)?, at_ms))
        };
        let (history, at_ms) = blocking(draw).await?;
        self.observed = Some(Observed { mark, ended, more: false });
        self.take_history(&history);
        self.note_printed(at_ms);
        Ok(())
    }

    fn take_next(&mut self, from: Cursor, next: Next) {
        self.cursor = Some(next.cursor);
        self.size = Some(next.size);
        // What is printed after a change of size is drawn for the new one.
        self.send_size();
        if next.cursor != from {
            if self.printed_at.is_none() {
                self.note_printed(next.at_ms);
            } else {
                self.printed_at = Some(Instant::now());
            }
            if !next.more {
                self.not_before = Instant::now() + COALESCE;
            }
            let Cursor { offset, epoch } = next.cursor;
            self.ready.push_back(WorkerServerFrame::Output { data: next.text, offset, epoch });
        } else if self.printed_at.is_none() {
            self.note_printed(next.at_ms);
        }
    }

    fn take_history(&mut self, history: &History) {
        let epoch = history.epoch.unwrap_or(0);
        let primary = self.is_primary();
        self.cursor = Some(Cursor { offset: history.end, epoch });
        self.size = Some(history.size);
        self.refreshed_at = Some(Instant::now());
        self.sent.size = Some((history.size, primary));
        self.sent.activity = None;
        self.ready.push_back(WorkerServerFrame::History {
            data: String::from_utf8_lossy(&history.bytes).into_owned(),
            offset: history.end,
            epoch,
            cols: history.size.cols,
            rows: history.size.rows,
            primary,
            read_only: self.read_only,
        });
    }

    /// The worker printed at this time of the clock, in milliseconds since 1970.
    fn note_printed(&mut self, at_ms: u64) {
        let now_ms = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
        let ago = Duration::from_millis(now_ms.saturating_sub(at_ms));
        self.printed_at = Instant::now().checked_sub(ago).or(Some(Instant::now() - ACTIVE));
    }

    fn is_primary(&mut self) -> bool {
        self.list.borrow_and_update().is_primary(self.viewing.id())
    }

    fn send_size(&mut self) {
        let primary = self.is_primary();
        if let Some(size) = self.size
            && self.sent.size != Some((size, primary))
        {
            self.sent.size = Some((size, primary));
            let shed_output::Size { cols, rows } = size;
            self.ready.push_back(WorkerServerFrame::Size { cols, rows, primary });
        }
    }

    fn send_activity(&mut self, runs: bool) {
        let state = match self.active_until() {
            _ if !runs => Activity::Unknown,
            Some(until) if Instant::now() < until => Activity::Active,
            Some(_) | None => Activity::Idle,
        };
        if self.cursor.is_some() && self.sent.activity != Some(state) {
            self.sent.activity = Some(state);
            self.ready.push_back(WorkerServerFrame::Activity { state });
        }
    }

    fn active_until(&self) -> Option<Instant> {
        self.printed_at.map(|at| at + ACTIVE)
    }

    fn send_exit(&mut self, row: &WorkerRow) {
        if self.sent.exit == Some(row.epoch) {
            return;
        }
        self.sent.exit = Some(row.epoch);
        let (exit_code, signal) = match &row.exit {
            Some(Exit::Code(code)) => (Some(*code), None),
            Some(Exit::Signal(name)) => (None, Some(name.clone())),
            None => (None, None),
        };
        self.ready.push_back(WorkerServerFrame::Exit { exit_code, signal, epoch: row.epoch });
        self.over |= self.once;
    }

    /// Waits until there may be something to send.
    async fn wait(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let paused = self.pending.then_some(self.not_before);
        let active = self.active_until().filter(|until| now < *until);
        let due = [paused, active].into_iter().flatten().min();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let gone = |_| Error::NoShed(self.subject.shed.clone());
        tokio::select! {
            changed = self.mark.changed(), if paused.is_none() => changed.map_err(gone),
            changed = self.list.changed() => changed.map_err(gone),
            changed = self.view.changed() => changed.map_err(gone),
            changed = self.shed_view.changed() => changed.map_err(gone),
            () = timer => Ok(()),
        }
    }
}
