//! When a change is told: the first at once, the ones after it together. Pure.

use std::time::{Duration, Instant};

/// Between two lines there is so much time at least.
const PERIOD: Duration = Duration::from_millis(500);
/// How long it is quiet before changes that came later are told. A save is several events.
const QUIET: Duration = Duration::from_millis(100);

/// What is known of the last line and of changes since then.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    told_at: Option<Instant>,
    /// The first and the last change that was not told.
    pending: Option<(Instant, Instant)>,
}

impl Pace {
    /// Something changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// When the next line is to be printed, if any.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (first, last) = self.pending?;
        let Some(told_at) = self.told_at else { return Some(first) };
        let earliest = told_at + PERIOD;
        if first >= earliest {
            return Some(first);
        }
        // Never later than a period after the first, however long it goes on.
        Some(earliest.max((last + QUIET).min(first + PERIOD)))
    }

    /// Whether a line is to be printed now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// A line was printed.
    pub(crate) fn told(&mut self, now: Instant) {
        self.told_at = Some(now);
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_told_at_once_and_the_rest_together() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        pace.changed(at(0));
        assert!(pace.is_due(at(0)));
        pace.told(at(0));
        pace.changed(at(10));
        assert_eq!(pace.due(), Some(at(500)));
        pace.changed(at(450));
        assert_eq!(pace.due(), Some(at(510)), "the first of them waits no longer than a period");
        pace.told(at(510));
        pace.changed(at(2000));
        assert_eq!(pace.due(), Some(at(2000)), "after quiet it is at once again");
    }

    #[test]
    fn changes_without_end_are_told_twice_a_second() {
        let start = Instant::now();
        let (mut pace, mut n_told) = (Pace::default(), 0);
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            pace.changed(now);
            if pace.is_due(now) {
                pace.told(now);
                n_told += 1;
            }
        }
        assert!((18..=21).contains(&n_told), "{n_told}");
    }
}
