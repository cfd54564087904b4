//! Files of sessions: git in a shed, worktrees, diffs and checkpoints.

pub(crate) mod diff_watch;
pub(crate) mod git;
pub mod patch;
pub(crate) mod worktree;
