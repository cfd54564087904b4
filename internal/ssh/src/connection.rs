//! One connection, from accept to close, within its time limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Handle, RunningSession, run_stream};
use russh::{AlgorithmKind, Disconnect};
use shed_api::name::printable;
use shed_core::App;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::channels::Channels;
use crate::gate::Visit;
use crate::handler::{Handler, HandlerEvents};
use crate::login::Login;
use crate::server::Door;
use crate::socket::Socket;
use crate::visitor::{Endpoints, Visitor};

/// How long a client has to close the connection after the server asked it to.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// How long a client whose target does not exist may take to open a channel, on which it is told. One that opens none, such as
/// `ssh -N -L`, is told by a disconnect.
const FIRST_CHANNEL: Duration = Duration::from_secs(2);
/// How many characters of the algorithms that a client offers are logged.
const MAX_OFFER_CHARS: usize = 500;

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
            () = sleep(wait) => {}
            () = visit.cut.cancelled() => return,
            () = stop.cancelled() => return,
        }
    }
    let visit = Arc::new(visit);
    let client = stream.peer_addr().map_or_else(|_| String::new(), |address| address.to_string());
    // Only a refused key is a failed login. A client that disconnects, speaks another protocol or has no common algorithm has
    // not tried to log in, and the next one of its address does not wait for it.
    match try_serve(door, stream, &visit).await {
        Err(Failure::Protocol(russh::Error::NoCommonAlgo { kind, theirs, .. })) => {
            let (kind, offered) = (named(&kind), printed(&theirs));
            tracing::info!(
                client,
                kind,
                offered,
                "a client has no algorithm in common with this server"
            );
        }
        Err(failure) => tracing::debug!(error = %failure, "a connection ended"),
        Ok(()) => {}
    }
}

/// What SSH calls a kind of algorithms.
fn named(kind: &AlgorithmKind) -> &'static str {
    match kind {
        AlgorithmKind::Kex => "key exchange",
        AlgorithmKind::Key => "host key",
        AlgorithmKind::Cipher => "cipher",
        AlgorithmKind::Mac => "MAC",
        AlgorithmKind::Compression => "compression",
    }
}

/// The names that a client sent, which may be anything, for a line of the log.
fn printed(names: &[String]) -> String {
    let text: String = names.join(",").chars().take(MAX_OFFER_CHARS).collect();
    printable(&text)
}

async fn try_serve(door: Arc<Door>, stream: TcpStream, visit: &Arc<Visit>) -> Result<(), Failure> {
    let deadline = Instant::now() + door.options.login_limit;
    let stop = door.app.stopping();
    let endpoints = Endpoints { client: stream.peer_addr()?, server: stream.local_addr()? };
    let socket = Socket::new(stream, visit.cut.clone())?;
    let (config, app) = (Arc::clone(&door.config), door.app.clone());
    let (handler, events) = Handler::new(door, Arc::clone(visit), endpoints);
    let handshake = timeout_at(deadline, run_stream(config, socket, handler)).await;
    let mut session = handshake.map_err(|_| Failure::LoginTimeout)??;
    let handle = session.handle();
    let HandlerEvents { logged_in, exhausted, channels } = events;
    let visitor = match timeout_at(deadline, logged_in).await {
        Ok(Ok(visitor)) => visitor,
        // The handler was dropped, so the session has ended.
        Ok(Err(_)) => return Ok(session.await?),
        Err(_) => {
            visit.cut.cancel();
            session.await.ok();
            return Err(Failure::LoginTimeout);
        }
    };
    let why = tokio::select! {
        ended = &mut session => return Ok(ended?),
        () = stop.cancelled() => "the server is shutting down".to_owned(),
        () = exhausted.cancelled() => "this connection has reached its limit of channels; connect again".to_owned(),
        why = untold(&app, &visitor, &channels) => why,
    };
    disconnect(&handle, session, why, visit).await;
    Ok(())
}

/// Why the client's target does not exist, if there is no session channel on which the client learns it. Else never returns.
async fn untold(app: &App, visitor: &Visitor, channels: &Channels) -> String {
    let problem = match &visitor.login {
        Ok(Login::Shed(shed) | Login::Session(shed, _)) => {
            app.sheds().get(&visitor.person, shed).err().map(|error| error.problem())
        }
        Ok(Login::Api) => None,
        Err(problem) => Some((**problem).clone()),
    };
    if let Some(problem) = problem {
        sleep(FIRST_CHANNEL).await;
        if !channels.had_session() {
            return problem.detail;
        }
    }
    std::future::pending().await
}

/// Asks the client to disconnect, and aborts the connection if it does not within [`CLOSE_GRACE`].
async fn disconnect(handle: &Handle, session: RunningSession<Handler>, why: String, visit: &Visit) {
    let mut session = session;
    let closing = async {
        let sent = handle.disconnect(Disconnect::ByApplication, why, String::new());
        // Fails if the client has disconnected meanwhile.
        sent.await.ok();
        (&mut session).await.ok();
    };
    if timeout(CLOSE_GRACE, closing).await.is_err() {
        visit.cut.cancel();
        session.await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_offers_is_logged_on_one_line_of_limited_length() {
        let names = ["ssh-rsa".to_owned(), "a\nb\u{1b}[31m".to_owned()];
        assert_eq!(printed(&names), "ssh-rsa,a\u{fffd}b\u{fffd}[31m");
        assert_eq!(printed(&["x".repeat(1 << 20)]).chars().count(), MAX_OFFER_CHARS);
    }
}
