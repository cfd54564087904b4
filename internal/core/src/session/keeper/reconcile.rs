//! Comparing rows with tmux's table: when a link comes up, and whenever the table changes.

use std::sync::Arc;

use shed_api::session::SessionStatus;
use shed_api::{Actor, ShedStatus};
use shed_model::lane::Lane;
use shed_model::session::{LayoutRow, Restarting, SessionRow};
use shed_model::worker::WorkerRow;
use tokio::time::Instant;

use super::{Job, LAYOUT_PAUSE, SessionKeeper, VANISH_GRACE};
use crate::output::collector;
use crate::session::conversations::Follower;
use crate::session::handle::{SessionOrder, WorkHandle};
use crate::session::layout;
use crate::session::plain_windows;
use crate::session::table::{NoSessions, Table};
use shed_model::session::Managed;
use shed_model::session::life::Operation;

impl SessionKeeper {
    /// Follows a change of the shed's view.
    pub(super) async fn take_view(&mut self) {
        let link = self.shed_view.borrow_and_update().link.clone();
        if link != self.link {
            self.link.clone_from(&link);
            self.compared = None;
            self.vanished.clear();
            self.show(|view| view.reconciled = false);
            if self.link.is_some() && !self.is_same_boot() {
                self.came_up = Some(self.now());
            }
            if let Some(link) = link {
                let handle =
                    WorkHandle { messages: self.messages.clone(), view: self.view.subscribe() };
                let server = Arc::clone(&self.server);
                let logs = self.resources.logs.clone();
                let vars = self.shed_view.borrow().row.spec.env.clone();
                let follower = Follower::new(&server, logs.clone(), &link, handle.clone(), vars);
                self.server.tasks.spawn(follower.run());
                self.server.tasks.spawn(collector::run(
                    server,
                    logs,
                    self.shed.clone(),
                    link,
                    handle,
                ));
            }
        }
        self.compare().await;
        self.give_way();
        if self.view.borrow().reconciled {
            self.admit().await;
        }
    }

    /// A stopped shed takes no slots, and a session that cannot begin does not wait for one.
    fn give_way(&self) {
        let is_stopped = self.shed_view.borrow().status() == ShedStatus::Stopped;
        for known in self.all() {
            let waits = known.row.status == SessionStatus::Waiting && !self.can_act();
            if is_stopped || waits {
                self.resources.slots.leave(self.shed.as_str(), &known.row.id);
            }
        }
    }

    /// Compares the rows with tmux's table.
    pub(super) async fn compare(&mut self) {
        if !self.can_act() {
            return;
        }
        let table = {
            let view = self.shed_view.borrow();
            view.table.clone().filter(|_| !view.table_is_old)
        };
        if let Some(Err(NoSessions::NoTmux)) = table.as_ref().map(|table| &table.sessions) {
            // Without tmux nothing is restored.
            return self.show(|view| view.reconciled = true);
        }
        let Some(table) = table.filter(|table| table.sessions.is_ok()) else {
            return;
        };
        if !self.view.borrow().reconciled {
            self.reconcile(&table).await;
        }
        self.compared = Some(Arc::clone(&table));
        for known in self.all() {
            self.compare_one(&known, &table).await;
        }
        let text = layout::structure(&table.listing);
        let written = self.layout.as_ref().map(|row| layout::structure_of(&row.body));
        if written != Some(text) && self.layout_due.is_none() {
            self.layout_due = Some(Instant::now() + LAYOUT_PAUSE);
        }
    }

    async fn compare_one(&mut self, known: &Managed, table: &Table) {
        let row = &known.row;
        let runs = matches!(row.status, SessionStatus::Running | SessionStatus::Frozen);
        if !runs || self.is_busy(&row.id) {
            self.vanished.remove(&row.id);
            return;
        }
        let Some(listed) = table.marked(&row.id) else {
            let at = self.vanished.entry(row.id.clone());
            at.or_insert_with(|| Instant::now() + VANISH_GRACE);
            return;
        };
        self.vanished.remove(&row.id);
        if listed.name != row.name && listed.name.parse::<shed_api::SessionName>().is_ok() {
            // Renamed inside the shed.
            let name = listed.name.clone();
            let renamed = self.change(&row.id, |known| known.row.name = name, Vec::new());
            if let Err(error) = renamed.await {
                tracing::warn!(shed = %self.shed, %error, "a session's new name was not written");
            }
        }
    }

    /// Brings rows and tmux together after a start of the shed or the server.
    async fn reconcile(&mut self, table: &Arc<Table>) {
        let same_boot = self.is_same_boot();
        for known in self.all() {
            let row = &known.row;
            if self.is_busy(&row.id) {
                // The operation began before the shed stopped: after it, the session may be missing.
                if !same_boot && row.is_up() {
                    let job = self.restoration(&row.id);
                    self.insert(&row.id, job).await;
                }
                continue;
            }
            match row.status {
                SessionStatus::Running | SessionStatus::Frozen => {
                    self.resources.slots.keep(self.shed.as_str(), &row.id);
                    let thawed = row.status == SessionStatus::Frozen && !same_boot;
                    if thawed {
                        let running = SessionStatus::Running;
                        self.set_status(&row.id, running, None, &Actor::Server).await.ok();
                    }
                    if table.marked(&row.id).is_none() && !same_boot {
                        let job = self.restoration(&row.id);
                        self.insert(&row.id, job).await;
                    }
                }
                SessionStatus::Creating => {
                    self.resources.slots.keep(self.shed.as_str(), &row.id);
                    let job = self.own(Operation::Create, SessionOrder::default());
                    self.insert(&row.id, job).await;
                }
                SessionStatus::Removing => {
                    let force = row.spec.deletion.is_some_and(|deletion| deletion.force);
                    let job = self
                        .own(Operation::Delete, SessionOrder { force, ..SessionOrder::default() });
                    self.insert(&row.id, job).await;
                }
                SessionStatus::Ended | SessionStatus::Failed if row.spec.restarting.is_some() => {
                    self.resources.slots.keep(self.shed.as_str(), &row.id);
                }
                SessionStatus::Waiting
                | SessionStatus::Ended
                | SessionStatus::Failed
                | SessionStatus::Stopped
                | SessionStatus::Orphaned => {}
            }
            self.resume_restart(row).await;
        }
        if !same_boot
            && let Some(layout) = self.layout.clone()
            && let Some(link) = self.link.clone()
        {
            layout::restore(&self.server, &self.shed, &link, &layout).await;
        }
        self.show(|view| view.reconciled = true);
        self.layout_due = Some(Instant::now() + LAYOUT_PAUSE);
        self.admit().await;
    }

    /// Begins a restart again that the end of the server interrupted.
    async fn resume_restart(&mut self, row: &SessionRow) {
        let Some(Restarting { worker, continues }) = row.spec.restarting.clone() else {
            return;
        };
        if row.status == SessionStatus::Removing {
            return;
        }
        let operation =
            if worker.is_some() { Operation::RestartWorker } else { Operation::Restart };
        let order = SessionOrder { continues, worker, ..SessionOrder::default() };
        let job = self.own(operation, order);
        self.insert(&row.id, job).await;
    }

    /// Restores a session with the windows that it had in the stored layout.
    fn restoration(&self, id: &str) -> Job {
        let body = self.layout.as_ref().map_or("", |layout| layout.body.as_str());
        let windows = plain_windows::stored(body, id);
        self.own(Operation::Restore, SessionOrder { windows, ..SessionOrder::default() })
    }

    /// Whether a session should be in tmux and is not in a table read since the shed's start.
    pub(super) fn is_missing(&self, id: &str) -> bool {
        let view = self.shed_view.borrow();
        let table = view.table.as_ref().filter(|_| !view.table_is_old);
        self.known(id).is_some_and(|known| known.row.is_up())
            && table.is_some_and(|table| table.marked(id).is_none())
    }

    /// Ends a session whose windows have all closed.
    pub(super) async fn end_by_itself(&mut self, id: &str) {
        let Some(known) = self.known(id) else {
            return;
        };
        let actor = Actor::Shed(self.shed.clone());
        let ended = if known.row.spec.closes {
            self.forget(id, &actor).await
        } else {
            self.set_status(id, SessionStatus::Ended, None, &actor).await
        };
        if let Err(error) = ended {
            tracing::error!(shed = %self.shed, %error, "the end of a session was not written");
        }
        self.settle_slot(id);
    }

    fn is_restoring(&self) -> bool {
        let mut running = self.lanes.values().filter_map(Lane::running);
        running.any(|job| job.operation == Operation::Restore)
    }

    /// Writes tmux's layout.
    pub(super) async fn write_layout(&mut self, orderly: bool) {
        let Some(link) = self.link.clone() else {
            return;
        };
        if !orderly && self.is_restoring() {
            // With this boot stored, sessions that are not restored yet would count as ended.
            self.layout_due = Some(Instant::now() + LAYOUT_PAUSE);
            return;
        }
        let table = self.compared.clone();
        let fresh = if orderly { layout::read(&link).await } else { None };
        let Some(body) = fresh.or_else(|| table.map(|table| table.text.to_string())) else {
            return;
        };
        let boot = link.hello().boot.clone();
        let row = LayoutRow { at: self.now(), orderly, boot, body };
        match self.server.store.set_layout(self.shed.to_string(), row.clone()).await {
            Ok(()) => self.layout = Some(row),
            Err(error) => {
                tracing::error!(shed = %self.shed, %error, "tmux's layout was not written");
            }
        }
    }

    /// Whether a worker ended because the shed stopped: the shed is stopping, or has started again since the worker did.
    pub(super) fn ended_with_shed(&self, worker: &WorkerRow) -> bool {
        let up = self.shed_view.borrow().has_processes();
        // The first start of a worker has no time of its own before it is reported.
        let since = worker.started_at.unwrap_or(worker.created_at);
        !up || self.came_up.is_some_and(|at| since < at)
    }

    /// Whether the shed has not restarted since the layout was written.
    fn is_same_boot(&self) -> bool {
        let boot = self.link.as_ref().map(|link| link.hello().boot.as_str());
        self.layout.as_ref().is_some_and(|row| Some(row.boot.as_str()) == boot)
    }
}
