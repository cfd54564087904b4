//! The command lines of tmux and the parsers of its output. Pure: nothing here starts a process.
//!
//! Three properties of tmux matter (observed with 3.3a). Targets match by prefix unless they begin with `=` or are ids, so
//! all targets here do. tmux runs `#(…)` in session names, window names and `-c` directories, so callers check names, and the
//! process that starts tmux sets the directory. An argument that ends with `;` ends a command, so free text is escaped.

pub mod argv;
pub mod error;
pub mod input;
pub mod listing;
pub mod version;
pub mod watch;

pub use error::TmuxError;
pub use listing::{Listing, parse_listing};
