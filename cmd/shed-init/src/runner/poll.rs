//! Waiting for several descriptors, each with a value that names it.

use std::time::Instant;

use rustix::event::{PollFd, poll};

use crate::clock::time_until;

/// Waits until a descriptor is ready or the deadline has passed, and returns the names of the ready ones. Leave out a
/// descriptor that is not of interest: `poll` would report one that has hung up again and again.
pub(super) fn ready<T>(sources: Vec<(T, PollFd<'_>)>, deadline: Option<Instant>) -> Vec<T> {
    let (names, mut fds): (Vec<T>, Vec<PollFd<'_>>) = sources.into_iter().unzip();
    // An interrupted wait ends early with nothing ready.
    poll(&mut fds, deadline.map(time_until).as_ref()).ok();
    let ready = names.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    ready.map(|(name, _)| name).collect()
}
