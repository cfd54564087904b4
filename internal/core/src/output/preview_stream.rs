//! The previews of one caller: of each worker the whole screen first, then what changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shed_api::session::SessionStatus;
use shed_api::worker::{Preview, WorkerStatus};
use shed_api::{SessionRef, ShedName};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Person;
use crate::output::logs::Logs;
use crate::output::previews::{Previews, Sent, Shot, changes};
use crate::server::Server;
use crate::shed::registry::Registry;

/// Rows of each worker by default.
const USUAL_ROWS: u16 = 12;
/// Changes within this are sent together: a hundred workers ring one bell.
const GATHER: Duration = Duration::from_millis(20);

/// Of which workers previews are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Of this shed; of all the person may see when absent.
    pub shed: Option<ShedName>,
    /// Of this session, also workers that have ended. Needs `shed`.
    pub session: Option<SessionRef>,
    /// Rows of each worker; 12 when absent.
    pub rows: Option<u16>,
}

/// Reads the previews of one caller.
pub(crate) struct PreviewReader {
    sources: PreviewSources,
    person: Person,
    shown: Shown,
    /// By the worker's id.
    seen: BTreeMap<String, Seen>,
    bell: watch::Receiver<u64>,
    list: watch::Receiver<u64>,
    list_is_new: bool,
    ready: VecDeque<Preview>,
}

struct Seen {
    shed: ShedName,
    session: String,
    shots: watch::Receiver<Arc<Shot>>,
    sent: Sent,
}

/// What previews are drawn from.
#[derive(Clone)]
pub(crate) struct PreviewSources {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    pub(crate) logs: Logs,
    pub(crate) models: Previews,
}

impl PreviewReader {
    pub(crate) fn new(sources: PreviewSources, person: Person, shown: Shown) -> Self {
        let (bell, list) = (sources.models.bell(), sources.server.bell.subscribe());
        Self {
            sources,
            person,
            shown,
            seen: BTreeMap::new(),
            bell,
            list,
            list_is_new: true,
            ready: VecDeque::new(),
        }
    }

    /// The next preview; `None` when the server stops.
    pub(crate) async fn next(&mut self) -> Option<Preview> {
        let stop = self.sources.server.door_stop.clone();
        loop {
            if let Some(preview) = self.ready.pop_front() {
                return Some(preview);
            }
            if std::mem::take(&mut self.list_is_new) {
                self.list.borrow_and_update();
                self.find();
            }
            self.bell.borrow_and_update();
            self.gather();
            if !self.ready.is_empty() {
                continue;
            }
            let gathered = Instant::now() + GATHER;
            tokio::select! {
                rung = self.bell.changed() => rung.ok()?,
                rung = self.list.changed() => {
                    rung.ok()?;
                    self.list_is_new = true;
                }
                () = stop.cancelled() => return None,
            }
            tokio::time::sleep_until(gathered).await;
        }
    }

    /// Adds the workers that are new, and drops those that are gone.
    fn find(&mut self) {
        let mut there = BTreeMap::new();
        for (shed, handle) in self.sources.registry.seen_by(&self.person) {
            if self.shown.shed.as_ref().is_some_and(|only| *only != shed) {
                continue;
            }
            let table = handle.view.borrow().table.clone();
            let view = handle.work.view.borrow().clone();
            let only = self.shown.session.as_ref();
            let only = only.map(|session| view.resolve(table.as_deref(), session));
            for known in view.sessions.values() {
                let runs =
                    matches!(known.row.status, SessionStatus::Running | SessionStatus::Frozen);
                let is_shown = match only {
                    Some(only) => only.is_some_and(|only| only.row.id == known.row.id),
                    None => runs,
                };
                let workers = known.workers.iter().filter(|row| {
                    is_shown && (only.is_some() || row.status != WorkerStatus::Exited)
                });
                for row in workers {
                    there.insert(row.id.clone(), (shed.clone(), known.row.id.clone()));
                }
            }
        }
        self.seen.retain(|worker, _| there.contains_key(worker));
        for (worker, (shed, session)) in there {
            if self.seen.contains_key(&worker) {
                continue;
            }
            let PreviewSources { server, logs, models, .. } = &self.sources;
            if let Some(mut shots) = models.watch(server, logs, &shed, &worker) {
                shots.mark_changed();
                let sent = Sent::default();
                self.seen.insert(worker, Seen { shed, session, shots, sent });
            }
        }
    }

    /// What changed since the last time.
    fn gather(&mut self) {
        let n_rows = self.shown.rows.unwrap_or(USUAL_ROWS).max(1);
        for (worker, seen) in &mut self.seen {
            // A model is not dropped while somebody reads it.
            if !seen.shots.has_changed().unwrap_or(false) {
                continue;
            }
            let shot = Arc::clone(&seen.shots.borrow_and_update());
            let changed = changes(&mut seen.sent, &shot, n_rows);
            if let (Some((whole, lines)), Some(size)) = (changed, shot.size) {
                self.ready.push_back(Preview {
                    shed: seen.shed.to_string(),
                    session: seen.session.clone(),
                    worker: worker.clone(),
                    cols: size.cols,
                    rows: size.rows,
                    whole,
                    lines,
                });
            }
        }
    }
}
