//! What may happen to a managed session. Pure.
//!
//! ```text
//!   waiting ──▶ creating ──▶ running ◀──▶ frozen
//!                  │            │  ▲
//!                  ▼            ▼  │ restart
//!                failed       ended┘        any ──▶ removing ──▶ (deleted)
//! ```
//!
//! One operation at a time runs on a session; other requests wait. `stopped` is never stored: a session of a shed that does
//! not run is shown as stopped, and is restored with its shed.

use shed_api::session::SessionStatus;

use crate::lane::{self, Ahead, Answer, Life};

/// What is done with a session: asked for by a person, or by the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Make its worktree, run its setup and start its workers.
    Create,
    /// Open its windows again after its shed has stopped and started.
    Restore,
    /// End its processes.
    Terminate,
    /// Start its workers (again).
    Restart,
    /// End its processes and remove its worktree and rows.
    Delete,
    /// Freeze its processes.
    Freeze,
    /// Let its processes go on.
    Thaw,
    /// Add a worker.
    AddWorker,
    /// Start one worker again.
    RestartWorker,
    /// Remove a worker.
    RemoveWorker,
    /// Change its name, title, branch, tags or limits.
    Patch,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Restore,
        Self::Terminate,
        Self::Restart,
        Self::Delete,
        Self::Freeze,
        Self::Thaw,
        Self::AddWorker,
        Self::RestartWorker,
        Self::RemoveWorker,
        Self::Patch,
    ];
}

/// What to do about a request.
pub type Verdict = lane::Verdict<Operation, Denial>;

/// Why an operation is denied. The text follows the session's name in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It is being deleted.
    #[error("is being deleted")]
    Removing,
    /// It has no processes.
    #[error("has ended")]
    Ended,
    /// Its creation failed.
    #[error("failed and was never completely created")]
    Failed,
    /// It waits for a slot.
    #[error("waits for its turn to run")]
    Waiting,
    /// Its processes are frozen.
    #[error("is frozen")]
    Frozen,
    /// Its rows and its shed differ.
    #[error("is inconsistent with the shed's actual state")]
    Orphaned,
    /// Its lane is full.
    #[error("has too many operations waiting")]
    TooManyWaiting,
}

/// What a decision depends on beside the operations that run and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// As stored.
    pub status: SessionStatus,
    /// Whether it should be in tmux and is not: the shed stopped since it ran.
    pub is_missing: bool,
}

/// The rules of sessions, for their lanes.
#[derive(Debug, Clone, Copy)]
pub struct Rules;

impl Life for Rules {
    type Request = Operation;
    type Operation = Operation;
    type Facts = Facts;
    type Denial = Denial;
    const TOO_MANY_WAITING: Denial = Denial::TooManyWaiting;
    // They are judged again in their turn.
    const INTERRUPTED: Option<Denial> = None;

    fn decide(facts: Facts, ahead: Ahead<Operation>, request: Operation) -> Verdict {
        match (ahead.running, request) {
            (None, _) => decide_idle(facts, request),
            (Some(Operation::Delete), other) if other != Operation::Delete => {
                Verdict::Deny(Denial::Removing)
            }
            (Some(Operation::Create), Operation::Delete | Operation::Terminate) => {
                Verdict::Interrupt(request)
            }
            (Some(_), _) => Verdict::Queue(request),
        }
    }

    /// Judged again: what was done meanwhile may have changed what makes sense.
    fn turn(facts: Facts, operation: Operation) -> Option<Answer<Denial>> {
        match decide_idle(facts, operation) {
            Verdict::Already => Some(Answer::Already),
            Verdict::Deny(denial) => Some(Answer::Denied(denial)),
            Verdict::Begin(_) | Verdict::Join(_) | Verdict::Queue(_) | Verdict::Interrupt(_) => {
                None
            }
        }
    }
}

/// What to do about a request while nothing runs.
pub(crate) fn decide_idle(facts: Facts, request: Operation) -> Verdict {
    match (facts.status, request) {
        // Perhaps what was done before its turn brought it back.
        (_, Operation::Restore) if !facts.is_missing => Verdict::Already,
        (
            _,
            Operation::Create
            | Operation::Restore
            | Operation::Delete
            | Operation::Patch
            | Operation::RemoveWorker,
        ) => Verdict::Begin(request),
        (SessionStatus::Removing, _) => Verdict::Deny(Denial::Removing),
        (SessionStatus::Ended, Operation::Terminate)
        | (SessionStatus::Waiting, Operation::Restart)
        | (SessionStatus::Running, Operation::Thaw)
        | (SessionStatus::Frozen, Operation::Freeze) => Verdict::Already,
        (_, Operation::Terminate | Operation::Restart) => Verdict::Begin(request),
        (SessionStatus::Waiting, _) => Verdict::Deny(Denial::Waiting),
        (SessionStatus::Ended, _) => Verdict::Deny(Denial::Ended),
        (SessionStatus::Failed | SessionStatus::Creating, _) => Verdict::Deny(Denial::Failed),
        (SessionStatus::Orphaned, _) => Verdict::Deny(Denial::Orphaned),
        (SessionStatus::Frozen, Operation::AddWorker | Operation::RestartWorker) => {
            Verdict::Deny(Denial::Frozen)
        }
        (SessionStatus::Running | SessionStatus::Frozen | SessionStatus::Stopped, _) => {
            Verdict::Begin(request)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verdict in a letter or two: `B`egin, `Q`ueue, `I`nterrupt, `=` for already, `D` and the denial.
    fn code(request: Operation, verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Begin(it) | Verdict::Queue(it) | Verdict::Interrupt(it) if it != request => {
                panic!("{it:?} for {request:?}")
            }
            Verdict::Begin(_) => "B",
            Verdict::Queue(_) => "Q",
            Verdict::Interrupt(_) => "I",
            Verdict::Join(_) => panic!("no request to a session joins another"),
            Verdict::Already => "=",
            Verdict::Deny(Denial::Removing) => "Dx",
            Verdict::Deny(Denial::Ended) => "De",
            Verdict::Deny(Denial::Failed) => "Df",
            Verdict::Deny(Denial::Waiting) => "Dw",
            Verdict::Deny(Denial::Frozen) => "Dz",
            Verdict::Deny(Denial::Orphaned) => "Do",
            Verdict::Deny(Denial::TooManyWaiting) => panic!("the lane counts what waits"),
        }
    }

    fn row(facts: Facts, running: Option<Operation>) -> String {
        let ahead = Ahead { running, last: running };
        Operation::ALL.map(|request| code(request, Rules::decide(facts, ahead, request))).join(" ")
    }

    #[test]
    fn what_each_request_leads_to_in_each_status() {
        use SessionStatus::{
            Creating, Ended, Failed, Frozen, Orphaned, Removing, Running, Stopped, Waiting,
        };
        // In the order of `Operation::ALL`: create, restore, terminate, restart, delete, freeze, thaw, add a worker, restart and
        // remove one, patch.
        let table = [
            (Waiting, "B B B = B Dw Dw Dw Dw B B"),
            (Creating, "B B B B B Df Df Df Df B B"),
            (Running, "B B B B B B = B B B B"),
            (Frozen, "B B B B B = B Dz Dz B B"),
            (Ended, "B B = B B De De De De B B"),
            (Failed, "B B B B B Df Df Df Df B B"),
            (Removing, "B B Dx Dx B Dx Dx Dx Dx B B"),
            (Stopped, "B B B B B B B B B B B"),
            (Orphaned, "B B B B B Do Do Do Do B B"),
        ];
        assert_eq!(table.len(), SessionStatus::ALL.len());
        for (status, expected) in table {
            let missing = Facts { status, is_missing: true };
            assert_eq!(row(missing, None), expected, "{status}");
            // Only what is missing is restored.
            let there = Facts { status, is_missing: false };
            assert_eq!(row(there, None), expected.replacen("B B", "B =", 1), "{status}");
            for request in Operation::ALL {
                let judged = match Rules::decide(there, Ahead::NOTHING, request) {
                    Verdict::Already => Some(Answer::Already),
                    Verdict::Deny(denial) => Some(Answer::Denied(denial)),
                    _ => None,
                };
                assert_eq!(Rules::turn(there, request), judged, "{status} {request:?}");
            }
        }
    }

    #[test]
    fn what_each_request_leads_to_beside_each_operation() {
        for running in Operation::ALL {
            let expected = match running {
                Operation::Create => "Q Q I Q I Q Q Q Q Q Q",
                Operation::Delete => "Dx Dx Dx Dx Q Dx Dx Dx Dx Dx Dx",
                _ => "Q Q Q Q Q Q Q Q Q Q Q",
            };
            for status in SessionStatus::ALL {
                let facts = Facts { status: *status, is_missing: false };
                assert_eq!(row(facts, Some(running)), expected, "{running:?} in {status}");
            }
        }
    }
}
