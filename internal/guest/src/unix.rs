//! The transport for containers that share the server's kernel.
//!
//! The server listens on a unix socket in a directory that is mounted into the container. It makes pipes and socket pairs
//! and passes their far ends with the request; the master side of a terminal comes back the same way. So the server and the
//! process use the same pipe: no byte is copied in between, and the kernel provides the back-pressure.

mod listener;
mod streams;
mod terminal;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use shed_link::{Conn, LinkError};

use crate::Error;
use crate::transport::{Ends, Outgoing, Pending, Receiver, Sender, Wire};

pub use listener::UnixTransport;
pub(crate) use streams::pipe_pair;

/// The far ends of streams: descriptors that go with a request.
type Descriptors = Vec<OwnedFd>;

/// An authenticated connection as a wire.
pub(crate) fn wire(conn: Conn) -> Wire {
    let (sender, receiver) = conn.split();
    Wire {
        sender: Box::new(UnixSender(sender)),
        receiver: Box::new(UnixReceiver(receiver)),
        streams: Arc::new(streams::UnixStreams),
    }
}

struct UnixSender(shed_link::conn::Sender);

impl Sender for UnixSender {
    fn send<'a>(&'a mut self, message: Outgoing<'a>, ends: Ends) -> Pending<'a, ()> {
        Box::pin(async move {
            let descriptors: Descriptors = ends.take();
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(OwnedFd::as_fd).collect();
            self.0.send(&message, &borrowed).await.map_err(broken)
        })
    }
}

struct UnixReceiver(shed_link::conn::Receiver);

impl Receiver for UnixReceiver {
    fn recv(&mut self) -> Pending<'_, Option<serde_json::Value>> {
        Box::pin(async move {
            let received = self.0.recv::<serde_json::Value>().await.map_err(broken)?;
            Ok(received.map(|(message, _)| message))
        })
    }
}

fn broken(error: LinkError) -> Error {
    Error::io("link")(std::io::Error::other(error))
}
