//! Standard input, read by its own thread: a blocking read of a terminal cannot be cancelled.

use std::io::Read as _;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Size of one read from standard input.
const READ_BYTES: usize = 64 << 10;
/// Chunks of input that may wait to be sent; the reading thread blocks beyond that.
const MAX_CHUNKS: usize = 4;
/// How long the beginning of a character waits for its rest. In a terminal the rest follows at once, unless the terminal's
/// encoding is not UTF-8.
const CHARACTER_LIMIT: Duration = Duration::from_millis(50);

/// Standard input, chunk by chunk.
pub(crate) struct Keyboard {
    chunks: mpsc::Receiver<Vec<u8>>,
    ended: bool,
    /// Whether the input is that of a terminal, in which a character is not divided between two chunks: a program that gets
    /// half of one and waits for the rest takes it for a key of its own.
    whole_characters: bool,
    /// The beginning of a character, and when it was read.
    kept: Vec<u8>,
    kept_at: Instant,
}

impl Keyboard {
    /// Starts to read a terminal.
    pub(crate) fn of_terminal() -> Self {
        Self { whole_characters: true, ..Self::of_pipe() }
    }

    /// Starts to read a pipe or a file: its bytes are passed on as they come.
    pub(crate) fn of_pipe() -> Self {
        let (send, chunks) = mpsc::channel(MAX_CHUNKS);
        // Ends at the end of standard input or with the program.
        std::thread::spawn(move || {
            let mut buffer = vec![0; READ_BYTES];
            while let Ok(n_read) = std::io::stdin().read(&mut buffer) {
                if n_read == 0 || send.blocking_send(buffer[..n_read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self::new(chunks)
    }

    fn new(chunks: mpsc::Receiver<Vec<u8>>) -> Self {
        let (kept, kept_at) = (Vec::new(), Instant::now());
        Self { chunks, ended: false, whole_characters: false, kept, kept_at }
    }

    /// The next chunk; `None` once at the end. Never returns after that. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return std::future::pending().await;
        }
        loop {
            let chunk = if self.kept.is_empty() {
                self.chunks.recv().await
            } else {
                let limit = self.kept_at + CHARACTER_LIMIT;
                timeout_at(limit, self.chunks.recv()).await.unwrap_or_default()
            };
            let Some(chunk) = chunk else {
                if !self.kept.is_empty() {
                    return Some(std::mem::take(&mut self.kept));
                }
                self.ended = true;
                return None;
            };
            if !self.whole_characters {
                return Some(chunk);
            }
            let mut bytes = std::mem::take(&mut self.kept);
            bytes.extend(chunk);
            self.kept = bytes.split_off(bytes.len() - n_incomplete(&bytes));
            self.kept_at = Instant::now();
            if !bytes.is_empty() {
                return Some(bytes);
            }
        }
    }
}

/// The number of bytes at the end that begin a UTF-8 character without completing it.
fn n_incomplete(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let lengths = (1..=tail.len()).rev();
    lengths.into_iter().find(|length| is_beginning(&tail[tail.len() - length..])).unwrap_or(0)
}

fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_character_is_found() {
        for (text, n) in [("", 0), ("a", 0), ("é", 0), ("🚀", 0)] {
            assert_eq!(n_incomplete(text.as_bytes()), n, "{text}");
        }
        for (bytes, n) in [
            (&b"a\xc3"[..], 1),
            (b"\xe2\x82", 2),
            (b"a\xf0\x9f\x9a", 3),
            (b"\x80\x80", 0),
            (b"\xff", 0),
            (b"\xc3\xa9\xe2", 1),
        ] {
            assert_eq!(n_incomplete(bytes), n, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_character_is_not_divided() {
        let (send, chunks) = mpsc::channel(MAX_CHUNKS);
        let mut keyboard = Keyboard { whole_characters: true, ..Keyboard::new(chunks) };
        send.send(b"a\xf0\x9f".to_vec()).await.unwrap();
        assert_eq!(keyboard.next().await.unwrap(), b"a");
        // A read that is cancelled by output of the shed loses nothing.
        let cancelled = tokio::time::timeout(Duration::from_millis(20), keyboard.next()).await;
        assert!(cancelled.is_err());
        send.send(b"\x9a\x80b".to_vec()).await.unwrap();
        assert_eq!(keyboard.next().await.unwrap(), "🚀b".as_bytes());
        // A key of a terminal that is not UTF-8.
        send.send(b"\xe9".to_vec()).await.unwrap();
        let before = Instant::now();
        assert_eq!(keyboard.next().await.unwrap(), b"\xe9");
        assert_eq!(before.elapsed(), CHARACTER_LIMIT);
        send.send(b"\xc3".to_vec()).await.unwrap();
        drop(send);
        assert_eq!(keyboard.next().await.unwrap(), b"\xc3");
        assert_eq!(keyboard.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_pipe_are_passed_on_as_they_come() {
        let (send, chunks) = mpsc::channel(MAX_CHUNKS);
        let mut keyboard = Keyboard::new(chunks);
        send.send(b"a\xf0\x9f".to_vec()).await.unwrap();
        assert_eq!(keyboard.next().await.unwrap(), b"a\xf0\x9f");
    }
}
