//! The life of a shed: which wish leads where. Pure; the keeper acts on what is decided here.
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
//! * One operation at a time; a wish that equals the one under way joins it, one that contradicts it waits, and one
//!   during `removing` is denied.

use shed_api::ShedStatus;

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
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
pub enum Op {
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

/// Where a shed stands when somebody wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Its status; transitional while something is under way.
    pub status: ShedStatus,
    /// What is under way.
    pub doing: Option<Op>,
    /// What waits last, and how many wait.
    pub waiting: Option<(Op, usize)>,
    /// Whether it has a container: a failed creation may have none.
    pub has_box: bool,
    /// Whether it has its repository; so does one without any.
    pub is_cloned: bool,
}

/// What to do about a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Begin it now.
    Begin(Op),
    /// It is under way, or waits: tell the caller when it is over.
    Join(Op),
    /// Begin it after what is under way and waits.
    Queue(Op),
    /// End what is under way, forget what waits, then begin it.
    Interrupt(Op),
    /// It is already so.
    Already,
    /// It is not done, because.
    Deny(Denial),
}

/// Why a wish is not done. Follows the shed's name in a sentence.
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

/// Wishes that may wait. More means that somebody asks in a loop.
pub const MAX_WAITING: usize = 8;

/// What to do about `wish`.
pub fn decide(now: Situation, wish: Wish) -> Verdict {
    let last = now.waiting.map(|(op, _)| op).or(now.doing);
    let Some(last) = last else {
        return decide_idle(now.status, now.has_box, now.is_cloned, wish);
    };
    if last == Op::Remove {
        return if wish == Wish::Delete {
            Verdict::Join(Op::Remove)
        } else {
            Verdict::Deny(Denial::Removing)
        };
    }
    if wish == Wish::Delete {
        // What is being made need not be finished first.
        return Verdict::Interrupt(Op::Remove);
    }
    // What counts is where the shed will be when all that is promised is done.
    match decide_idle(outcome(last, now.status), true, true, wish) {
        Verdict::Already => Verdict::Join(last),
        Verdict::Begin(op) if op == last => Verdict::Join(op),
        Verdict::Begin(_) if now.waiting.is_some_and(|(_, n)| n >= MAX_WAITING) => {
            Verdict::Deny(Denial::TooManyWaiting)
        }
        Verdict::Begin(op) => Verdict::Queue(op),
        other => other,
    }
}

/// The status after an operation that goes well.
fn outcome(op: Op, status: ShedStatus) -> ShedStatus {
    match op {
        Op::Stop => ShedStatus::Stopped,
        Op::Pause => ShedStatus::Paused,
        // Runs again if it ran; it is `starting` or `stopping` meanwhile.
        Op::Rebuild if status == ShedStatus::Stopped => ShedStatus::Stopped,
        Op::Create | Op::Start | Op::Restart | Op::Unpause | Op::Rebuild => ShedStatus::Running,
        Op::Remove => ShedStatus::Removing,
    }
}

fn decide_idle(status: ShedStatus, has_box: bool, is_cloned: bool, wish: Wish) -> Verdict {
    use ShedStatus::{Creating, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};
    match (wish, status) {
        (Wish::Delete, _) => Verdict::Begin(Op::Remove),
        (_, Removing) => Verdict::Deny(Denial::Removing),
        (Wish::Create, Failed | Creating) => Verdict::Begin(Op::Create),
        (Wish::Create, _) => Verdict::Deny(Denial::NotFailed),
        // Nothing under way in a transitional status: the server died in the middle and nobody took it up yet.
        (Wish::Start | Wish::Restart | Wish::Rebuild, Failed | Creating) if !has_box => {
            Verdict::Deny(Denial::NeverCreated)
        }
        // It would run without what it was made for, and nothing would tell.
        (Wish::Start | Wish::Restart | Wish::Rebuild, Failed) if !is_cloned => {
            Verdict::Deny(Denial::NotCloned)
        }
        (Wish::Start | Wish::Unpause, Running) | (Wish::Stop, Stopped) | (Wish::Pause, Paused) => {
            Verdict::Already
        }
        (Wish::Start, Paused) => Verdict::Deny(Denial::Paused),
        (Wish::Start, Creating | Starting | Stopping | Stopped | Failed) => {
            Verdict::Begin(Op::Start)
        }
        (Wish::Stop, Creating | Starting | Running | Paused | Stopping | Failed) => {
            Verdict::Begin(Op::Stop)
        }
        (Wish::Restart, _) => Verdict::Begin(Op::Restart),
        (Wish::Rebuild, _) => Verdict::Begin(Op::Rebuild),
        (Wish::Pause, Running) => Verdict::Begin(Op::Pause),
        (Wish::Unpause, Paused) => Verdict::Begin(Op::Unpause),
        (Wish::Pause | Wish::Unpause, _) => Verdict::Deny(Denial::NotRunning),
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
    Begin(Op),
}

/// Compares a shed's remembered status with its box. Called when the server starts, when the engine is back, and when the
/// engine tells of a change while nothing is under way.
pub fn repair(status: ShedStatus, wanted: bool, occasion: Occasion, seen: Seen) -> Repair {
    use ShedStatus::{Creating, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};
    match (status, seen) {
        (Removing, _) => Repair::Begin(Op::Remove),
        (Creating, _) => Repair::Begin(Op::Create),
        // A failed shed stays failed until somebody does something about it.
        (Failed, _) | (Running, Seen::Running) | (Paused, Seen::Paused) => Repair::Nothing,
        (Stopped, Seen::Ended | Seen::Nothing) if !wanted || occasion == Occasion::Change => {
            Repair::Nothing
        }
        (_, Seen::Paused) => Repair::Set(Paused),
        // Going through `starting` waits for shed-init's hello.
        (Starting | Stopping | Stopped | Paused, Seen::Running) => Repair::Begin(Op::Start),
        (Stopping, Seen::Ended | Seen::Nothing) if !wanted => Repair::Set(Stopped),
        (_, Seen::Ended | Seen::Nothing) => match occasion {
            // Engine or host were restarted: what ran is started again.
            Occasion::Return if wanted => Repair::Begin(Op::Start),
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WISHES: [Wish; 8] = [
        Wish::Create,
        Wish::Start,
        Wish::Stop,
        Wish::Restart,
        Wish::Pause,
        Wish::Unpause,
        Wish::Rebuild,
        Wish::Delete,
    ];

    fn idle(status: ShedStatus) -> Situation {
        Situation { status, doing: None, waiting: None, has_box: true, is_cloned: true }
    }

    fn doing(status: ShedStatus, op: Op) -> Situation {
        Situation { doing: Some(op), ..idle(status) }
    }

    #[test]
    fn a_second_wish_of_a_kind_is_already_so_or_joins() {
        assert_eq!(decide(idle(ShedStatus::Running), Wish::Start), Verdict::Already);
        assert_eq!(decide(idle(ShedStatus::Stopped), Wish::Stop), Verdict::Already);
        assert_eq!(decide(idle(ShedStatus::Paused), Wish::Pause), Verdict::Already);
        let starting = doing(ShedStatus::Starting, Op::Start);
        assert_eq!(decide(starting, Wish::Start), Verdict::Join(Op::Start));
        let creating = doing(ShedStatus::Creating, Op::Create);
        assert_eq!(decide(creating, Wish::Start), Verdict::Join(Op::Create));
    }

    #[test]
    fn during_removal_everything_else_is_denied() {
        let removing = doing(ShedStatus::Removing, Op::Remove);
        for wish in WISHES {
            let verdict = decide(removing, wish);
            match wish {
                Wish::Delete => assert_eq!(verdict, Verdict::Join(Op::Remove)),
                _ => assert_eq!(verdict, Verdict::Deny(Denial::Removing)),
            }
        }
    }

    #[test]
    fn a_delete_interrupts_what_is_being_made() {
        let creating = doing(ShedStatus::Creating, Op::Create);
        assert_eq!(decide(creating, Wish::Delete), Verdict::Interrupt(Op::Remove));
    }

    #[test]
    fn contradicting_wishes_wait_for_each_other() {
        let stopping = doing(ShedStatus::Stopping, Op::Stop);
        assert_eq!(decide(stopping, Wish::Start), Verdict::Queue(Op::Start));
        let then_starting = Situation { waiting: Some((Op::Start, 1)), ..stopping };
        assert_eq!(decide(then_starting, Wish::Stop), Verdict::Queue(Op::Stop));
        assert_eq!(decide(then_starting, Wish::Start), Verdict::Join(Op::Start));
        let full = Situation { waiting: Some((Op::Start, MAX_WAITING)), ..stopping };
        assert_eq!(decide(full, Wish::Stop), Verdict::Deny(Denial::TooManyWaiting));
    }

    #[test]
    fn only_a_failed_creation_is_retried() {
        assert_eq!(decide(idle(ShedStatus::Failed), Wish::Create), Verdict::Begin(Op::Create));
        assert_eq!(
            decide(idle(ShedStatus::Running), Wish::Create),
            Verdict::Deny(Denial::NotFailed)
        );
        let early = Situation { has_box: false, ..idle(ShedStatus::Failed) };
        assert_eq!(decide(early, Wish::Start), Verdict::Deny(Denial::NeverCreated));
        assert_eq!(decide(early, Wish::Delete), Verdict::Begin(Op::Remove));
        // Started, it would look as if nothing were missing.
        let bare = Situation { is_cloned: false, ..idle(ShedStatus::Failed) };
        for wish in [Wish::Start, Wish::Restart, Wish::Rebuild] {
            assert_eq!(decide(bare, wish), Verdict::Deny(Denial::NotCloned));
        }
        assert_eq!(decide(bare, Wish::Create), Verdict::Begin(Op::Create));
        assert_eq!(decide(bare, Wish::Stop), Verdict::Begin(Op::Stop));
    }

    #[test]
    fn after_a_return_what_ran_runs_again_and_what_was_stopped_stays() {
        use Occasion::{Change, Return};
        let table = [
            (ShedStatus::Running, true, Return, Seen::Ended, Repair::Begin(Op::Start)),
            (ShedStatus::Running, true, Return, Seen::Running, Repair::Nothing),
            (ShedStatus::Running, true, Change, Seen::Ended, Repair::Set(ShedStatus::Stopped)),
            (ShedStatus::Stopped, true, Return, Seen::Ended, Repair::Begin(Op::Start)),
            (ShedStatus::Stopped, true, Change, Seen::Ended, Repair::Nothing),
            (ShedStatus::Stopped, false, Return, Seen::Ended, Repair::Nothing),
            (ShedStatus::Stopped, false, Change, Seen::Running, Repair::Begin(Op::Start)),
            (ShedStatus::Paused, true, Return, Seen::Ended, Repair::Begin(Op::Start)),
            (ShedStatus::Running, true, Change, Seen::Paused, Repair::Set(ShedStatus::Paused)),
            (ShedStatus::Stopping, false, Return, Seen::Ended, Repair::Set(ShedStatus::Stopped)),
            (ShedStatus::Creating, true, Return, Seen::Nothing, Repair::Begin(Op::Create)),
            (ShedStatus::Removing, false, Return, Seen::Nothing, Repair::Begin(Op::Remove)),
            (ShedStatus::Failed, true, Return, Seen::Ended, Repair::Nothing),
        ];
        for (status, wanted, occasion, seen, expected) in table {
            let found = repair(status, wanted, occasion, seen);
            assert_eq!(found, expected, "{status} {wanted} {occasion:?} {seen:?}");
        }
    }

    proptest! {
        /// A small model of the keeper: every wish is answered, one operation runs at a time, the queue is bounded, and
        /// after a delete nothing else begins.
        #[test]
        fn any_sequence_of_wishes_ends_well(steps in prop::collection::vec((0_usize..8, any::<bool>()), 0..60)) {
            let mut status = ShedStatus::Stopped;
            let mut doing: Option<Op> = None;
            let mut waiting: Vec<Op> = Vec::new();
            let mut gone = false;
            for (wish, finish) in steps {
                let last = waiting.last().map(|op| (*op, waiting.len()));
                let now = Situation { status, doing, waiting: last, has_box: true, is_cloned: true };
                match decide(now, WISHES[wish]) {
                    Verdict::Begin(op) => {
                        prop_assert!(doing.is_none() && waiting.is_empty() && !gone);
                        doing = Some(op);
                    }
                    Verdict::Queue(op) => {
                        prop_assert!(doing.is_some() && waiting.len() < MAX_WAITING && !gone);
                        prop_assert_ne!(waiting.last().copied().or(doing), Some(op));
                        waiting.push(op);
                    }
                    Verdict::Interrupt(op) => {
                        prop_assert_eq!(op, Op::Remove);
                        waiting.clear();
                        doing = Some(op);
                    }
                    Verdict::Join(op) => prop_assert_eq!(waiting.last().copied().or(doing), Some(op)),
                    Verdict::Already => prop_assert!(doing.is_none()),
                    Verdict::Deny(denial) => prop_assert!(denial != Denial::Removing || doing == Some(Op::Remove)),
                }
                if let (true, Some(op)) = (finish, doing) {
                    status = outcome(op, status);
                    gone |= op == Op::Remove;
                    doing = if waiting.is_empty() { None } else { Some(waiting.remove(0)) };
                }
                if gone {
                    break;
                }
            }
        }
    }
}
