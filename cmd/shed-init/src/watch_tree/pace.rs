//! Decides when changes are reported: the first one immediately, later ones together. Pure.

use std::time::{Duration, Instant};

/// The times that decide when changes are reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The shortest time between two reports.
    pub(super) period: Duration,
    /// How long nothing must change before later changes are reported. Saving a file causes several events.
    pub(super) quiet: Duration,
    /// How long events accumulate in the kernel before they are read. A build causes thousands per second.
    pub(super) gather: Duration,
}

/// The times of the program.
pub(super) const TIMES: Times = Times {
    period: Duration::from_millis(500),
    quiet: Duration::from_millis(100),
    gather: Duration::from_millis(50),
};

/// The last report and the changes since then.
#[derive(Debug)]
pub(super) struct Pace {
    times: Times,
    reported_at: Option<Instant>,
    /// The times of the first and the last change that are not reported yet.
    pending: Option<(Instant, Instant)>,
}

impl Pace {
    pub(super) fn new(times: Times) -> Self {
        Self { times, reported_at: None, pending: None }
    }

    /// Records a change.
    pub(super) fn changed(&mut self, now: Instant) {
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// When the next report is due, if there are changes.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.pending?;
        let Some(reported_at) = self.reported_at else { return Some(first) };
        let earliest = reported_at + self.times.period;
        if first >= earliest {
            return Some(first);
        }
        // At most one period after the first change, even if changes continue.
        Some(earliest.max((last + self.times.quiet).min(first + self.times.period)))
    }

    /// Whether a report is due now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// Records a report.
    pub(super) fn reported(&mut self, now: Instant) {
        self.reported_at = Some(now);
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_reported_immediately_and_the_rest_together() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(TIMES);
        assert_eq!(pace.due(), None);
        pace.changed(at(0));
        assert!(pace.is_due(at(0)));
        pace.reported(at(0));
        pace.changed(at(10));
        assert_eq!(pace.due(), Some(at(500)));
        pace.changed(at(450));
        assert_eq!(pace.due(), Some(at(510)), "the first change waits for one period at most");
        pace.reported(at(510));
        pace.changed(at(2000));
        assert_eq!(pace.due(), Some(at(2000)), "after a quiet time the report is immediate again");
    }

    #[test]
    fn continuous_changes_are_reported_twice_a_second() {
        let start = Instant::now();
        let (mut pace, mut n_reports) = (Pace::new(TIMES), 0);
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            pace.changed(now);
            if pace.is_due(now) {
                pace.reported(now);
                n_reports += 1;
            }
        }
        assert!((18..=21).contains(&n_reports), "{n_reports}");
    }
}
