//! What a shed's session keeper shows: one value, replaced whole; and how it is joined with what tmux lists.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use shed_api::name::printable;
use shed_api::session::{Session, SessionStatus};
use shed_api::worker::{Worker, WorkerStatus};
use shed_api::{SessionRef, ShedName, ShedStatus};
use shed_model::session::Unreadable;
use shed_model::worker::WorkerRow;

use crate::session::table::Table;
use shed_model::session::{Managed, ports};

/// The managed sessions of a shed, as the database has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkView {
    /// By id.
    pub(crate) sessions: BTreeMap<String, Arc<Managed>>,
    /// Rows that this version cannot read.
    pub(crate) unreadable: Vec<Unreadable>,
    /// The ids of the sessions that were deleted last: tmux may list one a moment longer.
    pub(crate) forgotten: VecDeque<String>,
    /// Whether the rows were compared with the shed's actual state since it last started.
    pub(crate) reconciled: bool,
}

/// The most deleted sessions that are hidden from the list although tmux has them.
const MAX_FORGOTTEN: usize = 64;

impl WorkView {
    /// Removes a session.
    pub(crate) fn forget(&mut self, id: &str) {
        self.sessions.remove(id);
        self.forgotten.push_back(id.to_owned());
        if self.forgotten.len() > MAX_FORGOTTEN {
            self.forgotten.pop_front();
        }
    }

    /// Whether a worker's command runs or is about to.
    pub(crate) fn runs(&self, session: &str, worker: &str) -> bool {
        let known = self.sessions.get(session);
        let row = known.and_then(|known| known.workers.iter().find(|row| row.id == worker));
        row.is_some_and(|row| matches!(row.status, WorkerStatus::Starting | WorkerStatus::Running))
    }

    /// By id, else by name: no session can take another's id as its name.
    pub(crate) fn find(&self, name_or_id: &str) -> Option<&Arc<Managed>> {
        let by_name = || self.sessions.values().find(|known| known.row.name == name_or_id);
        self.sessions.get(name_or_id).or_else(by_name)
    }

    /// The one that a request names. tmux's ids, like `$3`, are looked up in its table.
    pub(crate) fn resolve(
        &self,
        table: Option<&Table>,
        target: &SessionRef,
    ) -> Option<&Arc<Managed>> {
        match target {
            SessionRef::Name(name) => self.find(name.as_str()),
            SessionRef::Id(_) => {
                let (_, mark) = table?.find_with_mark(target)?;
                self.sessions.get(mark?)
            }
        }
    }
}

/// Every worker of the managed sessions, in the order in which [`join`] takes their logs' ends.
pub(crate) fn workers(work: &WorkView) -> impl Iterator<Item = &WorkerRow> {
    work.sessions.values().flat_map(|known| &known.workers)
}

/// All sessions of a shed in the types of the API: the managed ones, joined by mark with what tmux lists, and the
/// unmanaged ones. Sorted by name, then id. The time it takes grows with the number of sessions and no faster.
pub(crate) fn join(
    name: &ShedName,
    shed: ShedStatus,
    work: &WorkView,
    table: Option<&Table>,
    now: DateTime<Utc>,
    ends: &[u64],
) -> Vec<Session> {
    let runs = matches!(shed, ShedStatus::Running | ShedStatus::Paused | ShedStatus::Failed);
    let table = table.filter(|_| runs);
    let mut sessions = Vec::with_capacity(work.sessions.len());
    let mut marked = HashMap::new();
    for (session, mark) in table.iter().flat_map(|table| table.with_marks()) {
        match mark {
            Some(mark) if work.sessions.contains_key(mark) => {
                marked.insert(mark, session);
            }
            Some(mark) if work.forgotten.iter().any(|id| id == mark) => {}
            _ => sessions.push(session.clone()),
        }
    }
    let mut ends = ends.iter().copied();
    for (id, known) in &work.sessions {
        let listed = marked.get(id.as_str()).map(|session| (*session).clone());
        sessions.push(one(shed, known, listed, table, now, &mut ends));
    }
    // Shown, so that somebody deals with it: its files and processes are untouched.
    for record in &work.unreadable {
        if work.sessions.contains_key(&record.session) {
            continue;
        }
        sessions.push(Session {
            id: record.session.clone(),
            name: printable(&record.name),
            shed_name: name.to_string(),
            status: SessionStatus::Orphaned,
            reason: Some(format!(
                "its record cannot be read ({}); install the version that wrote it, or drop it: shed orphans clean {name} {}",
                printable(&record.why),
                record.session
            )),
            observed_at: now,
            ..Session::default()
        });
    }
    sessions.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    sessions
}

fn one(
    shed: ShedStatus,
    known: &Managed,
    listed: Option<Session>,
    table: Option<&Table>,
    now: DateTime<Utc>,
    ends: &mut dyn Iterator<Item = u64>,
) -> Session {
    let row = &known.row;
    let spec = &row.spec;
    let base = listed.unwrap_or_else(|| Session {
        id: row.id.clone(),
        name: row.name.clone(),
        shed_name: row.shed.clone(),
        observed_at: now,
        ..Session::default()
    });
    let status = match (row.status, shed) {
        (status @ (SessionStatus::Running | SessionStatus::Frozen), shed) => match shed {
            ShedStatus::Running | ShedStatus::Failed => status,
            ShedStatus::Paused => SessionStatus::Frozen,
            _ => SessionStatus::Stopped,
        },
        (status, _) => status,
    };
    let window = |worker: &WorkerRow| table.and_then(|table| table.window_of(&worker.id));
    let workers = known.workers.iter().map(|row| Worker {
        id: row.id.clone(),
        name: row.name.clone(),
        kind: row.spec.kind,
        agent: row.spec.agent.clone(),
        conversation: match &row.spec.record {
            Some(record) => record.id.clone(),
            None => row.spec.conversation.clone(),
        },
        command: row.spec.command.clone(),
        restart: row.spec.restart,
        status: row.status,
        exit: row.exit.clone(),
        reason: row.reason.as_deref().map(printable),
        window: window(row),
        epoch: row.epoch,
        output_end: ends.next().unwrap_or(0),
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
    });
    Session {
        id: row.id.clone(),
        name: row.name.clone(),
        created_at: row.created_at,
        status,
        reason: row.reason.as_deref().map(printable),
        kind: Some(spec.kind),
        title: spec.title.clone(),
        tags: spec.tags.clone(),
        directory: Some(spec.directory.clone()),
        branch: spec.branch.clone(),
        base: spec.base.clone(),
        base_commit: spec.base_commit.clone(),
        template: spec.template.clone(),
        limits: spec.limits.clone(),
        auto_respond: spec.auto_respond,
        confined: spec.confine,
        port: spec.port_block.map(ports::port),
        notes: spec.notes.iter().map(|note| printable(note)).collect(),
        workers: workers.collect(),
        ..base
    }
}
