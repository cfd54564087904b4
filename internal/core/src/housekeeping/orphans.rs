//! Orphans: tmux sessions, directories, processes and rows in a shed that no managed session owns. Pure: compares what was
//! found with the rows.

use shed_model::Rejection;
use std::collections::BTreeSet;

use shed_api::name::printable;
use shed_api::session::SessionStatus;
use shed_api::work::{Orphan, OrphanList};
use shed_api::worker::WorkerStatus;
use shed_api::{SessionName, ShedName};
use shed_link::leftover::Marked;
use shed_model::worker::WorkerRow;
use shed_tmux::Listing;

use crate::Error;
use crate::housekeeping::leftover::Directory;
use crate::session::view::WorkView;
use shed_model::session::Managed;

/// What was found in the shed.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) shed: &'a ShedName,
    /// The managed sessions.
    pub(crate) work: &'a WorkView,
    /// The tmux sessions; absent without tmux.
    pub(crate) listing: Option<&'a Listing>,
    /// The directories in the directory of worktrees.
    pub(crate) directories: &'a [Directory],
    /// The processes whose environment names a session or worker.
    pub(crate) processes: &'a [Marked],
}

/// What an orphan is, for its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A tmux session, by its number.
    Tmux(u32),
    /// A directory in the directory of worktrees.
    Directory(Directory),
    /// A process id, and the process's start time.
    Process(u32, u64),
    /// A row that cannot be read, by its id.
    Record(String),
    /// A managed session that is inconsistent with the shed's actual state. Commands on the session fix it.
    Session,
}

/// An orphan, and how it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) orphan: Orphan,
    pub(crate) target: Target,
}

/// Finds the orphans, sorted by kind and name.
pub(crate) fn find(evidence: &Evidence<'_>) -> Vec<Found> {
    let mut found = of_tmux(evidence);
    found.extend(of_rows(evidence));
    found.extend(of_directories(evidence));
    found.extend(of_processes(evidence));
    let key = |found: &Found| (found.orphan.kind.clone(), found.orphan.name.clone());
    found.sort_by_key(key);
    found
}

/// The list for the API. `kept` has those that could not be removed, each with the reason.
pub(crate) fn shown(found: Vec<Found>, kept: &[(Orphan, String)]) -> OrphanList {
    let orphans = found.into_iter().map(|Found { mut orphan, .. }| {
        let is_it = |kept: &Orphan| (&kept.kind, &kept.name) == (&orphan.kind, &orphan.name);
        if let Some((_, why)) = kept.iter().find(|(kept, _)| is_it(kept)) {
            orphan.detail = format!("{}; not removed: {}", orphan.detail, printable(why));
        }
        orphan
    });
    OrphanList { orphans: orphans.collect() }
}

/// The orphans with these names. An ambiguous name is written as `KIND:NAME`.
pub(crate) fn named(
    found: &[Found],
    shed: &ShedName,
    names: &[String],
) -> Result<Vec<Found>, Error> {
    let mut chosen: Vec<Found> = Vec::new();
    for name in names {
        let is_it = |found: &&Found| {
            let Orphan { kind, name: own, .. } = &found.orphan;
            let whole = name.strip_prefix(kind.as_str()).and_then(|rest| rest.strip_prefix(':'));
            own == name || whole == Some(own)
        };
        let fitting: Vec<&Found> = found.iter().filter(is_it).collect();
        match fitting.as_slice() {
            [] => {
                return Err(Error::Rejected(Rejection::NotFound(format!(
                    "orphan {name:?} in shed {:?}",
                    shed.as_str()
                ))));
            }
            [one] if chosen.contains(one) => {}
            [one] => chosen.push((*one).clone()),
            several => {
                let kinds: Vec<String> =
                    several.iter().map(|it| format!("{}:{name}", it.orphan.kind)).collect();
                let text = format!("ambiguous name {name:?}; expected {}", kinds.join(" or "));
                return Err(Error::Rejected(Rejection::Invalid(text)));
            }
        }
    }
    Ok(chosen)
}

fn found(kind: &str, name: &str, detail: &str, hint: String, target: Target) -> Found {
    let orphan =
        Orphan { kind: kind.to_owned(), name: printable(name), detail: printable(detail), hint };
    Found { orphan, target }
}

/// A word for a command line, quoted for the shell if necessary.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", printable(word).replace('\'', r"'\''"))
}

fn clean(shed: &ShedName, name: &str) -> String {
    format!("shed orphans clean {shed} {}", quoted(name))
}

/// Whether a session has a row, readable or not.
fn has_row(work: &WorkView, session: &str) -> bool {
    work.sessions.contains_key(session) || work.unreadable.iter().any(|it| it.session == session)
}

fn of_tmux(evidence: &Evidence<'_>) -> Vec<Found> {
    let shed = evidence.shed;
    let rows = evidence.listing.map(|listing| listing.sessions.as_slice()).unwrap_or_default();
    let strange =
        rows.iter().filter(|row| row.mark.is_empty() || !has_row(evidence.work, &row.mark));
    let twice = |name: &str| rows.iter().filter(|row| printable(&row.name) == name).count() > 1;
    strange
        .map(|row| {
            // A session whose name shed does not accept is shown by its tmux id.
            let shown = printable(&row.name);
            let is_name = row.name.parse::<SessionName>().is_ok() && !twice(&shown);
            let name = if is_name { shown.clone() } else { format!("${}", row.id) };
            let n = row.windows.len();
            let windows = if n == 1 { "1 window".to_owned() } else { format!("{n} windows") };
            let origin = if row.mark.is_empty() {
                "unmanaged".to_owned()
            } else {
                format!("of session {}, which no longer exists", row.mark)
            };
            let title = if is_name { String::new() } else { format!(" {shown:?}") };
            let detail = format!("tmux session{title} with {windows}, {origin}");
            let hint = if row.name.parse::<SessionName>().is_ok() {
                format!("shed sessions adopt {shed} {}", quoted(&name))
            } else {
                clean(shed, &name)
            };
            found("session", &name, &detail, hint, Target::Tmux(row.id))
        })
        .collect()
}

fn of_rows(evidence: &Evidence<'_>) -> Vec<Found> {
    let shed = evidence.shed;
    let unreadable = evidence.work.unreadable.iter().map(|row| {
        let what = if row.id == row.session { "session" } else { "worker" };
        let detail = format!("the row of {what} {:?} cannot be read: {}", row.name, row.why);
        // A name may occur twice; an id does not.
        found("record", &row.id, &detail, clean(shed, &row.id), Target::Record(row.id.clone()))
    });
    let orphaned = evidence.work.sessions.values().map(|known| &known.row);
    let orphaned = orphaned.filter(|row| row.status == SessionStatus::Orphaned).map(|row| {
        let why = row
            .reason
            .as_deref()
            .unwrap_or("its record is inconsistent with the shed's actual state");
        let hint = format!("shed sessions restart {shed} {}", row.name);
        found("session", &row.name, &format!("orphaned: {why}"), hint, Target::Session)
    });
    unreadable.chain(orphaned).collect()
}

fn of_directories(evidence: &Evidence<'_>) -> Vec<Found> {
    let known: BTreeSet<&str> =
        evidence.work.sessions.values().map(|it| it.row.spec.directory.as_str()).collect();
    let strange = evidence.directories.iter().filter(|it| !known.contains(it.path.as_str()));
    strange
        .map(|directory| {
            let facts = directory.facts.as_ref().filter(|facts| facts.repository);
            let detail = match facts {
                None => "not a Git worktree".to_owned(),
                Some(facts) => match (&facts.branch, &facts.head) {
                    (Some(branch), _) => format!("a worktree of branch {branch}"),
                    (None, Some(head)) => format!("a worktree of commit {head}"),
                    (None, None) => "a worktree without a commit".to_owned(),
                },
            };
            let unread = evidence
                .work
                .unreadable
                .iter()
                .any(|row| directory.path.rsplit('/').next() == Some(row.name.as_str()));
            let detail = if unread {
                format!("{detail}; it may belong to the session whose row cannot be read")
            } else {
                detail
            };
            let hint = clean(evidence.shed, &directory.path);
            found("worktree", &directory.path, &detail, hint, Target::Directory(directory.clone()))
        })
        .collect()
}

fn of_processes(evidence: &Evidence<'_>) -> Vec<Found> {
    let strange = evidence.processes.iter().filter_map(|process| {
        let whose = former_owner(evidence.work, process)?;
        let name = process.pid.to_string();
        let detail = format!("{:?} of {whose}", printable(&process.command));
        let hint = clean(evidence.shed, &name);
        Some(found("process", &name, &detail, hint, Target::Process(process.pid, process.started)))
    });
    strange.collect()
}

/// Whether a command line is tmux. The tmux server belongs to all sessions, whichever started it.
pub(crate) fn is_tmux(command: &str) -> bool {
    let program = command.split(' ').next().unwrap_or_default();
    program.rsplit('/').next() == Some("tmux")
}

/// The session or worker that a process was started for, if that no longer owns it.
fn former_owner(work: &WorkView, process: &Marked) -> Option<String> {
    if is_tmux(&process.command) {
        return None;
    }
    let mark = |mark: &Option<String>| mark.clone().unwrap_or_default();
    let (session, worker) = (mark(&process.session), mark(&process.worker));
    if work.unreadable.iter().any(|row| row.session == session || row.id == worker) {
        // The row may own it; the row itself is listed.
        return None;
    }
    let by_worker = |known: &&std::sync::Arc<Managed>| {
        !worker.is_empty() && known.workers.iter().any(|row| row.id == worker)
    };
    let known = work.sessions.get(&session).or_else(|| work.sessions.values().find(by_worker));
    let Some(known) = known else {
        let which = if session.is_empty() {
            format!("worker {worker}")
        } else {
            format!("session {session}")
        };
        return Some(format!("{which}, which no longer exists"));
    };
    let row = known.workers.iter().find(|row| row.id == worker);
    let name = &known.row.name;
    match row {
        Some(row) if row.status != WorkerStatus::Exited => None,
        _ if has_ended(known.row.status) => Some(format!("session {name:?}, which has ended")),
        // A setup hook may leave processes running on purpose.
        Some(WorkerRow { spec, .. }) if spec.hook => None,
        Some(row) => Some(format!("worker {:?} of session {name:?}, which has ended", row.name)),
        None if worker.is_empty() => None,
        None => Some(format!("a worker of session {name:?} that was removed")),
    }
}

/// Whether only running workers of a session with this status may have processes.
fn has_ended(status: SessionStatus) -> bool {
    match status {
        SessionStatus::Ended | SessionStatus::Failed | SessionStatus::Orphaned => true,
        SessionStatus::Waiting
        | SessionStatus::Creating
        | SessionStatus::Running
        | SessionStatus::Frozen
        | SessionStatus::Stopped
        | SessionStatus::Removing => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use shed_link::git::RepoFacts;
    use shed_model::session::{SessionRow, SessionSpec, Unreadable};

    use super::*;
    use shed_model::session::plan;

    fn known(id: &str, status: SessionStatus, worker: WorkerStatus, hook: bool) -> Arc<Managed> {
        let at = DateTime::UNIX_EPOCH;
        let mut row = plan::plan_worker(
            &plan::Rules::default(),
            &BTreeSet::new(),
            plan::Ids::default(),
            id,
            at,
            shed_api::worker::NewWorker::default(),
        )
        .unwrap();
        row.id = format!("w{id}");
        row.status = worker;
        row.spec.hook = hook;
        let session = SessionRow {
            id: id.to_owned(),
            shed: "a".to_owned(),
            name: format!("name-{id}"),
            status,
            reason: None,
            created_at: at,
            status_since: at,
            spec: SessionSpec::adopted(format!("/worktrees/{id}")),
        };
        Arc::new(Managed { row: session, workers: vec![row] })
    }

    fn work(sessions: Vec<Arc<Managed>>) -> WorkView {
        let sessions = sessions.into_iter().map(|it| (it.row.id.clone(), it)).collect();
        WorkView { sessions, ..WorkView::default() }
    }

    fn process(session: Option<&str>, worker: Option<&str>, command: &str) -> Marked {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let (session, worker) = (own(session), own(worker));
        Marked { pid: 7, started: 1, command: command.to_owned(), session, worker }
    }

    #[test]
    fn a_process_belongs_to_a_worker_that_runs() {
        use SessionStatus::{Ended, Failed, Running};
        use WorkerStatus::{Exited, Starting};
        let cases = [
            (Running, WorkerStatus::Running, false, Some("1"), Some("w1"), true),
            (Running, Exited, false, Some("1"), Some("w1"), false),
            (Running, Exited, true, Some("1"), Some("w1"), true),
            (Running, Exited, false, Some("1"), None, true),
            (Running, Exited, false, Some("1"), Some("w9"), false),
            (Ended, Exited, false, Some("1"), Some("w1"), false),
            (Ended, Exited, true, Some("1"), Some("w1"), false),
            (Ended, Exited, false, Some("1"), None, false),
            (Failed, Starting, false, Some("1"), Some("w1"), true),
            (Running, Starting, false, Some("9"), None, false),
            (Running, Starting, false, None, Some("w1"), true),
            (Running, Starting, false, None, Some("w9"), false),
        ];
        for (status, worker, hook, session, mark, belongs) in cases {
            let work = work(vec![known("1", status, worker, hook)]);
            let whose = former_owner(&work, &process(session, mark, "sleep 9"));
            assert_eq!(
                whose.is_none(),
                belongs,
                "{status} {worker} {session:?} {mark:?}: {whose:?}"
            );
            assert_eq!(former_owner(&work, &process(session, mark, "/usr/bin/tmux -u")), None);
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_protects_what_may_be_its_own() {
        let row = |id: &str, session: &str, name: &str| Unreadable {
            id: id.to_owned(),
            session: session.to_owned(),
            name: name.to_owned(),
            why: "bad \x1b json".to_owned(),
        };
        let work = WorkView {
            unreadable: vec![row("5", "5", "lost"), row("w6", "6", "shell")],
            ..WorkView::default()
        };
        let processes = [process(Some("5"), Some("w5"), "x"), process(None, Some("w6"), "x")];
        let directory = Directory { path: "/worktrees/lost".to_owned(), facts: None };
        let found = find(&Evidence {
            shed: &"a".parse().unwrap(),
            work: &work,
            listing: None,
            directories: &[directory],
            processes: &processes,
        });
        let seen: Vec<_> =
            found.iter().map(|it| (it.orphan.kind.as_str(), it.orphan.name.as_str())).collect();
        assert_eq!(seen, [("record", "5"), ("record", "w6"), ("worktree", "/worktrees/lost")]);
        assert!(!found[0].orphan.detail.contains('\x1b'));
        assert!(found[2].orphan.detail.contains("cannot be read"), "{:?}", found[2]);
    }

    #[test]
    fn directories_without_a_session_are_listed_with_their_branch() {
        let facts = |branch: Option<&str>, head: Option<&str>| RepoFacts {
            repository: true,
            branch: branch.map(str::to_owned),
            head: head.map(str::to_owned),
            ..RepoFacts::default()
        };
        let directory = |path: &str, facts| Directory { path: path.to_owned(), facts };
        let directories = [
            directory("/worktrees/1", None),
            directory("/worktrees/2", Some(facts(Some("shed/2"), Some("ab12")))),
            directory("/worktrees/3", Some(facts(None, Some("ab12")))),
            directory("/worktrees/'x y", Some(RepoFacts::default())),
        ];
        let work = work(vec![known("1", SessionStatus::Orphaned, WorkerStatus::Exited, false)]);
        let found = find(&Evidence {
            shed: &"a".parse().unwrap(),
            work: &work,
            listing: None,
            directories: &directories,
            processes: &[],
        });
        let seen: Vec<_> = found
            .iter()
            .map(|it| (it.orphan.name.as_str(), it.orphan.detail.as_str(), it.orphan.hint.as_str()))
            .collect();
        let expected = [
            (
                "name-1",
                "orphaned: its record is inconsistent with the shed's actual state",
                "shed sessions restart a name-1",
            ),
            ("/worktrees/'x y", "not a Git worktree", r"shed orphans clean a '/worktrees/'\''x y'"),
            ("/worktrees/2", "a worktree of branch shed/2", "shed orphans clean a /worktrees/2"),
            ("/worktrees/3", "a worktree of commit ab12", "shed orphans clean a /worktrees/3"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_name_selects_one_orphan() {
        let shed: ShedName = "a".parse().unwrap();
        let one = |kind: &str, name: &str| found(kind, name, "", String::new(), Target::Session);
        let all = [one("process", "7"), one("session", "7"), one("session", "x")];
        let names = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|name| (*name).to_owned()).collect();
            named(&all, &shed, &list)
        };
        assert_eq!(names(&["x", "x", "session:x"]).unwrap(), [one("session", "x")]);
        assert_eq!(names(&["process:7"]).unwrap(), [one("process", "7")]);
        let several = names(&["7"]).unwrap_err().to_string();
        assert!(several.contains("process:7 or session:7"), "{several}");
        assert!(matches!(names(&["x", "gone"]), Err(Error::Rejected(Rejection::NotFound(_)))));
        assert_eq!(names(&[]).unwrap(), []);
    }
}
