//! The protocol between a shed's collector and the server, about the spools of workers. Pure.
//!
//! A worker's runner appends what its command prints to a spool in the shed. One collector per shed reads all spools and
//! sends their items to the server. The server says from which offset it wants a spool, and up to which offset it has
//! stored it.
//!
//! ```text
//! collector                                     server
//!   Found {worker, epoch} …, Listed    ──────▶
//!                                      ◀──────  Follow {worker, epoch, from}
//!   Started, Resize, Output, Gap …     ──────▶
//!                                      ◀──────  Ack {worker, epoch, offset}
//!   Exit {offset, status}              ──────▶
//!                                      ◀──────  Ack {worker, epoch, offset, end: true}
//! ```
//!
//! An offset is the number of bytes that the command had printed since its epoch began, lost bytes included. Items are sent
//! in the order of their offsets. Items without bytes (`Started`, `Resize`, `Exit`) are sent again when a follow starts at
//! their offset.
//!
//! A frame is one byte of kind, four bytes of length, then the payload: 16 bytes of worker and 8 bytes of epoch where the
//! kind has them, then the fields in the order of their declaration. All numbers are big endian.

mod codec;
mod values;
mod worker_id;

use crate::message::{Refusal, Status};

pub use codec::encode_output;
pub(crate) use values::beginning;
pub use values::{refusal_bytes, status_bytes, status_of};
pub use worker_id::{BadWorkerId, WorkerId};

/// The most bytes of output in one item.
pub const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// The largest payload of a frame: an item with [`MAX_OUTPUT_BYTES`] of output.
pub const MAX_PAYLOAD_BYTES: usize = MAX_OUTPUT_BYTES + 64;

/// One start of a worker's command. Each has a spool of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The worker that was started.
    pub worker: WorkerId,
    /// The number of the start, counted by the server.
    pub epoch: u64,
}

/// A request from the server to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorRequest {
    /// Send the items from an offset on. It replaces an earlier follow of the same epoch. An unknown epoch is answered by
    /// [`Item::Lost`].
    Follow {
        /// The epoch to send.
        of: Epoch,
        /// The offset of the first byte to send.
        from: u64,
    },
    /// The server has stored everything before `offset`, so that the collector may delete it.
    Ack {
        /// The epoch that was stored.
        of: Epoch,
        /// The offset of the first byte that is not stored.
        offset: u64,
        /// Whether the last item (exit, refusal or loss) is stored too. The collector then deletes the epoch.
        end: bool,
    },
    /// Delete all epochs of a worker. A runner that is still writing loses its spool; its command is not affected.
    Forget {
        /// The worker whose epochs are deleted.
        worker: WorkerId,
    },
}

/// A frame from the collector to the server. `of` names the epoch; `at_ms` is the container's clock, in milliseconds since
/// 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An epoch exists. Sent once for each epoch at the start of the connection, then for each new one.
    Found {
        /// The epoch that exists.
        of: Epoch,
    },
    /// [`Item::Found`] has been sent for all epochs that existed at the start of the connection.
    Listed,
    /// The command was started.
    Started {
        /// The epoch of the command.
        of: Epoch,
        /// Always 0.
        offset: u64,
        /// When it started, in milliseconds since 1970 by the shed's clock.
        at_ms: u64,
        /// The command's process id in the container, also its process group and session.
        pid: u32,
    },
    /// Bytes that the command printed to its terminal, from 1 to [`MAX_OUTPUT_BYTES`].
    Output {
        /// The epoch of the command.
        of: Epoch,
        /// The offset of the first byte.
        offset: u64,
        /// The time at which the first byte was printed.
        at_ms: u64,
        /// The printed bytes.
        bytes: Vec<u8>,
    },
    /// The terminal has this size from this offset on.
    Resize {
        /// The epoch of the command.
        of: Epoch,
        /// The offset at which the size changed.
        offset: u64,
        /// When it changed, in milliseconds since 1970 by the shed's clock.
        at_ms: u64,
        /// The width, in character cells.
        cols: u16,
        /// The height, in character cells.
        rows: u16,
    },
    /// The command printed these bytes, and they are lost.
    Gap {
        /// The epoch of the command.
        of: Epoch,
        /// The offset of the first lost byte.
        offset: u64,
        /// The number of lost bytes, at least 1.
        n_bytes: u64,
    },
    /// The command ended; the last item of its epoch.
    Exit {
        /// The epoch of the command.
        of: Epoch,
        /// The length of the command's output.
        offset: u64,
        /// When it ended, in milliseconds since 1970 by the shed's clock.
        at_ms: u64,
        /// The exit code or signal.
        status: Status,
    },
    /// The command could not be started; the last item of its epoch.
    Refused {
        /// The epoch of the command.
        of: Epoch,
        /// When it was tried, in milliseconds since 1970 by the shed's clock.
        at_ms: u64,
        /// Why the command did not start.
        refusal: Refusal,
    },
    /// The exit status is unknown because the runner was killed, or the epoch does not exist; the last item of its epoch.
    Lost {
        /// The epoch of the command.
        of: Epoch,
        /// The length of the known output.
        offset: u64,
    },
}

/// Bytes that are not a valid frame. The rest of the stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid frame on the collector's connection")]
pub struct SpoolError;
