//! A worker's output: the log that keeps every byte, the ways to read it, and the screen that it draws.
//!
//! ```text
//!  collector ──append──▶ Log ──▶ DIR/START.log, START.marks ──compress_one──▶ START-END.gz
//!                                      ▲
//!  viewers ──range, tail, search, cast, replay── Reader
//! ```
//!
//! A byte has an *absolute offset* that never starts again. The worker's command counts from 0 each time it is started;
//! such a start is an *epoch*, and the log knows at which absolute offset it began (its *base*). Everything is
//! synchronous: callers have threads for it. What is appended comes from inside a shed and is hostile; it decides no
//! file's name and no size beyond the limits.

mod cast;
mod catalog;
mod compress;
mod files;
mod history;
mod log;
mod marks;
mod plain;
mod reader;
mod recover;
mod render;
mod replay;
mod screen;
mod scrollback;
mod search;
mod walk;

use std::io;
use std::path::{Path, PathBuf};

pub use compress::Compressor;
pub use history::{History, MAX_HISTORY_BYTES, Redrawn, history, redraw, unfinished_character};
pub use log::{Appended, Limits, Log};
pub use marks::{Exit, Size};
pub use reader::{MAX_PAGE_BYTES, Page, Reader, Status};
pub use replay::replay;
pub use screen::{MAX_COLS, MAX_ROWS, Picture, RESET, Screen};
pub use scrollback::scrollback;
pub use search::{Found, Hit, MAX_HITS, MAX_NEEDLE_BYTES};

/// The largest absolute offset and the largest epoch: what a number in JSON can hold everywhere.
pub const MAX_OFFSET: u64 = (1 << 53) - 1;

/// Why the log did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or this user's part of it, is full. What was kept before is whole; the same call may be made again.
    #[error("no space left for the output in {}", dir.display())]
    Full {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Another [`Log`] has the directory open.
    #[error("the output in {} is already being written", dir.display())]
    Busy {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Bytes or marks of an epoch that another one has followed.
    #[error("epoch {epoch} is over: the output is at epoch {current}")]
    OldEpoch {
        /// What was given.
        epoch: u64,
        /// What the log is at.
        current: u64,
    },
    /// Bytes or marks of an epoch that was not begun.
    #[error("epoch {epoch} was not begun")]
    UnknownEpoch {
        /// What was given.
        epoch: u64,
    },
    /// An offset or an epoch beyond [`MAX_OFFSET`].
    #[error("{what} {value} is too large")]
    TooLarge {
        /// `offset` or `epoch`.
        what: &'static str,
        /// What was given.
        value: u64,
    },
    /// A text that cannot be searched for.
    #[error("cannot search for a text of {n_bytes} bytes: 1 to {MAX_NEEDLE_BYTES} are possible")]
    Needle {
        /// How long the text was.
        n_bytes: usize,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Whoever takes a recording does not take it.
    #[error("cannot write the recording")]
    Sink(#[source] io::Error),
}

impl Error {
    /// `source` happened while `doing` something with `path`; a full disk gets its own name.
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let dir = path.parent().unwrap_or(path).to_owned();
            return Self::Full { dir };
        }
        Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether a file was not there.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
