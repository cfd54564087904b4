//! The sessions of a shed and their workers.
//!
//! ```text
//!   App ──request──▶ session keeper ──begins──▶ operation ──▶ git, tmux, runners in the container
//!                     ▲   │  ▲                      │
//!      tmux's table ──┘   │  └──── changes ─────────┘
//!                         ▼
//!                    rows, view      collector ──▶ logs, exits of workers ──▶ session keeper
//! ```
//!
//! The keeper writes a change first and shows it then; operations change rows through it.

/// Where sessions begin in a shed whose shed-init does not say.
pub(crate) const WORKSPACE: &str = "/workspace";

use crate::output::logs::Logs;
use crate::scheduler::admission::Slots;

pub(crate) mod conversations;
pub(crate) mod env;
pub(crate) mod events;
pub(crate) mod handle;
pub(crate) mod hooks;
pub(crate) mod ids;
pub(crate) mod keeper;
pub(crate) mod layout;
pub(crate) mod list;
pub(crate) mod operations;
pub(crate) mod plain_windows;
pub(crate) mod requests;
pub(crate) mod screen;
pub(crate) mod settings;
pub(crate) mod submit;
pub(crate) mod table;
pub(crate) mod template_list;
pub(crate) mod templates;
pub(crate) mod unmanaged;
pub(crate) mod view;
pub(crate) mod volume;
pub(crate) mod windows;

/// What the session keepers of all sheds share. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    /// How many sessions may run at once.
    pub(crate) slots: Slots,
    /// What workers print.
    pub(crate) logs: Logs,
}
