//! The same operation on several sessions.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

use futures_util::StreamExt as _;
use shed_api::session::{Input, PatchSession};
use shed_api::work::{Batch, BatchItem, BatchOp, BatchResult};
use shed_api::worker::Restart;
use shed_api::{Code, Problem, Scope, SessionRef, ShedName};
use shed_model::session::{Managed, batch};

use super::{Files, Sessions};
use crate::access::Caller;
use crate::server::Server;
use crate::shed::registry::Registry;
use crate::{Error, Person};

/// An item of a batch: a session, or an id of none that the person may see.
enum Item {
    Session(ShedName, Arc<Managed>),
    Missing(String),
}

/// Batches of operations on sessions.
#[derive(Clone)]
pub struct Batches {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    pub(crate) sessions: Sessions,
    pub(crate) files: Files,
}

impl Batches {
    /// Does the same with several sessions, or forecasts what it would do. An error with one does not stop the others. It
    /// goes on when its caller goes away.
    pub async fn run(&self, person: &Person, batch: Batch) -> Result<BatchResult, Error> {
        let needed = if batch.dry_run { Scope::Read } else { Scope::Drive };
        person.may(needed, "to change sessions")?;
        batch::check(&batch)?;
        let items = self.items(person, &batch)?;
        let (this, person, stop) = (self.clone(), person.clone(), self.server.stop.clone());
        let work = async move {
            let one = |item: Item| this.one(&person, &batch, item);
            let done = futures_util::stream::iter(items).map(one).buffered(batch::AT_ONCE);
            tokio::select! {
                items = done.collect() => Ok(BatchResult { items }),
                () = stop.cancelled() => Err(Error::ShuttingDown),
            }
        };
        self.server.tasks.spawn(work).await.map_err(|_| Error::ShuttingDown)?
    }

    /// The sessions a batch is about, each once, in the order asked for.
    fn items(&self, person: &Person, batch: &Batch) -> Result<Vec<Item>, Error> {
        let mut seen = BTreeSet::new();
        let mut ids = batch.ids.clone();
        if let Some(filter) = &batch.filter {
            let shed = filter.shed.as_deref().map(str::parse::<ShedName>).transpose()?;
            let sessions = self.sessions.list(person, shed.as_ref())?.sessions;
            let fitting = sessions.into_iter().filter(|session| batch::fits(filter, session));
            ids = fitting.map(|session| session.id).collect();
            if ids.len() > batch::MAX_ITEMS {
                return Err(batch::too_many(ids.len()).into());
            }
        }
        ids.retain(|id| seen.insert(id.clone()));
        let item = |id: String| {
            let found = self.sessions.shed_of(person, &id).and_then(|shed| {
                let view = self.registry.get(&shed)?.work.view.borrow().clone();
                Some((shed, view.sessions.get(&id)?.clone()))
            });
            found.map_or(Item::Missing(id), |(shed, known)| Item::Session(shed, known))
        };
        Ok(ids.into_iter().map(item).collect())
    }

    async fn one(&self, person: &Person, batch: &Batch, item: Item) -> BatchItem {
        match item {
            Item::Missing(id) => {
                let detail = format!("no session {id:?}");
                let problem = Problem::new(Code::SessionNotFound, detail).hint("shed sessions");
                BatchItem { id, shed: None, name: None, effect: None, problem: Some(problem) }
            }
            Item::Session(shed, known) => {
                let done = if batch.dry_run {
                    self.forecast(person, batch, &shed, &known).await
                } else {
                    self.act(person, batch, &shed, &known).await
                };
                let (effect, problem) = match done {
                    Ok(effect) => (Some(effect), None),
                    Err(error) => (None, Some(error.problem())),
                };
                let (id, name) = (known.row.id.clone(), Some(known.row.name.clone()));
                BatchItem { id, shed: Some(shed.to_string()), name, effect, problem }
            }
        }
    }

    async fn forecast(
        &self,
        person: &Person,
        batch: &Batch,
        shed: &ShedName,
        known: &Managed,
    ) -> Result<String, Error> {
        let caller = Caller::read(person, shed, "to see sessions");
        let status = self.registry.keeper(&caller)?.view.borrow().status();
        let risk = if batch::needs_risk(batch, known, status) {
            Some(self.sessions.risk(person, shed, &known.row.id.parse()?).await?)
        } else {
            None
        };
        Ok(batch::forecast(batch, known, status, risk.as_ref())?)
    }

    async fn act(
        &self,
        person: &Person,
        batch: &Batch,
        shed: &ShedName,
        known: &Managed,
    ) -> Result<String, Error> {
        if let Some(already) = batch::already(batch, known) {
            return Ok(already.to_owned());
        }
        let session: SessionRef = known.row.id.parse()?;
        let done = match batch.op {
            BatchOp::Terminate => {
                self.sessions.terminate(person, shed, &session).await?;
                "ended"
            }
            BatchOp::Restart => {
                let restart = Restart { continues: batch.continues };
                self.sessions.restart(person, shed, &session, restart).await?;
                "restarted"
            }
            BatchOp::Delete => {
                let deleted = self.sessions.delete(person, shed, &session, batch.force).await?;
                let said = iter::once("deleted".to_owned()).chain(deleted.notes);
                return Ok(said.collect::<Vec<_>>().join("; "));
            }
            BatchOp::Freeze => {
                self.sessions.freeze(person, shed, &session, true).await?;
                "frozen"
            }
            BatchOp::Thaw => {
                self.sessions.freeze(person, shed, &session, false).await?;
                "thawed"
            }
            BatchOp::Checkpoint => {
                batch::needs_worktree(known)?;
                let made = self.files.make_checkpoint(person, shed, &session, "").await?;
                let n = made.checkpoint.n;
                return Ok(if made.unchanged {
                    format!("unchanged since checkpoint {n}")
                } else {
                    format!("checkpoint {n} was created")
                });
            }
            BatchOp::Input => {
                let input = Input { text: batch.text.clone(), keys: Vec::new(), enter: true };
                self.sessions.input(person, shed, &session, input).await?;
                "typed"
            }
            BatchOp::Tag => {
                let tags = Some(batch::all_tags(batch, known));
                let patch = PatchSession { tags, ..PatchSession::default() };
                self.sessions.patch(person, shed, &session, patch).await?;
                "tagged"
            }
        };
        Ok(done.to_owned())
    }
}
