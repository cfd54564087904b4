//! A connection between the server and something in a container.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to a port, a socket file or a program in a container. Its write half can be shut down alone.
pub struct Connection(Kind);

enum Kind {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

impl Connection {
    /// Wraps a connection of another kind: one with encryption, for instance.
    pub fn other(stream: Box<dyn Duplex>) -> Self {
        Self(Kind::Other(stream))
    }

    /// The connection without its kind.
    pub fn into_stream(self) -> Box<dyn Duplex> {
        match self.0 {
            Kind::Tcp(socket) => Box::new(socket),
            Kind::Other(stream) => stream,
        }
    }
}

impl From<TcpStream> for Connection {
    fn from(socket: TcpStream) -> Self {
        Self(Kind::Tcp(socket))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.0 {
            Kind::Tcp(_) => "tcp",
            Kind::Other(_) => "other",
        };
        f.debug_tuple("Connection").field(&kind).finish()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Kind::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Kind::Other(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Kind::Other(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Kind::Other(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
