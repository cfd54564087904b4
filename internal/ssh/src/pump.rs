//! Bytes between a channel and what stands behind it.

use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::inbox::Inbox;

/// The first read, and every one after a small one: what waits for a key has no large buffer.
const SMALL_READ: usize = 4 << 10;
/// A read after one that filled its buffer. A pipe holds no more, and larger ones gain nothing (measured).
const LARGE_READ: usize = 64 << 10;
/// RFC 4254, section 5.2: the only kind of extended data.
const STDERR: u32 = 1;

/// Which of a channel's two ways to the client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// Output, or a connection's bytes.
    Output,
    /// Errors.
    Errors,
}

/// Sends everything until the end of `source` or of the channel. Waits for the client's window, so a caller must also watch
/// for the channel's end.
pub(crate) async fn send(
    mut source: impl AsyncRead + Unpin,
    write: &ChannelWriteHalf<Msg>,
    way: Way,
) {
    let mut size = SMALL_READ;
    loop {
        let mut buffer = Vec::with_capacity(size);
        // A terminal nobody holds any more says so by an error; whatever else fails has ended too.
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
        let sent = match way {
            Way::Output => write.data_bytes(buffer).await,
            Way::Errors => write.extended_data_bytes(STDERR, buffer).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Writes what the client sends until its end, then ends `sink`. When nobody reads there any more, the rest is dropped.
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
    // It may be gone already.
    sink.shutdown().await.ok();
}
