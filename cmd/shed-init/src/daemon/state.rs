//! The state that the daemon's tasks share.

use super::offers::Offers;
use super::tmux_socket::TmuxSocket;
use super::tmux_state::TmuxState;
use crate::launch::Stages;
use crate::settings::Settings;

/// Shared by the tasks of the link, the container's socket and the tmux watch.
#[derive(Debug)]
pub(super) struct State {
    /// Directories and the session user.
    pub(super) settings: Settings,
    /// An id that is different after each start of the container.
    pub(super) boot: String,
    /// Starts processes.
    pub(super) stages: Stages,
    /// Commands that wait for their runner.
    pub(super) offers: Offers,
    /// Why commands cannot be confined in this container; `None` when they can.
    pub(super) confine: Option<String>,
    /// The socket of tmux's server. Checked before a tmux client is started.
    pub(super) socket: TmuxSocket,
    /// The newest snapshot of tmux, and what makes the watch take the next one.
    pub(super) tmux: TmuxState,
}
