//! The life of a shed: what each request leads to in each status. Pure; the keeper carries the decisions out.
//!
//! ```text
//!   (nothing) ──create──▶ creating ──────────────▶ running ◀──▶ paused
//!                            │                      ▲  │           │
//!                            ▼                      │  ▼           ▼
//!                          failed ◀── starting ─────┘ stopping ──▶ stopped
//!                            │           ▲                          │
//!                            └───────────┴──────────────────────────┘
//!   any ──delete──▶ removing ──▶ (nothing)
//! ```
//!
//! * `creating`: image, volumes, container, first start, clone. A failure leads to `failed`; the shed can be entered if
//!   its container runs.
//! * `starting`: until shed-init has said hello, at most ten seconds.
//! * A shed whose container ends by itself is `stopped`, with the reason.
//! * One operation at a time; a request for the operation that runs joins it, a request that contradicts it waits, and
//!   a request during `removing` is denied.

use shed_api::ShedStatus;

use crate::lane::{self, Ahead, Answer, Life};

/// What a person requests of a shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Create it, or continue a creation that failed.
    Create,
    /// Start it; nothing to do if it runs.
    Start,
    /// Stop it; nothing to do if it is stopped.
    Stop,
    /// Stop it and start it again.
    Restart,
    /// Freeze all its processes; memory stays in use.
    Pause,
    /// Continue the processes of a paused shed.
    Unpause,
    /// Replace its container; its volumes stay.
    Rebuild,
    /// Delete it. The only request that interrupts an operation in progress.
    Delete,
}

/// What the keeper does, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create the container, or continue where a creation failed; ends in `running`.
    Create,
    /// Start the container of a stopped or failed shed; ends in `running`.
    Start,
    /// End all processes; ends in `stopped`.
    Stop,
    /// Stop the container if it runs, then start it; ends in `running`.
    Restart,
    /// Freeze all processes; ends in `paused`.
    Pause,
    /// Continue the frozen processes; ends in `running`.
    Unpause,
    /// Replace the container; ends in `stopped` if the shed was stopped, else in `running`.
    Rebuild,
    /// Remove container, volumes and rows. The shed is gone afterwards.
    Remove,
}

impl Request {
    /// All requests.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Pause,
        Self::Unpause,
        Self::Rebuild,
        Self::Delete,
    ];
}

/// What a decision depends on beside the operations that run and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The stored status; transitional (`creating`, `starting`, `stopping`, `removing`) while an operation runs.
    pub status: ShedStatus,
    /// Whether it has a container: a failed creation may have none.
    pub has_container: bool,
    /// Whether its clone is complete; also true of a shed without a repository.
    pub is_cloned: bool,
}

/// What to do about a request.
pub type Verdict = lane::Verdict<Operation, Denial>;

/// Why a request is denied. The text follows the shed's name in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denial {
    /// A deletion runs or waits; nothing else is accepted.
    #[error("is being deleted")]
    Removing,
    /// Its processes are frozen; it has to be unpaused first.
    #[error("is paused")]
    Paused,
    /// The request needs a running shed and does not start it.
    #[error("is not running")]
    NotRunning,
    /// Only a failed creation can be retried.
    #[error("exists and did not fail")]
    NotFailed,
    /// There is nothing to start: its creation failed early.
    #[error("was never completely created")]
    NeverCreated,
    /// Its clone failed: it would start without its repository.
    #[error("has no repository: its clone failed")]
    NotCloned,
    /// Its queue of operations is full ([`lane::MAX_WAITING`]).
    #[error("has too many operations waiting")]
    TooManyWaiting,
}

/// The rules of sheds, for their lanes.
#[derive(Debug, Clone, Copy)]
pub struct Rules;

impl Life for Rules {
    type Request = Request;
    type Operation = Operation;
    type Facts = Facts;
    type Denial = Denial;
    const TOO_MANY_WAITING: Denial = Denial::TooManyWaiting;
    // Only a removal interrupts, and after it there is nothing to operate on.
    const INTERRUPTED: Option<Denial> = Some(Denial::Removing);

    fn decide(facts: Facts, ahead: Ahead<Operation>, request: Request) -> Verdict {
        let Some(last) = ahead.last else {
            return decide_idle(facts, request);
        };
        if last == Operation::Remove {
            return match request {
                Request::Delete => Verdict::Join(Operation::Remove),
                _ => Verdict::Deny(Denial::Removing),
            };
        }
        if request == Request::Delete {
            // An operation in progress need not be finished first.
            return Verdict::Interrupt(Operation::Remove);
        }
        // What counts is the status after everything that was accepted is done.
        let then =
            Facts { status: outcome(last, facts.status), has_container: true, is_cloned: true };
        match decide_idle(then, request) {
            Verdict::Already => Verdict::Join(last),
            Verdict::Begin(op) if op == last => Verdict::Join(op),
            Verdict::Begin(op) => Verdict::Queue(op),
            other => other,
        }
    }

    /// What was decided when it was requested stays decided.
    fn turn(_: Facts, _: Operation) -> Option<Answer<Denial>> {
        None
    }
}

/// The status after an operation that goes well.
pub(crate) fn outcome(op: Operation, status: ShedStatus) -> ShedStatus {
    match op {
        Operation::Stop => ShedStatus::Stopped,
        Operation::Pause => ShedStatus::Paused,
        // Runs again if it ran; it is `starting` or `stopping` meanwhile.
        Operation::Rebuild if status == ShedStatus::Stopped => ShedStatus::Stopped,
        Operation::Create
        | Operation::Start
        | Operation::Restart
        | Operation::Unpause
        | Operation::Rebuild => ShedStatus::Running,
        Operation::Remove => ShedStatus::Removing,
    }
}

fn decide_idle(facts: Facts, request: Request) -> Verdict {
    use ShedStatus::{Creating, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};
    let Facts { status, has_container, is_cloned } = facts;
    match (request, status) {
        (Request::Delete, _) => Verdict::Begin(Operation::Remove),
        (_, Removing) => Verdict::Deny(Denial::Removing),
        (Request::Create, Failed | Creating) => Verdict::Begin(Operation::Create),
        (Request::Create, _) => Verdict::Deny(Denial::NotFailed),
        // No operation runs in a transitional status: the server ended in the middle, and has not resumed it yet.
        (Request::Start | Request::Restart | Request::Rebuild, Failed | Creating)
            if !has_container =>
        {
            Verdict::Deny(Denial::NeverCreated)
        }
        // It would run without its repository, and nothing would show that.
        (Request::Start | Request::Restart | Request::Rebuild, Failed) if !is_cloned => {
            Verdict::Deny(Denial::NotCloned)
        }
        (Request::Start | Request::Unpause, Running)
        | (Request::Stop, Stopped)
        | (Request::Pause, Paused) => Verdict::Already,
        (Request::Start, Paused) => Verdict::Deny(Denial::Paused),
        (Request::Start, Creating | Starting | Stopping | Stopped | Failed) => {
            Verdict::Begin(Operation::Start)
        }
        (Request::Stop, Creating | Starting | Running | Paused | Stopping | Failed) => {
            Verdict::Begin(Operation::Stop)
        }
        (Request::Restart, _) => Verdict::Begin(Operation::Restart),
        (Request::Rebuild, _) => Verdict::Begin(Operation::Rebuild),
        (Request::Pause, Running) => Verdict::Begin(Operation::Pause),
        (Request::Unpause, Paused) => Verdict::Begin(Operation::Unpause),
        (Request::Pause | Request::Unpause, _) => Verdict::Deny(Denial::NotRunning),
    }
}

/// The state of a shed's container, as the engine reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// The engine has no container of this shed.
    Nothing,
    /// The container runs.
    Running,
    /// The container is paused.
    Paused,
    /// The container exists and does not run.
    Ended,
}

/// What to do about a difference between the stored status and the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Status and container agree; do nothing.
    Nothing,
    /// Store this status.
    Set(ShedStatus),
    /// Finish an operation that was interrupted, or start a shed that is wanted.
    Begin(Operation),
}

/// Compares a shed's stored status with its container. Called when the server starts, when the engine is reachable again,
/// and when the engine reports a change while no operation runs.
pub fn repair(status: ShedStatus, wanted: bool, occasion: Occasion, seen: Seen) -> Repair {
    use ShedStatus::{Creating, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};
    match (status, seen) {
        (Removing, _) => Repair::Begin(Operation::Remove),
        (Creating, _) => Repair::Begin(Operation::Create),
        // A failed shed stays failed until a person acts.
        (Failed, _) | (Running, Seen::Running) | (Paused, Seen::Paused) => Repair::Nothing,
        // A stop, or the rebuild of a stopped shed, was interrupted. A container that has ended meanwhile was ended by that, and
        // not from outside: the stop succeeds at once and gives no reason.
        (Stopping, _) if !wanted => Repair::Begin(Operation::Stop),
        (Stopped, Seen::Ended | Seen::Nothing) if !wanted || occasion == Occasion::Change => {
            Repair::Nothing
        }
        // The engine may still be ending the container, so a start could not succeed.
        (Stopping, Seen::Running | Seen::Paused) => Repair::Begin(Operation::Restart),
        (_, Seen::Paused) => Repair::Set(Paused),
        // Going through `starting` waits for shed-init's hello.
        (Starting | Stopped | Paused, Seen::Running) => Repair::Begin(Operation::Start),
        (_, Seen::Ended | Seen::Nothing) => match occasion {
            // Engine or host were restarted: what ran is started again.
            Occasion::Return if wanted => Repair::Begin(Operation::Start),
            Occasion::Return | Occasion::Change => Repair::Set(Stopped),
        },
    }
}

/// Why [`repair`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// The server or the engine is back.
    Return,
    /// The engine reported a change.
    Change,
}

#[cfg(test)]
mod tests;
