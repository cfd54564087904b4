//! Sessions that shed makes, and their workers: what may happen to them, making it happen, and what becomes of it.
//!
//! ```text
//!   App ──wish──▶ session keeper ──begins──▶ operation ──▶ git, tmux, runners in the box
//!                  ▲   │  ▲                      │
//!   tmux's table ──┘   │  └──── changes ─────────┘
//!                      ▼
//!                 rows, view      collector in the box ──▶ logs, ends of workers ──▶ session keeper
//! ```
//!
//! What decides is pure: `life`, `plan`, `slots`, `layout`, `batch`, `templates`, `orphans`, `gc`. What acts writes first and shows then, through the keeper.

pub(crate) mod agents;
pub(crate) mod batch;
pub(crate) mod collect;
pub(crate) mod control;
pub(crate) mod cursor;
mod deletion;
pub(crate) mod gc;
pub(crate) mod git;
pub(crate) mod images;
pub(crate) mod keeper;
pub(crate) mod layout;
pub(crate) mod leftover;
pub(crate) mod life;
pub(crate) mod logs;
pub(crate) mod numbers;
pub(crate) mod ops;
pub(crate) mod orphans;
pub(crate) mod plan;
pub(crate) mod prepare;
pub(crate) mod previews;
pub(crate) mod seats;
pub(crate) mod settings;
pub(crate) mod slots;
pub(crate) mod templates;
pub(crate) mod tree;
pub(crate) mod view;
pub(crate) mod viewers;
pub(crate) mod windows;
