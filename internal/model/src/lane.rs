//! The queue of the operations on one shed or one session: what runs, what waits, and how a request is answered.
//!
//! ```text
//!   request ──▶ life decides ──▶ begins │ joins │ waits │ interrupts │ is so already │ is denied
//!                                                 │
//!                          in its turn, judged ◀──┘
//! ```
//!
//! At most one operation runs. The keeper that owns the lane starts what the lane says, and reports its end with
//! [`Lane::finish`]. Each request has a waiter; the lane hands every waiter back exactly once.

use std::collections::VecDeque;
use std::fmt::Debug;

/// The most requests that wait in one lane. More means that a client requests in a loop.
pub const MAX_WAITING: usize = 8;

/// The rules of a lane: what may happen to a shed, or to a session.
pub trait Life {
    /// What a caller requests.
    type Request: Copy;
    /// What is done, one at a time.
    type Operation: Copy + PartialEq;
    /// What a decision depends on beside the lane.
    type Facts: Copy;
    /// Why a request is denied.
    type Denial: Copy;
    /// The denial of a request when [`MAX_WAITING`] others wait.
    const TOO_MANY_WAITING: Self::Denial;
    /// What waiting requests are answered when another interrupts. `None`: they go on waiting.
    const INTERRUPTED: Option<Self::Denial>;

    /// Decides about a request.
    fn decide(
        facts: Self::Facts,
        ahead: Ahead<Self::Operation>,
        request: Self::Request,
    ) -> Verdict<Self::Operation, Self::Denial>;

    /// Decides about an operation that has waited and whose turn it is: `None` if it begins, else the answer to its waiters.
    fn turn(facts: Self::Facts, operation: Self::Operation) -> Option<Answer<Self::Denial>>;
}

/// What is ahead of a new request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead<O> {
    /// What runs.
    pub running: Option<O>,
    /// What would run last: the newest that waits, else what runs.
    pub last: Option<O>,
}

impl<O> Ahead<O> {
    /// Nothing runs and nothing waits.
    pub const NOTHING: Self = Self { running: None, last: None };
}

/// What to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<O, D> {
    /// Begin this now.
    Begin(O),
    /// It runs or waits already: answer the request when it is over.
    Join(O),
    /// Begin this after what runs and waits.
    Queue(O),
    /// Cancel what runs, then begin this.
    Interrupt(O),
    /// It is so already.
    Already,
    /// Do nothing, for this reason.
    Deny(D),
}

/// An operation, what goes with it, and who waits for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<O, P, W> {
    /// What is done.
    pub operation: O,
    /// What goes with it, for example who asked.
    pub payload: P,
    /// Answered when it is over. Empty for what the server does by itself.
    pub waiters: Vec<W>,
}

/// What the keeper does next.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Step<W, D> {
    /// Start what the lane runs now.
    Begin,
    /// Nothing: the request waits for its turn, or for the end of what it joined.
    Wait,
    /// Cancel what the lane runs, and answer these waiters that their requests are denied.
    Cancel(Vec<(W, D)>),
    /// Answer these waiters.
    Answer(Vec<W>, Answer<D>),
}

/// The answer to a request for which nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<D> {
    /// It is so already.
    Already,
    /// It is denied.
    Denied(D),
}

/// The operations on one shed or one session. `P` is a job's payload, `W` a waiter.
#[derive(Debug)]
pub struct Lane<L: Life, P, W> {
    running: Option<Job<L::Operation, P, W>>,
    waiting: VecDeque<Job<L::Operation, P, W>>,
}

impl<L: Life, P, W> Default for Lane<L, P, W> {
    fn default() -> Self {
        Self { running: None, waiting: VecDeque::new() }
    }
}

impl<L: Life, P, W> Lane<L, P, W> {
    /// What runs.
    pub fn running(&self) -> Option<&Job<L::Operation, P, W>> {
        self.running.as_ref()
    }

    /// What runs; for what is learned about it meanwhile.
    pub fn running_mut(&mut self) -> Option<&mut Job<L::Operation, P, W>> {
        self.running.as_mut()
    }

    /// What begins next.
    pub fn next_operation(&self) -> Option<L::Operation> {
        self.waiting.front().map(|job| job.operation)
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    fn ahead(&self) -> Ahead<L::Operation> {
        let running = self.running.as_ref().map(|job| job.operation);
        let last = self.waiting.back().map(|job| job.operation).or(running);
        Ahead { running, last }
    }

    /// Takes a request.
    pub fn request(
        &mut self,
        facts: L::Facts,
        request: L::Request,
        payload: P,
        waiter: W,
    ) -> Step<W, L::Denial> {
        let is_full = self.waiting.len() >= MAX_WAITING;
        let verdict = L::decide(facts, self.ahead(), request);
        let job = |operation| Job { operation, payload, waiters: Vec::new() };
        match verdict {
            Verdict::Already => Step::Answer(vec![waiter], Answer::Already),
            Verdict::Deny(denial) => Step::Answer(vec![waiter], Answer::Denied(denial)),
            Verdict::Join(operation) => {
                // The newest that waits, if any does: that is what was judged.
                let last = self.waiting.back_mut().or(self.running.as_mut());
                match last.filter(|job| job.operation == operation) {
                    Some(job) => {
                        job.waiters.push(waiter);
                        Step::Wait
                    }
                    None => Step::Answer(vec![waiter], Answer::Already),
                }
            }
            Verdict::Begin(operation)
            | Verdict::Queue(operation)
            | Verdict::Interrupt(operation)
                if self.is_idle() =>
            {
                self.running = Some(Job { waiters: vec![waiter], ..job(operation) });
                Step::Begin
            }
            Verdict::Interrupt(operation) if L::INTERRUPTED.is_some() || !is_full => {
                let denied = L::INTERRUPTED.map_or_else(Vec::new, |denial| {
                    let waiters = self.waiting.drain(..).flat_map(|job| job.waiters);
                    waiters.map(|waiter| (waiter, denial)).collect()
                });
                self.waiting.push_back(Job { waiters: vec![waiter], ..job(operation) });
                Step::Cancel(denied)
            }
            Verdict::Begin(operation) | Verdict::Queue(operation) if !is_full => {
                self.waiting.push_back(Job { waiters: vec![waiter], ..job(operation) });
                Step::Wait
            }
            Verdict::Begin(_) | Verdict::Queue(_) | Verdict::Interrupt(_) => {
                Step::Answer(vec![waiter], Answer::Denied(L::TOO_MANY_WAITING))
            }
        }
    }

    /// Takes what the server does by itself, which no rule denies: it runs now, or next.
    pub fn insert(&mut self, job: Job<L::Operation, P, W>) -> Step<W, L::Denial> {
        if self.is_idle() {
            self.running = Some(job);
            Step::Begin
        } else {
            self.waiting.push_front(job);
            Step::Wait
        }
    }

    /// What ran is over; its waiters are the caller's to answer. What waits begins with [`Lane::next`].
    pub fn finish(&mut self) -> Option<Job<L::Operation, P, W>> {
        self.running.take()
    }

    /// The turn of what waits. `None` while something runs, and when nothing waits. To be called until it is `None`: one that
    /// is denied must not hold up those behind it.
    pub fn next(&mut self, facts: L::Facts) -> Option<Step<W, L::Denial>> {
        if self.running.is_some() {
            return None;
        }
        let job = self.waiting.pop_front()?;
        if let Some(answer) = L::turn(facts, job.operation) {
            return Some(Step::Answer(job.waiters, answer));
        }
        self.running = Some(job);
        Some(Step::Begin)
    }

    /// The shed or session is gone, and so is its lane. Everything that waited is the caller's to answer.
    pub fn close(self) -> impl Iterator<Item = Job<L::Operation, P, W>> {
        self.running.into_iter().chain(self.waiting)
    }
}

#[cfg(test)]
mod tests;
