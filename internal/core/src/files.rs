//! Files of sessions: git in a shed, worktrees, diffs and checkpoints.

pub(crate) mod diff_watch;
pub(crate) mod git;
pub(crate) mod worktree;
