//! `shed-init git` and `shed-init watch-tree` with the installed git, as the server uses them.
#![cfg(test)]

mod attempts;
mod beside;
mod checkpoints;
mod complete;
mod diffs;
mod hidden;
mod hostile;
mod states;
mod support;
mod watching;
mod worktrees;
