//! One connection: from its socket to its last byte, in time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use russh::server::{Handle, RunningSession, run_stream};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::gate::Visit;
use crate::handler::{Handler, Told};
use crate::server::Door;
use crate::socket::Socket;
use crate::visitor::Ends;

/// How long a client that is told to go has to take note of it.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// Why a connection ended otherwise than by its client's wish.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("nobody logged in in time")]
    Late,
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves a connection. A task of the App; ends with the connection or the server.
pub(crate) async fn serve(door: Arc<Door>, stream: TcpStream, visit: Visit) {
    let stop = door.app.stopping();
    let wait = visit.wait();
    // Even a sleep of no time waits for the clock's next tick, a millisecond.
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
            // A client that just goes, as port scanners and watchdogs do, has not failed at anything.
            Failure::Protocol(
                russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_),
            )
            | Failure::Io(_) => {}
            Failure::Late | Failure::Protocol(_) => visit.failed(),
        }
        tracing::debug!(error = %failure, "a connection ended");
    }
}

async fn try_serve(door: Arc<Door>, stream: TcpStream, visit: &Arc<Visit>) -> Result<(), Failure> {
    let deadline = Instant::now() + door.options.login_limit;
    let stop = door.app.stopping();
    let ends = Ends { client: stream.peer_addr()?, server: stream.local_addr()? };
    let socket = Socket::new(stream, visit.cut.clone())?;
    let config = Arc::clone(&door.config);
    let (handler, told) = Handler::new(door, Arc::clone(visit), ends);
    let begun = timeout_at(deadline, run_stream(config, socket, handler)).await;
    let mut session = begun.map_err(|_| Failure::Late)??;
    let handle = session.handle();
    let Told { logged_in, spent } = told;
    match timeout_at(deadline, logged_in).await {
        Ok(Ok(())) => {}
        // The handler is gone, so the session is over.
        Ok(Err(_)) => return Ok(session.await?),
        Err(_) => {
            visit.cut.cancel();
            session.await.ok();
            return Err(Failure::Late);
        }
    }
    let why = tokio::select! {
        ended = &mut session => return Ok(ended?),
        () = stop.cancelled() => "the server is going away",
        () = spent.cancelled() => "this connection has had its share of channels",
    };
    say_goodbye(&handle, session, why, visit).await;
    Ok(())
}

/// Tells the client to go, and ends the connection if it does not.
async fn say_goodbye(handle: &Handle, session: RunningSession<Handler>, why: &str, visit: &Visit) {
    let mut session = session;
    let goodbye = async {
        let told = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
        // Gone by itself meanwhile.
        told.await.ok();
        (&mut session).await.ok();
    };
    if timeout(GOODBYE_LIMIT, goodbye).await.is_err() {
        visit.cut.cancel();
        session.await.ok();
    }
}
