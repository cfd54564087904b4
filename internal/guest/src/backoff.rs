//! The pause between two attempts of something that is tried until it succeeds.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// A pause that doubles from one failure to the next, with jitter of up to a quarter, so that many tasks that lost the same
/// thing do not all ask for it at the same moment.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    jitter: RandomState,
    n_pauses: u64,
}

impl Backoff {
    /// Pauses of `first`, then twice that, up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first, jitter: RandomState::new(), n_pauses: 0 }
    }

    /// Pauses that are all about equally long.
    pub fn constant(pause: Duration) -> Self {
        Self::new(pause, pause)
    }

    /// Starts again with the first pause: the last attempt succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits. A wait that is dropped counts as one that was made.
    pub async fn pause(&mut self) {
        let pause = self.advance();
        tokio::time::sleep(pause).await;
    }

    fn advance(&mut self) -> Duration {
        let base = self.next;
        self.next = self.longest.min(self.next * 2);
        self.n_pauses += 1;
        // RandomState's keys are random, which is enough to spread tasks; no secret depends on it.
        let percent = u32::try_from(self.jitter.hash_one(self.n_pauses) % 26).unwrap_or_default();
        base + base * percent / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(400));
        for base in [100, 200, 400, 400] {
            let pause = backoff.advance();
            assert!(pause >= ms(base) && pause <= ms(base + base / 4), "{pause:?} for {base} ms");
        }
        backoff.reset();
        assert!(backoff.advance() <= ms(125));
    }
}
