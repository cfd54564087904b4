//! Which process may connect as the shed-init of a shed: the one that the engine started, or a child of it.

use shed_api::ShedName;
use shed_engine::EngineFuture;
use shed_engine::local::{Peer, PeerCheck};

use super::{ProcessEngine, later};

impl PeerCheck for ProcessEngine {
    fn is_peer<'a>(&'a self, shed: &'a ShedName, peer: Peer) -> EngineFuture<'a, bool> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", peer.pid)).unwrap_or_default();
        let after = stat.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
        let parent = after.split_whitespace().nth(1).and_then(|field| field.parse::<u32>().ok());
        later(self.with(shed, |known| {
            let own = known.hostile.as_ref().map(|_| std::process::id());
            Ok(known.pid.or(own).is_some_and(|pid| pid == peer.pid || Some(pid) == parent))
        }))
    }
}
