//! What may happen to a session that shed made. Pure.
//!
//! ```text
//!   waiting ──▶ creating ──▶ running ◀──▶ frozen
//!                  │            │  ▲
//!                  ▼            ▼  │ restart
//!                failed       ended┘        any ──▶ removing ──▶ (forgotten)
//! ```
//!
//! Of one session one thing is done at a time; what else is wanted waits. `stopped` is no status of its own: a session of
//! a shed that does not run is shown so and comes back with it.

use shed_api::session::SessionStatus;

/// Wishes that may wait for one session. More are refused.
const MAX_WAITING: usize = 8;

/// What somebody wants of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Make it what it was planned to be.
    Create,
    /// Bring back what a stop of the shed took away.
    Restore,
    /// End its processes.
    Terminate,
    /// Start its workers (again).
    Restart,
    /// End and forget it.
    Delete,
    /// Freeze its processes.
    Freeze,
    /// Let them go on.
    Thaw,
    /// One more worker.
    AddWorker,
    /// Start one worker again.
    RestartWorker,
    /// One worker less.
    RemoveWorker,
    /// Name, title, branch and the like.
    Patch,
}

/// What becomes of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is so.
    Already,
    /// Do it.
    Begin,
    /// Do it when what is being done is done.
    Queue,
    /// Call off what is being done, then do it.
    Interrupt,
    /// No; why.
    Deny(Denial),
}

/// Why a wish is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It goes.
    #[error("is being deleted")]
    Removing,
    /// It has no processes.
    #[error("has ended")]
    Ended,
    /// It was never completely made.
    #[error("failed and was not completely made")]
    Failed,
    /// It has not begun.
    #[error("waits for its turn to run")]
    Waiting,
    /// Its processes stand still.
    #[error("is frozen")]
    Frozen,
    /// What is remembered does not fit what is there.
    #[error("does not fit what is there")]
    Orphaned,
    /// The line is full.
    #[error("has too many operations waiting")]
    TooManyWaiting,
}

/// What the judgement needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// As remembered.
    pub status: SessionStatus,
    /// What is being done.
    pub doing: Option<Wish>,
    /// How much waits behind it.
    pub n_waiting: usize,
}

/// Judges a wish.
pub fn decide(situation: Situation, wish: Wish) -> Verdict {
    if let Some(doing) = situation.doing {
        return match (doing, wish) {
            (Wish::Delete, other) if other != Wish::Delete => Verdict::Deny(Denial::Removing),
            _ if situation.n_waiting >= MAX_WAITING => Verdict::Deny(Denial::TooManyWaiting),
            (Wish::Create, Wish::Delete | Wish::Terminate) => Verdict::Interrupt,
            _ => Verdict::Queue,
        };
    }
    match (situation.status, wish) {
        (SessionStatus::Removing, Wish::Delete)
        | (_, Wish::Create | Wish::Restore | Wish::Delete | Wish::Patch | Wish::RemoveWorker) => {
            Verdict::Begin
        }
        (SessionStatus::Removing, _) => Verdict::Deny(Denial::Removing),
        (SessionStatus::Ended, Wish::Terminate)
        | (SessionStatus::Waiting, Wish::Restart)
        | (SessionStatus::Running, Wish::Thaw)
        | (SessionStatus::Frozen, Wish::Freeze) => Verdict::Already,
        (_, Wish::Terminate | Wish::Restart) => Verdict::Begin,
        (SessionStatus::Waiting, _) => Verdict::Deny(Denial::Waiting),
        (SessionStatus::Ended, _) => Verdict::Deny(Denial::Ended),
        (SessionStatus::Failed | SessionStatus::Creating, _) => Verdict::Deny(Denial::Failed),
        (SessionStatus::Orphaned, _) => Verdict::Deny(Denial::Orphaned),
        (SessionStatus::Frozen, Wish::AddWorker | Wish::RestartWorker) => {
            Verdict::Deny(Denial::Frozen)
        }
        (SessionStatus::Running | SessionStatus::Frozen | SessionStatus::Stopped, _) => {
            Verdict::Begin
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: SessionStatus, doing: Option<Wish>, wish: Wish) -> Verdict {
        decide(Situation { status, doing, n_waiting: 0 }, wish)
    }

    #[test]
    fn one_thing_at_a_time() {
        use SessionStatus::Running;
        let cases = [
            (Some(Wish::Create), Wish::Delete, Verdict::Interrupt),
            (Some(Wish::Create), Wish::Terminate, Verdict::Interrupt),
            (Some(Wish::Create), Wish::AddWorker, Verdict::Queue),
            (Some(Wish::Delete), Wish::Restart, Verdict::Deny(Denial::Removing)),
            (Some(Wish::Restart), Wish::Delete, Verdict::Queue),
            (None, Wish::AddWorker, Verdict::Begin),
        ];
        for (doing, wish, verdict) in cases {
            assert_eq!(judge(Running, doing, wish), verdict, "{doing:?} {wish:?}");
        }
        let full =
            Situation { status: Running, doing: Some(Wish::Restart), n_waiting: MAX_WAITING };
        assert_eq!(decide(full, Wish::Freeze), Verdict::Deny(Denial::TooManyWaiting));
    }

    #[test]
    fn each_status_allows_what_makes_sense() {
        use SessionStatus::{Ended, Failed, Frozen, Orphaned, Removing, Running, Waiting};
        let deny = Verdict::Deny;
        let cases = [
            (Running, Wish::Thaw, Verdict::Already),
            (Running, Wish::Freeze, Verdict::Begin),
            (Frozen, Wish::Freeze, Verdict::Already),
            (Frozen, Wish::Thaw, Verdict::Begin),
            (Frozen, Wish::Terminate, Verdict::Begin),
            (Frozen, Wish::AddWorker, deny(Denial::Frozen)),
            (Ended, Wish::Terminate, Verdict::Already),
            (Ended, Wish::Restart, Verdict::Begin),
            (Ended, Wish::RestartWorker, deny(Denial::Ended)),
            (Ended, Wish::RemoveWorker, Verdict::Begin),
            (Failed, Wish::Restart, Verdict::Begin),
            (Failed, Wish::Freeze, deny(Denial::Failed)),
            (Waiting, Wish::Restart, Verdict::Already),
            (Waiting, Wish::Terminate, Verdict::Begin),
            (Waiting, Wish::AddWorker, deny(Denial::Waiting)),
            (Orphaned, Wish::Delete, Verdict::Begin),
            (Orphaned, Wish::Freeze, deny(Denial::Orphaned)),
            (Removing, Wish::Delete, Verdict::Begin),
            (Removing, Wish::Restart, deny(Denial::Removing)),
        ];
        for (status, wish, verdict) in cases {
            assert_eq!(judge(status, None, wish), verdict, "{status} {wish:?}");
        }
        for status in SessionStatus::ALL {
            assert_eq!(judge(*status, None, Wish::Delete), Verdict::Begin, "{status}");
            assert_eq!(judge(*status, None, Wish::Patch), Verdict::Begin, "{status}");
        }
    }
}
