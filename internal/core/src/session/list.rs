//! The list of a shed's sessions. It is built when somebody asks for it and kept until something in it changes.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use shed_api::session::{Session, Warning};
use shed_api::{SessionRef, ShedName, ShedStatus};

use crate::Error;
use crate::output::logs::Logs;
use crate::session::table::Table;
use crate::session::view::{self, WorkView};
use crate::settings::Clock;
use crate::shed::entered::no_session;
use crate::shed::handle::KeeperHandle;

/// A shed's sessions and what they were built from.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) sessions: Vec<Session>,
    /// The sessions as a JSON array, written when it is first asked for.
    json: OnceLock<String>,
    sources: Sources,
}

/// All that rows depend on but the time. A session that tmux does not list is shown as observed when its row was built.
#[derive(Debug)]
struct Sources {
    status: ShedStatus,
    work: Arc<WorkView>,
    table: Option<Arc<Table>>,
    /// Where the workers' logs end, in the order of [`view::workers`].
    ends: Vec<u64>,
}

impl Sources {
    fn are(&self, now: &Self) -> bool {
        let same_table = match (&self.table, &now.table) {
            (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
            (mine, other) => mine.is_none() && other.is_none(),
        };
        // Both are replaced whole when they change.
        same_table
            && Arc::ptr_eq(&self.work, &now.work)
            && self.status == now.status
            && self.ends == now.ends
    }
}

impl Rows {
    fn json(&self) -> &str {
        let array =
            self.json.get_or_init(|| serde_json::to_string(&self.sessions).unwrap_or_default());
        array.strip_prefix('[').and_then(|array| array.strip_suffix(']')).unwrap_or_default()
    }
}

/// The last list of a shed. It is a part of the shed's handle and goes with it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastList {
    /// Locked for single look-ups.
    rows: Arc<Mutex<Option<Arc<Rows>>>>,
}

/// Builds the lists of sheds.
#[derive(Clone)]
pub(crate) struct Lists {
    logs: Logs,
    clock: Clock,
}

impl Lists {
    pub(crate) fn new(logs: Logs, clock: Clock) -> Self {
        Self { logs, clock }
    }

    /// The sessions of a shed as its keepers show them now.
    pub(crate) fn of(&self, shed: &ShedName, handle: &KeeperHandle) -> Arc<Rows> {
        let (status, table) = {
            let view = handle.view.borrow();
            (view.status(), view.table.clone())
        };
        let work = handle.work.view.borrow().clone();
        self.rows(&handle.list, shed, (status, work, table))
    }

    /// One of them, by name, by tmux's id, or by id.
    pub(crate) fn find(
        &self,
        shed: &ShedName,
        handle: &KeeperHandle,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        let rows = self.of(shed, handle);
        let by = |is: &dyn Fn(&Session) -> bool| rows.sessions.iter().find(|row| is(row));
        let found = match target {
            SessionRef::Name(name) => {
                let name = name.as_str();
                by(&|row| row.id == name).or_else(|| by(&|row| row.name == name))
            }
            SessionRef::Id(id) => {
                let id = format!("${id}");
                by(&|row| row.tmux_id.as_ref() == Some(&id))
            }
        };
        found.cloned().ok_or_else(|| no_session(shed, target))
    }

    /// The last list if nothing in it changed, otherwise a new one.
    fn rows(
        &self,
        last: &LastList,
        shed: &ShedName,
        (status, work, table): (ShedStatus, Arc<WorkView>, Option<Arc<Table>>),
    ) -> Arc<Rows> {
        let ends = self.logs.ends(view::workers(&work).map(|row| row.id.as_str()));
        let sources = Sources { status, work, table, ends };
        let known = last.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.sources.are(&sources)) {
            return known;
        }
        let Sources { status, work, table, ends } = &sources;
        let now = self.clock.now();
        let sessions = view::join(shed, *status, work, table.as_deref(), now, ends);
        let rows = Arc::new(Rows { sessions, json: OnceLock::new(), sources });
        *last.rows.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&rows));
        rows
    }
}

/// The JSON of a [`shed_api::session::SessionList`], from the JSON that each shed's rows keep.
pub(crate) fn to_json(lists: &[Arc<Rows>], warnings: &[Warning]) -> String {
    let parts: Vec<&str> =
        lists.iter().map(|rows| rows.json()).filter(|part| !part.is_empty()).collect();
    let warnings = serde_json::to_string(warnings).unwrap_or_default();
    let n_bytes = parts.iter().map(|part| part.len() + 1).sum::<usize>() + warnings.len();
    let mut text = String::with_capacity(n_bytes + 32);
    text.push_str(r#"{"sessions":["#);
    for (n, part) in parts.into_iter().enumerate() {
        text.push_str(if n > 0 { "," } else { "" });
        text.push_str(part);
    }
    text.push_str(r#"],"warnings":"#);
    text.push_str(&warnings);
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use chrono::DateTime;
    use shed_api::session::SessionList;
    use shed_link::{Tmux, TmuxSnapshot};
    use shed_model::session::{Managed, SessionRow, SessionSpec, plan};

    use super::*;

    const MANY: usize = 1_000;

    fn line(mark: char, fields: &[&str]) -> String {
        let fields: Vec<_> =
            fields.iter().map(|field| format!("{}:{field},", field.len())).collect();
        format!("{mark}{}\n", fields.concat())
    }

    fn shed() -> ShedName {
        "a".parse().unwrap()
    }

    /// Sessions `name-N` with the mark `sN` and one window `@N` with the mark `wN`.
    fn table(ids: &[usize]) -> Arc<Table> {
        let session = |id: usize| {
            let (tmux, window, pane) = (format!("${id}"), format!("@{id}"), format!("%{id}"));
            let (name, mark, worker) = (format!("name-{id}"), format!("s{id}"), format!("w{id}"));
            let row = [tmux.as_str(), name.as_str(), "1700000000", "0", mark.as_str()];
            let pane = [
                &*tmux,
                &*window,
                "0",
                "bash",
                "1",
                "1700000009",
                &*pane,
                "t",
                "1",
                "vim",
                "/w",
                "7",
                &*worker,
                "b25f,80x24,0,0,0",
                "0",
            ];
            (line('S', &row), line('P', &pane))
        };
        let (sessions, panes): (Vec<_>, Vec<_>) = ids.iter().map(|id| session(*id)).unzip();
        let text = sessions.concat() + &panes.concat() + "E\n";
        let snapshot =
            TmuxSnapshot { tmux: Tmux::Listing(text), at_ms: 5, foreground: BTreeMap::new() };
        let table = Table::read(&shed(), &snapshot);
        assert_eq!(table.rows().len(), ids.len(), "{:?}", table.sessions.as_ref().err());
        Arc::new(table)
    }

    fn managed(id: usize) -> Arc<Managed> {
        let at = DateTime::UNIX_EPOCH;
        let (rules, names) = (plan::Rules::default(), BTreeSet::new());
        let request = shed_api::worker::NewWorker::default();
        let session = format!("s{id}");
        let ids = plan::Ids::default();
        let mut worker = plan::plan_worker(&rules, &names, ids, &session, at, request).unwrap();
        worker.id = format!("w{id}");
        let row = SessionRow {
            id: session,
            shed: "a".to_owned(),
            name: format!("name-{id}"),
            status: shed_api::session::SessionStatus::Running,
            reason: None,
            created_at: at,
            status_since: at,
            spec: SessionSpec::adopted("/w".to_owned()),
        };
        Arc::new(Managed { row, workers: vec![worker] })
    }

    fn work(ids: impl Iterator<Item = usize>) -> Arc<WorkView> {
        let sessions = ids.map(|id| (format!("s{id}"), managed(id))).collect();
        Arc::new(WorkView { sessions, ..WorkView::default() })
    }

    #[test]
    fn every_session_is_joined_with_its_tmux_session_and_its_workers_window() {
        let ids: Vec<usize> = (0..=MANY).collect();
        let work = work(0..MANY);
        let ends: Vec<u64> = view::workers(&work).map(|row| row.id[1..].parse().unwrap()).collect();
        let table = table(&ids);
        let now = DateTime::UNIX_EPOCH;
        let rows = view::join(&shed(), ShedStatus::Running, &work, Some(&table), now, &ends);
        assert_eq!(rows.len(), MANY + 1);
        for row in rows {
            let id: u64 = row.name["name-".len()..].parse().unwrap();
            assert_eq!(row.tmux_id, Some(format!("${id}")));
            // The last is unmanaged: nothing in the database has its mark.
            if let Some(worker) = row.workers.first() {
                assert_eq!(row.id, format!("s{id}"));
                assert_eq!(worker.window, Some(format!("@{id}")));
                assert_eq!(worker.output_end, id);
            } else {
                assert_eq!(row.id, format!("${MANY}"));
            }
        }
    }

    #[test]
    fn a_list_is_built_again_only_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path().to_owned(), 1 << 20);
        let lists = Lists::new(logs.clone(), Clock::System);
        let last = LastList::default();
        let (work, table) = (work(0..3), table(&[0, 1, 2]));
        let running = (ShedStatus::Running, Arc::clone(&work), Some(Arc::clone(&table)));
        let first = lists.rows(&last, &shed(), running.clone());
        assert!(Arc::ptr_eq(&first, &lists.rows(&last, &shed(), running.clone())));

        let paused = (ShedStatus::Paused, work, Some(table));
        let frozen = lists.rows(&last, &shed(), paused);
        assert_ne!(first.sessions, frozen.sessions);

        let cell = logs.open("a", "w1", None).unwrap();
        logs.write(&cell, |log| log.begin_epoch(1, 1).map(drop), true).unwrap();
        logs.write(&cell, |log| log.append(1, 0, 2, b"printed").map(drop), false).unwrap();
        let printed = lists.rows(&last, &shed(), running);
        let end = |rows: &Rows| rows.sessions[1].workers[0].output_end;
        assert!(end(&printed) > end(&first));
    }

    #[test]
    fn the_json_is_that_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path().to_owned(), 1 << 20);
        let rows = |work: Arc<WorkView>| {
            let sources = (ShedStatus::Stopped, work, None);
            Lists::new(logs.clone(), Clock::System).rows(&LastList::default(), &shed(), sources)
        };
        let lists = [rows(work(0..2)), rows(work(0..0)), rows(work(2..3))];
        let warnings = vec![Warning {
            shed: "a".to_owned(),
            code: shed_api::Code::NotRunning,
            detail: "it is \"stopped\"".to_owned(),
            age_ms: None,
        }];
        let sessions = lists.iter().flat_map(|rows| rows.sessions.clone()).collect();
        let list = SessionList { sessions, warnings: warnings.clone() };
        assert_eq!(to_json(&lists, &warnings), serde_json::to_string(&list).unwrap());
        assert_eq!(to_json(&[], &[]), r#"{"sessions":[],"warnings":[]}"#);
    }
}
