//! The TCP connection as russh uses it: it acknowledges quickly at the start, and it can be aborted from outside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Number of reads that are acknowledged at once. During the key exchange the client's Nagle algorithm waits for our delayed
/// acknowledgement, which costs 40 ms on each new connection (measured). The kernel resets the option, so it is set again
/// after each read.
const QUICK_READS: u8 = 32;
/// How long sent bytes may stay unacknowledged. russh's keepalive does not cover writes to a client that is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    quick_reads: u8,
    /// Fails every read and write once cancelled. There is no other way to end russh's own task.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Socket {
    /// Takes over a new connection. Cancelling `cut` aborts it.
    pub(crate) fn new(stream: TcpStream, cut: CancellationToken) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let limit = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&stream, limit)?;
        sockopt::set_tcp_quickack(&stream, true)?;
        Ok(Self { stream, quick_reads: QUICK_READS, cut: Box::pin(cut.cancelled_owned()) })
    }

    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        self.cut.as_mut().poll(context).is_ready()
    }
}

fn aborted<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return aborted();
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && self.quick_reads > 0 {
            self.quick_reads -= 1;
            // Without it the connection is only slower.
            sockopt::set_tcp_quickack(&self.stream, true).ok();
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            return aborted();
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
