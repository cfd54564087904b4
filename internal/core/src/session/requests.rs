//! Requests about managed sessions: what is checked before a session's keeper is asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use shed_api::git::Branch;
use shed_api::session::{DeletedSession, NewSession, PatchSession, SessionType};
use shed_api::{SessionName, SessionRef};
use shed_model::Rejection;
use shed_model::session::Managed;
use shed_model::session::life::Operation;
use shed_model::session::plan::{self, Plan};
use shed_model::worker::WorkerRow;
use tokio::sync::oneshot;

use crate::Error;
use crate::access::Caller;
use crate::server::Server;
use crate::session::handle::Message;
use crate::session::handle::SessionOrder;
use crate::session::{WORKSPACE, ids, template_list};
use crate::shed::entered::{Entered, no_session};
use crate::shed::handle::KeeperHandle;
use crate::shed::registry::Registry;

/// How many generated names are tried for a session whose caller gave none.
const NAME_TRIES: u32 = 16;

/// Creates a session and returns its id when it runs, or when it waits for its turn.
pub(crate) async fn create(
    server: &Server,
    entered: &Entered,
    caller: &Caller<'_>,
    request: NewSession,
) -> Result<String, Error> {
    let request = template_list::fill_in(server, entered, request).await?;
    let mut tries = if request.name.is_some() { 1 } else { NAME_TRIES };
    loop {
        let plan = plan(server, entered, request.clone())?;
        tries -= 1;
        match create_planned(&entered.handle, caller, plan).await {
            // Another session was given the name meanwhile, and the caller asked for none.
            Err(Error::SessionExists { .. }) if tries > 0 => {}
            created => return created,
        }
    }
}

/// The same for a session that is planned.
pub(crate) async fn create_planned(
    handle: &KeeperHandle,
    caller: &Caller<'_>,
    plan: Plan,
) -> Result<String, Error> {
    let id = plan.session.id.clone();
    let (answer, answered) = oneshot::channel();
    handle.work.post(Message::Create(Box::new(plan), caller.actor(), answer)).await?;
    answered.await.map_err(|_| Error::ShuttingDown)??;
    Ok(id)
}

/// What creating a session takes: names, ports, directories and its first worker. Refuses what the shed cannot do.
pub(crate) fn plan(server: &Server, entered: &Entered, request: NewSession) -> Result<Plan, Error> {
    let work = entered.handle.work.view.borrow().clone();
    let table = entered.handle.view.borrow().table.clone();
    let listed = table.iter().flat_map(|table| table.rows()).map(|row| row.name.clone());
    let names: BTreeSet<String> =
        work.sessions.values().map(|known| known.row.name.clone()).chain(listed).collect();
    if let Some(session) = request.name.as_ref().filter(|name| names.contains(*name)) {
        let (shed, session) = (entered.shed.clone(), session.clone());
        return Err(Error::SessionExists { shed, session });
    }
    let shared = match &request.share {
        None => None,
        Some(other) => {
            let found = work.find(other).filter(|known| {
                known.row.spec.kind == SessionType::Worktree && known.row.spec.placed
            });
            Some(found.ok_or_else(|| no_session(&entered.shed, &reference(other)))?)
        }
    };
    let hello = entered.link.hello();
    if hello.worktrees.is_empty() {
        // Its shed-init knows nothing of workers.
        return Err(Error::OldShedInit(entered.shed.clone()));
    }
    if let (true, Some(why)) = (request.confine, &hello.confine) {
        return Err(Error::Refused(shed_link::Refusal::CannotConfine(why.clone())));
    }
    let inputs = plan::Inputs {
        shed: entered.shed.as_str(),
        names,
        port_blocks: work.sessions.values().filter_map(|known| known.row.spec.port_block).collect(),
        worktrees: &hello.worktrees,
        workspace: if hello.workspace.is_empty() { WORKSPACE } else { &hello.workspace },
        now: server.clock.now(),
        ids: ids::fresh(),
        shared: shared.map(|known| &known.row),
    };
    Ok(plan::plan(&server.settings.sessions.rules(), &inputs, request)?)
}

/// Has a session's keeper do something and waits for its end. Returns the session's id and its shed's keeper.
pub(crate) async fn submit(
    registry: &Registry,
    caller: &Caller<'_>,
    target: &SessionRef,
    operation: Operation,
    order: SessionOrder,
) -> Result<(KeeperHandle, String), Error> {
    let (handle, known) = registry.managed(caller, target)?;
    if operation != Operation::Patch
        || order.patch.as_ref().is_some_and(|patch| patch.branch.is_some())
    {
        // What runs in the shed is asked, so the shed has to run.
        registry.enter_awake(caller).await?;
    }
    let id = known.row.id.clone();
    handle.work.request(&id, operation, caller.actor(), order).await?;
    Ok((handle, id))
}

/// Has the keeper delete a managed session.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller<'_>,
    (handle, known): (KeeperHandle, Arc<Managed>),
    force: bool,
) -> Result<DeletedSession, Error> {
    if known.row.spec.kind == SessionType::Worktree {
        registry.enter(caller).await?;
    }
    let order = SessionOrder { force, ..SessionOrder::default() };
    let (id, notes) = (&known.row.id, order.notes.clone());
    handle.work.request(id, Operation::Delete, caller.actor(), order).await?;
    Ok(DeletedSession { notes: notes.all() })
}

/// An error if a session cannot be changed so.
pub(crate) fn check_patch(patch: &PatchSession) -> Result<(), Error> {
    if let Some(name) = &patch.name {
        name.parse::<SessionName>()?;
    }
    patch.title.as_deref().map_or(Ok(()), shed_model::session::check_title)?;
    patch.tags.as_deref().map_or(Ok(()), shed_model::tag::check)?;
    if let Some(branch) = &patch.branch {
        Branch::try_from(branch.clone())?;
    }
    if *patch == PatchSession::default() {
        return Err(Error::Rejected(Rejection::Invalid("there is nothing to change".to_owned())));
    }
    Ok(())
}

/// The row of one more worker of a session.
pub(crate) fn plan_worker(
    server: &Server,
    known: &Managed,
    request: shed_api::worker::NewWorker,
) -> Result<WorkerRow, Error> {
    let names: BTreeSet<String> = known.workers.iter().map(|row| row.name.clone()).collect();
    if let Some(worker) = request.name.as_ref().filter(|name| names.contains(*name)) {
        let session = known.row.name.clone();
        return Err(Error::WorkerExists { session, worker: worker.clone() });
    }
    let (rules, now) = (server.settings.sessions.rules(), server.clock.now());
    Ok(plan::plan_worker(&rules, &names, ids::fresh(), &known.row.id, now, request)?)
}

/// The worker with a name or id, of a managed session.
pub(crate) fn worker_of<'a>(known: &'a Managed, worker: &str) -> Result<&'a WorkerRow, Error> {
    known.worker(worker).ok_or_else(|| Error::NoWorker {
        session: known.row.name.clone(),
        worker: worker.to_owned(),
    })
}

/// How a session's name or id is written in a request. What is neither is shown as an id that no session has.
pub(crate) fn reference(text: &str) -> SessionRef {
    text.parse().unwrap_or(SessionRef::Id(0))
}
