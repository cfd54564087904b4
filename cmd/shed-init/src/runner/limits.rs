//! Time limits that both kinds of runners share.

use std::time::Duration;

/// How long the command may take to end after the window was closed or the runner got a signal.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long output is still read after the command has ended. Its children may go on printing without end.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_millis(100);
/// A terminal without output for this long is empty: the kernel delivers written bytes with a short delay.
pub(super) const QUIET: Duration = Duration::from_millis(10);
