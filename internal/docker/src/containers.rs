//! Operations on existing containers: inspect, start, stop, remove, measure.
//!
//! Every operation addresses a container by its id. The id is looked up by name once and accepted only if the container
//! carries this server's labels, so a foreign container of the same name is never touched.

use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, NetworkConnectRequest};
use bollard::query_parameters::{
    ListContainersOptions, ListVolumesOptions, LogsOptions, RemoveContainerOptions,
    RemoveVolumeOptions, StatsOptions, StopContainerOptions, WaitContainerOptions,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use shed_api::ShedName;
use shed_api::shed::{DiskUse, Limits, Stats};
use shed_engine::local::Peer;
use shed_engine::{ContainerState, EngineError, Found};

use crate::engine::Inner;
use crate::failure::{Failure, one_line};
use crate::found::{found, owner};
use crate::{config, peer, usage};

/// Limit of a query, such as inspect or list. Docker holds queries back while it starts a container.
pub(crate) const QUERY_LIMIT: Duration = Duration::from_secs(30);
/// Limit of a change, such as create, start, pause or unpause, on a busy disk.
pub(crate) const CHANGE_LIMIT: Duration = Duration::from_secs(120);
/// Time a container may take to stop in addition to the limit of its processes.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Limit of a measurement: Docker takes two samples, a second apart.
const STATS_LIMIT: Duration = Duration::from_secs(20);
/// Limit of a disk usage query: Docker reads every file of every volume.
const DISK_LIMIT: Duration = Duration::from_secs(300);
/// Containers that are inspected in parallel.
const PARALLEL_QUERIES: usize = 8;
/// Upper bound for a log that is passed on, in bytes. A container's whole log is smaller.
const MAX_LOG_BYTES: usize = 4 << 20;

impl Inner {
    /// Inspects a container by its name or id; `None` if there is none.
    pub(crate) async fn inspect(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, Failure> {
        let live = self.client.live().await?;
        let asked = live.docker.inspect_container(name, None);
        match self.client.ask(QUERY_LIMIT, "inspect a container", asked).await {
            Ok(container) => Ok(Some(container)),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) async fn ping(&self) -> Result<(), Failure> {
        let live = self.client.live().await?;
        let asked = live.docker.ping();
        self.client.ask(QUERY_LIMIT, "answer", asked).await.map(drop)
    }

    pub(crate) async fn find(&self, shed: &ShedName) -> Result<Option<Found>, Failure> {
        let container = self.inspect(&self.labels.container(shed)).await?;
        let found = container
            .and_then(|container| found(container, &self.labels, &self.host_dirs, &self.networks));
        let found = found.filter(|found| found.shed == *shed);
        match &found {
            Some(found) => self.remember_id(shed, &found.id),
            None => self.forget_id(shed),
        }
        Ok(found)
    }

    pub(crate) async fn containers(&self) -> Result<Vec<Found>, Failure> {
        let live = self.client.live().await?;
        let filters = Some(self.labels.filter(&[]));
        let options =
            ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let asked = live.docker.list_containers(Some(options));
        let list = self.client.ask(QUERY_LIMIT, "list containers", asked).await?;
        let ids = list.into_iter().filter_map(|container| container.id);
        let inspections =
            futures_util::stream::iter(ids).map(|id| async move { self.inspect(&id).await });
        let inspections = inspections.buffered(PARALLEL_QUERIES);
        let inspected: Vec<Option<ContainerInspectResponse>> = inspections.try_collect().await?;
        Ok(inspected
            .into_iter()
            // `None` was removed since it was listed.
            .flatten()
            .filter_map(|container| found(container, &self.labels, &self.host_dirs, &self.networks))
            .collect())
    }

    /// The id of a shed's container, if there is one and it is this server's.
    pub(crate) async fn own_id(&self, shed: &ShedName) -> Result<Option<String>, Failure> {
        let container = self.inspect(&self.labels.container(shed)).await?;
        let Some(container) = container else {
            return Ok(None);
        };
        let ours = owner(&container, &self.labels).is_some_and(|(owner, _)| owner == *shed);
        let id = container.id.filter(|_| ours);
        if let Some(id) = &id {
            self.remember_id(shed, id);
        }
        Ok(id)
    }

    /// Runs an operation on a shed's container; `None` if there is none. A remembered id is tried first.
    async fn on_container<T, F>(
        &self,
        shed: &ShedName,
        limit: Duration,
        what: &str,
        act: impl Fn(Docker, String) -> F,
    ) -> Result<Option<T>, Failure>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let live = self.client.live().await?;
        if let Some(id) = self.known_id(shed) {
            match self.client.ask(limit, what, act(live.docker.clone(), id)).await {
                Err(failure) if failure.is_missing() => self.forget_id(shed),
                answer => return answer.map(Some),
            }
        }
        match self.own_id(shed).await? {
            None => Ok(None),
            Some(id) => self.client.ask(limit, what, act(live.docker.clone(), id)).await.map(Some),
        }
    }

    pub(crate) async fn start(&self, shed: &ShedName) -> Result<(), EngineError> {
        let started = match self.try_start(shed).await {
            // The container exists, so it is its network that is missing.
            Err(failure) if failure.is_missing() => {
                self.rejoin_network(shed).await?;
                self.try_start(shed).await
            }
            started => started,
        };
        started?.ok_or_else(|| no_container(shed))
    }

    async fn try_start(&self, shed: &ShedName) -> Result<Option<()>, Failure> {
        let start =
            |docker: Docker, id: String| async move { docker.start_container(&id, None).await };
        self.on_container(shed, CHANGE_LIMIT, "start a container", start).await
    }

    /// Connects a container to the network again. A network that was removed (`docker network prune` does so when all sheds
    /// are stopped) and created again has a new id, while its containers keep the old one. A container created without a
    /// network stays without: Docker refuses to connect it.
    async fn rejoin_network(&self, shed: &ShedName) -> Result<(), EngineError> {
        let network = self.find(shed).await?.map(|found| found.network).unwrap_or_default();
        self.networks.forget(network);
        self.ensure_network(network).await?;
        let name = self.networks.name(network);
        let join = |docker: Docker, id: String| async move {
            let request = NetworkConnectRequest { container: id, endpoint_config: None };
            docker.connect_network(name, request).await
        };
        self.on_container(shed, CHANGE_LIMIT, "join a network", join).await?;
        Ok(())
    }

    pub(crate) async fn stop(&self, shed: &ShedName, limit: Duration) -> Result<(), EngineError> {
        // Docker counts whole seconds, so the limit is rounded up.
        let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
        let t = i32::try_from(seconds).ok();
        let stop = |docker: Docker, id: String| async move {
            let options = StopContainerOptions { t, ..StopContainerOptions::default() };
            docker.stop_container(&id, Some(options)).await
        };
        self.on_container(shed, limit + STOP_MARGIN, "stop a container", stop).await?;
        Ok(())
    }

    pub(crate) async fn pause(&self, shed: &ShedName) -> Result<(), EngineError> {
        let pause = |docker: Docker, id: String| async move { docker.pause_container(&id).await };
        let paused = self.on_container(shed, CHANGE_LIMIT, "pause a container", pause).await;
        self.unless_already(shed, paused, &ContainerState::Paused).await
    }

    pub(crate) async fn unpause(&self, shed: &ShedName) -> Result<(), EngineError> {
        let unpause =
            |docker: Docker, id: String| async move { docker.unpause_container(&id).await };
        let unpaused = self.on_container(shed, CHANGE_LIMIT, "unpause a container", unpause).await;
        self.unless_already(shed, unpaused, &ContainerState::Running).await
    }

    /// Treats a change that was refused because the container is in that state already as done.
    async fn unless_already(
        &self,
        shed: &ShedName,
        done: Result<Option<()>, Failure>,
        wanted: &ContainerState,
    ) -> Result<(), EngineError> {
        match done {
            Ok(done) => done.ok_or_else(|| no_container(shed)),
            Err(failure) if failure.may_be_taken() => {
                let now = self.find(shed).await?.map(|found| found.state);
                if now.as_ref() == Some(wanted) { Ok(()) } else { Err(failure.into()) }
            }
            Err(failure) => Err(failure.into()),
        }
    }

    pub(crate) async fn remove_container(&self, shed: &ShedName) -> Result<(), EngineError> {
        let remove = |docker: Docker, id: String| async move {
            // `v` removes the image's anonymous volumes with the container and keeps named ones.
            let options = RemoveContainerOptions {
                force: true,
                v: true,
                ..RemoveContainerOptions::default()
            };
            docker.remove_container(&id, Some(options)).await
        };
        let removed =
            match self.on_container(shed, CHANGE_LIMIT, "remove a container", remove).await {
                Err(failure) if failure.status() == Some(409) => self.await_removal(shed).await,
                removed => removed.map(drop),
            };
        self.forget_id(shed);
        match removed {
            Err(failure) if !failure.is_missing() => Err(failure.into()),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Waits until a removal that somebody else began is done.
    async fn await_removal(&self, shed: &ShedName) -> Result<(), Failure> {
        let wait = |docker: Docker, id: String| async move {
            let options = WaitContainerOptions { condition: "removed".to_owned() };
            docker.wait_container(&id, Some(options)).next().await;
            Ok(())
        };
        self.on_container(shed, CHANGE_LIMIT, "remove a container", wait).await.map(drop)
    }

    pub(crate) async fn remove_volumes(&self, shed: &ShedName) -> Result<(), EngineError> {
        let live = self.client.live().await?;
        let filters = Some(self.labels.filter(&[(crate::labels::NAME, shed.as_str())]));
        let asked = live.docker.list_volumes(Some(ListVolumesOptions { filters }));
        let list = self.client.ask(QUERY_LIMIT, "list volumes", asked).await?;
        let ours = list.volumes.into_iter().flatten();
        let ours = ours.filter(|volume| self.labels.owner(&volume.labels).as_ref() == Some(shed));
        let removals = ours.map(|volume| self.remove_volume(volume.name));
        // Every removal is tried, even if another one fails.
        futures_util::future::join_all(removals).await.into_iter().collect()
    }

    /// Removes a volume that is known to be ours. A missing one is no error.
    pub(crate) async fn remove_volume(&self, name: String) -> Result<(), EngineError> {
        let live = self.client.live().await?;
        let asked = live.docker.remove_volume(&name, None::<RemoveVolumeOptions>);
        match self.client.ask(CHANGE_LIMIT, "remove a volume", asked).await {
            Err(failure) if failure.status() == Some(409) => Err(EngineError::Conflict(format!(
                "volume {name:?} is in use; list the containers that use it: docker ps -a --filter volume={name}"
            ))),
            Err(failure) if !failure.is_missing() => Err(failure.into()),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    pub(crate) async fn limit(&self, shed: &ShedName, limits: Limits) -> Result<(), EngineError> {
        let n_cpus = self.client.live().await?.n_cpus;
        let update = |docker: Docker, id: String| async move {
            docker.update_container(&id, config::update(limits, n_cpus)).await
        };
        let updated =
            self.on_container(shed, CHANGE_LIMIT, "change a container's limits", update).await?;
        updated.ok_or_else(|| no_container(shed))
    }

    pub(crate) async fn logs(&self, shed: &ShedName, n_lines: u32) -> Result<String, EngineError> {
        let read = |docker: Docker, id: String| async move {
            let options = LogsOptions {
                stdout: true,
                stderr: true,
                tail: n_lines.to_string(),
                ..LogsOptions::default()
            };
            let mut parts = docker.logs(&id, Some(options));
            let mut bytes = Vec::new();
            while let Some(part) = parts.next().await {
                bytes.extend_from_slice(part?.as_ref());
                if bytes.len() > MAX_LOG_BYTES {
                    // The last lines are the ones asked for.
                    bytes.drain(..bytes.len() - MAX_LOG_BYTES);
                }
            }
            Ok(bytes)
        };
        let bytes = self.on_container(shed, QUERY_LIMIT, "read a log", read).await?;
        let bytes = bytes.ok_or_else(|| no_container(shed))?;
        let text = String::from_utf8_lossy(&bytes);
        // Root in the container can write to the log, and the log is shown on people's terminals.
        Ok(text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect())
    }

    pub(crate) async fn stats(&self, shed: &ShedName) -> Result<Stats, EngineError> {
        let measure = |docker: Docker, id: String| async move {
            let options = StatsOptions { stream: false, one_shot: false };
            docker.stats(&id, Some(options)).next().await.transpose()
        };
        let measured = self.on_container(shed, STATS_LIMIT, "measure a container", measure).await?;
        measured
            .flatten()
            .and_then(|measured| usage::stats(shed, &measured))
            .ok_or_else(|| no_container(shed))
    }

    pub(crate) async fn disk(&self) -> Result<Vec<DiskUse>, EngineError> {
        let live = self.client.live().await?;
        // bollard's types cover the newest engines only. Older engines ignore the query.
        let asked = live.get("/system/df?type=container&type=volume&verbose=1");
        let bytes = self.client.ask(DISK_LIMIT, "measure disk usage", asked).await?;
        let answer = serde_json::from_slice(&bytes).map_err(|error| {
            EngineError::Failed(format!("docker: {}", one_line(&error.to_string())))
        })?;
        Ok(usage::disk(&answer, &self.labels))
    }

    pub(crate) async fn is_peer(&self, shed: &ShedName, caller: Peer) -> Result<bool, EngineError> {
        let live = self.client.live().await?;
        let owner = if live.rootless { peer::own_uid() } else { None };
        if !peer::may_be_root(caller, owner) {
            return Ok(false);
        }
        // Queried at each connect: the process id changes with each start.
        let inspect =
            |docker: Docker, id: String| async move { docker.inspect_container(&id, None).await };
        let container =
            self.on_container(shed, QUERY_LIMIT, "inspect a container", inspect).await?;
        let state = container.and_then(|container| container.state).unwrap_or_default();
        let first = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
        Ok(peer::is_shed_init(caller, first))
    }
}

fn no_container(shed: &ShedName) -> EngineError {
    EngineError::NoContainer(format!("shed {shed:?} has no container"))
}
