//! Whom the door lets in, how many, and how fast. Counts only; it neither accepts nor reads.
//!
//! Whoever has not logged in is a stranger. Of too many strangers the oldest has to leave: somebody with a key needs
//! milliseconds, somebody who only holds connections open does not get to keep the others out. An address whose logins
//! fail again and again waits before each further one, at most some seconds, so that a program with a wrong key on a
//! shared address is a nuisance to nobody but itself.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once, from everywhere.
const MAX_OPEN: usize = 2_000;
/// Connections at once from one address. Behind a proxy or a tunnel everybody has the same.
const MAX_OPEN_PER_ADDRESS: usize = 1_000;
/// Connections that have not logged in, from everywhere.
pub(crate) const MAX_STRANGERS: usize = 256;
/// Connections that have not logged in, from one address.
pub(crate) const MAX_STRANGERS_PER_ADDRESS: usize = 64;
/// Failed logins of an address that cost it nothing.
const FREE_FAILURES: u32 = 5;
/// The wait after the first failure beyond; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After this long the failures of an address count half.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Addresses remembered for their failures alone. Beyond that, those without a connection are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// The counts of one server.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    next_id: u64,
    n_open: usize,
    /// By arrival. Whoever was told to leave is no longer here.
    strangers: BTreeMap<u64, (IpAddr, CancellationToken)>,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug, Default)]
struct Address {
    n_open: usize,
    n_failures: u32,
    failed_at: Option<Instant>,
}

/// A connection that was let in. Its drop makes room.
#[derive(Debug)]
pub(crate) struct Visit {
    gate: Arc<Gate>,
    id: u64,
    address: IpAddr,
    wait: Duration,
    failed: AtomicBool,
    /// Cancelled when it has to leave; cancelled by its owner to be rid of it.
    pub(crate) cut: CancellationToken,
}

impl Gate {
    /// Lets a connection in; `None` if there are too many.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Visit> {
        let address = network(address);
        let mut counts = self.counts();
        let known = counts.addresses.entry(address).or_default();
        let n_open = known.n_open;
        let wait = known.wait(Instant::now());
        if counts.n_open >= MAX_OPEN || n_open >= MAX_OPEN_PER_ADDRESS {
            return None;
        }
        let own = || counts.strangers.iter().filter(|(_, (from, _))| *from == address);
        let oldest = if own().count() >= MAX_STRANGERS_PER_ADDRESS {
            own().next().map(|(id, _)| *id)
        } else if counts.strangers.len() >= MAX_STRANGERS {
            counts.strangers.keys().next().copied()
        } else {
            None
        };
        if let Some((_, leaves)) = oldest.and_then(|id| counts.strangers.remove(&id)) {
            leaves.cancel();
        }
        counts.n_open += 1;
        counts.next_id += 1;
        let id = counts.next_id;
        let cut = CancellationToken::new();
        counts.strangers.insert(id, (address, cut.clone()));
        counts.addresses.entry(address).or_default().n_open += 1;
        Some(Visit {
            gate: Arc::clone(self),
            id,
            address,
            wait,
            failed: AtomicBool::new(false),
            cut,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address {
    fn failures(&self, now: Instant) -> u32 {
        let halvings =
            self.failed_at.map_or(0, |at| now.duration_since(at).as_secs() / HALF_LIFE.as_secs());
        self.n_failures.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    fn wait(&self, now: Instant) -> Duration {
        match self.failures(now).saturating_sub(FREE_FAILURES) {
            0 => Duration::ZERO,
            n_beyond => LONGEST_WAIT.min(FIRST_WAIT * 2_u32.saturating_pow(n_beyond - 1)),
        }
    }
}

impl Visit {
    /// How long it waits before it is listened to.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// It has logged in: no stranger any more, and its address is forgiven.
    pub(crate) fn welcome(&self) {
        self.failed.store(false, Ordering::Relaxed);
        let mut counts = self.gate.counts();
        counts.strangers.remove(&self.id);
        counts.addresses.entry(self.address).or_default().n_failures = 0;
    }

    /// It tried to log in and could not. Counts once, at its end, unless it still can.
    pub(crate) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut counts = self.gate.counts();
        counts.n_open -= 1;
        counts.strangers.remove(&self.id);
        let known = counts.addresses.entry(self.address).or_default();
        known.n_open -= 1;
        if self.failed.load(Ordering::Relaxed) {
            known.n_failures = known.failures(now) + 1;
            known.failed_at = Some(now);
        } else if known.n_open == 0 && known.failures(now) == 0 {
            counts.addresses.remove(&self.address);
        }
        if counts.addresses.len() > MAX_REMEMBERED {
            counts.addresses.retain(|_, known| known.n_open > 0);
        }
    }
}

/// The address that is counted: of IPv6 the network, since one machine has all of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(gate: &Arc<Gate>, n_times: u32) -> Duration {
        for _ in 0..n_times {
            gate.enter(address("192.0.2.1")).unwrap().failed();
        }
        gate.enter(address("192.0.2.1")).unwrap().wait()
    }

    #[test]
    fn of_too_many_strangers_the_oldest_leaves() {
        let gate = Arc::new(Gate::default());
        let other = gate.enter(address("192.0.2.9")).unwrap();
        let visits: Vec<Visit> = (0..=MAX_STRANGERS_PER_ADDRESS)
            .map(|_| gate.enter(address("192.0.2.1")).unwrap())
            .collect();
        let told: Vec<bool> = visits.iter().map(|visit| visit.cut.is_cancelled()).collect();
        assert!(told[0] && !told[1..].contains(&true) && !other.cut.is_cancelled());
        // Whoever has logged in is no longer one of them.
        visits[1].welcome();
        let _more = gate.enter(address("192.0.2.1")).unwrap();
        assert!(!visits[1].cut.is_cancelled() && !visits[2].cut.is_cancelled());
    }

    #[test]
    fn strangers_are_limited_over_all_addresses_too() {
        let gate = Arc::new(Gate::default());
        let visits: Vec<Visit> = (0..=MAX_STRANGERS)
            .map(|n| gate.enter(address(&format!("10.0.{}.{}", n / 200, n % 200))).unwrap())
            .collect();
        let n_told = visits.iter().filter(|visit| visit.cut.is_cancelled()).count();
        assert!(n_told == 1 && visits[0].cut.is_cancelled());
    }

    #[test]
    fn open_connections_of_one_address_are_limited() {
        let gate = Arc::new(Gate::default());
        let mut visits = Vec::new();
        for _ in 0..MAX_OPEN_PER_ADDRESS {
            let visit = gate.enter(address("::ffff:192.0.2.1")).unwrap();
            visit.welcome();
            visits.push(visit);
        }
        assert!(gate.enter(address("192.0.2.1")).is_none());
        assert!(gate.enter(address("192.0.2.2")).is_some());
        visits.pop();
        assert!(gate.enter(address("192.0.2.1")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_waits_longer_each_time_and_is_forgiven() {
        let gate = Arc::new(Gate::default());
        assert_eq!(fail(&gate, FREE_FAILURES), Duration::ZERO);
        assert_eq!(fail(&gate, 1), FIRST_WAIT);
        assert_eq!(fail(&gate, 2), FIRST_WAIT * 4);
        assert_eq!(fail(&gate, 100), LONGEST_WAIT);
        // Others do not wait.
        assert_eq!(gate.enter(address("192.0.2.2")).unwrap().wait(), Duration::ZERO);
        tokio::time::advance(HALF_LIFE * 5).await;
        assert_eq!(fail(&gate, 0), Duration::ZERO);
        fail(&gate, 100);
        gate.enter(address("192.0.2.1")).unwrap().welcome();
        assert_eq!(fail(&gate, 0), Duration::ZERO);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
