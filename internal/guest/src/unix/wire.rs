//! A link's connection, on the thread of its shed, and the channels that carry its messages.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use shed_link::{Conn, LinkError};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::streams::UnixStreams;
use super::{Descriptors, ShedThread};
use crate::Error;
use crate::transport::{Ends, Outgoing, Pending, RawMessage, Receiver, Sender, Wire};

/// A message on its way to shed-init.
struct Job {
    message: serde_json::Value,
    descriptors: Descriptors,
    sent: oneshot::Sender<Result<(), Error>>,
}

/// A wire on a connection. Nothing is read before `admitted` says so; if it never does, the connection is closed.
pub(crate) fn start(
    thread: &ShedThread,
    socket: StdUnixStream,
    admitted: oneshot::Receiver<()>,
) -> Wire {
    // A message that waits may have 4 MiB: one is read ahead, and no more.
    let (jobs, queue) = mpsc::channel(1);
    let (inbox, messages) = mpsc::channel(1);
    let carrier = thread.clone();
    thread.spawn(async move {
        if admitted.await.is_ok() {
            carry(&carrier, socket, queue, inbox).await;
        }
    });
    Wire {
        sender: Box::new(UnixSender(jobs)),
        receiver: Box::new(UnixReceiver(messages)),
        streams: Arc::new(UnixStreams::new(thread.clone())),
    }
}

/// Carries messages until one side ends.
async fn carry(
    thread: &ShedThread,
    socket: StdUnixStream,
    mut queue: mpsc::Receiver<Job>,
    inbox: mpsc::Sender<Result<RawMessage, Error>>,
) {
    let socket = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket));
    let (mut sender, mut receiver) = match socket {
        Ok(socket) => Conn::new(socket).split(),
        Err(error) => return drop(inbox.send(Err(Error::io("link")(error))).await),
    };
    let sending = async {
        while let Some(Job { message, descriptors, sent }) = queue.recv().await {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(OwnedFd::as_fd).collect();
            let result = sender.send(&message, &borrowed).await.map_err(broken);
            // Whoever sent it may have gone away.
            sent.send(result).ok();
        }
    };
    let receiving = async {
        while let Ok(permit) = inbox.reserve().await {
            let received = tokio::select! {
                received = receiver.recv_bytes() => received,
                () = inbox.closed() => return,
            };
            // The message may be that a process has ended: it has written everything by now.
            thread.measure();
            match received {
                Ok(Some((message, _))) => permit.send(Ok(RawMessage::new(message))),
                Ok(None) => return,
                Err(error) => return permit.send(Err(broken(error))),
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}

struct UnixSender(mpsc::Sender<Job>);

impl Sender for UnixSender {
    fn send<'a>(&'a mut self, message: Outgoing<'a>, ends: Ends) -> Pending<'a, ()> {
        Box::pin(async move {
            let message = serde_json::to_value(message)
                .map_err(|error| Error::io("link")(std::io::Error::other(error)))?;
            let (sent, done) = oneshot::channel();
            let job = Job { message, descriptors: ends.take(), sent };
            self.0.send(job).await.map_err(|_| ended())?;
            done.await.map_err(|_| ended())?
        })
    }
}

struct UnixReceiver(mpsc::Receiver<Result<RawMessage, Error>>);

impl Receiver for UnixReceiver {
    fn recv(&mut self) -> Pending<'_, Option<RawMessage>> {
        Box::pin(async move { self.0.recv().await.transpose() })
    }
}

pub(super) fn broken(error: LinkError) -> Error {
    Error::io("link")(std::io::Error::other(error))
}

fn ended() -> Error {
    Error::io("link")(std::io::ErrorKind::BrokenPipe.into())
}
