//! Rate limits.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::MonotonicClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Requests per second of one credential, and as many in a burst. A busy dashboard makes a few.
const REQUESTS: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
/// Refused credentials per minute of one address. A person mistypes a few times; guessing needs billions of attempts.
const REFUSALS: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
/// Number of names or addresses beyond which idle ones are dropped.
const MAX_KEYS: usize = 10_000;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, MonotonicClock>;

/// The rate limiters. Requests of the unix socket's owner are not limited.
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
    /// Counts a request; false if it exceeds the limit.
    pub(crate) fn request(&self, actor: &str) -> bool {
        if self.requests.len() > MAX_KEYS {
            self.requests.retain_recent();
        }
        self.requests.check_key(&actor.to_owned()).is_ok()
    }

    /// Counts a refused credential; false if the address exceeds the limit.
    pub(crate) fn refusal(&self, address: IpAddr) -> bool {
        if self.refusals.len() > MAX_KEYS {
            self.refusals.retain_recent();
        }
        self.refusals.check_key(&address).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_tokens_is_limited_and_others_are_not() {
        let limits = Limits::default();
        let guesser: IpAddr = "10.0.0.1".parse().unwrap();
        let n_heard = (0..1_000).filter(|_| limits.refusal(guesser)).count();
        assert!(n_heard <= 31, "{n_heard}");
        assert!(limits.refusal("10.0.0.2".parse().unwrap()));
        assert!(limits.request("token:ci"));
    }
}
