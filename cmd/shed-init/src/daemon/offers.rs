//! Commands that the server has offered and that wait for their runner.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shed_link::{Refusal, Spawn};

/// How long an offer waits for its runner. tmux starts a runner within milliseconds.
const OFFER_LIMIT: Duration = Duration::from_secs(15);
/// The most offers that may wait. More waiting offers mean that runners do not start.
const MAX_OFFERS: usize = 64;

/// The waiting offers, by token. The lock is held for single lookups only.
#[derive(Debug, Default)]
pub(super) struct Offers {
    waiting: Mutex<HashMap<String, Offer>>,
}

/// A command and the descriptor that the server sent with it.
#[derive(Debug)]
pub(super) struct Offer {
    /// The command to run.
    pub(super) spawn: Spawn,
    /// The runner's output socket, or the prelude of a worker.
    pub(super) descriptor: OwnedFd,
    since: Instant,
}

impl Offers {
    /// Keeps a command for the runner that will claim it with `token`.
    pub(super) fn put(
        &self,
        token: String,
        spawn: Spawn,
        descriptor: OwnedFd,
    ) -> Result<(), Refusal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, offer| offer.since.elapsed() < OFFER_LIMIT);
        if waiting.len() >= MAX_OFFERS {
            let text = "too many commands are waiting for their tmux window";
            return Err(Refusal::NoResources(text.to_owned()));
        }
        waiting.insert(token, Offer { spawn, descriptor, since: Instant::now() });
        Ok(())
    }

    /// Takes the command of a token; `None` when the token is unknown or has expired.
    pub(super) fn take(&self, token: &str) -> Option<Offer> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(token).filter(|offer| offer.since.elapsed() < OFFER_LIMIT)
    }
}
