//! Times in the forms that system calls and messages take.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::Timespec;

/// A duration as the timeout of a system call. Durations too long for it become the longest timeout.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// The time left until an instant, as the timeout of a system call; zero for an instant in the past.
pub(crate) fn time_until(at: Instant) -> Timespec {
    timespec(at.saturating_duration_since(Instant::now()))
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

/// Zero for a clock that is set before 1970.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_exact_and_an_instant_in_the_past_is_now() {
        let timeout = timespec(Duration::from_millis(1_500));
        assert_eq!((timeout.tv_sec, timeout.tv_nsec), (1, 500_000_000));
        assert_eq!(timespec(Duration::MAX).tv_sec, i64::MAX);
        let past = time_until(Instant::now());
        assert_eq!((past.tv_sec, past.tv_nsec), (0, 0));
    }
}
