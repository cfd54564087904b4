//! Sessions that shed makes and their workers: what a door can ask for.

use crate::session::{WORKSPACE, ids};
use shed_api::git::Branch;
use shed_model::Rejection;
use std::collections::BTreeSet;
use std::sync::Arc;

use shed_api::session::{NewSession, PatchSession, Session, SessionStatus, SessionType};
use shed_api::worker::{NewWorker, Restart, Worker, WorkerList};
use shed_api::{Scope, SessionName, SessionRef, ShedName};
use shed_model::session::{SessionRow, SessionSpec};
use shed_tmux::argv;
use tokio::sync::oneshot;

use super::App;
use super::sessions::{Place, no_session};
use crate::files::worktree;
use crate::session::handle::Message;
use crate::session::handle::Order;
use crate::shed::handle::KeeperHandle;
use crate::{Error, Person};
use shed_model::session::Managed;
use shed_model::session::life::Operation;
use shed_model::session::plan;

/// How often a name is made up for a session before that is given up.
const NAME_TRIES: u32 = 16;

impl App {
    /// Makes a session: a row, its worktree if it has one, and its first worker. Returns when it runs, or when it waits for
    /// its turn.
    pub async fn new_session(
        &self,
        person: &Person,
        name: &ShedName,
        request: NewSession,
    ) -> Result<Session, Error> {
        // What can be refused without starting a shed is.
        if let Some(session) = &request.name {
            session.parse::<SessionName>()?;
        }
        let place = self.enter(person, name, Scope::Drive, "to make a session").await?;
        place.needs_tmux()?;
        let request = self.with_its_template(&place, request).await?;
        let mut tries = if request.name.is_some() { 1 } else { NAME_TRIES };
        loop {
            let plan = self.plan(&place, request.clone())?;
            let id = plan.session.id.clone();
            let (answer, answered) = oneshot::channel();
            let post = Message::Create(Box::new(plan), person.actor.clone(), answer);
            place.handle.work.post(post).await?;
            tries -= 1;
            match answered.await.map_err(|_| Error::ShuttingDown)? {
                // Somebody was given the name meanwhile, and nobody asked for it.
                Err(Error::SessionExists { .. }) if tries > 0 => {}
                made => {
                    made?;
                    return self.session_by_id(&place.handle, name, &id);
                }
            }
        }
    }

    pub(crate) fn plan(&self, place: &Place, request: NewSession) -> Result<plan::Plan, Error> {
        let work = place.handle.work.view.borrow().clone();
        let table = place.handle.view.borrow().table.clone();
        let listed = table.iter().flat_map(|table| table.rows()).map(|row| row.name.clone());
        let names: BTreeSet<String> =
            work.sessions.values().map(|known| known.row.name.clone()).chain(listed).collect();
        if let Some(session) = request.name.as_ref().filter(|name| names.contains(*name)) {
            let (shed, session) = (place.shed.clone(), session.clone());
            return Err(Error::SessionExists { shed, session });
        }
        let shared = match &request.share {
            None => None,
            Some(other) => {
                let found = work.find(other).filter(|known| {
                    known.row.spec.kind == SessionType::Worktree && known.row.spec.placed
                });
                Some(found.ok_or_else(|| no_session(&place.shed, &named(other)))?)
            }
        };
        let hello = place.link.hello();
        if hello.worktrees.is_empty() {
            // Its shed-init knows nothing of workers.
            return Err(Error::Refused(shed_link::Refusal::Unsupported));
        }
        if let (true, Some(why)) = (request.confine, &hello.confine) {
            return Err(Error::Refused(shed_link::Refusal::CannotConfine(why.clone())));
        }
        let inputs = plan::Inputs {
            shed: place.shed.as_str(),
            names,
            port_blocks: work
                .sessions
                .values()
                .filter_map(|known| known.row.spec.port_block)
                .collect(),
            worktrees: &hello.worktrees,
            workspace: if hello.workspace.is_empty() { WORKSPACE } else { &hello.workspace },
            now: self.server.clock.now(),
            ids: ids::fresh(),
            shared: shared.map(|known| &known.row),
        };
        Ok(plan::plan(&self.settings().sessions.rules(), &inputs, request)?)
    }

    /// One session, by name, by `$id` of tmux, or by id.
    pub fn session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see a session")?;
        let view = handle.view.borrow().clone();
        let rows = self.joined(name, &view);
        let rows = &rows.sessions;
        let found = match target {
            SessionRef::Name(name) => {
                let by_name = || rows.iter().find(|row| row.name == name.as_str());
                rows.iter().find(|row| row.id == name.as_str()).or_else(by_name)
            }
            SessionRef::Id(id) => {
                let id = format!("${id}");
                rows.iter().find(|row| row.tmux_id.as_deref() == Some(&*id))
            }
        };
        found.cloned().ok_or_else(|| no_session(name, target))
    }

    fn session_by_id(
        &self,
        handle: &KeeperHandle,
        name: &ShedName,
        id: &str,
    ) -> Result<Session, Error> {
        let view = handle.view.borrow().clone();
        let rows = self.joined(name, &view);
        let found = rows.sessions.iter().find(|row| row.id == id).cloned();
        found.ok_or_else(|| no_session(name, &named(id)))
    }

    /// In which shed the session with this id is, of those the person may see.
    pub fn shed_of(&self, person: &Person, id: &str) -> Option<ShedName> {
        let has = |handle: &KeeperHandle| handle.work.view.borrow().sessions.contains_key(id);
        let found = self.handles().into_iter().find(|(_, handle)| has(handle));
        found.map(|(name, _)| name).filter(|name| person.sees(name.as_str()))
    }

    /// The session that is remembered under a name or id, and its shed's keeper.
    pub(crate) fn remembered(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        needed: Scope,
        what: &str,
    ) -> Result<(KeeperHandle, Arc<Managed>), Error> {
        let handle = self.keeper(person, name, needed, what)?;
        let table = handle.view.borrow().table.clone();
        let known = handle.work.view.borrow().resolve(table.as_deref(), target).cloned();
        let known = known.ok_or_else(|| {
            let listed = table.as_ref().is_some_and(|table| table.find(target).is_some());
            if listed {
                Error::Unmanaged { shed: name.clone(), session: target.to_string() }
            } else {
                no_session(name, target)
            }
        })?;
        Ok((handle, known))
    }

    async fn do_with(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        operation: Operation,
        order: Order,
    ) -> Result<Session, Error> {
        let (handle, known) =
            self.remembered(person, name, target, Scope::Drive, "to change a session")?;
        if operation != Operation::Patch
            || order.patch.as_ref().is_some_and(|patch| patch.branch.is_some())
        {
            // What runs in the shed is asked, so the shed has to run.
            self.enter_awake(person, name, Scope::Drive, "to change a session").await?;
        }
        let id = known.row.id.clone();
        handle.work.request(&id, operation, person.actor.clone(), order).await?;
        self.session_by_id(&handle, name, &id)
    }

    /// Ends a session and everything in it. Of one that has a worktree, what only it has goes to the trash, and only with
    /// `force` if there is such.
    pub async fn delete_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        force: bool,
    ) -> Result<(), Error> {
        match self.remembered(person, name, target, Scope::Drive, "to end a session") {
            Ok((handle, known)) => {
                let needs_shed = known.row.spec.kind == SessionType::Worktree;
                if needs_shed {
                    self.enter(person, name, Scope::Drive, "to end a session").await?;
                }
                let order = Order { force, ..Order::default() };
                handle
                    .work
                    .request(&known.row.id, Operation::Delete, person.actor.clone(), order)
                    .await
            }
            Err(Error::Unmanaged { .. }) => self.kill_by_hand(person, name, target).await,
            Err(Error::NoSession { shed, session }) => {
                // Too new for the table, perhaps.
                let place =
                    self.enter_awake(person, name, Scope::Drive, "to end a session").await?;
                place.needs_tmux()?;
                if place.exists(target).await? {
                    return self.kill_by_hand(person, name, target).await;
                }
                Err(Error::NoSession { shed, session })
            }
            Err(error) => Err(error),
        }
    }

    async fn kill_by_hand(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<(), Error> {
        let place = self.enter_awake(person, name, Scope::Drive, "to end a session").await?;
        place.needs_tmux()?;
        place.expect(target, person).await;
        let there = place.target(target).await?;
        place.tmux(argv::kill_session(&there), target).await?;
        place.unshown(target).await;
        Ok(())
    }

    /// Changes name, title, tags, limits, branch or the way prompts are answered.
    pub async fn patch_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        patch: PatchSession,
    ) -> Result<Session, Error> {
        if let Some(name) = &patch.name {
            name.parse::<SessionName>()?;
        }
        patch.title.as_deref().map_or(Ok(()), shed_model::session::check_title)?;
        patch.tags.as_deref().map_or(Ok(()), shed_model::tag::check)?;
        if let Some(branch) = &patch.branch {
            Branch::try_from(branch.clone())?;
        }
        if patch == PatchSession::default() {
            return Err(Error::Rejected(Rejection::Invalid(
                "there is nothing to change".to_owned(),
            )));
        }
        let by_hand = self.remembered(person, name, target, Scope::Drive, "to change a session");
        if let Err(Error::Unmanaged { .. } | Error::NoSession { .. }) = by_hand {
            return self.rename_by_hand(person, name, target, patch).await;
        }
        let order = Order { patch: Some(Box::new(patch)), ..Order::default() };
        self.do_with(person, name, target, Operation::Patch, order).await
    }

    async fn rename_by_hand(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        patch: PatchSession,
    ) -> Result<Session, Error> {
        let place = self.enter_awake(person, name, Scope::Drive, "to change a session").await?;
        place.needs_tmux()?;
        if !place.exists(target).await? {
            return Err(no_session(name, target));
        }
        let (Some(new), only_name) =
            (&patch.name, PatchSession { name: None, ..patch.clone() } == PatchSession::default())
        else {
            return Err(Error::Unmanaged { shed: name.clone(), session: target.to_string() });
        };
        if !only_name {
            return Err(Error::Unmanaged { shed: name.clone(), session: target.to_string() });
        }
        let new: SessionName = new.parse()?;
        let new_target = SessionRef::Name(new.clone());
        if place.known(&new_target).is_some() {
            return Err(Error::SessionExists { shed: name.clone(), session: new.to_string() });
        }
        place.expect(&new_target, person).await;
        let there = place.target(target).await?;
        match place.tmux(argv::rename_session(&there, new.as_str()), target).await {
            Err(Error::SessionExists { shed, .. }) => {
                Err(Error::SessionExists { shed, session: new.to_string() })
            }
            Err(error) => Err(error),
            Ok(_) => place.shown(&new_target).await,
        }
    }

    /// Ends a session's processes, with a checkpoint; the session stays.
    pub async fn terminate_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        self.do_with(person, name, target, Operation::Terminate, Order::default()).await
    }

    /// Starts a session's workers again.
    pub async fn restart_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        restart: Restart,
    ) -> Result<Session, Error> {
        // A stopped shed is started: who wants the session wants what it is in.
        self.remembered(person, name, target, Scope::Drive, "to restart a session")?;
        self.enter(person, name, Scope::Drive, "to restart a session").await?;
        let order = Order { continues: restart.continues, ..Order::default() };
        self.do_with(person, name, target, Operation::Restart, order).await
    }

    /// Freezes all processes of a session's workers, or lets them go on.
    pub async fn freeze_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        freeze: bool,
    ) -> Result<Session, Error> {
        let operation = if freeze { Operation::Freeze } else { Operation::Thaw };
        self.do_with(person, name, target, operation, Order::default()).await
    }

    /// Remembers a tmux session that was made by hand from now on. Its windows stay as they are.
    pub async fn adopt_session(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        let place = self.enter_awake(person, name, Scope::Drive, "to adopt a session").await?;
        place.needs_tmux()?;
        if place.known(target).is_some() {
            return self.session(person, name, target);
        }
        let listed = place.shown(target).await?;
        let session: SessionName = listed.name.parse()?;
        let now = self.server.clock.now();
        let active = listed.windows.iter().find(|window| window.active);
        let pane = active.and_then(|window| window.panes.iter().find(|pane| pane.active));
        let directory = pane.map_or(WORKSPACE, |pane| pane.directory.as_str()).to_owned();
        let row = SessionRow {
            id: ids::new_id(),
            shed: name.to_string(),
            name: session.to_string(),
            status: SessionStatus::Running,
            reason: None,
            created_at: now,
            status_since: now,
            spec: SessionSpec::adopted(directory),
        };
        let id = row.id.clone();
        let there = place.target(target).await?;
        place.tmux(argv::mark_session(&there, session.as_str(), &id), target).await?;
        let (answer, answered) = oneshot::channel();
        let post = Message::Adopt(Box::new(row), person.actor.clone(), answer);
        place.handle.work.post(post).await?;
        answered.await.map_err(|_| Error::ShuttingDown)??;
        self.session_by_id(&place.handle, name, &id)
    }

    /// What deleting a session would lose.
    pub async fn session_risk(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<shed_api::git::Risk, Error> {
        let (_, known) = self.remembered(person, name, target, Scope::Read, "to see a session")?;
        let place = self.enter_awake(person, name, Scope::Read, "to see a session").await?;
        worktree::risk(&place.link, &known).await
    }

    /// A session's workers.
    pub fn workers(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<WorkerList, Error> {
        Ok(WorkerList { workers: self.session(person, name, target)?.workers })
    }

    /// One worker, by name or id.
    pub fn worker(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        worker: &str,
    ) -> Result<Worker, Error> {
        let session = self.session(person, name, target)?;
        let by_name = session.workers.iter().find(|row| row.name == worker);
        let found = by_name.or_else(|| session.workers.iter().find(|row| row.id == worker));
        found.cloned().ok_or_else(|| Error::NoWorker {
            session: session.name.clone(),
            worker: worker.to_owned(),
        })
    }

    /// One more worker. Returns when its command runs or has ended.
    pub async fn add_worker(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        request: NewWorker,
    ) -> Result<Worker, Error> {
        let (_, known) = self.remembered(person, name, target, Scope::Drive, "to add a worker")?;
        let names: BTreeSet<String> = known.workers.iter().map(|row| row.name.clone()).collect();
        if let Some(worker) = request.name.as_ref().filter(|name| names.contains(*name)) {
            let session = known.row.name.clone();
            return Err(Error::WorkerExists { session, worker: worker.clone() });
        }
        let rules = self.settings().sessions.rules();
        let now = self.server.clock.now();
        let row = plan::plan_worker(&rules, &names, ids::fresh(), &known.row.id, now, request)?;
        let id = row.id.clone();
        let order = Order { new_worker: Some(Box::new(row)), ..Order::default() };
        self.do_with(person, name, target, Operation::AddWorker, order).await?;
        self.worker(person, name, target, &id)
    }

    /// Starts a worker's command again, ending it first if it runs.
    pub async fn restart_worker(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        worker: &str,
        restart: Restart,
    ) -> Result<Worker, Error> {
        self.keeper(person, name, Scope::Drive, "to restart a worker")?;
        let id = self.worker(person, name, target, worker)?.id;
        let worker = Some(id.clone());
        let order = Order { worker, continues: restart.continues, ..Order::default() };
        self.do_with(person, name, target, Operation::RestartWorker, order).await?;
        self.worker(person, name, target, &id)
    }

    /// Ends a worker and closes its window. Its output is kept until it is tidied up.
    pub async fn remove_worker(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        worker: &str,
    ) -> Result<(), Error> {
        self.keeper(person, name, Scope::Drive, "to remove a worker")?;
        let id = self.worker(person, name, target, worker)?.id;
        let order = Order { worker: Some(id), ..Order::default() };
        self.do_with(person, name, target, Operation::RemoveWorker, order).await.map(drop)
    }
}

fn named(text: &str) -> SessionRef {
    text.parse().unwrap_or(SessionRef::Id(0))
}
