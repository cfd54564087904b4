//! Copies bytes between a channel and a program or connection.

use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::inbox::Inbox;

/// Buffer of the first read, and of every one after a small one, in bytes: idle terminals need no large buffer.
const SMALL_READ: usize = 4 << 10;
/// Buffer of a read after one that filled its buffer, in bytes. A pipe holds no more, and a larger one gains nothing
/// (measured).
const LARGE_READ: usize = 64 << 10;
/// RFC 4254, section 5.2: the type of extended data that is standard error.
const STDERR: u32 = 1;

/// The two streams of a channel to the client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Output {
    /// Standard output, or the bytes of a connection.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Sends everything until the end of `source` or of the channel. Waits for the client's window, so the caller must also
/// watch for the end of the channel.
pub(crate) async fn send(
    mut source: impl AsyncRead + Unpin,
    write: &ChannelWriteHalf<Msg>,
    output: Output,
) {
    let mut size = SMALL_READ;
    loop {
        let mut buffer = Vec::with_capacity(size);
        // A terminal that no process has open any more fails instead of ending; other failures are an end too.
        let n_read = source.read_buf(&mut buffer).await.unwrap_or(0);
        if n_read == 0 {
            return;
        }
        size = if n_read >= size {
            LARGE_READ
        } else if n_read < SMALL_READ {
            SMALL_READ
        } else {
            size
        };
        let sent = match output {
            Output::Stdout => write.data_bytes(buffer).await,
            Output::Stderr => write.extended_data_bytes(STDERR, buffer).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Writes the client's bytes to `sink` until their end, then shuts `sink` down. When nobody reads from `sink` any more, the
/// rest is dropped.
pub(crate) async fn feed(inbox: &Inbox, mut sink: impl AsyncWrite + Unpin) {
    while let Some(chunk) = inbox.next().await {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            match sink.write(rest).await {
                Ok(n_written) if n_written > 0 => {
                    inbox.used(n_written);
                    rest = &rest[n_written..];
                }
                Ok(_) | Err(_) => return inbox.close(),
            }
        }
    }
    // Fails if the reader is gone already.
    sink.shutdown().await.ok();
}
