//! The life of a shed: which request leads where. Pure; the keeper acts on what is decided here.
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
//! * One operation at a time; a request that equals the one under way joins it, one that contradicts it waits, and one
//!   during `removing` is denied.

use shed_api::ShedStatus;

use crate::lane::{self, Ahead, Life};

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Be created: from nothing, or from where it failed.
    Create,
    /// It should run.
    Start,
    /// It should not run.
    Stop,
    /// It should run, newly started.
    Restart,
    /// It should be frozen.
    Pause,
    /// It should be thawed.
    Unpause,
    /// It should have a new container.
    Rebuild,
    /// It should be gone.
    Delete,
}

/// What the keeper does, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// From nothing, or from where it failed, to running.
    Create,
    /// From stopped or failed to running.
    Start,
    /// To stopped.
    Stop,
    /// To stopped and running again.
    Restart,
    /// To paused.
    Pause,
    /// From paused to running.
    Unpause,
    /// A new container, running if the old one ran.
    Rebuild,
    /// To nothing.
    Remove,
}

impl Request {
    /// All of them.
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
    /// Its status; transitional while an operation runs.
    pub status: ShedStatus,
    /// Whether it has a container: a failed creation may have none.
    pub has_box: bool,
    /// Whether its clone is complete; also true of a shed without a repository.
    pub is_cloned: bool,
}

/// What to do about a request.
pub type Verdict = lane::Verdict<Operation, Denial>;

/// Why a request is not done. Follows the shed's name in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denial {
    /// It is being deleted.
    #[error("is being deleted")]
    Removing,
    /// It is frozen.
    #[error("is paused")]
    Paused,
    /// It has to run for this.
    #[error("is not running")]
    NotRunning,
    /// Only a failed creation can be retried.
    #[error("exists and did not fail")]
    NotFailed,
    /// There is nothing to start: its creation failed early.
    #[error("was never completely created")]
    NeverCreated,
    /// Its clone failed.
    #[error("has not got its repository: the clone failed")]
    NotCloned,
    /// Too many wishes wait.
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
        let then = Facts { status: outcome(last, facts.status), has_box: true, is_cloned: true };
        match decide_idle(then, request) {
            Verdict::Already => Verdict::Join(last),
            Verdict::Begin(op) if op == last => Verdict::Join(op),
            Verdict::Begin(op) => Verdict::Queue(op),
            other => other,
        }
    }

    /// The promise that was made when it was requested counts.
    fn turn(_: Facts, operation: Operation) -> Verdict {
        Verdict::Begin(operation)
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
    let Facts { status, has_box, is_cloned } = facts;
    match (request, status) {
        (Request::Delete, _) => Verdict::Begin(Operation::Remove),
        (_, Removing) => Verdict::Deny(Denial::Removing),
        (Request::Create, Failed | Creating) => Verdict::Begin(Operation::Create),
        (Request::Create, _) => Verdict::Deny(Denial::NotFailed),
        // Nothing under way in a transitional status: the server died in the middle and nobody took it up yet.
        (Request::Start | Request::Restart | Request::Rebuild, Failed | Creating) if !has_box => {
            Verdict::Deny(Denial::NeverCreated)
        }
        // It would run without what it was made for, and nothing would tell.
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

/// What the engine says of a shed's box when the server looks after a start or a pause of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// No box.
    Nothing,
    /// Its processes run.
    Running,
    /// It is frozen.
    Paused,
    /// It does not run.
    Ended,
}

/// What to do about a difference between what was remembered and what is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// They agree.
    Nothing,
    /// Remember what is.
    Set(ShedStatus),
    /// Finish what was begun, or start what people want to run.
    Begin(Operation),
}

/// Compares a shed's remembered status with its box. Called when the server starts, when the engine is back, and when the
/// engine tells of a change while nothing is under way.
pub fn repair(status: ShedStatus, wanted: bool, occasion: Occasion, seen: Seen) -> Repair {
    use ShedStatus::{Creating, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};
    match (status, seen) {
        (Removing, _) => Repair::Begin(Operation::Remove),
        (Creating, _) => Repair::Begin(Operation::Create),
        // A failed shed stays failed until somebody does something about it.
        (Failed, _) | (Running, Seen::Running) | (Paused, Seen::Paused) => Repair::Nothing,
        (Stopped, Seen::Ended | Seen::Nothing) if !wanted || occasion == Occasion::Change => {
            Repair::Nothing
        }
        (_, Seen::Paused) => Repair::Set(Paused),
        // Going through `starting` waits for shed-init's hello.
        (Starting | Stopping | Stopped | Paused, Seen::Running) => Repair::Begin(Operation::Start),
        (_, Seen::Ended | Seen::Nothing) => match occasion {
            // Engine or host were restarted: what ran is started again.
            Occasion::Return if wanted => Repair::Begin(Operation::Start),
            Occasion::Return | Occasion::Change => Repair::Set(Stopped),
        },
    }
}

/// Why [`repair`] is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// The server or the engine is back.
    Return,
    /// The engine told of a change.
    Change,
}

#[cfg(test)]
mod tests;
