//! What a keeper shows of its shed: one value, replaced whole. Readers never wait for the keeper.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use shed_api::session::Warning;
use shed_api::shed::{LinkState, Progress, Shed};
use shed_api::{Code, ShedStatus};
use shed_model::shed::ShedRow;

use crate::session::table::{NoSessions, Table};
use shed_engine::{ContainerState, Found};
use shed_guest::Link;

/// A shed as it is now.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Its row in the database.
    pub(crate) row: Arc<ShedRow>,
    /// What the engine reported last; `None` if there is no container, or the engine was not asked yet.
    pub(crate) found: Option<Arc<Found>>,
    /// The link to its shed-init, while that is connected.
    pub(crate) link: Option<Link>,
    /// Its sessions; those reported last while the link is down.
    pub(crate) table: Option<Arc<Table>>,
    /// The table is older than the link, which has reported nothing yet.
    pub(crate) table_is_old: bool,
    /// It was deleted; this is the last view.
    pub(crate) gone: bool,
}

impl View {
    pub(crate) fn status(&self) -> ShedStatus {
        self.row.status
    }

    /// Whether it can be entered: it runs, or it failed and its container still runs.
    pub(crate) fn can_be_entered(&self) -> bool {
        self.link.is_some() && matches!(self.status(), ShedStatus::Running | ShedStatus::Failed)
    }

    /// Whether its processes run, or go on when it is unpaused.
    pub(crate) fn has_processes(&self) -> bool {
        matches!(self.status(), ShedStatus::Running | ShedStatus::Paused | ShedStatus::Failed)
    }

    /// Whether its processes end or have ended.
    pub(crate) fn is_stopping(&self) -> bool {
        let status = self.status();
        matches!(status, ShedStatus::Stopping | ShedStatus::Stopped | ShedStatus::Removing)
    }

    /// Whether it runs and its shed-init is connected.
    pub(crate) fn is_reachable(&self) -> bool {
        self.link.is_some() && self.status() == ShedStatus::Running
    }

    /// Whether its sessions are or will be compared with tmux's table. They are not while tmux cannot be read.
    pub(crate) fn can_be_compared(&self) -> bool {
        let is_readable = || self.table.as_ref().is_none_or(|table| table.sessions.is_ok());
        self.is_reachable() && (self.table_is_old || is_readable())
    }

    /// Whether its container runs and cannot connect, because it was created for another data directory.
    pub(crate) fn is_stranded(&self) -> bool {
        self.link.is_none() && self.found.as_ref().is_some_and(|found| found.stranded)
    }

    pub(crate) fn has_container(&self) -> bool {
        self.found.is_some()
    }

    /// Whether the engine reports that the container's first process ended.
    pub(crate) fn container_ended(&self) -> bool {
        self.found
            .as_ref()
            .is_some_and(|found| matches!(found.state, ContainerState::Exited { .. }))
    }

    /// The shed in the types of the API.
    pub(crate) fn to_api(&self) -> Shed {
        let ShedRow { name, status, reason, reason_code, created_at, status_since, spec, .. } =
            &*self.row;
        Shed {
            name: name.clone(),
            status: *status,
            reason: reason.clone(),
            reason_code: *reason_code,
            created_at: *created_at,
            status_since: *status_since,
            repo: spec.repo.clone(),
            branch: spec.branch.clone(),
            image: spec.image.clone(),
            limits: spec.limits,
            network: spec.network,
            mounts: spec.mounts.clone(),
            env: spec.env.keys().cloned().collect(),
            allow_agent_forwarding: spec.allow_agent_forwarding,
            link: self.link_state(),
            notes: spec.notes.clone(),
            session_count: u32::try_from(self.sessions().len()).unwrap_or(u32::MAX),
            container_id: self.found.as_ref().map(|found| found.id.clone()),
        }
    }

    fn link_state(&self) -> LinkState {
        let hello = self.link.as_ref().map(Link::hello);
        LinkState {
            connected: hello.is_some(),
            version: hello.map(|hello| hello.version.clone()),
            // All programs of a release have its version; a container mounts the newest shed-init when it starts.
            outdated: hello.is_some_and(|hello| hello.version != env!("CARGO_PKG_VERSION")),
            tmux: hello.and_then(|hello| hello.tmux.clone()),
            user: hello.map(|hello| hello.user.clone()),
        }
    }

    /// The sessions that tmux lists; none of a shed that does not run.
    pub(crate) fn sessions(&self) -> &[shed_api::Session] {
        let table = self.table.as_ref().filter(|_| self.has_processes());
        table.map(|table| table.rows()).unwrap_or_default()
    }

    /// Why the list of its sessions is incomplete or old, if it is.
    pub(crate) fn warning(&self, now: DateTime<Utc>) -> Option<Warning> {
        let age_ms = self
            .table
            .as_ref()
            .map(|table| u64::try_from((now - table.at).num_milliseconds()).unwrap_or_default());
        let warning = |code: Code, detail: String, age_ms: Option<u64>| {
            Some(Warning { shed: self.row.name.clone(), code, detail, age_ms })
        };
        match self.status() {
            ShedStatus::Running | ShedStatus::Failed if self.link.is_some() => {
                match &self.table.as_ref()?.sessions {
                    Ok(_) => None,
                    Err(NoSessions::NoTmux) => {
                        let name = &self.row.name;
                        let detail = format!(
                            "its image has no tmux; shed exec --root {name} -- apt-get install -y tmux"
                        );
                        warning(Code::TmuxNotAvailable, detail, None)
                    }
                    Err(NoSessions::Down(why)) => warning(Code::Internal, why.clone(), None),
                }
            }
            ShedStatus::Running if self.is_stranded() => {
                let name = &self.row.name;
                let detail = format!(
                    "its container was created for another data directory and cannot connect; shed restart {name}"
                );
                warning(Code::ShedUnreachable, detail, age_ms)
            }
            ShedStatus::Running => {
                warning(Code::ShedUnreachable, "its shed-init does not answer".to_owned(), age_ms)
            }
            ShedStatus::Paused => warning(Code::NotRunning, "it is paused".to_owned(), age_ms),
            status @ (ShedStatus::Creating
            | ShedStatus::Starting
            | ShedStatus::Stopping
            | ShedStatus::Stopped
            | ShedStatus::Removing
            | ShedStatus::Failed) => warning(Code::NotRunning, format!("it is {status}"), None),
        }
    }
}

/// The progress of a creation, as a state: a reader who comes late misses nothing that still matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProgressState {
    /// The step under way, and its progress in percent if that is known.
    pub(crate) step: Option<(String, Option<u8>)>,
    /// Connections that wait for a credential of the creator, by id.
    pub(crate) lends: Vec<(String, shed_api::shed::Lend)>,
    /// The status at its end; `None` while it goes on.
    pub(crate) done: Option<ShedStatus>,
}

impl ProgressState {
    /// What is new for a reader who knows `before`.
    pub(crate) fn news_since(&self, before: &Self) -> Vec<Progress> {
        let mut news = Vec::new();
        if self.step != before.step
            && let Some((text, percent)) = &self.step
        {
            news.push(Progress::Step { text: text.clone(), percent: *percent });
        }
        for (id, what) in self.lends.iter().filter(|lend| !before.lends.contains(lend)) {
            news.push(Progress::Lend { id: id.clone(), what: *what });
        }
        if let Some(status) = self.done.filter(|_| before.done.is_none()) {
            news.push(Progress::Done { status });
        }
        news
    }
}
