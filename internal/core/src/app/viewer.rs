//! Watching a worker live: the frames of `…/workers/{w}/ws`.
//!
//! The log is the truth, its bell says look. A viewer is a place in the log: nothing is kept for one who does not read, and
//! one who falls behind is shown what is there now.

use shed_model::Rejection;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use chrono::Utc;
use shed_api::name::printable;
use shed_api::stream::{ExecRequest, Exit};
use shed_api::worker::{Activity, WorkerServerFrame, WorkerStatus};
use shed_api::{Scope, SessionRef, ShedName};
use shed_model::worker::WorkerRow;
use shed_output::History;
use tokio::sync::watch;
use tokio::time::Instant;

use super::App;
use crate::output::collector::blocking;
use crate::output::cursor::{self, Cursor, Look, Next};
use crate::output::images;
use crate::output::logs::Mark;
use crate::output::viewers::{Place, Subject, clamped, find};
use crate::session::view::WorkView;
use crate::shed::view::View;
use crate::{Error, Person};
use shed_model::viewers::ViewerList;

/// The largest picture that can be given to a worker, in bytes.
pub const MAX_IMAGE_BYTES: usize = images::MAX_IMAGE_BYTES;
/// Output that comes within this is one message.
const COALESCE: Duration = Duration::from_millis(16);
/// Between two pictures of everything for one who cannot keep up.
const REFRESH_PAUSE: Duration = Duration::from_millis(250);
/// A worker that printed within this is active.
const ACTIVE: Duration = Duration::from_secs(2);
/// How long saving a picture may take, in seconds.
const SAVE_LIMIT: f64 = 30.0;
/// The longest name a viewer can give itself.
const MAX_NAME_BYTES: usize = 64;

/// How to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchWorker {
    /// Go on from this offset of this start of the command, if it is near; nothing is told of what was before.
    pub from: Option<(u64, u64)>,
    /// Drop what is typed.
    pub read_only: bool,
    /// End with the command.
    pub once: bool,
    /// What the client calls itself, over its connections: letters, digits, `-` and `_`.
    pub name: Option<String>,
    /// Its size in columns and rows.
    pub size: Option<(u16, u16)>,
}

/// The seeing half of a viewer. Dropping both halves is leaving.
pub struct Viewer {
    subject: Subject,
    place: Arc<Place>,
    read_only: bool,
    once: bool,
    mark: watch::Receiver<Mark>,
    list: watch::Receiver<ViewerList>,
    view: watch::Receiver<Arc<WorkView>>,
    shed_view: watch::Receiver<View>,
    /// `None` until the first history.
    cursor: Option<Cursor>,
    /// As of the last look.
    size: Option<shed_output::Size>,
    looked: Option<Looked>,
    /// There may be something to read, and it is not time yet.
    pending: bool,
    not_before: Instant,
    refreshed_at: Option<Instant>,
    printed_at: Option<Instant>,
    told: Told,
    ready: VecDeque<WorkerServerFrame>,
    over: bool,
}

/// What was so when the log was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looked {
    mark: Mark,
    /// The command had ended before the look.
    ended: bool,
    /// There was more than was read.
    more: bool,
}

/// What the client knows.
#[derive(Debug, Default)]
struct Told {
    size: Option<(shed_output::Size, bool)>,
    activity: Option<Activity>,
    /// The start of the command whose end was told.
    exit: Option<u64>,
}

/// The typing half of a viewer.
#[derive(Clone)]
pub struct Hands {
    app: App,
    person: Person,
    subject: Subject,
    place: Arc<Place>,
    read_only: bool,
}

impl App {
    /// Takes a place among a worker's viewers. Asks nothing of the shed.
    pub fn watch_worker(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        watch: WatchWorker,
    ) -> Result<(Viewer, Hands), Error> {
        let (handle, known) =
            self.remembered(person, name, session, Scope::Read, "to see what a worker prints")?;
        let row = known.worker(worker).ok_or_else(|| Error::NoWorker {
            session: known.row.name.clone(),
            worker: worker.to_owned(),
        })?;
        if let Some(name) = &watch.name {
            check_name(name)?;
        }
        let read_only = watch.read_only || person.scope < Scope::Drive;
        let subject = Subject {
            server: Arc::clone(&self.server),
            logs: self.resources.logs.clone(),
            drawing: Arc::clone(&self.viewers.drawing),
            shed: name.clone(),
            session: known.row.id.clone(),
            worker: row.id.clone(),
            shed_view: handle.view.clone(),
            view: handle.work.view.clone(),
        };
        let size = watch.size.map(|(cols, rows)| clamped(cols, rows));
        // Two people do not take each other's places.
        let seat = watch.name.map(|name| format!("{} {name}", person.actor));
        let place = self.viewers.enter(&subject, seat, !read_only, size)?;
        let place = Arc::new(place);
        let viewer = Viewer {
            place: Arc::clone(&place),
            read_only,
            once: watch.once,
            mark: self.resources.logs.mark(&subject.worker),
            list: place.changes(),
            view: subject.view.clone(),
            shed_view: subject.shed_view.clone(),
            cursor: watch.from.map(|(offset, epoch)| Cursor { offset, epoch }),
            size: None,
            looked: None,
            pending: false,
            not_before: Instant::now(),
            refreshed_at: None,
            printed_at: None,
            told: Told::default(),
            ready: VecDeque::new(),
            over: false,
            subject: subject.clone(),
        };
        let hands = Hands { app: self.clone(), person: person.clone(), subject, place, read_only };
        Ok((viewer, hands))
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
    /// The next frame; `None` after the last. Nothing is read before it is asked for. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<WorkerServerFrame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            let done = match self.look().await {
                Ok(()) if self.ready.is_empty() => self.wait().await,
                done => done,
            };
            if let Err(error) = done {
                self.ready.push_back(WorkerServerFrame::Problem { problem: error.problem() });
                self.over = true;
            }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        // What is known of the worker is read before its log: of one that has ended, the log then has all.
        let Subject { session, worker, .. } = &self.subject;
        let row = find(&self.view.borrow_and_update(), session, worker)
            .ok_or_else(|| Error::NoWorker { session: session.clone(), worker: worker.clone() })?;
        let has_link = self.shed_view.borrow_and_update().link.is_some();
        let ended = row.status == WorkerStatus::Exited;
        let mark = *self.mark.borrow_and_update();
        if self.is_due(mark, ended) && Instant::now() >= self.not_before {
            self.read(mark, ended).await?;
        }
        self.tell_size();
        self.tell_activity(row.status == WorkerStatus::Running && has_link);
        self.pending = self.is_due(mark, ended);
        if ended && !self.pending {
            self.tell_exit(&row);
        }
        Ok(())
    }

    /// Whether there may be something in the log that was not read.
    fn is_due(&self, mark: Mark, ended: bool) -> bool {
        self.looked != Some(Looked { mark, ended, more: false })
    }

    async fn read(&mut self, mark: Mark, ended: bool) -> Result<(), Error> {
        let Subject { logs, drawing, shed, worker, .. } = &self.subject;
        let at = || (logs.clone(), shed.clone(), worker.clone());
        if let Some(from) = self.cursor {
            let (logs, shed, worker) = at();
            let look = move || match logs.find_reader(shed.as_str(), &worker)? {
                Some(reader) => cursor::look(&reader, from, ended).map(Some),
                None => Ok(None),
            };
            match blocking(look).await? {
                Some(Look::Next(next)) => {
                    self.looked = Some(Looked { mark, ended, more: next.more });
                    self.take_next(from, next);
                    return Ok(());
                }
                // There is no log, and we know it.
                None if from.offset == 0 && self.looked.is_some() => {
                    self.looked = Some(Looked { mark, ended, more: false });
                    return Ok(());
                }
                Some(Look::Lost) | None => {}
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
        self.looked = Some(Looked { mark, ended, more: false });
        self.take_history(&history);
        self.note_printed(at_ms);
        Ok(())
    }

    fn take_next(&mut self, from: Cursor, next: Next) {
        self.cursor = Some(next.cursor);
        self.size = Some(next.size);
        // What is printed after a change of size is drawn for the new one.
        self.tell_size();
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
        self.told.size = Some((history.size, primary));
        self.told.activity = None;
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
        self.list.borrow_and_update().is_primary(self.place.id())
    }

    fn tell_size(&mut self) {
        let primary = self.is_primary();
        if let Some(size) = self.size
            && self.told.size != Some((size, primary))
        {
            self.told.size = Some((size, primary));
            let shed_output::Size { cols, rows } = size;
            self.ready.push_back(WorkerServerFrame::Size { cols, rows, primary });
        }
    }

    fn tell_activity(&mut self, runs: bool) {
        let state = match self.active_until() {
            _ if !runs => Activity::Unknown,
            Some(until) if Instant::now() < until => Activity::Active,
            Some(_) | None => Activity::Idle,
        };
        if self.cursor.is_some() && self.told.activity != Some(state) {
            self.told.activity = Some(state);
            self.ready.push_back(WorkerServerFrame::Activity { state });
        }
    }

    fn active_until(&self) -> Option<Instant> {
        self.printed_at.map(|at| at + ACTIVE)
    }

    fn tell_exit(&mut self, row: &WorkerRow) {
        if self.told.exit == Some(row.epoch) {
            return;
        }
        self.told.exit = Some(row.epoch);
        let (exit_code, signal) = match &row.exit {
            Some(Exit::Code(code)) => (Some(*code), None),
            Some(Exit::Signal(name)) => (None, Some(name.clone())),
            None => (None, None),
        };
        self.ready.push_back(WorkerServerFrame::Exit { exit_code, signal, epoch: row.epoch });
        self.over |= self.once;
    }

    /// Waits until there may be something to tell.
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

impl Hands {
    /// Types, exactly. Waits while the worker does not read. Of a viewer that only looks it is dropped.
    pub async fn input(&self, bytes: Vec<u8>) -> Result<(), Error> {
        if self.read_only || bytes.is_empty() {
            return Ok(());
        }
        self.place.input(bytes).await
    }

    /// The viewer's size, in cells.
    pub fn resize(&self, cols: u16, rows: u16) {
        self.place.resize(clamped(cols, rows));
    }

    /// Makes this viewer's size the one that counts.
    pub fn claim(&self) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::Rejected(Rejection::Forbidden(
                "a viewer that only looks sets no size".to_owned(),
            )));
        }
        self.place.claim();
        Ok(())
    }

    /// Whether what is typed is dropped.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Saves a picture, given as base64, in the shed, and types its path.
    pub async fn image(&self, data: &str, mime_type: &str) -> Result<(), Error> {
        if self.read_only {
            return Ok(());
        }
        let invalid = |text: &str| Error::Rejected(Rejection::Invalid(text.to_owned()));
        if data.len() / 4 * 3 > MAX_IMAGE_BYTES + 3 {
            let text = format!("the picture is over {} MiB", MAX_IMAGE_BYTES >> 20);
            return Err(Error::Rejected(Rejection::TooLarge(text)));
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(data);
        let bytes = bytes.map_err(|error| {
            Error::Rejected(Rejection::Invalid(format!("the picture: {error}")))
        })?;
        let (is, suffix) = images::kind(&bytes)
            .ok_or_else(|| invalid("the picture is none: PNG, JPEG, GIF and WebP are taken"))?;
        if is != mime_type {
            return Err(invalid(&format!("the picture is {is}, not what was said")));
        }
        let row = self.subject.row();
        if row.is_none_or(|row| row.status != WorkerStatus::Running) {
            return Err(self.subject.does_not_run());
        }
        let name = uuid::Uuid::new_v4().simple();
        let path = format!("{}/{name}.{suffix}", images::DIR);
        self.run(&["mkdir", "-p", "-m", "700", images::DIR], Vec::new()).await?;
        self.run(&["dd", &format!("of={path}"), "bs=65536"], bytes).await?;
        self.input(path.into_bytes()).await
    }

    async fn run(&self, argv: &[&str], stdin: Vec<u8>) -> Result<(), Error> {
        let request = ExecRequest {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::new(),
            directory: None,
            session: None,
            root: false,
            stdin: None,
            stdin_base64: None,
            timeout: Some(SAVE_LIMIT),
        };
        let ran = self.app.exec_to_end(&self.person, &self.subject.shed, request, stdin).await?;
        if ran.exit == 0 {
            return Ok(());
        }
        let why = printable(ran.stderr.trim());
        Err(Error::Rejected(Rejection::Invalid(format!("the picture was not saved: {why}"))))
    }
}
