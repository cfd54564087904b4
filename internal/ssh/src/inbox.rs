//! Queues for bytes from the client, with flow control.
//!
//! russh grants window when bytes arrive, not when they are used, and its loop blocks on a full channel queue. A process
//! that reads slowly would therefore block the loop; if it also waits for its own output to be read, this is a deadlock. So
//! russh's channel queues are not used: bytes go into an [`Inbox`] at once, and russh is told how much window to grant next.
//! While any inbox of the connection is over [`CAP`], that is [`TRICKLE`] bytes. The client uses up its window and then sends
//! two bytes at a time, which are queued too (coalesced). Keystrokes, commands and downloads on other channels continue.
//!
//! The next window applies to the connection, not to the channel: a second upload beside a blocked one is slow as well.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// The window of a channel, in bytes.
pub(crate) const WINDOW: u32 = 2 << 20;
/// The window while an inbox is over [`CAP`], in bytes. russh grants a new one when less than half is left; with 1 that would
/// never happen.
const TRICKLE: u32 = 2;
/// How long the connection pauses after a packet of [`TRICKLE`] bytes: the client sends the next one at once.
pub(crate) const TRICKLE_PAUSE: Duration = Duration::from_millis(2);
/// An inbox with more bytes than this is over its cap, until it has less than half of it.
const CAP: usize = 8 << 20;
/// A channel whose inbox has more bytes than this is closed: its client ignores the window, or its reader has been blocked
/// for hours.
const HARD_CAP: usize = 32 << 20;
/// The same limit for all inboxes of one connection together.
const HARD_CAP_OF_ALL: usize = 128 << 20;
/// Capacity of a chunk in an empty queue, in bytes, so that keystrokes and trickled bytes share one.
const MIN_CHUNK: usize = 4 << 10;
/// Capacity of a chunk when others are queued before it, in bytes.
const LARGE_CHUNK: usize = 256 << 10;

/// Totals over all inboxes of a connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    n_over: AtomicUsize,
    n_bytes: AtomicUsize,
}

impl Flow {
    /// The window to grant next, in bytes.
    pub(crate) fn window(&self) -> u32 {
        if self.n_over.load(Ordering::Relaxed) > 0 { TRICKLE } else { WINDOW }
    }
}

/// What the caller must do after a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing.
    Ok,
    /// Pause for [`TRICKLE_PAUSE`].
    Trickled,
    /// Close the channel.
    TooMuch,
}

/// Bytes of one channel that are not used yet. Filled by russh's loop, emptied by the channel's task.
#[derive(Debug)]
pub(crate) struct Inbox {
    flow: Arc<Flow>,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes in all chunks and in the one that was taken and is not used up.
    n_bytes: usize,
    over: bool,
    ended: bool,
    /// Nobody reads any more, so new bytes are dropped.
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(flow: &Arc<Flow>) -> Self {
        Self { flow: Arc::clone(flow), queue: Mutex::default(), changed: Notify::new() }
    }

    /// Queues bytes from the client.
    pub(crate) fn push(&self, bytes: &[u8]) -> Pushed {
        let mut queue = self.queue();
        if queue.closed || queue.ended {
            return Pushed::Ok;
        }
        let n_all = self.flow.n_bytes.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        queue.n_bytes += bytes.len();
        queue.append(bytes);
        if queue.n_bytes > CAP && !queue.over {
            queue.over = true;
            self.flow.n_over.fetch_add(1, Ordering::Relaxed);
        }
        let pushed = if queue.n_bytes > HARD_CAP || n_all > HARD_CAP_OF_ALL {
            Pushed::TooMuch
        } else if queue.over && bytes.len() <= TRICKLE as usize {
            Pushed::Trickled
        } else {
            Pushed::Ok
        };
        drop(queue);
        self.changed.notify_one();
        pushed
    }

    /// Marks the end of the client's data.
    pub(crate) fn end(&self) {
        self.queue().ended = true;
        self.changed.notify_one();
    }

    /// Drops all bytes, also those still to come.
    pub(crate) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.chunks.clear();
        let n_bytes = queue.n_bytes;
        self.release(&mut queue, n_bytes);
    }

    /// The next bytes; `None` at the end. They count as queued until they are [`used`](Self::used).
    pub(crate) async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut queue = self.queue();
                if let Some(chunk) = queue.chunks.pop_front() {
                    return Some(chunk);
                }
                if queue.ended || queue.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Records that so many bytes have been used.
    pub(crate) fn used(&self, n_bytes: usize) {
        let mut queue = self.queue();
        let n_bytes = n_bytes.min(queue.n_bytes);
        self.release(&mut queue, n_bytes);
    }

    fn release(&self, queue: &mut Queue, n_bytes: usize) {
        queue.n_bytes -= n_bytes;
        self.flow.n_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
        if queue.over && queue.n_bytes < CAP / 2 {
            queue.over = false;
            self.flow.n_over.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    fn append(&mut self, bytes: &[u8]) {
        if let Some(last) = self.chunks.back_mut()
            && last.capacity() - last.len() >= bytes.len()
        {
            return last.extend_from_slice(bytes);
        }
        // A reader that has fallen behind gets fewer, larger chunks.
        let room = if self.chunks.is_empty() { MIN_CHUNK } else { LARGE_CHUNK };
        let mut chunk = Vec::with_capacity(bytes.len().max(room));
        chunk.extend_from_slice(bytes);
        self.chunks.push_back(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn inboxes() -> (Arc<Flow>, Inbox, Inbox) {
        let flow = Arc::new(Flow::default());
        (Arc::clone(&flow), Inbox::new(&flow), Inbox::new(&flow))
    }

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in() {
        let (_, inbox, _) = inboxes();
        let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        for part in sent.chunks(777) {
            assert_eq!(inbox.push(part), Pushed::Ok);
        }
        inbox.end();
        let mut got = Vec::new();
        while let Some(chunk) = inbox.next().await {
            assert!(chunk.len() <= LARGE_CHUNK);
            inbox.used(chunk.len());
            got.extend(chunk);
        }
        assert!(got == sent);
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn a_full_inbox_narrows_the_window_until_it_is_half_empty() {
        let (flow, inbox, other) = inboxes();
        let mib = vec![0; MIB];
        for _ in 0..8 {
            assert_eq!(inbox.push(&mib), Pushed::Ok);
        }
        assert_eq!(flow.window(), WINDOW);
        assert_eq!(inbox.push(b"xy"), Pushed::Trickled);
        assert_eq!(flow.window(), TRICKLE);
        // Keys for another channel are not slowed.
        assert_eq!(other.push(b"k"), Pushed::Ok);
        inbox.used(4 * MIB);
        assert_eq!(flow.window(), TRICKLE);
        inbox.used(3);
        assert_eq!(flow.window(), WINDOW);
        assert_eq!(inbox.push(b"xy"), Pushed::Ok);
    }

    #[test]
    fn a_dropped_inbox_releases_its_bytes() {
        let (flow, inbox, other) = inboxes();
        inbox.push(&vec![0; 9 * MIB]);
        other.push(&vec![0; 9 * MIB]);
        drop(inbox);
        assert_eq!(flow.window(), TRICKLE);
        other.close();
        assert_eq!((flow.window(), flow.n_bytes.load(Ordering::Relaxed)), (WINDOW, 0));
        assert_eq!(other.push(&vec![0; 9 * MIB]), Pushed::Ok);
        assert_eq!(flow.n_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_client_that_ignores_its_window_is_stopped() {
        let (_, inbox, _) = inboxes();
        let mib = vec![0; MIB];
        assert!((0..32).all(|_| inbox.push(&mib) == Pushed::Ok));
        assert_eq!(inbox.push(&mib), Pushed::TooMuch);
        let flow = Arc::new(Flow::default());
        let many: Vec<Inbox> = (0..8).map(|_| Inbox::new(&flow)).collect();
        for _ in 0..16 {
            assert!(many.iter().all(|inbox| inbox.push(&mib) == Pushed::Ok));
        }
        assert_eq!(many[0].push(&mib), Pushed::TooMuch);
    }

    #[test]
    fn small_packets_share_a_chunk() {
        let (_, inbox, _) = inboxes();
        for _ in 0..10_000 {
            inbox.push(b"xy");
        }
        assert_eq!(inbox.queue().chunks.len(), 2);
    }
}
