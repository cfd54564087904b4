//! Sheds: list, create, change and delete them, and what they use.

use std::sync::Arc;

use futures_util::future::join_all;
use shed_api::shed::{
    CreateShed, DiskUseList, PatchShed, RebuildShed, Shed, ShedList, Stats, StatsList,
};
use shed_api::{EventKind, Scope, ShedName, ShedStatus};
use shed_engine::EngineError;
use shed_guest::Connection;
use shed_model::shed::life::Request;
use shed_model::shed::{ShedRow, ShedSpec};
use shed_model::{NewEvent, Rejection};
use shed_store::StoreError;
use tokio::sync::watch;

use crate::access::Caller;
use crate::server::Server;
use crate::session::Resources;
use crate::shed::creation::{self, ProgressReader};
use crate::shed::disk_query::DiskQuery;
use crate::shed::handle::Answer;
use crate::shed::handle::Order;
use crate::shed::registry::Registry;
use crate::shed::spec;
use crate::{Error, Person};

/// The most lines of a log that are returned.
const MAX_LOG_LINES: u32 = 10_000;

/// What is left when a shed is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Nothing is left.
    Everything,
    /// Its volumes are kept.
    KeepVolumes,
}

/// The service for sheds.
#[derive(Clone)]
pub struct Sheds {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    pub(crate) resources: Resources,
    pub(crate) disk_query: DiskQuery,
}

impl Sheds {
    /// Every shed the person may see, by name.
    pub fn list(&self, person: &Person) -> ShedList {
        let views = self.registry.views(person);
        ShedList { sheds: views.iter().map(|(_, view)| view.to_api()).collect() }
    }

    /// One shed.
    pub fn get(&self, person: &Person, name: &ShedName) -> Result<Shed, Error> {
        let handle = self.registry.keeper(&Caller::read(person, name, "to see a shed"))?;
        let view = handle.view.borrow().clone();
        Ok(view.to_api())
    }

    /// Changes whenever the status, the link or the sessions of any shed do; the value means nothing.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.server.bell.subscribe()
    }

    /// Begins to create a shed, or to retry the creation of a failed one, and returns the shed as it is then. Follow its
    /// progress for the rest.
    pub async fn create(&self, person: &Person, request: CreateShed) -> Result<Shed, Error> {
        let name: ShedName = request.name.parse()?;
        let caller = Caller::drive(person, &name, "to create a shed");
        caller.authorize()?;
        if request.retry {
            creation::retry(
                &self.server.settings,
                &self.registry.keeper(&caller)?,
                &caller,
                request,
            )
            .await?;
            return self.get(person, &name);
        }
        let (spec, repo) = spec::specify(&self.server.settings, person, &request)?;
        let now = self.server.clock.now();
        let row = ShedRow {
            name: name.to_string(),
            status: ShedStatus::Creating,
            reason: None,
            reason_code: None,
            wanted: !request.no_start,
            created_at: now,
            status_since: now,
            spec,
        };
        let mut event =
            NewEvent::new(now, EventKind::ShedStatus, caller.actor()).shed(name.as_str());
        event.status = Some(ShedStatus::Creating);
        match self.server.store.add_shed(row.clone(), event).await {
            Err(StoreError::Exists(_)) => return Err(Error::ShedExists(name)),
            added => added?,
        }
        // From here on the shed exists, whatever becomes of the caller: the rest is the keeper's.
        self.registry.start(&self.server, &self.resources, name.clone(), row).await?;
        let order =
            Order { no_start: request.no_start, repo, lend: request.lend, ..Order::default() };
        self.registry.keeper(&caller)?.begin_creation(caller.actor(), order).await?;
        self.get(person, &name)
    }

    /// The progress of a creation.
    pub fn progress(&self, person: &Person, name: &ShedName) -> Result<ProgressReader, Error> {
        let handle = self.registry.keeper(&Caller::read(person, name, "to see a shed"))?;
        Ok(ProgressReader::new(handle.progress))
    }

    /// Waits until a creation has ended. An error if it failed.
    pub async fn created(&self, person: &Person, name: &ShedName) -> Result<Shed, Error> {
        let handle = self.registry.keeper(&Caller::read(person, name, "to see a shed"))?;
        creation::ended(&self.server, &handle, name).await?;
        self.get(person, name)
    }

    /// One connection of a clone that asks for a credential its creator lends. Only the creator gets it.
    pub fn lend(&self, person: &Person, name: &ShedName, id: &str) -> Result<Connection, Error> {
        let caller = Caller::drive(person, name, "to lend credentials to a clone");
        let taken = self.registry.keeper(&caller)?.relay.take(id, &person.actor);
        taken.ok_or_else(|| {
            Error::Rejected(Rejection::NotFound("clone that waits for this".to_owned()))
        })
    }

    /// Starts, stops or pauses a shed and waits for it.
    pub async fn request(
        &self,
        person: &Person,
        name: &ShedName,
        request: Request,
    ) -> Result<(Answer, Shed), Error> {
        let caller = Caller::drive(person, name, "to start and stop a shed");
        let handle = self.registry.keeper(&caller)?;
        let answer = handle.request(request, caller.actor(), Order::default()).await?;
        Ok((answer, self.get(person, name)?))
    }

    /// Replaces the container and keeps the volumes; waits for it.
    pub async fn rebuild(
        &self,
        person: &Person,
        name: &ShedName,
        request: RebuildShed,
    ) -> Result<Shed, Error> {
        let caller = Caller::drive(person, name, "to rebuild a shed");
        let handle = self.registry.keeper(&caller)?;
        let settings = &self.server.settings;
        request.image.as_deref().map_or(Ok(()), |image| spec::check_image(settings, image))?;
        spec::check_new_image(
            &settings.defaults.mounts,
            person,
            &handle.view.borrow().row.spec,
            request.image.as_deref(),
        )?;
        let order = Order { image: request.image, ..Order::default() };
        handle.request(Request::Rebuild, caller.actor(), order).await?;
        self.get(person, name)
    }

    /// Deletes a shed and waits for it. A creation that is under way is cancelled first.
    pub async fn delete(
        &self,
        person: &Person,
        name: &ShedName,
        removal: Removal,
    ) -> Result<(), Error> {
        let caller = Caller::drive(person, name, "to delete a shed");
        let handle = self.registry.keeper(&caller)?;
        let order = Order { keep_volumes: removal == Removal::KeepVolumes, ..Order::default() };
        handle.request(Request::Delete, caller.actor(), order).await.map(drop)
    }

    /// Changes limits and options, also of a shed that runs.
    pub async fn patch(
        &self,
        person: &Person,
        name: &ShedName,
        request: PatchShed,
    ) -> Result<Shed, Error> {
        let caller = Caller::drive(person, name, "to change a shed");
        let handle = self.registry.keeper(&caller)?;
        let (spec, has_container) = {
            let view = handle.view.borrow();
            (view.row.spec.clone(), view.has_container())
        };
        let memory = request.memory.as_deref();
        let limits = spec::limits(spec.limits, request.cpus, memory, request.pids)?;
        if limits != spec.limits && has_container {
            self.server.engine.limit(name, limits).await?;
        }
        let allow = request.allow_agent_forwarding.unwrap_or(spec.allow_agent_forwarding);
        let spec = ShedSpec { limits, allow_agent_forwarding: allow, ..spec };
        handle.set_spec(caller.actor(), spec).await?;
        self.get(person, name)
    }

    /// The last lines that a shed's first process printed.
    pub async fn logs(
        &self,
        person: &Person,
        name: &ShedName,
        n_lines: u32,
    ) -> Result<String, Error> {
        self.registry.keeper(&Caller::read(person, name, "to see a log"))?;
        match self.server.engine.logs(name, n_lines.min(MAX_LOG_LINES)).await {
            Err(EngineError::NoContainer(_)) => Ok(String::new()),
            logs => Ok(logs?),
        }
    }

    /// What a running shed uses now.
    pub async fn stats(&self, person: &Person, name: &ShedName) -> Result<Stats, Error> {
        let caller = Caller::read(person, name, "to see what a shed uses");
        let status = self.registry.keeper(&caller)?.view.borrow().status();
        if status != ShedStatus::Running {
            return Err(Error::Rejected(Rejection::NotRunning { shed: name.clone(), status }));
        }
        Ok(self.server.engine.stats(name).await?)
    }

    /// What all running sheds use now.
    pub async fn all_stats(&self, person: &Person) -> Result<StatsList, Error> {
        let views = self.registry.views(person);
        let running = views.iter().filter(|(_, view)| view.status() == ShedStatus::Running);
        let answers = join_all(running.map(|(name, _)| self.server.engine.stats(name))).await;
        // A shed that was stopped meanwhile is left out.
        let answers =
            answers.into_iter().filter(|it| !matches!(it, Err(EngineError::NoContainer(_))));
        Ok(StatsList { stats: answers.collect::<Result<_, _>>()? })
    }

    /// What sheds and kept volumes occupy on disk.
    pub async fn disk(&self, person: &Person) -> Result<DiskUseList, Error> {
        person.may(Scope::Read, "to see what is on disk")?;
        let mut disk = self.disk_query.ask().await?;
        disk.retain(|row| person.sees(&row.name));
        let known = self.registry.handles();
        for row in &mut disk {
            row.kept = !known.iter().any(|(name, _)| name.as_str() == row.name);
        }
        disk.sort_by(|a, b| (&a.name, &a.what).cmp(&(&b.name, &b.what)));
        Ok(DiskUseList { disk })
    }
}
