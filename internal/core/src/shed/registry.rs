//! The keepers of all sheds, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use shed_api::{SessionRef, ShedName};
use shed_model::session::Managed;
use shed_model::shed::ShedRow;

use crate::access::Caller;
use crate::server::Server;
use crate::session::Resources;
use crate::shed::entered::no_session;
use crate::shed::handle::KeeperHandle;
use crate::shed::keeper;
use crate::shed::view::View;
use crate::{Error, Person};

/// The keepers. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    /// Locked for single look-ups, never across an await.
    keepers: Arc<RwLock<BTreeMap<ShedName, KeeperHandle>>>,
}

impl Registry {
    fn keepers(&self) -> RwLockReadGuard<'_, BTreeMap<ShedName, KeeperHandle>> {
        self.keepers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the keeper of a shed. It leaves the registry when its shed is deleted.
    pub(crate) async fn start(
        &self,
        server: &Arc<Server>,
        resources: &Resources,
        name: ShedName,
        row: ShedRow,
    ) -> Result<(), Error> {
        let (keepers, gone) = (Arc::clone(&self.keepers), name.clone());
        let handle = keeper::start(server, resources, name.clone(), row, move || {
            let mut keepers = keepers.write().unwrap_or_else(PoisonError::into_inner);
            // A new shed of the same name may already be there.
            if keepers.get(&gone).is_some_and(|handle| handle.view.borrow().gone) {
                keepers.remove(&gone);
            }
        })
        .await?;
        self.keepers.write().unwrap_or_else(PoisonError::into_inner).insert(name, handle);
        Ok(())
    }

    /// Every keeper, also of sheds that are being removed.
    pub(crate) fn all(&self) -> Vec<(ShedName, KeeperHandle)> {
        let keepers = self.keepers();
        keepers.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }

    /// The keepers of the sheds that exist.
    pub(crate) fn handles(&self) -> Vec<(ShedName, KeeperHandle)> {
        let mut handles = self.all();
        handles.retain(|(_, handle)| !handle.view.borrow().gone);
        handles
    }

    /// The keepers of the sheds that a person may see.
    pub(crate) fn seen_by(&self, person: &Person) -> Vec<(ShedName, KeeperHandle)> {
        let mut handles = self.handles();
        handles.retain(|(name, _)| person.sees(name.as_str()));
        handles
    }

    /// The same sheds as they are now.
    pub(crate) fn views(&self, person: &Person) -> Vec<(ShedName, View)> {
        let handles = self.seen_by(person).into_iter();
        handles.map(|(name, handle)| (name, handle.view.borrow().clone())).collect()
    }

    /// A shed's keeper, whoever asks.
    pub(crate) fn get(&self, name: &ShedName) -> Option<KeeperHandle> {
        self.keepers().get(name).cloned()
    }

    /// The keeper of the caller's shed, if they may do what they want with it.
    pub(crate) fn keeper(&self, caller: &Caller<'_>) -> Result<KeeperHandle, Error> {
        caller.authorize()?;
        let there = self.get(caller.shed).filter(|handle| !handle.view.borrow().gone);
        there.ok_or_else(|| Error::NoShed(caller.shed.clone()))
    }

    /// The managed session with a name or id, and its shed's keeper.
    pub(crate) fn managed(
        &self,
        caller: &Caller<'_>,
        target: &SessionRef,
    ) -> Result<(KeeperHandle, Arc<Managed>), Error> {
        let handle = self.keeper(caller)?;
        let table = handle.view.borrow().table.clone();
        let known = handle.work.view.borrow().resolve(table.as_deref(), target).cloned();
        let known = known.ok_or_else(|| {
            let listed = table.as_ref().is_some_and(|table| table.find(target).is_some());
            if listed {
                Error::Unmanaged { shed: caller.shed.clone(), session: target.to_string() }
            } else {
                no_session(caller.shed, target)
            }
        })?;
        Ok((handle, known))
    }
}
