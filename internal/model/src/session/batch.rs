//! One operation on several sessions: which sessions, and a forecast for each. Pure.

use shed_api::ShedStatus;
use shed_api::git::Risk;
use shed_api::session::{Session, SessionType};
use shed_api::work::{Batch, BatchFilter, BatchOp};

use super::Managed;
use super::deletion;
use super::life::{self, Facts, Operation, Verdict};
use crate::rejection::at_risk;
use crate::{Rejection, tag};

/// The most sessions of one batch.
pub const MAX_ITEMS: usize = 1_000;
/// How many sessions of a batch are worked on at once: each needs processes in a shed.
pub const AT_ONCE: usize = 8;

/// Checks a batch.
pub fn check(batch: &Batch) -> Result<(), Rejection> {
    let invalid = |text: &str| Err(Rejection::Invalid(text.to_owned()));
    match (&batch.filter, batch.ids.is_empty()) {
        (Some(_), false) => return invalid("invalid batch; expected ids or a filter, not both"),
        (None, true) => return invalid("invalid batch; expected ids or a filter"),
        (Some(_), true) | (None, false) => {}
    }
    if let Some(filter) = &batch.filter {
        let selects = BatchFilter { all: false, ..filter.clone() } != BatchFilter::default();
        if filter.all == selects {
            // An empty filter is more often a mistake of a script than every session of every shed.
            return invalid(
                "invalid filter; expected shed, tag, status or agent, or \"all\": true alone for every session",
            );
        }
    }
    if batch.ids.len() > MAX_ITEMS {
        return Err(too_many(batch.ids.len()));
    }
    let is = |op: BatchOp| batch.op == op;
    if is(BatchOp::Input) != batch.text.is_some() {
        return invalid("invalid batch; expected text with the operation input, and only with it");
    }
    if is(BatchOp::Tag) == batch.tags.is_empty() {
        return invalid("invalid batch; expected tags with the operation tag, and only with it");
    }
    if batch.force && !is(BatchOp::Delete) {
        return invalid("invalid batch; expected force only with the operation delete");
    }
    if batch.continues && !is(BatchOp::Restart) {
        return invalid("invalid batch; expected continue only with the operation restart");
    }
    tag::check(&batch.tags)
}

/// The rejection of a batch with more sessions than [`MAX_ITEMS`].
pub fn too_many(n_sessions: usize) -> Rejection {
    Rejection::TooLarge(format!(
        "invalid batch of {n_sessions} sessions; expected at most {MAX_ITEMS}"
    ))
}

/// Whether a filter selects this session. An unmanaged one is never selected: its id does not last.
pub fn fits(filter: &BatchFilter, session: &Session) -> bool {
    let BatchFilter { shed, tag, status, agent, all: _ } = filter;
    session.kind.is_some()
        && shed.as_ref().is_none_or(|shed| *shed == session.shed_name)
        && tag.as_ref().is_none_or(|tag| session.tags.contains(tag))
        && status.is_none_or(|status| status == session.status)
        && agent.as_ref().is_none_or(|agent| {
            session.workers.iter().any(|worker| worker.agent.as_ref() == Some(agent))
        })
}

fn operation(op: BatchOp) -> Option<Operation> {
    match op {
        BatchOp::Terminate => Some(Operation::Terminate),
        BatchOp::Restart => Some(Operation::Restart),
        BatchOp::Delete => Some(Operation::Delete),
        BatchOp::Freeze => Some(Operation::Freeze),
        BatchOp::Thaw => Some(Operation::Thaw),
        BatchOp::Tag => Some(Operation::Patch),
        BatchOp::Checkpoint | BatchOp::Input => None,
    }
}

/// What the rules of sessions say; `None` of what is no operation of the session's keeper.
fn verdict(op: BatchOp, known: &Managed) -> Option<Verdict> {
    let facts = Facts { status: known.row.status, is_missing: false };
    operation(op).map(|operation| life::decide_idle(facts, operation))
}

/// Why there is nothing to do for a session; `None` if there is something.
pub fn already(batch: &Batch, known: &Managed) -> Option<&'static str> {
    if batch.op == BatchOp::Tag {
        return missing_tags(batch, known).is_empty().then_some("has these tags already");
    }
    (verdict(batch.op, known) == Some(Verdict::Already)).then_some(match batch.op {
        BatchOp::Terminate => "has ended already",
        BatchOp::Restart => "waits for its turn already",
        BatchOp::Freeze => "is frozen already",
        BatchOp::Thaw => "runs already",
        BatchOp::Delete | BatchOp::Checkpoint | BatchOp::Input | BatchOp::Tag => "is so already",
    })
}

fn missing_tags(batch: &Batch, known: &Managed) -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    for tag in &batch.tags {
        if !known.row.spec.tags.contains(tag) && !missing.contains(tag) {
            missing.push(tag.clone());
        }
    }
    missing
}

/// A session's tags after the batch has added its own.
pub fn all_tags(batch: &Batch, known: &Managed) -> Vec<String> {
    let own = known.row.spec.tags.iter().cloned();
    own.chain(missing_tags(batch, known)).collect()
}

/// Whether a forecast needs to know from the shed what would be lost.
pub fn needs_risk(batch: &Batch, known: &Managed, shed: ShedStatus) -> bool {
    batch.op == BatchOp::Delete && known.row.owns_worktree() && shed != ShedStatus::Stopped
}

/// What a batch would do with a session, in words, or why it would be rejected.
pub fn forecast(
    batch: &Batch,
    known: &Managed,
    shed: ShedStatus,
    risk: Option<&Risk>,
) -> Result<String, Rejection> {
    if let Some(already) = already(batch, known) {
        return Ok(already.to_owned());
    }
    let row = &known.row;
    let name: shed_api::ShedName = row.shed.parse()?;
    if let Some(Verdict::Deny(denial)) = verdict(batch.op, known) {
        return Err(Rejection::Session { shed: name, session: row.name.clone(), denial });
    }
    let is_stopped = shed == ShedStatus::Stopped;
    let starts_shed = match batch.op {
        BatchOp::Restart => true,
        BatchOp::Delete => row.spec.kind == SessionType::Worktree,
        BatchOp::Terminate
        | BatchOp::Freeze
        | BatchOp::Thaw
        | BatchOp::Checkpoint
        | BatchOp::Input
        | BatchOp::Tag => false,
    };
    let needs_shed = starts_shed || !matches!(batch.op, BatchOp::Delete | BatchOp::Tag);
    let is_closed = matches!(shed, ShedStatus::Paused | ShedStatus::Removing);
    if needs_shed && (is_closed || (is_stopped && !starts_shed)) {
        return Err(Rejection::NotRunning { shed: name, status: shed });
    }
    let first = if starts_shed && is_stopped {
        format!("would start shed {name}, then ")
    } else {
        "would ".to_owned()
    };
    let n_alive = known.workers.iter().filter(|worker| worker.is_alive()).count();
    let alive = counted(n_alive, "running worker");
    let what = match batch.op {
        BatchOp::Terminate if row.spec.kind == SessionType::Worktree => {
            format!("end {alive} and make a checkpoint")
        }
        BatchOp::Terminate => format!("end {alive}"),
        BatchOp::Restart => {
            let n = known.workers.iter().filter(|worker| !worker.spec.hook).count();
            let all = counted(n, "worker");
            if n_alive == 0 {
                format!("start {all}")
            } else {
                format!("end {alive} and start {all}")
            }
        }
        BatchOp::Delete => return deletion(batch, known, &name, &first, &alive, risk),
        BatchOp::Freeze => format!("freeze {alive}"),
        BatchOp::Thaw => format!("thaw {alive}"),
        BatchOp::Checkpoint => {
            needs_worktree(known)?;
            "make a checkpoint".to_owned()
        }
        BatchOp::Input => {
            let n_bytes = batch.text.as_ref().map_or(0, String::len);
            format!("type {} and press Enter", counted(n_bytes, "byte"))
        }
        BatchOp::Tag => {
            tag::check(&all_tags(batch, known))?;
            format!("add {}", missing_tags(batch, known).join(", "))
        }
    };
    Ok(first + &what)
}

fn deletion(
    batch: &Batch,
    known: &Managed,
    shed: &shed_api::ShedName,
    first: &str,
    alive: &str,
    risk: Option<&Risk>,
) -> Result<String, Rejection> {
    let start = format!("{first}end {alive} and delete it");
    if !known.row.owns_worktree() {
        return Ok(format!("{start}; its directory stays"));
    }
    let Some(risk) = risk else {
        return Ok(format!(
            "{start} with its worktree; what would be lost is unknown while the shed is stopped"
        ));
    };
    let row = &known.row;
    let refused = deletion::refusal(shed, &row.name, &row.spec.directory, risk, batch.force);
    if let Some(rejection) = refused {
        return Err(rejection);
    }
    let lost = at_risk(risk);
    if lost.is_empty() {
        return Ok(format!("{start} with its worktree; nothing would be lost"));
    }
    Ok(format!("{start} with its worktree; would move to the trash: {lost}"))
}

/// Only a session with a worktree has checkpoints.
pub fn needs_worktree(known: &Managed) -> Result<(), Rejection> {
    let spec = &known.row.spec;
    if spec.kind == SessionType::Worktree && spec.placed {
        return Ok(());
    }
    let name = &known.row.name;
    Err(Rejection::Invalid(format!("session {name:?} has no worktree, and so no checkpoints")))
}

fn counted(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests;
