//! Previews: what the last rows of workers look like, for everyone who glances.

use shed_model::Rejection;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use shed_api::session::SessionStatus;
use shed_api::worker::{Preview, WorkerStatus};
use shed_api::{Scope, SessionRef, ShedName};
use tokio::sync::watch;
use tokio::time::Instant;

use super::App;
use crate::output::previews::{Shot, Told, changes};
use crate::{Error, Person};

/// Rows of each worker, when nobody says how many.
const USUAL_ROWS: u16 = 12;
/// What changes within this is told together: a hundred workers ring one bell.
const GATHER: Duration = Duration::from_millis(20);

/// Which workers somebody glances at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Of this shed; of all that they may see when absent.
    pub shed: Option<ShedName>,
    /// Of this session, also those that have ended. Needs `shed`.
    pub session: Option<SessionRef>,
    /// So many rows of each; 12 when absent.
    pub rows: Option<u16>,
}

impl App {
    /// Previews: each worker first whole, then what changed, at most five times a second. Ends with the server.
    pub fn previews(
        &self,
        person: &Person,
        shown: Shown,
    ) -> Result<impl Stream<Item = Preview> + Send + 'static, Error> {
        person.may(Scope::Read, "to see previews")?;
        match (&shown.shed, &shown.session) {
            (Some(shed), Some(session)) => {
                self.remembered(person, shed, session, Scope::Read, "to see previews")?;
            }
            (Some(shed), None) => {
                self.keeper(person, shed, Scope::Read, "to see previews")?;
            }
            (None, Some(_)) => {
                return Err(Error::Rejected(Rejection::Invalid(
                    "a session is of a shed: say which".to_owned(),
                )));
            }
            (None, None) => {}
        }
        let glance = Glance {
            app: self.clone(),
            person: person.clone(),
            shown,
            seen: BTreeMap::new(),
            bell: self.previews.bell(),
            list: self.bell(),
            list_is_new: true,
            ready: VecDeque::new(),
        };
        Ok(futures_util::stream::unfold(glance, async |mut glance| {
            let preview = glance.next().await?;
            Some((preview, glance))
        }))
    }

    /// How many models of terminals are kept for previews: none while nobody looks.
    pub fn n_preview_models(&self) -> usize {
        self.previews.n_models()
    }
}

/// One who glances.
struct Glance {
    app: App,
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
    told: Told,
}

impl Glance {
    async fn next(&mut self) -> Option<Preview> {
        let stop = self.app.stopping();
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

    /// Brings who is seen in line with who is there.
    fn find(&mut self) {
        let mut there = BTreeMap::new();
        for (shed, handle) in self.app.handles() {
            let is_shown = self.shown.shed.as_ref().is_none_or(|only| *only == shed);
            if !is_shown || !self.person.sees(shed.as_str()) {
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
            let App { server, resources, previews, .. } = &self.app;
            if let Some(mut shots) = previews.watch(server, &resources.logs, &shed, &worker) {
                shots.mark_changed();
                let told = Told::default();
                self.seen.insert(worker, Seen { shed, session, shots, told });
            }
        }
    }

    /// What changed since the last time.
    fn gather(&mut self) {
        let n_rows = self.shown.rows.unwrap_or(USUAL_ROWS).max(1);
        for (worker, seen) in &mut self.seen {
            // A model is not dropped while it is seen.
            if !seen.shots.has_changed().unwrap_or(false) {
                continue;
            }
            let shot = Arc::clone(&seen.shots.borrow_and_update());
            let changed = changes(&mut seen.told, &shot, n_rows);
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
