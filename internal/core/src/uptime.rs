//! The host's monotonic clock, in a form that can be stored: a restart of the server does not change it.

use rustix::time::{ClockId, clock_gettime};
use shed_model::session::Uptime;
use tokio::time::Instant;

/// Identifies the boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Measures the host's uptime. It follows the runtime's clock, which tests can advance.
#[derive(Debug)]
pub(crate) struct UptimeClock {
    begin: Uptime,
    since: Instant,
}

impl UptimeClock {
    pub(crate) fn start() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
        // Without an id every start of the server counts as a boot, and the wall clock is used.
        let boot = std::fs::read_to_string(BOOT_ID);
        let boot = boot.unwrap_or_else(|_| uuid::Uuid::new_v4().to_string()).trim().to_owned();
        let ms = seconds * 1000 + nanos / 1_000_000;
        Self { begin: Uptime { boot, ms }, since: Instant::now() }
    }

    pub(crate) fn now(&self) -> Uptime {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Uptime { boot: self.begin.boot.clone(), ms: self.begin.ms.saturating_add(passed) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn uptime_goes_on_over_a_restart_of_the_server() {
        let first = UptimeClock::start();
        let before = first.now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(first.now().ms, before.ms + 5000);
        let second = UptimeClock::start().now();
        assert_eq!(second.boot, before.boot);
        assert!((before.ms..before.ms + 60_000).contains(&second.ms), "{before:?} {second:?}");
    }
}
