//! The implementation of the engine port: options, caches, and each call passed on to the module that does it.
//!
//! A call that changes something runs on a task of its own, which ends with the call's limit, so that a caller that goes
//! away never leaves half a container behind. The caches (container ids, homes of images, whether the network exists) only
//! save requests; an entry is dropped as soon as Docker contradicts it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shed_api::ShedName;
use shed_api::shed::{DiskUse, Limits, Network, Stats};
use shed_engine::local::{HostDirs, Peer, PeerCheck};
use shed_engine::{
    Changes, ContainerPlan, Created, Engine, EngineError, EngineFuture, Found, ImageFacts, Report,
};

use crate::client::Client;
use crate::firewall::{Firewall, Protection, Tool};
use crate::labels::Labels;
use crate::network::Networks;

/// Number of characters of a server's id in the name of its network.
const NETWORK_SUFFIX: usize = 8;
/// How often the rules of the filtered network are checked: a reload of the host's firewall removes them silently.
const FIREWALL_CHECK: Duration = Duration::from_secs(15);

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// The id that labels this server's containers, volumes and network. Objects with another id are never touched.
    pub server_id: String,
    /// Prefix of the names of containers and volumes; letters, digits and `-`.
    pub prefix: String,
    /// The name of the network that this server's filtered sheds share. Those of open sheds share one with `-open` after
    /// it. No other server may use these names.
    pub network: String,
    /// What installs the rules of the filtered network, in the order in which it is tried.
    pub firewall_tools: Vec<Tool>,
    /// How often these rules are checked.
    pub firewall_check: Duration,
    /// Where the engine listens, in the form of `DOCKER_HOST`; this machine's default socket when absent.
    pub host: Option<String>,
    /// What is mounted into each container. Empty for an engine that creates none.
    pub host_dirs: HostDirs,
    /// Additional labels for every object. shed's own labels win over them.
    pub extra_labels: BTreeMap<String, String>,
}

impl Options {
    /// The default settings for a server with this id; the engine is the one that `DOCKER_HOST` names.
    pub fn new(server_id: &str) -> Self {
        let plain: Vec<char> = server_id.chars().filter(char::is_ascii_alphanumeric).collect();
        let suffix = &plain[plain.len().saturating_sub(NETWORK_SUFFIX)..];
        Self {
            server_id: server_id.to_owned(),
            prefix: "shed".to_owned(),
            network: format!("shed-{}", suffix.iter().collect::<String>()),
            firewall_tools: vec![Tool::Nft, Tool::Iptables],
            firewall_check: FIREWALL_CHECK,
            host: std::env::var("DOCKER_HOST").ok(),
            host_dirs: HostDirs::default(),
            extra_labels: BTreeMap::new(),
        }
    }
}

/// A Docker engine. It need not run yet: each call connects until a connection exists.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    inner: Arc<Inner>,
}

/// The state that all calls share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) labels: Labels,
    /// What is mounted into each container.
    pub(crate) host_dirs: HostDirs,
    /// The networks of sheds.
    pub(crate) networks: Networks,
    /// The rules of the filtered network.
    pub(crate) firewall: Firewall,
    /// How often [`Self::firewall`] is checked.
    pub(crate) firewall_check: Duration,
    /// When this process began to use the engine, since 1970.
    pub(crate) since: Duration,
    /// Ids of containers known to be ours. Locked for single lookups.
    ids: Mutex<HashMap<ShedName, String>>,
    /// Home directory of `dev` by image id. Locked for single lookups.
    homes: Mutex<HashMap<String, String>>,
}

impl DockerEngine {
    /// The engine that `options` describe. Sends no request yet.
    pub fn connect(options: Options) -> Self {
        let Options { server_id, prefix, network, host, host_dirs, extra_labels, .. } = options;
        let inner = Inner {
            client: Client::new(host.as_deref()),
            labels: Labels { server_id, prefix, extra: extra_labels },
            host_dirs,
            firewall: Firewall::new(network.clone(), options.firewall_tools),
            firewall_check: options.firewall_check,
            networks: Networks::new(network),
            since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            ids: Mutex::default(),
            homes: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Installs the rules of the filtered network, which is created if it does not exist.
    pub async fn install_firewall(&self) -> Result<Protection, EngineError> {
        self.inner.ensure_network(Network::Filtered).await?;
        self.inner.check_firewall().await
    }

    /// Whether the rules of the filtered network are installed. Changes nothing.
    pub async fn firewall(&self) -> Result<Protection, EngineError> {
        Ok(match self.inner.bridge().await? {
            None => Protection::NoNetwork,
            Some(bridge) => self.inner.firewall.find(&bridge).await,
        })
    }

    /// Removes the rules of the filtered network. Its error says which tool failed and why.
    pub async fn remove_firewall(&self) -> Result<(), String> {
        self.inner.firewall.remove().await
    }

    /// The rules of the filtered network as input of `nft -f`, for a host on which this process may not install them. `None`
    /// while there is no such network.
    pub async fn firewall_rules(&self) -> Result<Option<String>, EngineError> {
        let bridge = self.inner.bridge().await?;
        Ok(bridge.map(|bridge| self.inner.firewall.nft_rules(&bridge)))
    }

    /// Runs a change to its end on a task of its own, even if the caller goes away.
    fn change<'a, T, F>(&self, act: impl FnOnce(Arc<Inner>) -> F) -> EngineFuture<'a, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let change = act(Arc::clone(&self.inner));
        Box::pin(async move {
            let done = tokio::spawn(change).await;
            done.unwrap_or_else(|error| Err(EngineError::Failed(error.to_string())))
        })
    }
}

impl Inner {
    pub(crate) fn known_id(&self, shed: &ShedName) -> Option<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(shed).cloned()
    }

    pub(crate) fn remember_id(&self, shed: &ShedName, id: &str) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(shed.clone(), id.to_owned());
    }

    pub(crate) fn forget_id(&self, shed: &ShedName) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(shed);
    }

    pub(crate) fn known_home(&self, image_id: &str) -> Option<String> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).get(image_id).cloned()
    }

    pub(crate) fn remember_home(&self, image_id: &str, home: &str) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.insert(image_id.to_owned(), home.to_owned());
    }
}

impl Engine for DockerEngine {
    fn describe(&self) -> EngineFuture<'_, String> {
        Box::pin(async move {
            // Queried each time: the engine may have been replaced.
            self.inner.client.forget();
            Ok(self.inner.client.live().await?.description.clone())
        })
    }

    fn ping(&self) -> EngineFuture<'_, ()> {
        Box::pin(async move { Ok(self.inner.ping().await?) })
    }

    fn containers(&self) -> EngineFuture<'_, Vec<Found>> {
        Box::pin(async move { Ok(self.inner.containers().await?) })
    }

    fn find<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Option<Found>> {
        Box::pin(async move { Ok(self.inner.find(shed).await?) })
    }

    fn image<'a>(&'a self, name: &'a str, report: &'a Report) -> EngineFuture<'a, ImageFacts> {
        Box::pin(async move {
            // A pull may be cancelled with its caller: Docker keeps the layers it has, and nothing is left half done.
            let id = self.inner.have_image(name, report).await?;
            let owner = name.to_owned();
            self.change(|inner| async move { inner.look_into(&id, &owner).await }).await
        })
    }

    fn create<'a>(&'a self, plan: &'a ContainerPlan) -> EngineFuture<'a, Created> {
        let plan = plan.clone();
        self.change(|inner| async move { inner.create(&plan).await })
    }

    fn start<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        let shed = shed.clone();
        self.change(|inner| async move { inner.start(&shed).await })
    }

    fn stop<'a>(&'a self, shed: &'a ShedName, limit: Duration) -> EngineFuture<'a, ()> {
        let shed = shed.clone();
        self.change(move |inner| async move { inner.stop(&shed, limit).await })
    }

    fn pause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        let shed = shed.clone();
        self.change(|inner| async move { inner.pause(&shed).await })
    }

    fn unpause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        let shed = shed.clone();
        self.change(|inner| async move { inner.unpause(&shed).await })
    }

    fn remove_container<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        let shed = shed.clone();
        self.change(|inner| async move { inner.remove_container(&shed).await })
    }

    fn remove_volumes<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        let shed = shed.clone();
        self.change(|inner| async move { inner.remove_volumes(&shed).await })
    }

    fn limit<'a>(&'a self, shed: &'a ShedName, limits: Limits) -> EngineFuture<'a, ()> {
        let shed = shed.clone();
        self.change(move |inner| async move { inner.limit(&shed, limits).await })
    }

    fn logs<'a>(&'a self, shed: &'a ShedName, n_lines: u32) -> EngineFuture<'a, String> {
        Box::pin(self.inner.logs(shed, n_lines))
    }

    fn stats<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Stats> {
        Box::pin(self.inner.stats(shed))
    }

    fn disk(&self) -> EngineFuture<'_, Vec<DiskUse>> {
        Box::pin(self.inner.disk())
    }

    fn changes(&self) -> EngineFuture<'_, Changes> {
        Box::pin(async move { Ok(Arc::clone(&self.inner).changes().await?) })
    }
}

impl PeerCheck for DockerEngine {
    fn is_peer<'a>(&'a self, shed: &'a ShedName, peer: Peer) -> EngineFuture<'a, bool> {
        Box::pin(self.inner.is_peer(shed, peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_named_after_the_server() {
        assert_eq!(Options::new("0192f0c1-aaaa-bbbb-cccc-1234567890ab").network, "shed-567890ab");
        assert_eq!(Options::new("x/").network, "shed-x");
    }
}
