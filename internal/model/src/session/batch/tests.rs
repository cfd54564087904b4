//! Which sessions a batch means, and what is forecast for each.

use std::collections::BTreeSet;

use chrono::DateTime;
use shed_api::session::{NewSession, SessionStatus};
use shed_api::worker::{Worker, WorkerStatus};

use super::*;
use crate::session::plan;

type Case = (BatchOp, SessionType, SessionStatus, ShedStatus, Result<&'static str, &'static str>);

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
    let tagged = BatchFilter { tag: Some("x".to_owned()), ..BatchFilter::default() };
    let all = BatchFilter { all: true, ..BatchFilter::default() };
    let filter = Some(tagged.clone());
    let filtered = |filter| Batch { ids: Vec::new(), filter: Some(filter), ..fine.clone() };
    let bad = [
        Batch { ids: Vec::new(), ..fine.clone() },
        filtered(BatchFilter::default()),
        filtered(BatchFilter { all: true, ..tagged.clone() }),
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
    assert!(check(&Batch { ids: vec![String::new(); MAX_ITEMS], ..fine.clone() }).is_ok());
    assert!(check(&filtered(tagged)).is_ok());
    assert!(check(&filtered(all)).is_ok());
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
        ..Risk::default()
    };
    let cases: [Case; 16] = [
        (BatchOp::Terminate, Quick, Running, Up, Ok("would end 1 running worker")),
        (BatchOp::Terminate, Worktree, Running, Up, Ok("and make a checkpoint")),
        (BatchOp::Terminate, Quick, Ended, Stopped, Ok("has ended already")),
        (BatchOp::Terminate, Quick, Running, Stopped, Err("is stopped")),
        (BatchOp::Restart, Quick, Ended, Up, Ok("would start 1 worker")),
        (BatchOp::Restart, Quick, Ended, Stopped, Ok("would start shed a, then start 1 worker")),
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
    assert!(words.contains("would move to the trash: 2 unpushed commits"), "{words}");
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
        (BatchOp::Terminate, Quick, Running, Up, "would end 1 running worker"),
        (BatchOp::Freeze, Quick, Running, Up, "would freeze 1 running worker"),
        (BatchOp::Thaw, Quick, Frozen, Up, "would thaw 1 running worker"),
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
