//! Admission of connections: how many, from which addresses, and how fast. It only counts; it neither accepts nor reads.
//!
//! When there are too many unauthenticated connections, the oldest one is closed: a client with a key authenticates within
//! milliseconds, so clients that only hold connections open cannot lock others out. An address whose logins fail repeatedly
//! waits before each further login, at most some seconds, so that a program with a wrong key does little harm to others
//! behind the same address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Open connections, over all addresses.
const MAX_OPEN: usize = 2_000;
/// Open connections of one address. Behind a proxy or a tunnel, everyone has the same address.
const MAX_OPEN_PER_ADDRESS: usize = 1_000;
/// Unauthenticated connections, over all addresses.
pub(crate) const MAX_UNAUTHENTICATED: usize = 256;
/// Unauthenticated connections of one address.
pub(crate) const MAX_UNAUTHENTICATED_PER_ADDRESS: usize = 64;
/// Failed logins of an address that cause no delay.
const FREE_FAILURES: u32 = 5;
/// The delay after the first failure beyond [`FREE_FAILURES`]; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest delay of a login.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The number of failures of an address is halved after each period of this length.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Addresses kept in memory. Beyond that, addresses without an open connection are dropped.
const MAX_REMEMBERED: usize = 10_000;

/// Counts the connections of one server.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    next_id: u64,
    n_open: usize,
    /// In order of arrival. A connection that was told to close is removed at once.
    unauthenticated: BTreeMap<u64, (IpAddr, CancellationToken)>,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug, Default)]
struct Address {
    n_open: usize,
    n_failures: u32,
    failed_at: Option<Instant>,
}

/// An admitted connection. Dropping it releases its place.
#[derive(Debug)]
pub(crate) struct Visit {
    gate: Arc<Gate>,
    id: u64,
    address: IpAddr,
    wait: Duration,
    failed: AtomicBool,
    /// Cancelled by the gate or by the connection's task to abort the connection.
    pub(crate) cut: CancellationToken,
}

impl Gate {
    /// Admits a connection; `None` if there are too many.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Visit> {
        let address = network(address);
        let mut counts = self.counts();
        let known = counts.addresses.entry(address).or_default();
        let n_open = known.n_open;
        let wait = known.wait(Instant::now());
        if counts.n_open >= MAX_OPEN || n_open >= MAX_OPEN_PER_ADDRESS {
            return None;
        }
        let own = || counts.unauthenticated.iter().filter(|(_, (from, _))| *from == address);
        let oldest = if own().count() >= MAX_UNAUTHENTICATED_PER_ADDRESS {
            own().next().map(|(id, _)| *id)
        } else if counts.unauthenticated.len() >= MAX_UNAUTHENTICATED {
            counts.unauthenticated.keys().next().copied()
        } else {
            None
        };
        if let Some((_, cut)) = oldest.and_then(|id| counts.unauthenticated.remove(&id)) {
            cut.cancel();
        }
        counts.n_open += 1;
        counts.next_id += 1;
        let id = counts.next_id;
        let cut = CancellationToken::new();
        counts.unauthenticated.insert(id, (address, cut.clone()));
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
    /// The delay before the connection is served.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Marks the connection as authenticated and resets the failures of its address.
    pub(crate) fn authenticated(&self) {
        self.failed.store(false, Ordering::Relaxed);
        let mut counts = self.gate.counts();
        counts.unauthenticated.remove(&self.id);
        counts.addresses.entry(self.address).or_default().n_failures = 0;
    }

    /// Records a failed login. Counted once, when the connection ends, unless a later login succeeds.
    pub(crate) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut counts = self.gate.counts();
        counts.n_open -= 1;
        counts.unauthenticated.remove(&self.id);
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

/// The address to count by: for IPv6 the /64 network, since one machine has all of it.
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
    fn of_too_many_unauthenticated_connections_the_oldest_is_closed() {
        let gate = Arc::new(Gate::default());
        let other = gate.enter(address("192.0.2.9")).unwrap();
        let visits: Vec<Visit> = (0..=MAX_UNAUTHENTICATED_PER_ADDRESS)
            .map(|_| gate.enter(address("192.0.2.1")).unwrap())
            .collect();
        let cut: Vec<bool> = visits.iter().map(|visit| visit.cut.is_cancelled()).collect();
        assert!(cut[0] && !cut[1..].contains(&true) && !other.cut.is_cancelled());
        // An authenticated connection no longer counts.
        visits[1].authenticated();
        let _more = gate.enter(address("192.0.2.1")).unwrap();
        assert!(!visits[1].cut.is_cancelled() && !visits[2].cut.is_cancelled());
    }

    #[test]
    fn unauthenticated_connections_are_limited_over_all_addresses_too() {
        let gate = Arc::new(Gate::default());
        let visits: Vec<Visit> = (0..=MAX_UNAUTHENTICATED)
            .map(|n| gate.enter(address(&format!("10.0.{}.{}", n / 200, n % 200))).unwrap())
            .collect();
        let n_cut = visits.iter().filter(|visit| visit.cut.is_cancelled()).count();
        assert!(n_cut == 1 && visits[0].cut.is_cancelled());
    }

    #[test]
    fn open_connections_of_one_address_are_limited() {
        let gate = Arc::new(Gate::default());
        let mut visits = Vec::new();
        for _ in 0..MAX_OPEN_PER_ADDRESS {
            let visit = gate.enter(address("::ffff:192.0.2.1")).unwrap();
            visit.authenticated();
            visits.push(visit);
        }
        assert!(gate.enter(address("192.0.2.1")).is_none());
        assert!(gate.enter(address("192.0.2.2")).is_some());
        visits.pop();
        assert!(gate.enter(address("192.0.2.1")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_waits_longer_each_time_until_it_succeeds() {
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
        gate.enter(address("192.0.2.1")).unwrap().authenticated();
        assert_eq!(fail(&gate, 0), Duration::ZERO);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
