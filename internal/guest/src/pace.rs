//! Limits how often something happens that a container causes.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A token bucket: a burst passes at once, a steady stream once per interval.
#[derive(Debug)]
pub(crate) struct Pace {
    burst: u32,
    interval: Duration,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Pace {
    /// Lets `burst` pass at once, and one more per `interval`.
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: Instant::now() }
    }

    /// Waits until one more may pass. A wait that is dropped takes nothing.
    pub(crate) async fn wait(&mut self) {
        self.wait_for(1).await;
    }

    /// The same for something that counts as `n`, at most as a burst.
    pub(crate) async fn wait_for(&mut self, n: u32) {
        let n = n.clamp(1, self.burst);
        if let Some(next) = self.full_at.checked_sub(self.interval * (self.burst - n)) {
            sleep_until(next).await;
        }
        self.full_at = self.full_at.max(Instant::now()) + self.interval * n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_a_stream_once_per_interval() {
        let interval = Duration::from_millis(100);
        let mut pace = Pace::new(3, interval);
        let start = Instant::now();
        for _ in 0..3 {
            pace.wait().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            pace.wait().await;
        }
        assert_eq!(start.elapsed(), 4 * interval);
        tokio::time::sleep(interval * 10).await;
        let start = Instant::now();
        for _ in 0..3 {
            pace.wait().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.wait_for(1_000).await;
        assert_eq!(start.elapsed(), 3 * interval, "nothing counts for more than a burst");
    }
}
