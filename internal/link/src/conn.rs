//! A connection that carries frames and file descriptors, for tokio. The same functions exist in a blocking form for
//! programs without a runtime: the child stage and the runner in the container.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::frame::{HEADER_BYTES, Header, MAX_FDS, decode, encode};

/// The most bytes of one read from the socket.
const READ_BYTES: usize = 64 << 10;

/// The most descriptors that may wait for their frame. A peer that follows the protocol never has so many under way.
const MAX_WAITING_FDS: usize = 4 * MAX_FDS;

/// An error that ends the link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket failed.
    #[error("link: {0}")]
    Io(#[from] io::Error),
    /// A frame does not hold the expected message.
    #[error("link: invalid message: {0}")]
    Json(serde_json::Error),
    /// A frame exceeds a limit.
    #[error("link: a frame of {n_bytes} bytes with {n_fds} descriptors exceeds the limit")]
    TooLarge {
        /// The length of its body.
        n_bytes: usize,
        /// The number of its descriptors.
        n_fds: usize,
    },
    /// The number of descriptors that arrived differs from what the frames announce.
    #[error("link: the peer sent other descriptors than its frames announce")]
    Descriptors,
    /// The peer closed the connection in the middle of a frame.
    #[error("link: the peer closed the connection in the middle of a frame")]
    Torn,
}

/// One end of a link. Only one task at a time may call [`Conn::send`]. The future of [`Conn::recv`] may be dropped and
/// the method called again.
#[derive(Debug)]
pub struct Conn {
    socket: Arc<UnixStream>,
    inbox: Inbox,
}

/// The sending half of a [`Conn`].
#[derive(Debug)]
pub struct Sender {
    socket: Arc<UnixStream>,
}

/// The receiving half of a [`Conn`].
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<UnixStream>,
    inbox: Inbox,
}

/// Received bytes and descriptors that are not part of a complete frame yet.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    fds: VecDeque<OwnedFd>,
}

impl Conn {
    /// Wraps a connected socket.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket: Arc::new(socket), inbox: Inbox::default() }
    }

    /// Splits the connection into two halves for two tasks.
    pub fn split(self) -> (Sender, Receiver) {
        (
            Sender { socket: Arc::clone(&self.socket) },
            Receiver { socket: self.socket, inbox: self.inbox },
        )
    }

    /// Sends one message. If the future is dropped, half a frame may have been sent: close the connection then.
    pub async fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        send(&self.socket, message, fds).await
    }

    /// Receives the next message and its descriptors; `None` when the peer has closed the connection. Cancel-safe.
    pub async fn recv<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
        recv(&self.socket, &mut self.inbox, decode).await
    }
}

impl Sender {
    /// As [`Conn::send`].
    pub async fn send<T: Serialize>(
        &mut self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        send(&self.socket, message, fds).await
    }
}

impl Receiver {
    /// The next message as its JSON bytes, which are not checked. Otherwise as [`Conn::recv`].
    pub async fn recv_bytes(&mut self) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>, LinkError> {
        recv(&self.socket, &mut self.inbox, |body| Ok(body.to_vec())).await
    }

    /// As [`Conn::recv`].
    pub async fn recv<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
        recv(&self.socket, &mut self.inbox, decode).await
    }
}

async fn send<T: Serialize>(
    socket: &UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), LinkError> {
    let frame = encode(message, fds.len())?;
    let mut sent = 0;
    while sent < frame.len() {
        let carried = if sent == 0 { fds } else { &[] };
        sent += socket
            .async_io(Interest::WRITABLE, || send_some(socket.as_fd(), &frame[sent..], carried))
            .await?;
    }
    Ok(())
}

async fn recv<T>(
    socket: &UnixStream,
    inbox: &mut Inbox,
    decode: impl Fn(&[u8]) -> Result<T, LinkError>,
) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
    loop {
        if let Some(frame) = inbox.take_frame(&decode)? {
            return Ok(Some(frame));
        }
        let n_read =
            socket.async_io(Interest::READABLE, || recv_some(socket.as_fd(), inbox)).await?;
        if n_read == 0 {
            return if inbox.is_empty() { Ok(None) } else { Err(LinkError::Torn) };
        }
    }
}

/// Sends one message on a blocking socket.
pub fn send_blocking<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), LinkError> {
    let frame = encode(message, fds.len())?;
    let mut sent = 0;
    while sent < frame.len() {
        let carried = if sent == 0 { fds } else { &[] };
        sent += send_some(socket, &frame[sent..], carried)?;
    }
    Ok(())
}

/// Receives one message from a blocking socket; `None` when the peer has closed the connection. The peer must not send
/// a second message before the first one is answered: bytes read after the first message are lost.
pub fn recv_blocking<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
    let mut inbox = Inbox::default();
    loop {
        if let Some(frame) = inbox.take_frame(decode)? {
            return Ok(Some(frame));
        }
        if recv_some(socket, &mut inbox)? == 0 {
            return if inbox.is_empty() { Ok(None) } else { Err(LinkError::Torn) };
        }
    }
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn recv_some(socket: BorrowedFd<'_>, inbox: &mut Inbox) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    inbox.compact();
    let filled = inbox.bytes.len();
    inbox.bytes.resize(filled + READ_BYTES, 0);
    let mut slices = [IoSliceMut::new(&mut inbox.bytes[filled..])];
    let read = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC);
    let n_read = read.as_ref().map_or(0, |message| message.bytes);
    inbox.bytes.truncate(filled + n_read);
    let message = read?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            inbox.fds.extend(fds);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) || inbox.fds.len() > MAX_WAITING_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
    }
    Ok(n_read)
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        // One large frame must not hold its memory for the rest of the connection.
        if self.bytes.is_empty() && self.bytes.capacity() > 4 * READ_BYTES {
            self.bytes = Vec::new();
        }
    }

    fn take_frame<T>(
        &mut self,
        decode: impl Fn(&[u8]) -> Result<T, LinkError>,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
        let waiting = &self.bytes[self.start..];
        let Some((header, rest)) = waiting.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::parse(*header)?;
        let Some(body) = rest.get(..header.n_bytes) else {
            return Ok(None);
        };
        if self.fds.len() < header.n_fds {
            return Err(LinkError::Descriptors);
        }
        let message = decode(body)?;
        self.start += HEADER_BYTES + header.n_bytes;
        let fds = self.fds.drain(..header.n_fds).collect();
        if self.is_empty() && !self.fds.is_empty() {
            return Err(LinkError::Descriptors);
        }
        Ok(Some((message, fds)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn pair() -> (Conn, Conn) {
        let (a, b) = UnixStream::pair().unwrap();
        (Conn::new(a), Conn::new(b))
    }

    #[tokio::test]
    async fn messages_arrive_in_order_with_their_descriptors() {
        let (a, mut b) = pair();
        let file = tempfile::tempfile().unwrap();
        a.send(&"one", &[]).await.unwrap();
        a.send(&"two", &[file.as_fd()]).await.unwrap();
        a.send(&"three", &[]).await.unwrap();
        assert_eq!(b.recv::<String>().await.unwrap().unwrap().0, "one");
        let (two, mut fds) = b.recv::<String>().await.unwrap().unwrap();
        assert_eq!((two.as_str(), fds.len()), ("two", 1));
        std::fs::File::from(fds.remove(0)).write_all(b"through").unwrap();
        let (three, fds) = b.recv::<String>().await.unwrap().unwrap();
        assert_eq!((three.as_str(), fds.len()), ("three", 0));
        let mut text = String::new();
        std::io::Seek::rewind(&mut (&file)).unwrap();
        (&file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(a);
        assert!(b.recv::<String>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_large_frame_crosses_a_small_socket() {
        let (a, mut b) = pair();
        let long = "x".repeat(3 << 20);
        let (sent, got) = tokio::join!(a.send(&long, &[]), b.recv::<String>());
        sent.unwrap();
        assert_eq!(got.unwrap().unwrap().0.len(), long.len());
    }

    #[tokio::test]
    async fn a_protocol_violation_of_the_peer_is_an_error() {
        // Half a frame.
        let (a, mut b) = pair();
        send_some(a.socket.as_fd(), &[0, 0, 0, 9, 0, b'"'], &[]).unwrap();
        drop(a);
        assert!(matches!(b.recv::<String>().await, Err(LinkError::Torn)));
        // A length over the limit.
        let (a, mut b) = pair();
        send_some(a.socket.as_fd(), &[0xff; 16], &[]).unwrap();
        assert!(matches!(b.recv::<String>().await, Err(LinkError::TooLarge { .. })));
        // Announced descriptors that do not arrive.
        let (a, mut b) = pair();
        send_some(a.socket.as_fd(), &[0, 0, 0, 2, 1, b'"', b'"'], &[]).unwrap();
        assert!(matches!(b.recv::<String>().await, Err(LinkError::Descriptors)));
        // Descriptors that were not announced.
        let (a, mut b) = pair();
        let file = tempfile::tempfile().unwrap();
        send_some(a.socket.as_fd(), &[0, 0, 0, 2, 0, b'"', b'"'], &[file.as_fd()]).unwrap();
        assert!(matches!(b.recv::<String>().await, Err(LinkError::Descriptors)));
        // A body that is not JSON.
        let (a, mut b) = pair();
        send_some(a.socket.as_fd(), &[0, 0, 0, 1, 0, b'}'], &[]).unwrap();
        assert!(matches!(b.recv::<String>().await, Err(LinkError::Json(_))));
    }
}
