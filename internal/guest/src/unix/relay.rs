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
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use super::ShedThread;
use crate::Error;
use crate::connection::Connection;
use crate::stream::ReadStream;

/// The buffer of the first read, and of each one after a small one, in bytes: idle streams need no large buffer.
const SMALL_READ: usize = 4 << 10;
/// The buffer of a read after one that filled its buffer, and the largest chunk, in bytes.
const LARGE_READ: usize = 64 << 10;

/// What comes out of a container.
///
/// In both directions the bytes pass through a pipe that the server made. A thread that waits for a pipe wakes up earlier than
/// one that waits for a message of another thread (measured: 10 µs of 60 for a key and its echo).
pub(super) struct RelayReader {
    pipe: pipe::Receiver,
    /// Tells the sending half when this one is dropped.
    _closed: oneshot::Receiver<()>,
    /// How many bytes were read.
    n_read: u64,
    /// How many bytes are known to have been written.
    n_written: Arc<AtomicU64>,
}

/// The sending half of a [`RelayReader`], for the thread of the shed.
pub(super) struct Source {
    pipe: OwnedFd,
    closed: oneshot::Sender<()>,
}

/// The receiving half of a pipe into a container, for the thread of the shed.
pub(super) struct Sink(OwnedFd);

/// A pipe out of a container.
pub(super) fn outward(
    thread: &ShedThread,
    n_written: Arc<AtomicU64>,
) -> io::Result<(Source, RelayReader)> {
    let (read, write) = io::pipe()?;
    let (closed, reader_is_gone) = oneshot::channel();
    let pipe = thread.on_server(|| pipe::Receiver::from_owned_fd(read.into()))?;
    let reader = RelayReader { pipe, _closed: reader_is_gone, n_read: 0, n_written };
    Ok((Source { pipe: write.into(), closed }, reader))
}

/// A pipe into a container. What was written before the server's end is dropped still arrives.
pub(super) fn inward(thread: &ShedThread) -> io::Result<(pipe::Sender, Sink)> {
    let (read, write) = io::pipe()?;
    let pipe = thread.on_server(|| pipe::Sender::from_owned_fd(write.into()))?;
    Ok((pipe, Sink(read.into())))
}

/// Reads with a buffer that is large only while much arrives.
struct Buffer(Vec<u8>);

impl Buffer {
    fn new() -> Self {
        Self(vec![0; SMALL_READ])
    }

    /// Reads once. Failures are an end, too: a terminal that no process holds any more fails instead of ending.
    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> usize {
        from.read(&mut self.0).await.unwrap_or(0)
    }

    /// Chooses the size for the next read by what the last one read.
    fn adapt(&mut self, n_read: usize) {
        let size = if n_read == self.0.len() {
            LARGE_READ
        } else if n_read < SMALL_READ {
            SMALL_READ
        } else {
            return;
        };
        if size != self.0.len() {
            self.0 = vec![0; size];
        }
    }
}

impl Source {
    /// Copies until the end of `from`, or until nobody reads any more. `n_taken` is told how many bytes each read took.
    pub(super) async fn fill_from(
        self,
        mut from: impl AsyncRead + Unpin,
        mut n_taken: impl FnMut(usize),
    ) {
        let Self { pipe, mut closed } = self;
        let Ok(mut pipe) = pipe::Sender::from_owned_fd(pipe) else { return };
        let mut buffer = Buffer::new();
        loop {
            let n_read = tokio::select! {
                n_read = buffer.read(&mut from) => n_read,
                () = closed.closed() => return,
            };
            n_taken(n_read);
            if n_read == 0 || pipe.write_all(&buffer.0[..n_read]).await.is_err() {
                return;
            }
            buffer.adapt(n_read);
        }
    }
}

impl Sink {
    /// Copies until the end of what is written, then shuts `to` down. Ends early if `to` takes no more.
    pub(super) async fn empty_into(
        self,
        mut to: impl AsyncWrite + Unpin,
        mut before: impl FnMut(),
    ) {
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd(self.0) else { return };
        let mut buffer = Buffer::new();
        loop {
            let n_read = buffer.read(&mut pipe).await;
            if n_read == 0 {
                break;
            }
            before();
            if to.write_all(&buffer.0[..n_read]).await.is_err() {
                return;
            }
            buffer.adapt(n_read);
        }
        // Fails if the other side is gone.
        to.shutdown().await.ok();
    }
}

impl AsyncRead for RelayReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(context, buffer))?;
        self.n_read += (buffer.filled().len() - n_before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl ReadStream for RelayReader {
    fn ready_bytes(&self) -> usize {
        let n_written = self.n_written.load(Ordering::Acquire);
        usize::try_from(n_written.saturating_sub(self.n_read)).unwrap_or(usize::MAX)
    }
}

/// Both directions of a connection.
struct Both {
    reader: RelayReader,
    /// `None` after a shutdown.
    writer: Option<pipe::Sender>,
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
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer = None;
        Poll::Ready(Ok(()))
    }
}

/// Connects the server to a socket, which the thread of its shed uses until one of the two is closed.
pub(super) fn connection(thread: &ShedThread, socket: OwnedFd) -> Result<Connection, Error> {
    let failed = || Error::io("connection");
    let (source, reader) = outward(thread, Arc::default()).map_err(failed())?;
    let (writer, sink) = inward(thread).map_err(failed())?;
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
    Ok(Connection::other(Box::new(Both { reader, writer: Some(writer) })))
}

/// Copies in both directions. When the server drops its connection, what it wrote before is still sent.
async fn copy(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    source: Source,
    sink: Sink,
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
        connection(thread, fd)
    } else {
        Err(Error::Connect("the shed sent a descriptor that is not a socket".to_owned()))
    }
}
