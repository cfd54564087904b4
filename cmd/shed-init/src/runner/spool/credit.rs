//! How long the runner may wait for the disk. Pure.

use std::time::{Duration, Instant};

/// The runner may wait for the disk for one part in this many of the time.
const CREDIT_SHARE: u32 = 10;
/// The longest wait for the disk at once.
const MAX_CREDIT: Duration = Duration::from_millis(200);

/// The time that the runner may wait for the disk. It grows with the time that passes, up to [`MAX_CREDIT`].
#[derive(Debug)]
pub(super) struct Credit {
    left: Duration,
    since: Instant,
}

impl Default for Credit {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

impl Credit {
    fn new(now: Instant) -> Self {
        Self { left: MAX_CREDIT, since: now }
    }

    /// The longest wait at this time.
    pub(super) fn available(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.since) / CREDIT_SHARE;
        self.since = now;
        self.left = MAX_CREDIT.min(self.left + earned);
        self.left
    }

    /// Subtracts a wait.
    pub(super) fn spend(&mut self, spent: Duration) {
        self.left = self.left.saturating_sub(spent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_paid_back_by_ten_times_its_duration() {
        let start = Instant::now();
        let mut credit = Credit::new(start);
        assert_eq!(credit.available(start), MAX_CREDIT);
        credit.spend(MAX_CREDIT);
        assert_eq!(credit.available(start), Duration::ZERO);
        assert_eq!(credit.available(start + MAX_CREDIT), MAX_CREDIT / CREDIT_SHARE);
        assert_eq!(credit.available(start + 100 * MAX_CREDIT), MAX_CREDIT, "no more is saved up");
    }
}
