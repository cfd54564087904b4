//! The networks of sheds: one of filtered sheds, which have [firewall rules](crate::firewall), and one of open sheds.

use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::ListNetworksOptions;
use shed_api::shed::Network;
use shed_engine::EngineError;
use tokio::sync::OnceCell;
use tokio::time::MissedTickBehavior;

use crate::containers::{CHANGE_LIMIT, QUERY_LIMIT};
use crate::create::foreign;
use crate::engine::Inner;
use crate::firewall::Protection;

/// Network option that blocks traffic between the containers of one network.
const NO_INTER_CONTAINER_TRAFFIC: (&str, &str) = ("com.docker.network.bridge.enable_icc", "false");
/// Network option with the name of the bridge's interface.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The longest name of an interface.
const MAX_INTERFACE_BYTES: usize = 15;
/// Docker names a bridge after this many characters of its network's id, unless [`BRIDGE_NAME`] is given.
const BRIDGE_ID: usize = 12;

/// Names of the networks, and whether they are known to exist.
#[derive(Debug)]
pub(crate) struct Networks {
    filtered: Known,
    open: Known,
}

/// One network.
#[derive(Debug)]
struct Known {
    name: String,
    /// Filled while the network is known to exist. Locked to be read or replaced.
    there: Mutex<Arc<OnceCell<()>>>,
}

impl Networks {
    /// Networks with names that begin with `name`.
    pub(crate) fn new(name: String) -> Self {
        let known = |name| Known { name, there: Mutex::default() };
        Self { open: known(format!("{name}-open")), filtered: known(name) }
    }

    fn known(&self, network: Network) -> Option<&Known> {
        match network {
            Network::Filtered => Some(&self.filtered),
            Network::Open => Some(&self.open),
            Network::None => None,
        }
    }

    /// Docker's name of a network.
    pub(crate) fn name(&self, network: Network) -> &str {
        self.known(network).map_or("none", |known| &known.name)
    }

    /// The network of a container, from its network mode.
    pub(crate) fn of_mode(&self, mode: Option<&str>) -> Network {
        let is = |network: &&Network| mode == Some(self.name(**network));
        Network::ALL.iter().find(is).copied().unwrap_or_default()
    }

    /// Forgets that a network exists: somebody may have removed it.
    pub(crate) fn forget(&self, network: Network) {
        if let Some(known) = self.known(network) {
            *known.there.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        }
    }
}

impl Inner {
    /// Creates a network unless it exists. Parallel calls share one request: Docker would create several networks of the
    /// same name. The filtered network gets its rules before a container is in it.
    pub(crate) async fn ensure_network(&self, network: Network) -> Result<(), EngineError> {
        let Some(known) = self.networks.known(network) else { return Ok(()) };
        let there = known.there.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let make = || async {
            self.make_network(&known.name).await?;
            if network == Network::Filtered {
                self.check_firewall().await?;
            }
            Ok::<_, EngineError>(())
        };
        there.get_or_try_init(make).await?;
        Ok(())
    }

    async fn make_network(&self, name: &str) -> Result<(), EngineError> {
        let live = self.client.live().await?;
        if self.find_network(name).await?.is_some() {
            return Ok(());
        }
        let (key, value) = NO_INTER_CONTAINER_TRAFFIC;
        let mut options = vec![(key.to_owned(), value.to_owned())];
        // A fixed name, so that rules that somebody installed by hand hold when the network is created again.
        if name.len() <= MAX_INTERFACE_BYTES {
            options.push((BRIDGE_NAME.to_owned(), name.to_owned()));
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(options.into_iter().collect()),
            labels: Some(self.labels.for_network()),
            ..NetworkCreateRequest::default()
        };
        let asked = live.docker.create_network(request);
        self.client.ask(CHANGE_LIMIT, "create a network", asked).await?;
        Ok(())
    }

    /// The bridge of this server's network of that name, if there is one. A foreign network is an error.
    async fn find_network(&self, name: &str) -> Result<Option<String>, EngineError> {
        let live = self.client.live().await?;
        let filters = [("name".to_owned(), vec![name.to_owned()])].into();
        let asked = live.docker.list_networks(Some(ListNetworksOptions { filters: Some(filters) }));
        let list = self.client.ask(QUERY_LIMIT, "list networks", asked).await?;
        // Docker's filter also matches parts of names.
        let mut same = list.into_iter().filter(|found| found.name.as_deref() == Some(name));
        let Some(found) = same.next() else { return Ok(None) };
        if !self.labels.is_ours(&found.labels.unwrap_or_default()) {
            return Err(foreign("network", name));
        }
        let id = found.id.unwrap_or_default();
        let named = found.options.unwrap_or_default().remove(BRIDGE_NAME);
        let bridge = || format!("br-{}", id.chars().take(BRIDGE_ID).collect::<String>());
        Ok(Some(named.unwrap_or_else(bridge)))
    }

    /// The bridge of the filtered network, if there is one.
    pub(crate) async fn bridge(&self) -> Result<Option<String>, EngineError> {
        self.find_network(self.networks.name(Network::Filtered)).await
    }

    /// Installs missing rules of the filtered network, and removes those of a network that is gone.
    pub(crate) async fn check_firewall(&self) -> Result<Protection, EngineError> {
        if let Some(bridge) = self.bridge().await? {
            return Ok(self.firewall.ensure(&bridge).await);
        }
        self.firewall.remove_installed().await;
        Ok(Protection::NoNetwork)
    }

    /// The same for a caller whose work does not depend on it.
    pub(crate) async fn keep_firewall_once(&self) {
        if let Err(error) = self.check_firewall().await {
            tracing::debug!(%error, "the firewall rules of sheds could not be checked");
        }
    }

    /// Checks the rules again and again.
    pub(crate) async fn keep_firewall(&self) {
        let mut ticks = tokio::time::interval(self.firewall_check);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.keep_firewall_once().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_reads_back_as_its_network() {
        let networks = Networks::new("shed-x".to_owned());
        for network in Network::ALL {
            assert_eq!(networks.of_mode(Some(networks.name(*network))), *network);
        }
        assert_eq!(networks.of_mode(None), Network::Filtered);
        assert_eq!(networks.name(Network::Open), "shed-x-open");
    }
}
