//! Making what a shed is made of: the network, the volumes, the container.
//!
//! What is there and carries this server's mark is taken up; what is there and does not is a conflict and stays as it is. A
//! creation that fails takes back the volumes that it made, and no other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::{NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptions, ListNetworksOptions};
use futures_util::future::join_all;
use shed_api::ShedName;
use shed_api::shed::Network;
use shed_engine::STOP_LIMIT;
use shed_engine::{BoxPlan, Created, EngineError};

use crate::boxes::{CHANGE_LIMIT, LOOK_LIMIT};
use crate::engine::Inner;
use crate::found::owner;
use crate::labels::{VOLUMES, was_made};
use crate::words::Trouble;
use crate::{config, image, mounts};

/// Keeps sheds of one network from each other.
const NO_TRAFFIC_BETWEEN: (&str, &str) = ("com.docker.network.bridge.enable_icc", "false");

/// What became of one volume.
struct Volume {
    name: String,
    /// Whether this call made it.
    made: bool,
}

/// Who has the name of a shed's container.
enum Holder {
    Nobody,
    /// The shed, with this container from this image.
    Shed {
        id: String,
        image: String,
    },
    Stranger,
}

impl Inner {
    pub(crate) async fn create(&self, plan: &BoxPlan) -> Result<Created, EngineError> {
        mounts::check(&plan.mounts, self.client.socket())?;
        image::check_name(&plan.image)?;
        let network = async {
            match plan.network {
                Network::Open => self.ensure_network().await,
                Network::None => Ok(()),
            }
        };
        let made = made_mark();
        let volumes = join_all(VOLUMES.map(|what| self.make_volume(&plan.shed, what, &made)));
        let (network, volumes) = tokio::join!(network, volumes);
        let (volumes, failures): (Vec<_>, Vec<_>) = volumes.into_iter().partition(Result::is_ok);
        let volumes: Vec<Volume> = volumes.into_iter().filter_map(Result::ok).collect();
        let failure = failures.into_iter().find_map(Result::err);
        let done = match failure.map_or(network, Err) {
            Ok(()) => self.make_container(plan).await,
            failed => failed,
        };
        let made = volumes.into_iter().filter(|volume| volume.made);
        if let Err(error) = done {
            self.take_back(made).await;
            return Err(error);
        }
        Ok(Created { made_volumes: made.count() == VOLUMES.len() })
    }

    /// Makes one volume or takes it up. Docker answers with what is there when there is something: one question does both,
    /// and nobody can come in between.
    async fn make_volume(
        &self,
        shed: &ShedName,
        what: &str,
        made: &str,
    ) -> Result<Volume, EngineError> {
        let name = self.labels.volume(shed, what);
        let live = self.client.live().await?;
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(self.labels.for_volume(shed, what, made)),
            ..VolumeCreateRequest::default()
        };
        let asked = live.docker.create_volume(request);
        let volume = match self.client.ask(CHANGE_LIMIT, "make a volume", asked).await {
            // Podman, and Docker where another driver has the name.
            Err(trouble) if trouble.may_be_taken() => {
                let asked = live.docker.inspect_volume(&name);
                let there = self.client.ask(LOOK_LIMIT, "look at a volume", asked).await;
                there.map_err(|_| trouble)?
            }
            volume => volume?,
        };
        if self.labels.owner(&volume.labels).as_ref() != Some(shed) {
            return Err(taken("volume", &name));
        }
        Ok(Volume { made: was_made(&volume.labels, made), name })
    }

    async fn take_back(&self, made: impl Iterator<Item = Volume>) {
        let removals = made.map(|volume| self.remove_volume(volume.name));
        for removed in join_all(removals).await {
            if let Err(error) = removed {
                tracing::warn!(%error, "a volume of a failed creation was left behind");
            }
        }
    }

    async fn make_container(&self, plan: &BoxPlan) -> Result<(), EngineError> {
        let name = self.labels.container(&plan.shed);
        let refused = match self.try_make_container(&name, plan).await {
            Err(trouble) if trouble.may_be_taken() => trouble,
            Err(trouble) if trouble.is_missing() => return Err(trouble.about_image(&plan.image)),
            made => return Ok(made?),
        };
        match self.holder(&name, &plan.shed).await? {
            Holder::Nobody => Err(refused.into()),
            Holder::Stranger => Err(taken("container", &name)),
            Holder::Shed { id, image } if image == plan.image => {
                self.remember_id(&plan.shed, &id);
                Ok(())
            }
            // Left by an attempt with an image that is not wanted any more.
            Holder::Shed { .. } => {
                self.stop(&plan.shed, STOP_LIMIT).await?;
                self.remove_box(&plan.shed).await?;
                Ok(self.try_make_container(&name, plan).await?)
            }
        }
    }

    async fn try_make_container(&self, name: &str, plan: &BoxPlan) -> Result<(), Trouble> {
        let live = self.client.live().await?;
        let body = config::container(plan, &self.labels, &self.network, live.n_cpus);
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            ..CreateContainerOptions::default()
        };
        let asked = live.docker.create_container(Some(options), body);
        let made = self.client.ask(CHANGE_LIMIT, "make a container", asked).await?;
        self.remember_id(&plan.shed, &made.id);
        Ok(())
    }

    async fn holder(&self, name: &str, shed: &ShedName) -> Result<Holder, Trouble> {
        let Some(container) = self.inspect(name).await? else {
            return Ok(Holder::Nobody);
        };
        Ok(match owner(&container, &self.labels) {
            Some((owner, image)) if owner == *shed => {
                Holder::Shed { id: container.id.unwrap_or_default(), image }
            }
            Some(_) | None => Holder::Stranger,
        })
    }

    /// Makes sure that the network is there. Many at once ask once: Docker would make as many of that name.
    pub(crate) async fn ensure_network(&self) -> Result<(), EngineError> {
        let there = self.network_there.lock().unwrap_or_else(PoisonError::into_inner).clone();
        there.get_or_try_init(|| self.make_network()).await?;
        Ok(())
    }

    /// It may have been removed by hand.
    pub(crate) fn forget_network(&self) {
        *self.network_there.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    async fn make_network(&self) -> Result<(), EngineError> {
        let live = self.client.live().await?;
        let filters = [("name".to_owned(), vec![self.network.clone()])].into();
        let asked = live.docker.list_networks(Some(ListNetworksOptions { filters: Some(filters) }));
        let list = self.client.ask(LOOK_LIMIT, "list networks", asked).await?;
        // The filter finds parts of names, too.
        let mut there = list.into_iter().filter(|found| found.name.as_ref() == Some(&self.network));
        if let Some(found) = there.next() {
            let ours = self.labels.is_ours(&found.labels.unwrap_or_default());
            return if ours { Ok(()) } else { Err(taken("network", &self.network)) };
        }
        let (key, value) = NO_TRAFFIC_BETWEEN;
        let request = NetworkCreateRequest {
            name: self.network.clone(),
            driver: Some("bridge".to_owned()),
            options: Some([(key.to_owned(), value.to_owned())].into()),
            labels: Some(self.labels.for_network()),
            ..NetworkCreateRequest::default()
        };
        let asked = live.docker.create_network(request);
        self.client.ask(CHANGE_LIMIT, "make a network", asked).await?;
        Ok(())
    }
}

fn taken(kind: &str, name: &str) -> EngineError {
    EngineError::Conflict(format!(
        "a {kind} named {name:?} exists and is not this server's; it was left alone; look at it: docker {kind} inspect {name}"
    ))
}

/// A word nobody has used before.
fn made_mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{n}", now.as_nanos(), std::process::id())
}
