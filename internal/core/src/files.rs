//! Files of sessions: git in a shed, worktrees, diffs, checkpoints and the trash.

pub(crate) mod checkpoints;
pub(crate) mod diff;
pub(crate) mod diff_watch;
pub(crate) mod trash;
pub(crate) mod worktree;
