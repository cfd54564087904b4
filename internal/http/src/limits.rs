//! How often somebody may ask.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::MonotonicClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Requests a second of one credential, and as many at once. A busy dashboard makes a few.
const REQUESTS: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
/// Refused credentials a minute of one address. A person mistypes a few times; a guesser needs billions.
const REFUSALS: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
/// Names and addresses remembered before the idle ones are forgotten.
const REMEMBERED: usize = 10_000;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, MonotonicClock>;

/// The counters. The owner of the unix socket is not counted: it is the machine's own user.
#[derive(Debug)]
pub(crate) struct Limits {
    requests: Keyed<String>,
    refusals: Keyed<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: keyed(Quota::per_second(REQUESTS)),
            refusals: keyed(Quota::per_minute(REFUSALS)),
        }
    }
}

fn keyed<K: std::hash::Hash + Eq + Clone>(quota: Quota) -> Keyed<K> {
    RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock)
}

impl Limits {
    /// Counts a request; false if it is one too many.
    pub(crate) fn request(&self, actor: &str) -> bool {
        if self.requests.len() > REMEMBERED {
            self.requests.retain_recent();
        }
        self.requests.check_key(&actor.to_owned()).is_ok()
    }

    /// Counts a refused credential; false if the address is to wait.
    pub(crate) fn refusal(&self, address: IpAddr) -> bool {
        if self.refusals.len() > REMEMBERED {
            self.refusals.retain_recent();
        }
        self.refusals.check_key(&address).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_is_slowed_down_and_others_are_not() {
        let limits = Limits::default();
        let guesser: IpAddr = "10.0.0.1".parse().unwrap();
        let n_heard = (0..1_000).filter(|_| limits.refusal(guesser)).count();
        assert!(n_heard <= 31, "{n_heard}");
        assert!(limits.refusal("10.0.0.2".parse().unwrap()));
        assert!(limits.request("token:ci"));
    }
}
