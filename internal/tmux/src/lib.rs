//! tmux as text: the words to run and the output to read. Pure; nothing here starts a process.
//!
//! Three facts shape it (measured on tmux 3.3a). Targets match by prefix unless they begin with `=` or are ids, so every
//! target here does. tmux runs `#(…)` found in session names, window names and `-c` directories, so names are checked
//! before they get here and directories are set by the process that starts tmux. A word that ends in `;` ends a command,
//! so free text is escaped.

pub mod argv;
pub mod error;
pub mod listing;
pub mod version;
pub mod watch;

pub use error::TmuxError;
pub use listing::{Listing, parse_listing};
