//! What operations report and what the engine shows: the keeper writes it, and begins what follows.

use std::sync::Arc;

use shed_api::{Actor, Code, EventKind, ShedStatus};
use shed_engine::{ContainerState, Found};
use shed_model::lane::{Job as LaneJob, Step};
use shed_model::shed::life::{self, Denial, Occasion, Operation, Repair, Seen};

use super::{Ended, Job, Keeper, answer_all};
use crate::Error;
use crate::error::Failure;
use crate::shed::handle::{Answer, Order};
use crate::shed::operations::{After, OpError, Report};

impl Keeper {
    pub(super) async fn take_report(&mut self, report: Report) -> Option<Ended> {
        match report {
            Report::Status(status) => {
                let running = self.lane.running();
                let actor = running.map_or(Actor::Server, |job| job.payload.actor.clone());
                self.log_failure(self.row.status, status, &actor).await;
                None
            }
            Report::Found(found) => {
                self.show(|view| view.found = found.map(|found| Arc::new(*found)));
                None
            }
            Report::ShedSpec(change) => {
                let mut spec = self.row.spec.clone();
                change.apply(&mut spec);
                if let Err(error) = self.write_spec(spec, None).await {
                    tracing::error!(shed = %self.name, %error, "a shed's specification was not written");
                }
                None
            }
            Report::Finished(result) => self.finish(result).await,
        }
    }

    /// Writes the status of an operation in progress. A failure to write must not end the operation.
    pub(super) async fn log_failure(&mut self, from: ShedStatus, to: ShedStatus, actor: &Actor) {
        if from != to
            && let Err(error) = self.set_status(to, None, None, actor).await
        {
            tracing::error!(shed = %self.name, %error, "a shed's status was not written");
        }
    }

    pub(super) async fn finish(&mut self, result: Result<ShedStatus, OpError>) -> Option<Ended> {
        let job = self.lane.finish()?;
        if job.operation == Operation::Remove && result.is_ok() {
            return self.finish_removal(job).await;
        }
        let interrupted = self.lane.next_operation() == Some(Operation::Remove);
        let (status, reason) = match &result {
            Ok(status) => (Some(*status), None),
            Err(_) if interrupted => (None, None),
            Err(error) => self.after_failure(error).await,
        };
        if let Some(status) = status
            && let Err(error) = self.set_status(status, reason, None, &job.payload.actor).await
        {
            tracing::error!(shed = %self.name, %error, "a shed's status was not written");
        }
        self.progress.send_modify(|progress| progress.done = Some(self.row.status));
        self.relay.clear();
        match result {
            Ok(_) => answer_all(job.waiters, || Ok(Answer::Done)),
            Err(error) => answer_all(job.waiters, || Err(Error::Failed(error.failure.clone()))),
        }
        if self.turn() {
            self.begin().await;
        }
        None
    }

    /// The status after a failed operation, and its reason.
    pub(super) async fn after_failure(
        &mut self,
        error: &OpError,
    ) -> (Option<ShedStatus>, Option<(Code, String)>) {
        match error.after {
            After::Failed => {
                let OpError { failure, .. } = error;
                (Some(ShedStatus::Failed), Some((failure.code, failure.text.clone())))
            }
            After::Was(status) => (Some(status), None),
            After::Later => (None, None),
            After::Observed => {
                let found = self.server.engine.find(&self.name).await.ok().flatten();
                let status = match seen(found.as_ref()) {
                    Seen::Running => ShedStatus::Running,
                    Seen::Paused => ShedStatus::Paused,
                    Seen::Ended | Seen::Nothing => ShedStatus::Stopped,
                };
                self.show(|view| view.found = found.map(Arc::new));
                (Some(status), None)
            }
        }
    }

    pub(super) async fn finish_removal(&mut self, job: Job) -> Option<Ended> {
        if let Err(error) = self.server.transport.forget(&self.name) {
            tracing::warn!(shed = %self.name, %error, "the link directory was left behind");
        }
        let event = self.event(EventKind::ShedRemoved, job.payload.actor.clone());
        if !job.payload.order.keep_volumes {
            // The volumes of its sessions are gone, and their rows go too.
            if let Err(error) = self.server.store.forget_sessions(self.name.to_string()).await {
                tracing::error!(shed = %self.name, %error, "its sessions' rows were not deleted");
            }
            let output = self.resources.logs.shed_dir(self.name.as_str());
            match std::fs::remove_dir_all(&output) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(shed = %self.name, %error, "the output of its workers was left behind");
                }
                _ => {}
            }
        }
        let removed = self.server.store.remove_shed(self.name.to_string(), event).await;
        if let Err(error) = removed {
            let failure = Failure::from(error);
            answer_all(job.waiters, || Err(Error::Failed(failure.clone())));
            return None;
        }
        self.show(|view| {
            view.gone = true;
            view.link = None;
        });
        self.progress.send_modify(|progress| progress.done = Some(ShedStatus::Removing));
        answer_all(job.waiters, || Ok(Answer::Done));
        // The shed of what waited is gone.
        for job in std::mem::take(&mut self.lane).close() {
            answer_all(job.waiters, || Err(self.denied(Denial::Removing)));
        }
        Some(Ended::Removed)
    }

    pub(super) async fn take_seen(&mut self, found: Option<Box<Found>>, occasion: Occasion) {
        let seen = seen(found.as_deref());
        let ended = found.as_deref().and_then(why_ended);
        self.show(|view| view.found = found.map(|found| Arc::new(*found)));
        if self.lane.running().is_some() {
            return;
        }
        match life::repair(self.row.status, self.row.wanted, occasion, seen) {
            Repair::Nothing => {}
            Repair::Set(status) => {
                // A container that ended during its stop ended as a person asked.
                let was_stopping = self.row.status == ShedStatus::Stopping;
                let reason = ended.filter(|_| status == ShedStatus::Stopped && !was_stopping);
                if let Err(error) = self.set_status(status, reason, None, &Actor::Server).await {
                    tracing::error!(shed = %self.name, %error, "a shed's status was not written");
                }
            }
            Repair::Begin(op) => {
                let keep_volumes = self.row.spec.removal_keeps_volumes;
                let order = Order { keep_volumes, no_start: !self.row.wanted, ..Order::default() };
                let payload = self.work(Actor::Server, order);
                let job = LaneJob { operation: op, payload, waiters: Vec::new() };
                if matches!(self.lane.insert(job), Step::Begin) {
                    self.begin().await;
                }
            }
        }
    }
}

fn seen(found: Option<&Found>) -> Seen {
    match found.map(|found| &found.state) {
        None => Seen::Nothing,
        Some(ContainerState::Running) => Seen::Running,
        Some(ContainerState::Paused) => Seen::Paused,
        Some(ContainerState::Created | ContainerState::Exited { .. }) => Seen::Ended,
    }
}

fn why_ended(found: &Found) -> Option<(Code, String)> {
    match &found.state {
        ContainerState::Exited { out_of_memory: true, .. } => {
            Some((Code::StartFailed, "its container ran out of memory and ended".to_owned()))
        }
        ContainerState::Exited { code, .. } => {
            let text = format!("its container was ended outside shed (exit status {code})");
            Some((Code::NotRunning, text))
        }
        ContainerState::Created | ContainerState::Running | ContainerState::Paused => None,
    }
}
