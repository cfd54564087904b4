//! Requests, and the operations that begin.

use std::sync::Arc;

use shed_api::{Actor, ShedStatus};
use shed_model::Rejection;
use shed_model::lane::{self, Step};
use shed_model::shed::ShedSpec;
use shed_model::shed::life::{Denial, Facts, Operation, Request};
use shed_store::StoreError;

use super::{Keeper, Waiter, Work, answer_all};
use crate::Error;
use crate::error::Failure;
use crate::shed::handle::{Answer, Order, RequestMessage};
use crate::shed::operations::{OpEnv, run_op};
use crate::shed::view::ProgressState;

impl Keeper {
    pub(super) fn facts(&self) -> Facts {
        Facts {
            status: self.row.status,
            has_container: self.view.borrow().has_container(),
            is_cloned: self.row.spec.cloned,
        }
    }

    pub(super) fn work(&self, actor: Actor, order: Order) -> Work {
        Work { actor, order, cancel: self.stop.child_token() }
    }

    pub(super) async fn take_request(&mut self, post: RequestMessage) {
        let RequestMessage { request, actor, mut order, answer } = post;
        let running = self.lane.running().map(|job| job.operation);
        order.cancels_creation = request == Request::Delete && running == Some(Operation::Create);
        let (facts, work) = (self.facts(), self.work(actor, order));
        match self.lane.request(facts, request, work, answer) {
            Step::Begin => self.begin().await,
            Step::Wait => {}
            Step::Cancel(denied) => {
                for (waiter, denial) in denied {
                    waiter.send(Err(self.denied(denial))).ok();
                }
                if let Some(running) = self.lane.running() {
                    running.payload.cancel.cancel();
                }
            }
            Step::Answer(waiters, answer) => self.answer(waiters, answer),
        }
    }

    pub(super) fn denied(&self, denial: Denial) -> Error {
        Error::Rejected(Rejection::Shed { shed: self.name.clone(), denial })
    }

    pub(super) fn answer(&self, waiters: Vec<Waiter>, answer: lane::Answer<Denial>) {
        answer_all(waiters, || match answer {
            lane::Answer::Already => Ok(Answer::Already),
            lane::Answer::Denied(denial) => Err(self.denied(denial)),
        });
    }

    /// Starts the operation that the lane runs; if that fails, the next that waits.
    pub(super) async fn begin(&mut self) {
        while let Err(failure) = self.try_begin().await {
            if let Some(job) = self.lane.finish() {
                answer_all(job.waiters, || Err(Error::Failed(failure.clone())));
            }
            if !self.turn() {
                return;
            }
        }
    }

    /// Gives the next waiting operation its turn. Returns whether one is to start.
    pub(super) fn turn(&mut self) -> bool {
        while let Some(step) = self.lane.next(self.facts()) {
            match step {
                Step::Begin => return true,
                Step::Answer(waiters, answer) => self.answer(waiters, answer),
                Step::Wait | Step::Cancel(_) => {}
            }
        }
        false
    }

    /// Writes the transitional status and starts the operation.
    pub(super) async fn try_begin(&mut self) -> Result<(), Failure> {
        let Some(job) = self.lane.running_mut() else { return Ok(()) };
        let op = job.operation;
        let Work { actor, order, cancel } = &mut job.payload;
        // A cancelled creation removes no volume that existed before it.
        order.keep_volumes |= order.cancels_creation && !self.row.spec.made_volumes;
        let (actor, order, cancel) = (actor.clone(), order.clone(), cancel.clone());
        let (status, wanted) = match op {
            Operation::Create => (ShedStatus::Creating, Some(!order.no_start)),
            Operation::Start | Operation::Unpause => (ShedStatus::Starting, Some(true)),
            Operation::Restart => (ShedStatus::Stopping, Some(true)),
            Operation::Stop => (ShedStatus::Stopping, Some(false)),
            Operation::Pause => (self.row.status, None),
            Operation::Rebuild => (ShedStatus::Stopping, None),
            Operation::Remove => (ShedStatus::Removing, Some(false)),
        };
        let was = self.row.status;
        // Before the new status shows: whoever sees it must not take an earlier operation's progress for this one's.
        self.progress.send_replace(ProgressState::default());
        let keep_volumes = (op == Operation::Remove).then_some(order.keep_volumes);
        let mut prepared = self.prepare(keep_volumes, status, wanted, &actor).await;
        // What frees space must be possible when there is none.
        if matches!(prepared, Err(StoreError::DiskFull))
            && op == Operation::Remove
            && self.server.store.give_back()
        {
            prepared = self.prepare(keep_volumes, status, wanted, &actor).await;
        }
        prepared?;
        self.fresh |= matches!(
            op,
            Operation::Create | Operation::Start | Operation::Restart | Operation::Rebuild
        );
        let env = OpEnv {
            server: Arc::clone(&self.server),
            name: self.name.clone(),
            row: self.row.clone(),
            was,
            view: self.view.subscribe(),
            progress: self.progress.clone(),
            relay: self.relay.clone(),
            work: self.work.clone(),
            reports: self.reports.clone(),
            cancel,
            order,
        };
        self.server.tasks.spawn(run_op(op, env));
        Ok(())
    }

    /// Writes what an operation begins with; of a removal also whether it keeps the volumes.
    pub(super) async fn prepare(
        &mut self,
        keep_volumes: Option<bool>,
        status: ShedStatus,
        wanted: Option<bool>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        if let Some(removal_keeps_volumes) = keep_volumes
            && self.row.spec.removal_keeps_volumes != removal_keeps_volumes
        {
            // Written first: a server that dies during the removal must finish this one and no other.
            let spec = ShedSpec { removal_keeps_volumes, ..self.row.spec.clone() };
            self.server.store.set_spec(self.name.to_string(), spec.clone(), None).await?;
            self.row.spec = spec;
        }
        if status != self.row.status || wanted.is_some_and(|wanted| wanted != self.row.wanted) {
            self.set_status(status, None, wanted, actor).await?;
        }
        Ok(())
    }
}
