//! How often snapshots of tmux are taken: a burst of changes at once, a steady stream twice a second.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The number of changes that are reported without delay after a quiet time.
const BURST: u32 = 20;
/// How often one more change may be reported. It limits programs that change their title all the time.
const REFILL: Duration = Duration::from_millis(500);

/// A token bucket.
pub(super) struct Pace {
    tokens: u32,
    refilled: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { tokens: BURST, refilled: Instant::now() }
    }

    /// Waits until one more change may be reported, or until `hurry` is notified.
    pub(super) async fn wait(&mut self, hurry: &Notify) {
        loop {
            let since = self.refilled.elapsed();
            let earned = u32::try_from(since.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
            if earned > 0 {
                self.tokens = BURST.min(self.tokens.saturating_add(earned));
                self.refilled = Instant::now();
            }
            if self.tokens > 0 {
                self.tokens -= 1;
                return;
            }
            tokio::select! {
                () = sleep_until(self.refilled + REFILL) => {}
                () = hurry.notified() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_a_stream_twice_a_second() {
        let (mut pace, hurry) = (Pace::new(), Notify::new());
        let start = Instant::now();
        for _ in 0..BURST {
            pace.wait(&hurry).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            pace.wait(&hurry).await;
        }
        assert_eq!(start.elapsed(), 4 * REFILL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_the_server_waits_for_passes_at_once() {
        let (mut pace, hurry) = (Pace::new(), Notify::new());
        for _ in 0..BURST {
            pace.wait(&hurry).await;
        }
        let start = Instant::now();
        hurry.notify_one();
        pace.wait(&hurry).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.wait(&hurry).await;
        assert_eq!(start.elapsed(), REFILL);
    }
}
