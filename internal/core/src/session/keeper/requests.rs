//! Requests, and the operations that begin and end.

use std::collections::BTreeSet;
use std::sync::Arc;

use shed_api::Actor;
use shed_api::session::SessionStatus;
use shed_model::Rejection;
use shed_model::lane::{self, Lane, Step};
use shed_model::session::life::{Denial, Facts, Operation};
use shed_model::session::plan::{FIRST_EPOCH, Plan};
use shed_model::session::{Managed, SessionRow, ports};
use shed_store::StoreError;

use super::{Job, SessionKeeper, Work};
use crate::Error;
use crate::session::env::SessionOpEnv;
use crate::session::events::started_event;
use crate::session::events::status_event;
use crate::session::handle::{Answer, RequestMessage, SessionOrder};
use crate::session::operations;

impl SessionKeeper {
    pub(super) async fn create(&mut self, plan: Plan, actor: Actor, answer: Answer) {
        let Plan { mut session, mut worker } = plan;
        // Another session may have got the port block since this one was planned.
        let taken = self.all().iter().filter_map(|known| known.row.spec.port_block).collect();
        if session.spec.port_block.is_none_or(|block| BTreeSet::contains(&taken, &block)) {
            session.spec.port_block = ports::free_block(&taken);
        }
        let id = session.id.clone();
        let placed = self.resources.slots.enter(self.shed.as_str(), &id, session.created_at);
        if placed {
            session.status = SessionStatus::Creating;
            if session.spec.placed && session.spec.set_up {
                // Nothing happens before its first start: one write for both.
                worker.epoch = FIRST_EPOCH;
            }
        }
        let mut happened = vec![status_event(self.now(), &session, &actor)];
        if worker.epoch == FIRST_EPOCH {
            happened.push(started_event(self.now(), &session, &worker, &actor));
        }
        let added = self.server.store.add_session(session.clone(), vec![worker.clone()], happened);
        if let Err(error) = added.await {
            self.resources.slots.leave(self.shed.as_str(), &id);
            let error = match error {
                StoreError::Exists(_) => {
                    Error::SessionExists { shed: self.shed.clone(), session: session.name }
                }
                error => error.into(),
            };
            answer.send(Err(error)).ok();
            return;
        }
        let link = self.shed_view.borrow().link.clone();
        if let (FIRST_EPOCH, Some(link)) = (worker.epoch, link) {
            self.starts.begin(&id, &worker.id, worker.epoch, link);
        }
        self.put(Managed { row: session, workers: vec![worker] });
        if placed {
            let order = SessionOrder { fresh: true, ..SessionOrder::default() };
            let payload = self.work(actor, order);
            let job = Job { operation: Operation::Create, payload, waiters: vec![answer] };
            self.insert(&id, job).await;
        } else {
            // The caller waits for its row, not for its turn.
            answer.send(Ok(())).ok();
        }
    }

    pub(super) async fn adopt(&mut self, row: SessionRow, actor: &Actor, answer: Answer) {
        let event = status_event(self.now(), &row, actor);
        let added = self.server.store.add_session(row.clone(), Vec::new(), vec![event]).await;
        if added.is_ok() {
            self.resources.slots.keep(self.shed.as_str(), &row.id);
            self.put(Managed { row, workers: Vec::new() });
        }
        answer.send(added.map_err(Error::from)).ok();
    }

    pub(super) fn is_busy(&self, id: &str) -> bool {
        self.lanes.get(id).is_some_and(|lane| lane.running().is_some())
    }

    pub(super) fn work(&self, actor: Actor, order: SessionOrder) -> Work {
        Work { actor, order, cancel: self.stop.child_token() }
    }

    /// A job that no person asked for.
    pub(super) fn own(&self, operation: Operation, order: SessionOrder) -> Job {
        Job { operation, payload: self.work(Actor::Server, order), waiters: Vec::new() }
    }

    pub(super) fn facts(&self, row: &SessionRow) -> Facts {
        Facts { status: row.status, is_missing: self.is_missing(&row.id) }
    }

    pub(super) async fn take_request(&mut self, post: RequestMessage) {
        let RequestMessage { session, operation, actor, order, answer } = post;
        let Some(known) = self.known(&session) else {
            return answer_all(vec![answer], Err(self.no_session(session)));
        };
        let running = self.lanes.get(&session).and_then(Lane::running);
        let deletion = running.filter(|job| job.operation == Operation::Delete);
        if let Some(job) = deletion.filter(|_| operation == Operation::Delete && order.force) {
            // It ends the teardown that a deletion waits for. Its caller is told so too.
            job.payload.order.notes.add_to(&order.notes);
            job.payload.order.cut.cancel();
        }
        let (facts, work) = (self.facts(&known.row), self.work(actor, order));
        let lane = self.lanes.entry(session.clone()).or_default();
        let step = lane.request(facts, operation, work, answer);
        self.take_step(&known, step).await;
        self.drop_idle(&session);
    }

    pub(super) async fn take_step(&mut self, known: &Managed, step: Step<Answer, Denial>) {
        let id = &known.row.id;
        match step {
            Step::Begin => {
                let running = self.lanes.get(id).and_then(Lane::running);
                let restarts = running.is_some_and(|job| job.operation == Operation::Restart);
                if restarts && !known.row.is_up() {
                    self.begin_again(&known.row).await;
                } else {
                    self.begin(id).await;
                }
            }
            Step::Wait => {}
            Step::Cancel(_) => {
                if let Some(job) = self.lanes.get(id).and_then(Lane::running) {
                    job.payload.cancel.cancel();
                }
            }
            Step::Answer(waiters, lane::Answer::Already) => answer_all(waiters, Ok(())),
            Step::Answer(waiters, lane::Answer::Denied(denial)) => {
                let (shed, session) = (self.shed.clone(), known.row.name.clone());
                let denied = Rejection::Session { shed, session, denial };
                answer_all(waiters, Err(Error::Rejected(denied)));
            }
        }
    }

    pub(super) fn no_session(&self, session: String) -> Error {
        Error::NoSession { shed: self.shed.clone(), session }
    }

    pub(super) fn drop_idle(&mut self, id: &str) {
        if self.lanes.get(id).is_some_and(Lane::is_idle) {
            self.lanes.remove(id);
        }
    }

    /// Begins a job that no rule denies, now or next.
    pub(super) async fn insert(&mut self, id: &str, job: Job) {
        let lane = self.lanes.entry(id.to_owned()).or_default();
        if matches!(lane.insert(job), Step::Begin) {
            self.begin(id).await;
            self.drop_idle(id);
        }
    }

    /// Starts the operation that the session's lane runs.
    pub(super) async fn begin(&mut self, id: &str) {
        self.turns.remove(id);
        let Some(job) = self.lanes.get(id).and_then(Lane::running) else {
            return;
        };
        let (operation, Work { actor, order, cancel }) = (job.operation, job.payload.clone());
        let written = match operation {
            Operation::Create => self.enter_status(id, SessionStatus::Creating, None, &actor).await,
            Operation::Delete => {
                let force = Some(order.force);
                let mut written =
                    self.enter_status(id, SessionStatus::Removing, force, &actor).await;
                // What frees space must be possible when there is none.
                if written.as_ref().is_err_and(Error::is_disk_full) && self.server.store.give_back()
                {
                    written = self.enter_status(id, SessionStatus::Removing, force, &actor).await;
                }
                written
            }
            _ => Ok(()),
        };
        if let Err(error) = written {
            self.starts.end(id);
            let job = self.lanes.get_mut(id).and_then(Lane::finish);
            return answer_all(job.map(|job| job.waiters).unwrap_or_default(), Err(error));
        }
        let env = SessionOpEnv {
            server: Arc::clone(&self.server),
            resources: self.resources.clone(),
            shed: self.shed.clone(),
            id: id.to_owned(),
            messages: self.messages.clone(),
            shed_messages: self.shed_messages.clone(),
            view: self.view.subscribe(),
            shed_view: self.shed_view.clone(),
            cancel,
            actor,
            order,
        };
        self.server.tasks.spawn(operations::run(operation, env));
    }

    pub(super) async fn finish(&mut self, id: &str, result: Result<(), Error>) {
        self.starts.end(id);
        let Some(job) = self.lanes.get_mut(id).and_then(Lane::finish) else {
            return;
        };
        if job.operation == Operation::Delete && result.is_ok() {
            self.resources.slots.leave(self.shed.as_str(), id);
            for job in self.lanes.remove(id).into_iter().flat_map(Lane::close) {
                // A second deletion has what it asked for.
                let gone = match job.operation {
                    Operation::Delete => Ok(()),
                    _ => Err(self.no_session(id.to_owned())),
                };
                answer_all(job.waiters, gone);
            }
        }
        self.settle_slot(id);
        if job.waiters.is_empty()
            && let Err(error) = &result
        {
            tracing::warn!(shed = %self.shed, session = id, %error, "an operation that the server began failed");
        }
        answer_all(job.waiters, result);
        self.take_turns(id).await;
        self.compare().await;
    }

    /// Gives the next waiting operation its turn.
    pub(super) async fn take_turns(&mut self, id: &str) {
        loop {
            let Some(known) = self.known(id) else {
                for job in self.lanes.remove(id).into_iter().flat_map(Lane::close) {
                    answer_all(job.waiters, Err(self.no_session(id.to_owned())));
                }
                return;
            };
            let facts = self.facts(&known.row);
            // One that is denied now must not keep those behind it waiting.
            match self.lanes.get_mut(id).and_then(|lane| lane.next(facts)) {
                Some(step) => self.take_step(&known, step).await,
                None => return self.drop_idle(id),
            }
        }
    }
}

/// Answers the waiter of an operation. There is at most one: requests to sessions do not join.
pub(super) fn answer_all(mut waiters: Vec<Answer>, result: Result<(), Error>) {
    if let Some(waiter) = waiters.pop() {
        // A caller that is gone needs no answer.
        waiter.send(result).ok();
    }
}
