//! One connection, from accept to close, within its time limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use russh::server::{Handle, RunningSession, run_stream};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::gate::Visit;
use crate::handler::{Handler, HandlerEvents};
use crate::server::Door;
use crate::socket::Socket;
use crate::visitor::Endpoints;

/// How long a client has to close the connection after the server asked it to.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Why a connection ended, other than by its client's request.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the client did not log in within the limit")]
    LoginTimeout,
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves a connection. A task of the App; ends with the connection or the server.
pub(crate) async fn serve(door: Arc<Door>, stream: TcpStream, visit: Visit) {
    let stop = door.app.stopping();
    let wait = visit.wait();
    // A sleep of zero would still wait for the next tick of the timer, a millisecond.
    if !wait.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = visit.cut.cancelled() => return,
            () = stop.cancelled() => return,
        }
    }
    let visit = Arc::new(visit);
    if let Err(failure) = try_serve(door, stream, &visit).await {
        match &failure {
            // A client that only disconnects, as port scanners and health checks do, has not failed to log in.
            Failure::Protocol(
                russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_),
            )
            | Failure::Io(_) => {}
            Failure::LoginTimeout | Failure::Protocol(_) => visit.failed(),
        }
        tracing::debug!(error = %failure, "a connection ended");
    }
}

async fn try_serve(door: Arc<Door>, stream: TcpStream, visit: &Arc<Visit>) -> Result<(), Failure> {
    let deadline = Instant::now() + door.options.login_limit;
    let stop = door.app.stopping();
    let endpoints = Endpoints { client: stream.peer_addr()?, server: stream.local_addr()? };
    let socket = Socket::new(stream, visit.cut.clone())?;
    let config = Arc::clone(&door.config);
    let (handler, events) = Handler::new(door, Arc::clone(visit), endpoints);
    let handshake = timeout_at(deadline, run_stream(config, socket, handler)).await;
    let mut session = handshake.map_err(|_| Failure::LoginTimeout)??;
    let handle = session.handle();
    let HandlerEvents { logged_in, exhausted } = events;
    match timeout_at(deadline, logged_in).await {
        Ok(Ok(())) => {}
        // The handler was dropped, so the session has ended.
        Ok(Err(_)) => return Ok(session.await?),
        Err(_) => {
            visit.cut.cancel();
            session.await.ok();
            return Err(Failure::LoginTimeout);
        }
    }
    let why = tokio::select! {
        ended = &mut session => return Ok(ended?),
        () = stop.cancelled() => "the server is shutting down",
        () = exhausted.cancelled() => "this connection has reached its limit of channels; connect again",
    };
    disconnect(&handle, session, why, visit).await;
    Ok(())
}

/// Asks the client to disconnect, and aborts the connection if it does not within [`CLOSE_GRACE`].
async fn disconnect(handle: &Handle, session: RunningSession<Handler>, why: &str, visit: &Visit) {
    let mut session = session;
    let closing = async {
        let sent = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
        // Fails if the client has disconnected meanwhile.
        sent.await.ok();
        (&mut session).await.ok();
    };
    if timeout(CLOSE_GRACE, closing).await.is_err() {
        visit.cut.cancel();
        session.await.ok();
    }
}
