//! What follows from a session's row.

use super::*;
use crate::session::plan::{Inputs, Plan, Rules, plan};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn session(kind: SessionType, status: SessionStatus) -> Managed {
    let inputs = Inputs {
        shed: "a",
        names: BTreeSet::new(),
        port_blocks: BTreeSet::new(),
        worktrees: "/worktrees",
        workspace: "/workspace",
        now: at(0),
        ids: crate::session::plan::Ids {
            session: "s1".to_owned(),
            worker: "w1".to_owned(),
            conversation: String::new(),
        },
        shared: None,
    };
    let request = shed_api::session::NewSession { kind: Some(kind), ..Default::default() };
    let Plan { mut session, worker } = plan(&Rules::default(), &inputs, request).unwrap();
    session.status = status;
    session.spec.placed = true;
    Managed { row: session, workers: vec![worker] }
}

#[test]
fn a_worker_is_found_by_its_name_or_else_its_id() {
    let mut known = session(SessionType::Quick, SessionStatus::Running);
    let other =
        WorkerRow { id: "w2".to_owned(), name: "w1".to_owned(), ..known.workers[0].clone() };
    known.workers.push(other);
    let id = |name: &str| known.worker(name).map(|row| row.id.as_str());
    assert_eq!(id("shell"), Some("w1"));
    assert_eq!(id("w1"), Some("w2"), "the name comes first");
    assert_eq!(id("w2"), Some("w2"));
    assert_eq!(id("w3"), None);
}

#[test]
fn a_limit_on_runtime_counts_while_a_session_runs() {
    let mut row = session(SessionType::Quick, SessionStatus::Running).row;
    // A host that was booted since.
    let later = Uptime { boot: "2".to_owned(), ms: 0 };
    let left = |row: &SessionRow, now| row.runtime_left(at(now), &later).map(|left| left.as_secs());
    row.spec.running_since = Some(at(100));
    assert_eq!(left(&row, 160), None, "no limit");
    row.spec.limits.runtime_seconds = Some(90);
    assert_eq!(left(&row, 160), Some(30));
    assert_eq!(left(&row, 200), Some(0));
    assert_eq!(left(&row, 50), Some(90), "a clock that went back");
    for status in SessionStatus::ALL {
        let other = SessionRow { status: *status, ..row.clone() };
        let runs = *status == SessionStatus::Running;
        assert_eq!(
            (left(&other, 160).is_some(), other.is_up()),
            (runs, runs || *status == SessionStatus::Frozen)
        );
    }
    row.spec.limits.runtime_seconds = Some(u64::MAX);
    assert_eq!(left(&row, 100), Some(100 * 365 * 86_400));
    row.spec.running_since = None;
    assert_eq!(left(&row, 100), None);
}

#[test]
fn a_jump_of_the_wall_clock_ends_no_session() {
    let mut row = session(SessionType::Quick, SessionStatus::Running).row;
    row.spec.limits.runtime_seconds = Some(90);
    row.spec.running_since = Some(at(100));
    let uptime = |boot: &str, seconds: u64| Uptime { boot: boot.to_owned(), ms: seconds * 1000 };
    row.spec.running_since_uptime = Some(uptime("1", 7));
    let left = |now, uptime| row.runtime_left(at(now), &uptime).unwrap().as_secs();
    for now in [0, 160, 90_000] {
        assert_eq!(left(now, uptime("1", 37)), 60);
        assert_eq!(left(now, uptime("1", 97)), 0);
    }
    // After a boot of the host only the wall clock is left.
    assert_eq!(left(160, uptime("2", 1)), 30);
}

#[test]
fn checkpoints_are_made_by_the_clock_while_a_worktree_is_worked_on() {
    let mut row = session(SessionType::Worktree, SessionStatus::Running).row;
    assert_eq!(row.checkpoint_period(), None);
    row.spec.limits.checkpoint_minutes = Some(2);
    assert_eq!(row.checkpoint_period(), Some(Duration::from_secs(120)));
    row.spec.limits.checkpoint_minutes = Some(0);
    assert_eq!(row.checkpoint_period(), Some(Duration::from_secs(60)));
    let frozen = SessionRow { status: SessionStatus::Frozen, ..row.clone() };
    assert_eq!(frozen.checkpoint_period(), None);
    row.spec.placed = false;
    assert_eq!(row.checkpoint_period(), None);
}

#[test]
fn only_a_session_that_made_its_worktree_owns_it() {
    let row = session(SessionType::Worktree, SessionStatus::Ended).row;
    assert!(row.owns_worktree());
    let mut sharer = row.clone();
    sharer.spec.shares = Some("s0".to_owned());
    let mut unmade = row.clone();
    unmade.spec.placed = false;
    let quick = session(SessionType::Quick, SessionStatus::Ended).row;
    for row in [sharer, unmade, quick] {
        assert!(!row.owns_worktree(), "{row:?}");
    }
}

#[test]
fn where_a_restored_session_and_a_failed_deletion_lead() {
    use SessionStatus::{Ended, Failed, Frozen, Orphaned, Running};
    let quick = session(SessionType::Quick, Running).row;
    let tree = session(SessionType::Worktree, Running).row;
    for (row, came_back, lost, expected) in [
        (&quick, true, true, Running),
        (&quick, false, true, Ended),
        (&quick, false, false, Ended),
        (&tree, true, false, Running),
        (&tree, false, true, Orphaned),
        (&tree, false, false, Ended),
    ] {
        assert_eq!(row.restored_status(came_back, lost), expected, "{came_back} {lost}");
    }
    assert_eq!(tree.undeleted_status(true, true), Ended, "no deletion was stored");
    for (was, is_there, has_ended, expected) in [
        (Running, true, false, Running),
        (Running, true, true, Running),
        (Running, false, true, Ended),
        (Frozen, true, false, Frozen),
        (Frozen, true, true, Running),
        (Frozen, false, false, Ended),
        (Failed, false, true, Failed),
    ] {
        let mut row = tree.clone();
        row.spec.deletion = Some(Deletion { force: false, was });
        let status = row.undeleted_status(is_there, has_ended);
        assert_eq!(status, expected, "{was} {is_there} {has_ended}");
    }
}

#[test]
fn a_session_takes_a_slot_while_something_runs_in_it() {
    for status in SessionStatus::ALL {
        let known = session(SessionType::Quick, *status);
        let expected = match status {
            SessionStatus::Running | SessionStatus::Frozen => Slot::Taken,
            SessionStatus::Waiting => Slot::Wanted,
            _ => Slot::None,
        };
        assert_eq!(known.slot(), expected, "{status}");
        let adopted = Managed { workers: Vec::new(), ..known.clone() };
        assert_eq!(adopted.slot(), expected, "{status}, adopted");
        let mut ended = known;
        ended.workers[0].status = WorkerStatus::Exited;
        let wanted = *status == SessionStatus::Waiting;
        let expected = if wanted { Slot::Wanted } else { Slot::None };
        assert_eq!(ended.slot(), expected, "{status}, its worker ended");
    }
}

#[test]
fn an_adopted_session_is_complete_and_closes_with_its_windows() {
    let spec = SessionSpec::adopted("/home/dev".to_owned());
    assert_eq!((spec.directory.as_str(), spec.kind), ("/home/dev", SessionType::Quick));
    assert!(spec.placed && spec.set_up && spec.closes);
}
