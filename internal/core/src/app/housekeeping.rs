//! What sessions leave behind: orphans and garbage.

use std::sync::Arc;

use shed_api::work::{Gc, GcReport, OrphanList};
use shed_api::{Scope, ShedName};

use crate::access::Caller;
use crate::housekeeping::{clean, collect, orphans};
use crate::output::logs::Logs;
use crate::server::Server;
use crate::shed::registry::Registry;
use crate::{Error, Person};

/// Housekeeping of all sheds.
#[derive(Clone)]
pub struct Housekeeping {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    pub(crate) logs: Logs,
}

impl Housekeeping {
    /// What is in a shed and belongs to no managed session; of a shed that does not run, what the server knows of.
    pub async fn orphans(&self, person: &Person, name: &ShedName) -> Result<OrphanList, Error> {
        let handle = self.registry.keeper(&Caller::read(person, name, "to see orphans"))?;
        let link = {
            let view = handle.view.borrow();
            view.link.clone().filter(|_| view.can_be_entered())
        };
        let found = clean::find(name, &handle, link.as_ref()).await;
        Ok(orphans::shown(found.map_err(|error| error.of_shed(name))?, &[]))
    }

    /// Removes these orphans and no others, and returns what is left. A worktree is removed only if nothing in it would be
    /// lost.
    pub async fn clean_orphans(
        &self,
        person: &Person,
        name: &ShedName,
        names: Vec<String>,
    ) -> Result<OrphanList, Error> {
        let caller = Caller::drive(person, name, "to clean orphans");
        let entered = self.registry.enter_awake(&caller).await?;
        let cleaned = clean::clean(&self.server, &entered, &caller, &names).await;
        cleaned.map_err(|error| error.of_shed(name))
    }

    /// What shed keeps for a shed's sessions and why; removes, unless it is a dry run, what belongs to no session and what
    /// was deleted long ago. Never a worktree, never anything of a managed session.
    pub async fn gc(&self, person: &Person, name: &ShedName, gc: Gc) -> Result<GcReport, Error> {
        let needs = if gc.dry_run { Scope::Read } else { Scope::Drive };
        let caller = Caller { person, shed: name, needs, action: "to collect garbage" };
        let entered = self.registry.enter_awake(&caller).await?;
        let collected = collect::collect(&self.server, &self.logs, &entered, &gc).await;
        collected.map_err(|error| error.of_shed(name))
    }
}
