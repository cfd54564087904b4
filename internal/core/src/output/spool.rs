//! The spool: what runners in a shed write until the server has collected it.

use crate::box_link::BoxLink;

/// The directory of the spool in a shed.
pub(crate) fn spool_dir(link: &BoxLink) -> String {
    format!("{}/.shed/spool", link.hello().worktrees)
}
