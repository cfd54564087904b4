//! A worker's output: the log that stores every byte, readers of it, and a model of the screen that it draws.
//!
//! ```text
//!  collector ──append──▶ Log ──▶ DIR/START.log, START.marks ──compress_one──▶ START-END.gz
//!                                      ▲
//!  viewers ──range, tail, search, cast, replay── Reader
//! ```
//!
//! A byte has an *absolute offset*, counted over the whole life of the worker. Each start of the worker's command is an
//! *epoch*, whose bytes count from 0; the log knows the absolute offset at which it began, its *base*. All functions block,
//! so callers use threads. Appended data comes from inside a shed and is untrusted; it determines no file name and no size
//! beyond the limits.

mod cast;
mod catalog;
mod compress;
mod files;
mod history;
mod live;
mod log;
mod marks;
mod modes;
mod place;
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
pub use screen::{MAX_COLS, MAX_ROWS, RESET, Screen};
pub use scrollback::scrollback;
pub use search::{Found, Hit, MAX_HITS, MAX_NEEDLE_BYTES};

/// The largest absolute offset and the largest epoch: the largest integer that all JSON parsers represent exactly.
pub const MAX_OFFSET: u64 = (1 << 53) - 1;

/// Why an operation on a log failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the user's quota is full. The log is still valid, and the same call may be repeated.
    #[error("no space left for the output in {}", dir.display())]
    Full {
        /// Directory of the log.
        dir: PathBuf,
    },
    /// Another [`Log`] has the directory open.
    #[error("the output in {} is already being written", dir.display())]
    Busy {
        /// Directory of the log.
        dir: PathBuf,
    },
    /// The epoch has ended: another one has followed it.
    #[error("epoch {epoch} has ended; the output is at epoch {current}")]
    OldEpoch {
        /// The epoch that the caller named.
        epoch: u64,
        /// The newest epoch of the log.
        current: u64,
    },
    /// The epoch was not begun.
    #[error("epoch {epoch} was not begun")]
    UnknownEpoch {
        /// The epoch that the caller named; larger than the newest one.
        epoch: u64,
    },
    /// An offset or an epoch exceeds [`MAX_OFFSET`].
    #[error("invalid {what} {value}; expected at most {MAX_OFFSET}")]
    TooLarge {
        /// `offset` or `epoch`.
        what: &'static str,
        /// The value that the caller gave.
        value: u64,
    },
    /// The text to search for is empty or too long.
    #[error("invalid search text of {n_bytes} bytes; expected 1 to {MAX_NEEDLE_BYTES} bytes")]
    Needle {
        /// Length of the text, in bytes.
        n_bytes: usize,
    },
    /// A system call failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Writing a recording to its destination failed.
    #[error("cannot write the recording")]
    Sink(#[source] io::Error),
}

impl Error {
    /// The error for a failed system call on `path`. A full disk has a variant of its own.
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let dir = path.parent().unwrap_or(path).to_owned();
            return Self::Full { dir };
        }
        Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether a file does not exist.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
