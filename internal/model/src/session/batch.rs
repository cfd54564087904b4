//! One operation on several sessions: which sessions, and a forecast for each. Pure.

use shed_api::ShedStatus;
use shed_api::git::Risk;
use shed_api::session::{Session, SessionType};
use shed_api::work::{Batch, BatchFilter, BatchOp};
use shed_api::worker::WorkerStatus;

use super::Managed;
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
        (Some(_), false) => return invalid("give ids or a filter, not both"),
        (None, true) => return invalid("give ids or a filter"),
        (Some(_), true) | (None, false) => {}
    }
    if batch.ids.len() > MAX_ITEMS {
        return Err(too_many());
    }
    let is = |op: BatchOp| batch.op == op;
    if is(BatchOp::Input) != batch.text.is_some() {
        return invalid("text and the operation input belong together");
    }
    if is(BatchOp::Tag) == batch.tags.is_empty() {
        return invalid("tags and the operation tag belong together");
    }
    if batch.force && !is(BatchOp::Delete) {
        return invalid("force is for the operation delete");
    }
    if batch.continues && !is(BatchOp::Restart) {
        return invalid("continue is for the operation restart");
    }
    tag::check(&batch.tags)
}

/// The rejection of a batch with more sessions than [`MAX_ITEMS`].
pub fn too_many() -> Rejection {
    Rejection::TooLarge(format!("a batch is of at most {MAX_ITEMS} sessions"))
}

/// Whether a filter selects this session. An unmanaged one is never selected: its id does not last.
pub fn fits(filter: &BatchFilter, session: &Session) -> bool {
    let BatchFilter { shed, tag, status, agent } = filter;
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
    batch.op == BatchOp::Delete && has_own_worktree(known) && shed != ShedStatus::Stopped
}

fn has_own_worktree(known: &Managed) -> bool {
    let spec = &known.row.spec;
    spec.kind == SessionType::Worktree && spec.shares.is_none() && spec.placed
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
    let n_alive = known
        .workers
        .iter()
        .filter(|worker| worker.epoch > 0 && worker.status != WorkerStatus::Exited)
        .count();
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
        BatchOp::Thaw => format!("let {alive} go on"),
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
    if !has_own_worktree(known) {
        return Ok(format!("{start}; its directory stays"));
    }
    let Some(risk) = risk else {
        return Ok(format!(
            "{start} with its worktree; what would be lost is unknown while the shed is stopped"
        ));
    };
    let lost = at_risk(risk);
    if lost.is_empty() {
        return Ok(format!("{start} with its worktree; nothing would be lost"));
    }
    if !batch.force {
        let (shed, session) = (shed.clone(), known.row.name.clone());
        return Err(Rejection::WorkAtRisk { shed, session, risk: Box::new(risk.clone()) });
    }
    Ok(format!("{start} with its worktree; to the trash would go: {lost}"))
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
mod tests {
    use std::collections::BTreeSet;

    use chrono::DateTime;
    use shed_api::session::{NewSession, SessionStatus};
    use shed_api::worker::Worker;

    use super::*;
    use crate::session::plan;

    type Case =
        (BatchOp, SessionType, SessionStatus, ShedStatus, Result<&'static str, &'static str>);

    fn known(kind: SessionType, status: SessionStatus) -> Managed {
        let inputs = plan::Inputs {
            shed: "a",
            names: BTreeSet::new(),
            port_blocks: BTreeSet::new(),
            worktrees: "/worktrees",
            workspace: "/workspace",
            now: DateTime::UNIX_EPOCH,
            ids: plan::Ids::default(),
            shared: None,
        };
        let request = NewSession {
            name: Some("s".to_owned()),
            kind: Some(kind),
            tags: vec!["old".to_owned()],
            ..NewSession::default()
        };
        let plan::Plan { mut session, mut worker } =
            plan::plan(&plan::Rules::default(), &inputs, request).unwrap();
        session.status = status;
        session.spec.placed = true;
        worker.epoch = 1;
        worker.status = match status {
            SessionStatus::Ended => WorkerStatus::Exited,
            _ => WorkerStatus::Running,
        };
        Managed { row: session, workers: vec![worker] }
    }

    fn batch(op: BatchOp) -> Batch {
        Batch {
            ids: vec!["x".to_owned()],
            op,
            text: (op == BatchOp::Input).then(|| "ls".to_owned()),
            tags: if op == BatchOp::Tag {
                vec!["old".to_owned(), "new".to_owned()]
            } else {
                Vec::new()
            },
            ..Batch::default()
        }
    }

    #[test]
    fn a_batch_says_which_and_what() {
        for op in BatchOp::ALL {
            assert!(check(&batch(*op)).is_ok(), "{op}");
        }
        let fine = batch(BatchOp::Terminate);
        let filter = Some(BatchFilter::default());
        let bad = [
            Batch { ids: Vec::new(), ..fine.clone() },
            Batch { filter: filter.clone(), ..fine.clone() },
            Batch { ids: vec![String::new(); MAX_ITEMS + 1], ..fine.clone() },
            Batch { text: Some("x".to_owned()), ..fine.clone() },
            Batch { tags: vec!["x".to_owned()], ..fine.clone() },
            Batch { force: true, ..fine.clone() },
            Batch { continues: true, ..fine.clone() },
            Batch { text: None, ..batch(BatchOp::Input) },
            Batch { tags: vec!["a,b".to_owned()], ..batch(BatchOp::Tag) },
        ];
        for batch in bad {
            assert!(check(&batch).is_err(), "{batch:?}");
        }
        assert!(check(&Batch { ids: Vec::new(), filter, ..fine }).is_ok());
    }

    #[test]
    fn a_filter_is_all_it_says() {
        let worker: Worker = serde_json::from_value(serde_json::json!({
            "id": "w", "name": "claude", "kind": "agent", "agent": "claude", "command": [],
            "restart": false, "status": "running", "epoch": 1, "output_end": 0,
            "created_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let session = Session {
            shed_name: "a".to_owned(),
            kind: Some(SessionType::Quick),
            tags: vec!["x".to_owned()],
            workers: vec![worker],
            ..Session::default()
        };
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (BatchFilter::default(), true),
            (BatchFilter { shed: some("a"), tag: some("x"), ..BatchFilter::default() }, true),
            (BatchFilter { shed: some("b"), tag: some("x"), ..BatchFilter::default() }, false),
            (BatchFilter { tag: some("y"), ..BatchFilter::default() }, false),
            (BatchFilter { agent: some("claude"), ..BatchFilter::default() }, true),
            (BatchFilter { agent: some("codex"), ..BatchFilter::default() }, false),
            (BatchFilter { status: Some(SessionStatus::Ended), ..BatchFilter::default() }, false),
        ];
        for (filter, expected) in cases {
            assert_eq!(fits(&filter, &session), expected, "{filter:?}");
        }
        let by_hand = Session { kind: None, ..session };
        assert!(!fits(&BatchFilter::default(), &by_hand));
    }

    #[test]
    fn what_would_be_done_is_said_or_what_stands_against_it() {
        use SessionStatus::{Ended, Frozen, Running};
        use SessionType::{Quick, Worktree};
        use ShedStatus::{Paused, Running as Up, Stopped};
        let risk = |unpushed| Risk {
            dirty: 0,
            untracked: 0,
            files: Vec::new(),
            unpushed,
            commits: Vec::new(),
            merged: None,
        };
        let cases: [Case; 16] = [
            (BatchOp::Terminate, Quick, Running, Up, Ok("would end 1 running worker")),
            (BatchOp::Terminate, Worktree, Running, Up, Ok("and make a checkpoint")),
            (BatchOp::Terminate, Quick, Ended, Stopped, Ok("has ended already")),
            (BatchOp::Terminate, Quick, Running, Stopped, Err("is stopped")),
            (BatchOp::Restart, Quick, Ended, Up, Ok("would start 1 worker")),
            (
                BatchOp::Restart,
                Quick,
                Ended,
                Stopped,
                Ok("would start shed a, then start 1 worker"),
            ),
            (BatchOp::Restart, Quick, Ended, Paused, Err("is paused")),
            (BatchOp::Delete, Quick, Ended, Paused, Ok("its directory stays")),
            (BatchOp::Freeze, Quick, Frozen, Up, Ok("is frozen already")),
            (BatchOp::Freeze, Quick, Ended, Up, Err("has ended")),
            (BatchOp::Thaw, Quick, Running, Up, Ok("runs already")),
            (BatchOp::Checkpoint, Quick, Running, Up, Err("no worktree")),
            (BatchOp::Checkpoint, Worktree, Running, Up, Ok("would make a checkpoint")),
            (BatchOp::Input, Quick, Running, Up, Ok("would type 2 bytes")),
            (BatchOp::Tag, Quick, Running, Stopped, Ok("would add new")),
            (BatchOp::Delete, Quick, Running, Up, Ok("its directory stays")),
        ];
        for (op, kind, status, shed, expected) in cases {
            let said = forecast(&batch(op), &known(kind, status), shed, None);
            match (said, expected) {
                (Ok(said), Ok(part)) => assert!(said.contains(part), "{op} {status}: {said}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{op} {status}: {error}");
                }
                (said, _) => panic!("{op} {status} {shed}: {said:?}"),
            }
        }
        let tree = known(Worktree, Ended);
        let delete = batch(BatchOp::Delete);
        let said = |batch: &Batch, risk: Option<&Risk>| forecast(batch, &tree, Up, risk);
        assert!(said(&delete, Some(&risk(0))).unwrap().contains("nothing would be lost"));
        assert!(matches!(said(&delete, Some(&risk(2))), Err(Rejection::WorkAtRisk { .. })));
        let forced = Batch { force: true, ..delete.clone() };
        let words = said(&forced, Some(&risk(2))).unwrap();
        assert!(words.contains("to the trash would go: 2 unpushed commits"), "{words}");
        assert!(forecast(&delete, &tree, Stopped, None).unwrap().contains("start shed a"));
    }

    #[test]
    fn a_forecast_counts_workers_and_names_what_is_missing() {
        use SessionStatus::{Ended, Frozen, Running, Waiting};
        use SessionType::{Quick, Worktree};
        use ShedStatus::{Paused, Removing, Running as Up, Stopped};
        let said = |op, kind, status, shed| forecast(&batch(op), &known(kind, status), shed, None);
        for (op, kind, status, shed, expected) in [
            (BatchOp::Restart, Quick, Running, Up, "would end 1 running worker and start 1 worker"),
            (BatchOp::Freeze, Quick, Running, Up, "would freeze 1 running worker"),
            (BatchOp::Thaw, Quick, Frozen, Up, "would let 1 running worker go on"),
            (BatchOp::Restart, Quick, Waiting, Up, "waits for its turn already"),
            (
                BatchOp::Terminate,
                Worktree,
                Running,
                Up,
                "would end 1 running worker and make a checkpoint",
            ),
            (
                BatchOp::Delete,
                Worktree,
                Ended,
                Stopped,
                "would start shed a, then end no running worker and delete it with its worktree; what would be lost is unknown while the shed is stopped",
            ),
        ] {
            assert_eq!(said(op, kind, status, shed).as_deref(), Ok(expected), "{op} {status}");
        }
        for (op, kind, status, shed) in [
            (BatchOp::Terminate, Quick, Running, Paused),
            (BatchOp::Input, Quick, Running, Removing),
            (BatchOp::Freeze, Quick, Running, Stopped),
            (BatchOp::Checkpoint, Worktree, Running, Stopped),
            (BatchOp::Delete, Worktree, Ended, Paused),
        ] {
            let found = said(op, kind, status, shed);
            assert!(matches!(found, Err(Rejection::NotRunning { .. })), "{op}: {found:?}");
        }
        // Hooks are not started again, and workers that were never started do not run.
        let mut two = known(Quick, Running);
        two.workers.push(two.workers[0].clone());
        two.workers.push(two.workers[0].clone());
        two.workers[1].spec.hook = true;
        two.workers[2].epoch = 0;
        let restart = forecast(&batch(BatchOp::Restart), &two, Up, None);
        assert_eq!(restart.as_deref(), Ok("would end 2 running workers and start 2 workers"));
    }

    #[test]
    fn only_a_worktree_of_its_own_can_lose_work() {
        let delete = batch(BatchOp::Delete);
        let own = known(SessionType::Worktree, SessionStatus::Ended);
        assert!(needs_risk(&delete, &own, ShedStatus::Running));
        assert!(!needs_risk(&delete, &own, ShedStatus::Stopped));
        assert!(!needs_risk(&batch(BatchOp::Restart), &own, ShedStatus::Running));
        let mut shared = own.clone();
        shared.row.spec.shares = Some("s0".to_owned());
        let quick = known(SessionType::Quick, SessionStatus::Ended);
        for other in [&shared, &quick] {
            assert!(!needs_risk(&delete, other, ShedStatus::Running));
        }
        assert!(needs_worktree(&own).is_ok() && needs_worktree(&shared).is_ok());
        let mut unmade = own;
        unmade.row.spec.placed = false;
        assert!(needs_worktree(&unmade).is_err() && needs_worktree(&quick).is_err());
    }

    #[test]
    fn tags_are_added_once() {
        let session = known(SessionType::Quick, SessionStatus::Running);
        let add = |tags: &[&str]| Batch {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..batch(BatchOp::Tag)
        };
        assert_eq!(all_tags(&add(&["new", "old", "new"]), &session), ["old", "new"]);
        assert_eq!(already(&add(&["old"]), &session), Some("has these tags already"));
        assert_eq!(already(&add(&["new"]), &session), None);
        let many: Vec<String> = (0..tag::MAX_TAGS).map(|n| n.to_string()).collect();
        let many = Batch { tags: many, ..batch(BatchOp::Tag) };
        assert!(forecast(&many, &session, ShedStatus::Running, None).is_err(), "one too many");
        for op in [BatchOp::Delete, BatchOp::Checkpoint, BatchOp::Input] {
            assert_eq!(already(&batch(op), &session), None, "{op}");
        }
    }
}
