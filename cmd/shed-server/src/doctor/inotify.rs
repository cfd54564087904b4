//! Checks whether the kernel lets sheds watch their output.

use shed_api::ShedStatus;
use shed_client::Client;
use shed_report::{Check, Verdict, check};

/// The most inotify instances of one user.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";

/// Compares the limit of inotify instances with the number of running sheds. All sheds share the limit, because their user has
/// the same number in each.
pub(super) async fn check_instances(client: &Client) -> Option<Check> {
    let limit = std::fs::read_to_string(LIMIT).ok()?.trim().parse().ok()?;
    let sheds = client.sheds().await.ok()?.sheds;
    Some(judge(limit, sheds.iter().filter(|shed| shed.status == ShedStatus::Running).count()))
}

/// A shed needs one instance for its output, and one for each session whose changes somebody watches.
fn judge(limit: usize, running: usize) -> Check {
    let what = "inotify instances";
    if running * 2 <= limit {
        return check(what, Verdict::Pass, format!("{limit} for {running} running sheds"));
    }
    let wanted = (running * 4).next_power_of_two();
    let text = format!(
        "{limit} for {running} running sheds; sheds without one check for new output every 250 ms; \
         raise the limit: sysctl -w fs.inotify.max_user_instances={wanted}"
    );
    check(what, Verdict::Warn, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_per_shed_suffice() {
        assert_eq!(judge(128, 64).verdict, Verdict::Pass);
        let check = judge(128, 65);
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.detail.ends_with("max_user_instances=512"), "{}", check.detail);
    }
}
