//! The lane with the rules of sheds and of sessions.

use std::collections::VecDeque;

use proptest::prelude::*;
use shed_api::ShedStatus;
use shed_api::session::SessionStatus;

use super::*;
use crate::session::life as session;
use crate::shed::life as shed;

/// A life with what its operations lead to.
trait Model: Life<Operation: Debug, Denial: PartialEq + Debug> {
    const REMOVAL: Self::Operation;
    const REMOVING: Self::Denial;
    fn requests() -> Vec<Self::Request>;
    fn start() -> Self::Facts;
    /// The facts after an operation that went well.
    fn after(facts: Self::Facts, operation: Self::Operation) -> Self::Facts;
    /// Something happens to the shed or session from outside.
    fn disturbed(facts: Self::Facts) -> Self::Facts;
    /// What the server does by itself after that.
    fn own() -> Option<Self::Operation>;
}

impl Model for shed::Rules {
    const REMOVAL: shed::Operation = shed::Operation::Remove;
    const REMOVING: shed::Denial = shed::Denial::Removing;

    fn requests() -> Vec<shed::Request> {
        shed::Request::ALL.to_vec()
    }

    fn start() -> shed::Facts {
        shed::Facts { status: ShedStatus::Stopped, has_container: true, is_cloned: true }
    }

    fn after(facts: shed::Facts, operation: shed::Operation) -> shed::Facts {
        shed::Facts { status: shed::outcome(operation, facts.status), ..facts }
    }

    fn disturbed(facts: shed::Facts) -> shed::Facts {
        shed::Facts { status: ShedStatus::Failed, ..facts }
    }

    fn own() -> Option<shed::Operation> {
        None
    }
}

impl Model for session::Rules {
    const REMOVAL: session::Operation = session::Operation::Delete;
    const REMOVING: session::Denial = session::Denial::Removing;

    fn requests() -> Vec<session::Operation> {
        session::Operation::ALL.to_vec()
    }

    fn start() -> session::Facts {
        session::Facts { status: SessionStatus::Waiting, is_missing: false }
    }

    fn after(facts: session::Facts, operation: session::Operation) -> session::Facts {
        use session::Operation::{Create, Delete, Freeze, Restart, Restore, Terminate, Thaw};
        let status = match operation {
            Create | Restore | Restart | Thaw => SessionStatus::Running,
            Terminate => SessionStatus::Ended,
            Delete => SessionStatus::Removing,
            Freeze => SessionStatus::Frozen,
            _ => facts.status,
        };
        session::Facts { status, is_missing: false }
    }

    fn disturbed(facts: session::Facts) -> session::Facts {
        session::Facts { is_missing: true, ..facts }
    }

    fn own() -> Option<session::Operation> {
        Some(session::Operation::Restore)
    }
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Request(usize),
    Finish { well: bool },
    Disturb,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (0..16_usize).prop_map(Happening::Request),
        2 => any::<bool>().prop_map(|well| Happening::Finish { well }),
        1 => Just(Happening::Disturb),
    ];
    prop::collection::vec(one, 0..80)
}

/// Drives a lane as a keeper does, and watches what a keeper may rely on.
struct Run<L: Model> {
    lane: Lane<L, usize, usize>,
    facts: L::Facts,
    n_requests: usize,
    answered: Vec<usize>,
    /// Payloads of what waits, in the order in which it must begin.
    expected: VecDeque<usize>,
    /// Numbers what the server inserts.
    n_own: usize,
    removed: bool,
}

impl<L: Model> Run<L> {
    fn answer(&mut self, waiters: Vec<usize>) {
        for waiter in waiters {
            assert!(!self.answered.contains(&waiter), "waiter {waiter} is answered twice");
            self.answered.push(waiter);
        }
    }

    fn request(&mut self, index: usize) {
        let n = self.n_requests;
        self.n_requests += 1;
        let requests = L::requests();
        let request = requests[index % requests.len()];
        let (n_waiting, was_idle) = (self.lane.waiting.len(), self.lane.is_idle());
        let step = self.lane.request(self.facts, request, n, n);
        assert!(self.lane.running.is_some() || self.lane.waiting.is_empty());
        match step {
            Step::Begin => {
                assert!(was_idle, "an operation began beside another");
                assert_eq!(self.lane.running().map(|job| job.payload), Some(n));
            }
            Step::Wait if self.lane.waiting.len() > n_waiting => {
                assert!(!was_idle && n_waiting < MAX_WAITING);
                self.expected.push_back(n);
            }
            Step::Wait => {
                let last = self.lane.waiting.back().or(self.lane.running.as_ref());
                assert!(last.is_some_and(|job| job.waiters.contains(&n)), "it joined nothing");
            }
            Step::Cancel(denied) => {
                assert!(!was_idle, "there is nothing to cancel");
                if L::INTERRUPTED.is_some() {
                    self.expected.clear();
                }
                self.expected.push_back(n);
                let (waiters, denials): (Vec<_>, Vec<_>) = denied.into_iter().unzip();
                assert!(denials.iter().all(|denial| *denial == L::REMOVING));
                self.answer(waiters);
            }
            Step::Answer(waiters, answer) => {
                assert_eq!(waiters, [n]);
                if answer == Answer::Denied(L::TOO_MANY_WAITING) {
                    assert!(n_waiting >= MAX_WAITING);
                }
                self.answer(waiters);
            }
        }
    }

    fn finish(&mut self, well: bool) {
        let Some(job) = self.lane.finish() else { return };
        self.answer(job.waiters);
        if well {
            self.facts = L::after(self.facts, job.operation);
            self.removed = job.operation == L::REMOVAL;
        }
        if self.removed {
            let lane = std::mem::take(&mut self.lane);
            let gone: Vec<usize> = lane.close().flat_map(|job| job.waiters).collect();
            self.answer(gone);
            return;
        }
        while let Some(step) = self.lane.next(self.facts) {
            let first = self.expected.pop_front();
            match step {
                Step::Begin => assert_eq!(self.lane.running().map(|job| job.payload), first),
                Step::Answer(waiters, _) => self.answer(waiters),
                Step::Wait | Step::Cancel(_) => panic!("a turn neither waits nor interrupts"),
            }
        }
        assert!(self.lane.running.is_some() || self.lane.waiting.is_empty());
    }

    fn disturb(&mut self) {
        self.facts = L::disturbed(self.facts);
        let Some(operation) = L::own() else { return };
        self.n_own += 1;
        let payload = usize::MAX - self.n_own;
        let was_idle = self.lane.is_idle();
        let step = self.lane.insert(Job { operation, payload, waiters: Vec::new() });
        assert_eq!(step, if was_idle { Step::Begin } else { Step::Wait });
        if !was_idle {
            self.expected.push_front(payload);
        }
    }

    fn go(happenings: &[Happening]) {
        let mut run = Self {
            lane: Lane::default(),
            facts: L::start(),
            n_requests: 0,
            answered: Vec::new(),
            expected: VecDeque::new(),
            n_own: 0,
            removed: false,
        };
        for happening in happenings {
            match *happening {
                Happening::Request(index) => run.request(index),
                Happening::Finish { well } => run.finish(well),
                Happening::Disturb => run.disturb(),
            }
            assert!(run.lane.waiting.len() <= MAX_WAITING + run.n_own, "the queue is bounded");
            if run.removed {
                break;
            }
        }
        // Whatever is left ends sooner or later.
        while run.lane.running.is_some() {
            run.finish(true);
        }
        run.answered.sort_unstable();
        assert_eq!(run.answered, (0..run.n_requests).collect::<Vec<_>>(), "each is answered once");
    }
}

proptest! {
    #[test]
    fn every_request_to_a_shed_is_answered_once_and_in_order(happenings in happenings()) {
        Run::<shed::Rules>::go(&happenings);
    }

    #[test]
    fn every_request_to_a_session_is_answered_once_and_in_order(happenings in happenings()) {
        Run::<session::Rules>::go(&happenings);
    }
}

#[test]
fn a_full_lane_of_a_session_denies_what_would_wait() {
    use session::{Facts, Operation};
    let facts = Facts { status: SessionStatus::Running, is_missing: false };
    let mut lane: Lane<session::Rules, (), usize> = Lane::default();
    assert_eq!(lane.request(facts, Operation::Create, (), 0), Step::Begin);
    for n in 1..=MAX_WAITING {
        assert_eq!(lane.request(facts, Operation::Patch, (), n), Step::Wait);
    }
    let full = Answer::Denied(session::Denial::TooManyWaiting);
    assert_eq!(lane.request(facts, Operation::Patch, (), 90), Step::Answer(vec![90], full));
    // What waits goes on waiting when a session's creation is cancelled, so that a cancellation needs room too.
    assert_eq!(lane.request(facts, Operation::Delete, (), 91), Step::Answer(vec![91], full));
}

#[test]
fn a_full_lane_of_a_shed_denies_what_would_wait_and_nothing_else() {
    use shed::Request;
    let facts = shed::Rules::start();
    let mut lane: Lane<shed::Rules, (), usize> = Lane::default();
    assert_eq!(lane.request(facts, Request::Start, (), 0), Step::Begin);
    for n in 1..=MAX_WAITING {
        let request = if n % 2 == 1 { Request::Stop } else { Request::Start };
        assert_eq!(lane.request(facts, request, (), n), Step::Wait);
    }
    let full = Answer::Denied(shed::Denial::TooManyWaiting);
    assert_eq!(lane.request(facts, Request::Stop, (), 90), Step::Answer(vec![90], full));
    assert_eq!(lane.request(facts, Request::Start, (), 91), Step::Wait, "it joins the last");
    // A removal of a shed needs no room: what waits is denied.
    let Step::Cancel(denied) = lane.request(facts, Request::Delete, (), 92) else {
        panic!("not cancelled")
    };
    let denied: Vec<usize> = denied.into_iter().map(|(waiter, _)| waiter).collect();
    assert_eq!(denied, [1, 2, 3, 4, 5, 6, 7, 8, 91]);
    assert_eq!(lane.next_operation(), Some(shed::Operation::Remove));
    assert_eq!(lane.next(facts), None, "something runs");
    assert_eq!(lane.finish().map(|job| job.waiters), Some(vec![0]));
    assert_eq!(lane.next(facts), Some(Step::Begin));
    assert!(!lane.is_idle());
    assert_eq!(lane.close().flat_map(|job| job.waiters).collect::<Vec<_>>(), [92]);
}

#[test]
fn a_waiting_request_to_a_session_is_judged_again_in_its_turn() {
    use session::{Denial, Facts, Operation};
    let running = Facts { status: SessionStatus::Running, is_missing: false };
    let mut lane: Lane<session::Rules, (), usize> = Lane::default();
    assert_eq!(lane.request(running, Operation::Terminate, (), 0), Step::Begin);
    assert_eq!(lane.request(running, Operation::Freeze, (), 1), Step::Wait);
    assert_eq!(lane.request(running, Operation::Terminate, (), 2), Step::Wait);
    assert_eq!(lane.request(running, Operation::Restart, (), 3), Step::Wait);
    let ended = Facts { status: SessionStatus::Ended, is_missing: false };
    assert!(lane.finish().is_some());
    let denied = Step::Answer(vec![1], Answer::Denied(Denial::Ended));
    assert_eq!(lane.next(ended), Some(denied));
    assert_eq!(lane.next(ended), Some(Step::Answer(vec![2], Answer::Already)));
    assert_eq!(lane.next(ended), Some(Step::Begin));
    assert_eq!(lane.next(ended), None);
    assert_eq!(lane.running().map(|job| job.operation), Some(Operation::Restart));
    assert!(lane.finish().is_some() && lane.is_idle());
}

#[test]
fn what_is_learned_about_a_running_operation_is_kept() {
    let mut lane: Lane<shed::Rules, &str, usize> = Lane::default();
    assert!(lane.running_mut().is_none());
    let step = lane.request(shed::Rules::start(), shed::Request::Start, "asked", 0);
    assert_eq!(step, Step::Begin);
    lane.running_mut().unwrap().payload = "learned";
    let job = Job { operation: shed::Operation::Start, payload: "learned", waiters: vec![0] };
    assert_eq!(lane.finish(), Some(job));
}
