//! The socket inside the container, where a runner claims the command that it is to run.
//!
//! A token is 128 random bits that only the server and the window's command line know. The caller must be the session user
//! or root.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use shed_link::{CONTAINER_SOCKET, Claim, Claimed, Conn};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::offers::Offer;
use super::state::State;
use crate::log;

/// The most callers that are served at once.
const MAX_CALLERS: usize = 32;
/// How long a caller may take to send its claim and read the answer.
const CLAIM_LIMIT: Duration = Duration::from_secs(5);
/// The pause after a failed accept, which mostly means that no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the socket forever.
pub(super) async fn run(state: Arc<State>) {
    let path = state.settings.run_dir.join(CONTAINER_SOCKET);
    std::fs::remove_file(&path).ok();
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            // Everything works without the socket except commands in sessions, which then fail with a message.
            log::line(&format!("shed-init: cannot listen on {}: {error}", path.display()));
            return std::future::pending().await;
        }
    };
    // Anyone in the container may connect. The peer's credentials are checked for each claim.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).ok();
    let callers = Arc::new(Semaphore::new(MAX_CALLERS));
    loop {
        let Ok(permit) = Arc::clone(&callers).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, _)) => {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    timeout(CLAIM_LIMIT, serve(&state, socket)).await.ok();
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one caller. Every invalid claim gets the same answer, so that nothing can be learned from it.
async fn serve(state: &State, socket: UnixStream) {
    let Ok(peer) = socket_peercred(&socket) else {
        return;
    };
    let uid = peer.uid.as_raw();
    let mut conn = Conn::new(socket);
    let Ok(Some((Claim { token }, _))) = conn.recv::<Claim>().await else {
        return;
    };
    let allowed = uid == state.settings.user.uid || uid == 0;
    let sent = match state.offers.take(&token).filter(|_| allowed) {
        Some(Offer { spawn, descriptor, .. }) => {
            conn.send(&Claimed::Spawn(Box::new(spawn)), &[descriptor.as_fd()]).await
        }
        None => conn.send(&Claimed::Unknown, &[]).await,
    };
    // Fails when the runner has ended.
    sent.ok();
}
