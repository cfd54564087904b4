//! The rules and the tasks of shed: what may happen to a shed, and making it happen.
//!
//! [`App`] is all that the doors know. Behind it, each shed has a keeper, the one task that may change it; what may
//! happen is decided in pure functions (`life`, `access`, `mounts`, `repo`, `table`), what happens is done by operations
//! (`ops`) on the engine's port and the shed's link. Nothing here knows HTTP, SSH or a container engine by name.

mod access;
mod app;
mod box_link;
mod error;
mod files;
mod housekeeping;
mod output;
mod scheduler;
mod server;
mod session;
mod settings;
mod shed;
mod stream;
mod tasks;

pub use access::{Person, TOKEN_PREFIX};
pub use app::App;
pub use app::credentials::Credentials;
pub use app::exec::{Attach, Exec, ExecKind, Started};
pub use app::forward::{Bind, Listening, Target};
pub use app::previews::Shown;
pub use app::sheds::{ProgressReader, Removal};
pub use app::tree::DiffQuery;
pub use app::viewer::{Hands, MAX_IMAGE_BYTES, Viewer, WatchWorker};
pub use app::worker_output::OutputSearch;
pub use error::{Error, Failure};
pub use session::settings::SessionSettings;
pub use settings::{Clock, Defaults, PULSE, Settings};
pub use shed::clone::{KEPT, NOT_EMPTY};
pub use shed::handle::Answer;
pub use shed_model::shed::mounts::MountPolicy;
pub use stream::{Connection, Control, Duplex, ExitWait, Running, n_readable, read_some};
