//! The socket inside the box: a runner comes here to learn what it is to run.
//!
//! A token is 128 random bits that only the server and the window's own command line know. The caller must be the
//! session's user or root.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use shed_link::{BOX_SOCKET, Claim, Claimed, Conn, Refusal, Spawn};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::say;
use crate::worker::Shared;

/// How long an offer waits for its runner; tmux starts one in milliseconds.
const OFFER_LIMIT: Duration = Duration::from_secs(15);
/// How many offers may wait. More means that no runner comes.
const MAX_OFFERS: usize = 64;
/// How many callers are heard at once.
const MAX_CALLERS: usize = 32;
/// How long a caller may take to say what it wants.
const CLAIM_LIMIT: Duration = Duration::from_secs(5);
/// After a failed accept (no descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Commands that wait for their runner. The lock is held for single look-ups.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    waiting: Mutex<HashMap<String, Offer>>,
}

#[derive(Debug)]
struct Offer {
    spawn: Spawn,
    tap: OwnedFd,
    since: Instant,
}

impl Offers {
    /// Keeps a command for the runner with `token`.
    pub(crate) fn put(&self, token: String, spawn: Spawn, tap: OwnedFd) -> Result<(), Refusal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, offer| offer.since.elapsed() < OFFER_LIMIT);
        if waiting.len() >= MAX_OFFERS {
            return Err(Refusal::NoResources("too many commands wait for their window".to_owned()));
        }
        waiting.insert(token, Offer { spawn, tap, since: Instant::now() });
        Ok(())
    }

    fn take(&self, token: &str) -> Option<Offer> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(token).filter(|offer| offer.since.elapsed() < OFFER_LIMIT)
    }
}

/// Listens for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let path = shared.place.run_dir.join(BOX_SOCKET);
    std::fs::remove_file(&path).ok();
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            // Without it everything works but commands in sessions; those say so when they are asked for.
            say(&format!("shed-init: cannot listen at {}: {error}", path.display()));
            return std::future::pending().await;
        }
    };
    // Everyone in the box may knock; who it is decides.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).ok();
    let callers = Arc::new(Semaphore::new(MAX_CALLERS));
    loop {
        let Ok(permit) = Arc::clone(&callers).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    timeout(CLAIM_LIMIT, hear(&shared, socket)).await.ok();
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One caller. It is told `Unknown` for everything that is not right, and nothing else.
async fn hear(shared: &Shared, socket: UnixStream) {
    let Ok(peer) = socket_peercred(&socket) else {
        return;
    };
    let uid = peer.uid.as_raw();
    let mut conn = Conn::new(socket);
    let Ok(Some((Claim { token }, _))) = conn.recv::<Claim>().await else {
        return;
    };
    let allowed = uid == shared.place.user.uid || uid == 0;
    let sent = match shared.offers.take(&token).filter(|_| allowed) {
        Some(Offer { spawn, tap, .. }) => conn.send(&Claimed::Spawn(spawn), &[tap.as_fd()]).await,
        None => conn.send(&Claimed::Unknown, &[]).await,
    };
    // A runner that is gone has nobody to tell.
    sent.ok();
}
