//! Copies bytes between a socket or terminal, on the thread of its shed, and the rest of the server.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::ShedThread;
use crate::Error;
use crate::connection::Connection;
use crate::stream::ReadStream;

/// Chunks that wait in each direction. Whoever sends more waits.
const CHUNKS: usize = 4;
/// The buffer of the first read, and of each one after a small one, in bytes: idle streams need no large buffer.
const SMALL_READ: usize = 4 << 10;
/// The buffer of a read after one that filled its buffer, and the largest chunk, in bytes.
const LARGE_READ: usize = 64 << 10;

/// What comes out of a container.
pub(super) struct ChunkReader {
    chunks: mpsc::Receiver<Vec<u8>>,
    current: Vec<u8>,
    /// How much of `current` was read.
    at: usize,
    /// How many bytes were read of all chunks.
    n_read: u64,
    /// How many bytes are known to have been written.
    n_written: Arc<AtomicU64>,
}

/// What goes into a container.
pub(super) struct ChunkWriter(PollSender<Vec<u8>>);

/// The sending half of a [`ChunkReader`].
pub(super) struct ChunkSource {
    chunks: mpsc::Sender<Vec<u8>>,
}

/// The receiving half of a [`ChunkWriter`].
pub(super) struct ChunkSink {
    chunks: mpsc::Receiver<Vec<u8>>,
}

/// A channel out of a container.
pub(super) fn outward(n_written: Arc<AtomicU64>) -> (ChunkSource, ChunkReader) {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let reader = ChunkReader { chunks, current: Vec::new(), at: 0, n_read: 0, n_written };
    (ChunkSource { chunks: sender }, reader)
}

/// A channel into a container.
pub(super) fn inward() -> (ChunkWriter, ChunkSink) {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    (ChunkWriter(PollSender::new(sender)), ChunkSink { chunks })
}

impl ChunkSource {
    /// Copies until the end of `source`, or until nobody reads any more. `n_taken` is told how many bytes each read took.
    pub(super) async fn fill_from(
        self,
        mut source: impl AsyncRead + Unpin,
        mut n_taken: impl FnMut(usize),
    ) {
        let mut size = SMALL_READ;
        loop {
            let mut chunk = Vec::with_capacity(size);
            let n_read = tokio::select! {
                // A terminal that no process holds any more fails instead of ending; other failures are an end, too.
                n_read = source.read_buf(&mut chunk) => n_read.unwrap_or(0),
                () = self.chunks.closed() => return,
            };
            if n_read == 0 {
                return;
            }
            n_taken(n_read);
            size = if n_read >= size {
                LARGE_READ
            } else if n_read < SMALL_READ {
                SMALL_READ
            } else {
                size
            };
            if self.chunks.send(chunk).await.is_err() {
                return;
            }
        }
    }
}

impl ChunkSink {
    /// Copies until the end of what is written, then shuts `sink` down. Ends early if `sink` takes no more.
    pub(super) async fn empty_into(
        mut self,
        mut sink: impl AsyncWrite + Unpin,
        mut before: impl FnMut(),
    ) {
        while let Some(chunk) = self.chunks.recv().await {
            before();
            if sink.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // Fails if the other side is gone.
        sink.shutdown().await.ok();
    }
}

impl AsyncRead for ChunkReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == self.current.len() {
            self.current = ready!(self.chunks.poll_recv(context)).unwrap_or_default();
            self.at = 0;
        }
        let rest = &self.current[self.at..];
        let n_bytes = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..n_bytes]);
        self.at += n_bytes;
        self.n_read += n_bytes as u64;
        Poll::Ready(Ok(()))
    }
}

impl ReadStream for ChunkReader {
    fn ready_bytes(&self) -> usize {
        let n_written = self.n_written.load(Ordering::Acquire);
        usize::try_from(n_written.saturating_sub(self.n_read)).unwrap_or(usize::MAX)
    }
}

impl AsyncWrite for ChunkWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.0.poll_reserve(context)).map_err(gone)?;
        let chunk = &bytes[..bytes.len().min(LARGE_READ)];
        self.0.send_item(chunk.to_vec()).map_err(gone)?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.close();
        Poll::Ready(Ok(()))
    }
}

/// Both directions of a connection.
struct Both {
    reader: ChunkReader,
    writer: ChunkWriter,
}

impl AsyncRead for Both {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for Both {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}

/// Connects the server to a socket, which the thread of its shed uses until one of the two is closed.
pub(super) fn connection(thread: &ShedThread, socket: OwnedFd) -> Connection {
    let (source, reader) = outward(Arc::default());
    let (writer, sink) = inward();
    thread.spawn(async move {
        // A socket of which the runtime cannot make a stream is dropped, and the server reads its end.
        match stream_of(socket) {
            Ok(Socket::Unix(socket)) => {
                let (read, write) = socket.into_split();
                copy(read, write, source, sink).await;
            }
            Ok(Socket::Tcp(socket)) => {
                let (read, write) = socket.into_split();
                copy(read, write, source, sink).await;
            }
            Err(_) => {}
        }
    });
    Connection::other(Box::new(Both { reader, writer }))
}

/// Copies in both directions. When the server drops its connection, what it wrote before is still sent.
async fn copy(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    source: ChunkSource,
    sink: ChunkSink,
) {
    tokio::join!(source.fill_from(read, |_| {}), sink.empty_into(write, || {}));
}

/// A stream socket of a family we know.
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

fn stream_of(fd: OwnedFd) -> io::Result<Socket> {
    if socket_domain(&fd)? == AddressFamily::UNIX {
        let socket = std::os::unix::net::UnixStream::from(fd);
        socket.set_nonblocking(true)?;
        return UnixStream::from_std(socket).map(Socket::Unix);
    }
    let socket = std::net::TcpStream::from(fd);
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true).ok();
    TcpStream::from_std(socket).map(Socket::Tcp)
}

/// Checks that what the shed sent is a stream socket of a family we know. Only on the thread of the shed.
pub(super) fn from_shed(thread: &ShedThread, fd: OwnedFd) -> Result<Connection, Error> {
    let known = [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6];
    let is_stream = socket_type(&fd).is_ok_and(|kind| kind == SocketType::STREAM);
    if is_stream && socket_domain(&fd).is_ok_and(|family| known.contains(&family)) {
        Ok(connection(thread, fd))
    } else {
        Err(Error::Connect("the shed sent a descriptor that is not a socket".to_owned()))
    }
}
