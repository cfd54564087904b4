//! The rules and the tasks of shed: what may happen to a shed, and making it happen.
//!
//! | here | what |
//! |---|---|
//! | `app` | the [`App`] and its services, one for each noun: all that a door can ask for |
//! | `access` | who asks, and what they may do |
//! | `shed` | a shed's keeper, its operations, its creation; the registry of all keepers; the watch over the engine |
//! | `session` | a shed's session keeper, its operations, and the list of sessions |
//! | `exec` | commands, terminals and connections in a shed |
//! | `output` | what workers print: logs, viewers, previews |
//! | `files` | git in a shed: worktrees, diffs, checkpoints, the trash |
//! | `scheduler` | how many sessions may run at once |
//! | `housekeeping` | orphans and garbage |
//! | `server`, `tasks`, `settings`, `error` | what all of them use |
//!
//! A keeper is the one task that may change its shed or its sessions. `shed-model` decides what may happen, in pure
//! functions; operations do it. Nothing here knows HTTP, SSH or a container engine by name.

mod access;
mod app;
mod error;
mod exec;
mod files;
mod housekeeping;
mod output;
mod scheduler;
mod server;
mod session;
mod settings;
mod shed;
mod tasks;
mod uptime;

pub use access::{Person, TOKEN_PREFIX};
pub use app::{
    App, Batches, Credentials, Events, Files, Forwards, Housekeeping, Previews, Removal, Sessions,
    Sheds, Status, Streams, Templates, WorkerOutput, Workers,
};
pub use error::{Error, Failure};
pub use exec::forward::{Bind, Listening, Target};
pub use exec::{Attach, Exec, ExecKind, OUTPUT_WAIT, Started};
pub use files::diff::DiffQuery;
pub use output::input_writer::{InputWriter, MAX_IMAGE_BYTES};
pub use output::pages::OutputSearch;
pub use output::preview_stream::Shown;
pub use output::viewer::{Viewer, WatchWorker};
pub use session::settings::SessionSettings;
pub use settings::{Clock, Defaults, PULSE, Settings};
pub use shed::clone::{INCOMPLETE, KEPT, NOT_EMPTY};
pub use shed::creation::ProgressReader;
pub use shed::handle::Answer;
pub use shed_guest::{
    Connection, Control, ControlCharacter, Duplex, ExitWait, Input, Output, Stream, TerminalMode,
    WindowSize,
};
pub use shed_model::shed::mounts::MountPolicy;
