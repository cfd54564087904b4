//! The lines that `shed-init watch-tree` prints.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::MAX_TREE_WATCHES;

/// One line of `shed-init watch-tree`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeNews {
    /// The event.
    pub news: TreeEvent,
    /// The number of watched directories.
    pub n_watches: usize,
    /// Whether some directories are not watched, because there are more than [`MAX_TREE_WATCHES`] or the kernel refused a
    /// watch.
    pub partial: bool,
}

/// An event of a watched working tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TreeEvent {
    /// All watches are set up; the first line.
    Watching,
    /// Files that are not ignored, the index or refs changed.
    Changed,
}
