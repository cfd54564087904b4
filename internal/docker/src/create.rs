//! Creation of a shed's volumes and container.
//!
//! An existing object that carries this server's labels is reused; one that does not is a conflict and is left alone. A
//! creation that fails removes the volumes that it created, and no other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::CreateContainerOptions;
use futures_util::future::join_all;
use shed_api::ShedName;
use shed_engine::STOP_LIMIT;
use shed_engine::{ContainerPlan, Created, EngineError};

use crate::containers::{CHANGE_LIMIT, QUERY_LIMIT};
use crate::engine::Inner;
use crate::failure::Failure;
use crate::found::owner;
use crate::labels::{VOLUMES, was_created};
use crate::{config, image, mounts};

/// A shed's volume, created or reused.
struct Volume {
    name: String,
    /// Whether this call created it.
    created: bool,
}

/// Whose container has the name of a shed's container.
enum Holder {
    Nobody,
    /// The shed's own container, created from this image.
    Shed {
        id: String,
        image: String,
    },
    Foreign,
}

impl Inner {
    pub(crate) async fn create(&self, plan: &ContainerPlan) -> Result<Created, EngineError> {
        mounts::check(&plan.mounts, self.client.socket())?;
        image::check_name(&plan.image)?;
        let network = self.ensure_network(plan.network);
        let nonce = creation_nonce();
        let volumes = join_all(VOLUMES.map(|what| self.make_volume(&plan.shed, what, &nonce)));
        let (network, volumes) = tokio::join!(network, volumes);
        let (volumes, failures): (Vec<_>, Vec<_>) = volumes.into_iter().partition(Result::is_ok);
        let volumes: Vec<Volume> = volumes.into_iter().filter_map(Result::ok).collect();
        let failure = failures.into_iter().find_map(Result::err);
        let done = match failure.map_or(network, Err) {
            Ok(()) => self.make_container(plan).await,
            failed => failed,
        };
        let created = volumes.into_iter().filter(|volume| volume.created);
        if let Err(error) = done {
            self.roll_back(created).await;
            return Err(error);
        }
        Ok(Created { made_volumes: created.count() == VOLUMES.len() })
    }

    /// Creates one volume or reuses an existing one. Docker answers a create request with the existing volume if there is
    /// one, so a single request does both without a race.
    async fn make_volume(
        &self,
        shed: &ShedName,
        what: &str,
        nonce: &str,
    ) -> Result<Volume, EngineError> {
        let name = self.labels.volume(shed, what);
        let live = self.client.live().await?;
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(self.labels.for_volume(shed, what, nonce)),
            ..VolumeCreateRequest::default()
        };
        let asked = live.docker.create_volume(request);
        let volume = match self.client.ask(CHANGE_LIMIT, "create a volume", asked).await {
            // Podman refuses an existing name; Docker does if the volume has another driver.
            Err(failure) if failure.may_be_taken() => {
                let asked = live.docker.inspect_volume(&name);
                let existing = self.client.ask(QUERY_LIMIT, "inspect a volume", asked).await;
                existing.map_err(|_| failure)?
            }
            volume => volume?,
        };
        if self.labels.owner(&volume.labels).as_ref() != Some(shed) {
            return Err(foreign("volume", &name));
        }
        Ok(Volume { created: was_created(&volume.labels, nonce), name })
    }

    async fn roll_back(&self, created: impl Iterator<Item = Volume>) {
        let removals = created.map(|volume| self.remove_volume(volume.name));
        for removed in join_all(removals).await {
            if let Err(error) = removed {
                tracing::warn!(%error, "a volume of a failed creation was left behind");
            }
        }
    }

    async fn make_container(&self, plan: &ContainerPlan) -> Result<(), EngineError> {
        let name = self.labels.container(&plan.shed);
        let refused = match self.try_make_container(&name, plan).await {
            Err(failure) if failure.may_be_taken() => failure,
            Err(failure) if failure.is_missing() => return Err(failure.about_image(&plan.image)),
            made => return Ok(made?),
        };
        match self.holder(&name, &plan.shed).await? {
            Holder::Nobody => Err(refused.into()),
            Holder::Foreign => Err(foreign("container", &name)),
            Holder::Shed { id, image } if image == plan.image => {
                self.remember_id(&plan.shed, &id);
                Ok(())
            }
            // Left by an earlier attempt with another image.
            Holder::Shed { .. } => {
                self.stop(&plan.shed, STOP_LIMIT).await?;
                self.remove_container(&plan.shed).await?;
                Ok(self.try_make_container(&name, plan).await?)
            }
        }
    }

    async fn try_make_container(&self, name: &str, plan: &ContainerPlan) -> Result<(), Failure> {
        let live = self.client.live().await?;
        let body =
            config::container(plan, &self.host_dirs, &self.labels, &self.networks, live.n_cpus);
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            ..CreateContainerOptions::default()
        };
        let asked = live.docker.create_container(Some(options), body);
        let made = self.client.ask(CHANGE_LIMIT, "create a container", asked).await?;
        self.remember_id(&plan.shed, &made.id);
        Ok(())
    }

    async fn holder(&self, name: &str, shed: &ShedName) -> Result<Holder, Failure> {
        let Some(container) = self.inspect(name).await? else {
            return Ok(Holder::Nobody);
        };
        Ok(match owner(&container, &self.labels) {
            Some((owner, image)) if owner == *shed => {
                Holder::Shed { id: container.id.unwrap_or_default(), image }
            }
            Some(_) | None => Holder::Foreign,
        })
    }
}

/// The error for something of ours by name that has not this server's label.
pub(crate) fn foreign(kind: &str, name: &str) -> EngineError {
    EngineError::Conflict(format!(
        "a {kind} named {name:?} exists and does not belong to this server; it was left unchanged; \
         inspect it: docker {kind} inspect {name}"
    ))
}

/// A unique value for [`was_created`].
fn creation_nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{n}", now.as_nanos(), std::process::id())
}
