//! The workers of sessions: list, add, restart and remove them, and watch one.

use std::sync::Arc;

use shed_api::worker::{NewWorker, Restart, Worker, WorkerList};
use shed_api::{Scope, SessionRef, ShedName};
use shed_model::session::life::Operation;

use super::Sessions;
use crate::access::Caller;
use crate::output::input_writer::InputWriter;
use crate::output::viewer::{self, Viewer, WatchWorker};
use crate::output::viewers::{Subject, Viewers};
use crate::session::handle::SessionOrder;
use crate::session::requests::{self, worker_of};
use crate::{Error, Person};

/// The workers of all sessions.
#[derive(Clone)]
pub struct Workers {
    pub(crate) sessions: Sessions,
    pub(crate) viewers: Viewers,
    pub(crate) logs: crate::output::logs::Logs,
}

impl Workers {
    /// A session's workers.
    pub fn list(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<WorkerList, Error> {
        Ok(WorkerList { workers: self.sessions.get(person, name, target)?.workers })
    }

    /// One worker, by name or id.
    pub fn get(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        worker: &str,
    ) -> Result<Worker, Error> {
        let session = self.sessions.get(person, name, target)?;
        let by_name = session.workers.iter().find(|row| row.name == worker);
        let found = by_name.or_else(|| session.workers.iter().find(|row| row.id == worker));
        found.cloned().ok_or_else(|| Error::NoWorker {
            session: session.name.clone(),
            worker: worker.to_owned(),
        })
    }

    /// Adds a worker. Returns when its command runs or has ended.
    pub async fn add(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        request: NewWorker,
    ) -> Result<Worker, Error> {
        let caller = Caller::drive(person, name, "to add a worker");
        let (_, known) = self.sessions.registry.managed(&caller, target)?;
        let row = requests::plan_worker(&self.sessions.server, &known, request)?;
        let id = row.id.clone();
        let order = SessionOrder { new_worker: Some(Box::new(row)), ..SessionOrder::default() };
        self.sessions.submit(&caller, target, Operation::AddWorker, order).await?;
        self.get(person, name, target, &id)
    }

    /// Starts a worker's command again, ending it first if it runs.
    pub async fn restart(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        worker: &str,
        restart: Restart,
    ) -> Result<Worker, Error> {
        let caller = Caller::drive(person, name, "to restart a worker");
        self.sessions.registry.keeper(&caller)?;
        let id = self.get(person, name, target, worker)?.id;
        let worker = Some(id.clone());
        let order =
            SessionOrder { worker, continues: restart.continues, ..SessionOrder::default() };
        self.sessions.submit(&caller, target, Operation::RestartWorker, order).await?;
        self.get(person, name, target, &id)
    }

    /// Ends a worker and closes its window. Its output is kept until garbage is collected.
    pub async fn remove(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        worker: &str,
    ) -> Result<(), Error> {
        let caller = Caller::drive(person, name, "to remove a worker");
        self.sessions.registry.keeper(&caller)?;
        let id = self.get(person, name, target, worker)?.id;
        let order = SessionOrder { worker: Some(id), ..SessionOrder::default() };
        self.sessions.submit(&caller, target, Operation::RemoveWorker, order).await.map(drop)
    }

    /// Watches a worker's terminal and types into it. The shed is not asked before somebody types.
    pub fn watch(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        watch: &WatchWorker,
    ) -> Result<(Viewer, InputWriter), Error> {
        let caller = Caller::read(person, name, "to see what a worker prints");
        let (handle, known) = self.sessions.registry.managed(&caller, session)?;
        let row = worker_of(&known, worker)?;
        watch.check()?;
        let subject = Subject {
            server: Arc::clone(&self.sessions.server),
            logs: self.logs.clone(),
            drawing: Arc::clone(&self.viewers.drawing),
            shed: name.clone(),
            session: known.row.id.clone(),
            worker: row.id.clone(),
            shed_view: handle.view.clone(),
            view: handle.work.view.clone(),
        };
        let read_only = watch.read_only || person.scope < Scope::Drive;
        // The name is the person's own: two people who give the same one are two viewers.
        let client = watch.name.as_ref().map(|name| format!("{} {name}", person.actor));
        let size = watch.size();
        let viewing = Arc::new(self.viewers.enter(&subject, client, !read_only, size)?);
        let viewer = viewer::start(subject.clone(), Arc::clone(&viewing), watch, read_only);
        let registry = self.sessions.registry.clone();
        let writer = InputWriter::new(registry, person.clone(), subject, viewing, read_only);
        Ok((viewer, writer))
    }
}
