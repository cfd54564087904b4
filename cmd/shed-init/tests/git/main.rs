//! `shed-init git` and `watch-tree` as the server uses them, with the real git in repositories of their own.
#![cfg(test)]

mod beside;
mod checkpoints;
mod diffs;
mod hostile;
mod support;
mod watching;
mod worktrees;
