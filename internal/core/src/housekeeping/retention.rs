//! Retention: what shed keeps for the sessions of a shed, why, and what garbage collection may remove. Pure.
//!
//! Only what no row owns is removed, and only when it is old. Worktrees are never removed, nor anything of a session that
//! has a row, even one that cannot be read.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use shed_api::git::{Risk, TrashEntry, TrashKind};
use shed_api::name::printable;
use shed_api::work::GcItem;
use shed_link::git::{RefLine, ShedRef};
use shed_link::leftover::SpoolDir;
use shed_link::spool::WorkerId;
use shed_model::session::SessionIds;

use crate::housekeeping::log_dirs::LogDir;
use crate::session::view::WorkView;
use shed_model::at_risk;

/// How many days what no session owns is kept by default.
pub(crate) const DEFAULT_DAYS: u32 = 30;
/// The prefix of checkpoint refs.
const CHECKPOINTS: &str = "refs/shed/ckpt/";

/// What decides: the rows, the time and the age limit.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) work: &'a WorkView,
    /// The ids of all rows, read after the search: what has no row then had none during it.
    pub(crate) ids: &'a SessionIds,
    pub(crate) now: DateTime<Utc>,
    /// The age in days from which something may be removed; 0 for any age.
    pub(crate) days: u32,
}

/// What is removed with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Nothing.
    Nothing,
    /// The log of a worker.
    Log(String),
    /// The spools of a worker.
    Spool(String),
    /// Refs, of the repository with this number.
    Refs(usize, Vec<ShedRef>),
}

/// Something that shed keeps, and what is removed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) item: GcItem,
    pub(crate) removal: Removal,
    /// Refs whose size is to be measured, and the number of their repository.
    pub(crate) measured: Option<(usize, Vec<ShedRef>)>,
}

impl Entry {
    fn new(kind: &str, name: &str, bytes: u64, why: &str) -> Self {
        let (kind, name, why) = (kind.to_owned(), printable(name), printable(why));
        let item = GcItem { kind, name, bytes, remove: false, why };
        Self { item, removal: Removal::Nothing, measured: None }
    }

    fn removed(mut self, removal: Removal) -> Self {
        self.item.remove = true;
        self.removal = removal;
        self
    }

    /// It could not be removed, for this reason.
    pub(crate) fn stays(&mut self, why: &str) {
        self.item.remove = false;
        self.item.why = printable(&format!("kept: it could not be removed: {why}"));
        self.removal = Removal::Nothing;
    }
}

impl Rules<'_> {
    /// Describes the owner of what a worker left; `None` if no row owns it.
    fn worker(&self, id: &str) -> Option<String> {
        for known in self.work.sessions.values() {
            if let Some(row) = known.workers.iter().find(|row| row.id == id) {
                return Some(format!("worker {} of session {}", row.name, known.row.name));
            }
        }
        self.ids.workers.contains(id).then(|| "a worker whose row cannot be read".to_owned())
    }

    fn session(&self, id: &str) -> Option<String> {
        if let Some(known) = self.work.sessions.get(id) {
            return Some(known.row.name.clone());
        }
        self.ids.sessions.contains(id).then(|| format!("{id}, whose row cannot be read"))
    }

    /// Whether something that no row owns is old enough to be removed.
    fn is_old(&self, since: DateTime<Utc>) -> bool {
        self.days == 0 || (self.now - since).num_days() >= i64::from(self.days)
    }

    fn age(&self, what: &str, since: DateTime<Utc>) -> String {
        let (day, days) = (since.format("%Y-%m-%d"), self.days);
        if self.is_old(since) {
            format!("{what}; last written on {day}")
        } else {
            format!("kept: {what}, but it was written on {day}, less than {days} days ago")
        }
    }

    /// Decides about the logs of workers.
    pub(crate) fn logs(&self, found: Vec<LogDir>) -> Vec<Entry> {
        let entry = |LogDir { name, bytes, modified }: LogDir| {
            if let Some(who) = self.worker(&name) {
                return Entry::new("log", &name, bytes, &format!("kept: {who}"));
            }
            if name.parse::<WorkerId>().is_err() {
                return Entry::new("log", &name, bytes, "kept: not the log of a worker");
            }
            let why = self.age("its worker no longer exists", modified);
            let entry = Entry::new("log", &name, bytes, &why);
            if self.is_old(modified) { entry.removed(Removal::Log(name)) } else { entry }
        };
        found.into_iter().map(entry).collect()
    }

    /// Decides about the spools of workers.
    pub(crate) fn spools(&self, found: Vec<SpoolDir>) -> Vec<Entry> {
        let entry = |SpoolDir { worker, bytes, modified, held }: SpoolDir| {
            let name = worker.to_string();
            if let Some(who) = self.worker(&name) {
                return Entry::new("spool", &name, bytes, &format!("kept: {who}"));
            }
            if held {
                let why = "kept: its worker no longer exists, but its command still runs";
                return Entry::new("spool", &name, bytes, why);
            }
            let modified = DateTime::from_timestamp(modified, 0).unwrap_or(self.now);
            let why = self.age("its worker no longer exists", modified);
            let entry = Entry::new("spool", &name, bytes, &why);
            if self.is_old(modified) { entry.removed(Removal::Spool(name)) } else { entry }
        };
        found.into_iter().map(entry).collect()
    }

    /// Decides about the checkpoints in a repository, by session. A session's are removed together: each holds the ones
    /// before it.
    pub(crate) fn checkpoints(&self, repo: usize, refs: &[RefLine]) -> Vec<Entry> {
        let mut by_session: BTreeMap<&str, Vec<&RefLine>> = BTreeMap::new();
        for line in refs {
            let session =
                line.name.strip_prefix(CHECKPOINTS).and_then(|rest| Some(rest.split_once('/')?.0));
            if let Some(session) = session {
                by_session.entry(session).or_default().push(line);
            }
        }
        let entry = |(session, lines): (&str, Vec<&RefLine>)| {
            let refs: Vec<ShedRef> =
                lines.iter().filter_map(|line| ShedRef::try_from(line.name.clone()).ok()).collect();
            let n = lines.len();
            let many = if n == 1 { "1 checkpoint".to_owned() } else { format!("{n} checkpoints") };
            if let Some(who) = self.session(session) {
                let why = format!("kept: {many} of session {who}");
                let name = self.work.sessions.get(session).map_or(session, |it| &it.row.name);
                let entry = Entry::new("checkpoints", name, 0, &why);
                return Entry { measured: Some((repo, refs)), ..entry };
            }
            let newest = lines.iter().map(|line| line.time).max().unwrap_or_default();
            let newest = DateTime::from_timestamp(newest, 0).unwrap_or(self.now);
            let why = self.age(&format!("{many} of a session that no longer exists"), newest);
            let entry = Entry::new("checkpoints", session, 0, &why);
            let entry = Entry { measured: Some((repo, refs.clone())), ..entry };
            // If one has a name that git cannot be given, all stay.
            let whole = refs.len() == n;
            if self.is_old(newest) && whole {
                entry.removed(Removal::Refs(repo, refs))
            } else {
                entry
            }
        };
        by_session.into_iter().map(entry).collect()
    }

    /// Decides about the trash of a repository.
    pub(crate) fn trash(&self, repo: usize, found: Vec<TrashEntry>) -> Vec<Entry> {
        let today = self.now.date_naive();
        let entry = |TrashEntry { name, repository, day, kind, subject, .. }: TrashEntry| {
            let what = match kind {
                TrashKind::Branch => "the tip of a deleted branch",
                TrashKind::Head => "what was checked out in a deleted worktree",
                TrashKind::Checkpoint => "the last checkpoint of a deleted session",
                TrashKind::Commits => "commits of a deleted worktree that no branch contained",
            };
            let what = format!("{what} of {repository}, {subject:?}");
            let date = NaiveDate::parse_from_str(&day, "%Y%m%d").ok();
            let refs: Vec<ShedRef> = ShedRef::try_from(name.clone()).into_iter().collect();
            let (Some(date), [_]) = (date, refs.as_slice()) else {
                let why = format!("kept: {what}; its name has no date");
                return Entry::new("trash", &name, 0, &why);
            };
            // Only the day is known: the age counts from its end.
            let is_old = self.days == 0 || (today - date).num_days() > i64::from(self.days);
            let why = if is_old {
                format!("{what}, deleted on {date}")
            } else {
                format!("kept: {what}, deleted on {date}, less than {} days ago", self.days)
            };
            let entry = Entry::new("trash", &name, 0, &why);
            let entry = Entry { measured: Some((repo, refs.clone())), ..entry };
            if is_old { entry.removed(Removal::Refs(repo, refs)) } else { entry }
        };
        found.into_iter().map(entry).collect()
    }

    /// Describes a directory of worktrees. It is never removed.
    pub(crate) fn worktree(&self, path: &str, bytes: Option<u64>, state: &State) -> Entry {
        let by_path = |path: &str| {
            let mut sessions = self.work.sessions.values();
            sessions.find(|known| known.row.spec.directory == path)
        };
        let why = match (by_path(path), state) {
            (Some(known), _) => format!("kept: session {}", known.row.name),
            (None, State::NoTree) => "kept: no session, and not a Git worktree".to_owned(),
            (None, State::Unknown) => {
                "kept: no session; its contents could not be examined".to_owned()
            }
            (None, State::Risk(risk)) => match at_risk(risk) {
                nothing if nothing.is_empty() => {
                    "kept: no session; nothing in it would be lost".to_owned()
                }
                lost => format!("kept: no session; it has uncommitted or unpushed work: {lost}"),
            },
        };
        let why = if bytes.is_some() { why } else { format!("{why}; its size is unknown") };
        Entry::new("worktree", path, bytes.unwrap_or(0), &why)
    }

    /// Describes the private indexes of a repository.
    pub(crate) fn index(&self, repo: &str, bytes: u64) -> Entry {
        let n = self.work.sessions.len();
        let why = format!("kept: the file index of {n} sessions; rebuilt when it is missing");
        Entry::new("index", repo, bytes, &why)
    }
}

/// What is known about a worktree without a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Git has no worktree there.
    NoTree,
    /// Git did not answer.
    Unknown,
    /// What would be lost with it.
    Risk(Risk),
}

/// By kind, then name.
pub(crate) fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| (&a.item.kind, &a.item.name).cmp(&(&b.item.kind, &b.item.name)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shed_api::session::SessionStatus;
    use shed_model::session::{SessionRow, SessionSpec};

    use super::*;
    use shed_model::session::Managed;
    use shed_model::session::plan;

    const DAY: i64 = 24 * 60 * 60;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000 * DAY + 60, 0).unwrap()
    }

    fn ago(days: i64) -> DateTime<Utc> {
        now() - chrono::Duration::days(days)
    }

    fn id(digit: &str) -> String {
        digit.repeat(32)
    }

    fn work() -> WorkView {
        let request = shed_api::worker::NewWorker::default();
        let (rules, names, ids) =
            (plan::Rules::default(), std::collections::BTreeSet::new(), plan::Ids::default());
        let mut worker = plan::plan_worker(&rules, &names, ids, "5", now(), request).unwrap();
        worker.id = id("a");
        let row = SessionRow {
            id: id("5"),
            shed: "a".to_owned(),
            name: "web".to_owned(),
            status: SessionStatus::Ended,
            reason: None,
            created_at: now(),
            status_since: now(),
            spec: SessionSpec::adopted("/worktrees/web".to_owned()),
        };
        let known = Arc::new(Managed { row, workers: vec![worker] });
        WorkView { sessions: [(id("5"), known)].into(), ..WorkView::default() }
    }

    fn rules<T>(days: u32, test: impl FnOnce(&Rules<'_>) -> T) -> T {
        let ids =
            SessionIds { sessions: [id("5"), id("6")].into(), workers: [id("a"), id("b")].into() };
        test(&Rules { work: &work(), ids: &ids, now: now(), days })
    }

    fn removed(entries: &[Entry]) -> Vec<bool> {
        entries.iter().map(|entry| entry.item.remove).collect()
    }

    #[test]
    fn only_logs_and_spools_that_are_old_and_nobodys_go() {
        // (worker, days, goes after 30, goes after 0)
        let cases = [
            (id("a"), 90, false, false),
            (id("b"), 90, false, false),
            (id("c"), 90, true, true),
            (id("c"), 30, true, true),
            (id("c"), 29, false, true),
            (id("c"), 0, false, true),
            ("lost+found".to_owned(), 90, false, false),
        ];
        for (worker, days, after_30, after_0) in cases {
            for (limit, goes) in [(30, after_30), (0, after_0)] {
                let dir = LogDir { name: worker.clone(), bytes: 7, modified: ago(days) };
                let logs = rules(limit, |rules| rules.logs(vec![dir]));
                assert_eq!(removed(&logs), [goes], "{worker} {days} {limit}");
                let removal = if goes { Removal::Log(worker.clone()) } else { Removal::Nothing };
                assert_eq!((&logs[0].removal, logs[0].item.bytes), (&removal, 7));
                assert_eq!(logs[0].item.why.starts_with("kept: "), !goes, "{:?}", logs[0]);
                let Ok(worker) = worker.parse() else { continue };
                for held in [false, true] {
                    let modified = ago(days).timestamp();
                    let dir = SpoolDir { worker, bytes: 7, modified, held };
                    let spools = rules(limit, |rules| rules.spools(vec![dir]));
                    assert_eq!(removed(&spools), [goes && !held], "{worker:?} {days} {limit}");
                }
            }
        }
        let dir = LogDir { name: id("a"), bytes: 1, modified: ago(1) };
        let why = rules(30, |rules| rules.logs(vec![dir]))[0].item.why.clone();
        assert_eq!(why, "kept: worker shell of session web");
    }

    #[test]
    fn checkpoints_of_a_session_are_removed_when_the_newest_is_old() {
        let line = |session: &str, n: u64, days: i64| RefLine {
            name: format!("refs/shed/ckpt/{session}/{n}"),
            commit: "c".to_owned(),
            time: ago(days).timestamp(),
        };
        let refs = [
            line(&id("5"), 1, 90),
            line(&id("6"), 1, 90),
            line(&id("7"), 1, 90),
            line(&id("7"), 2, 3),
            line(&id("8"), 1, 90),
            line(&id("8"), 2, 31),
            RefLine { name: "refs/shed/trash/20200101/x".to_owned(), ..line("x", 1, 90) },
        ];
        let entries = rules(30, |rules| rules.checkpoints(0, &refs));
        assert_eq!(removed(&entries), [false, false, false, true]);
        assert_eq!(entries[0].item.name, "web");
        assert!(entries[1].item.why.contains("cannot be read"), "{:?}", entries[1]);
        assert!(matches!(&entries[3].removal, Removal::Refs(0, refs) if refs.len() == 2));
    }

    #[test]
    fn the_trash_is_kept_for_whole_days() {
        let entry = |day: &str| TrashEntry {
            name: format!("refs/shed/trash/{day}/x"),
            day: day.to_owned(),
            kind: TrashKind::Branch,
            repository: "/workspace".to_owned(),
            commit: "c".to_owned(),
            subject: "s\x1b".to_owned(),
            time: ago(0),
        };
        let day = |days: i64| ago(days).format("%Y%m%d").to_string();
        for (day, after_30, after_0) in [
            (day(0), false, true),
            (day(30), false, true),
            (day(31), true, true),
            ("x".to_owned(), false, false),
        ] {
            for (limit, goes) in [(30, after_30), (0, after_0)] {
                let entries = rules(limit, |rules| rules.trash(0, vec![entry(&day)]));
                assert_eq!(removed(&entries), [goes], "{day} {limit}");
                assert!(!entries[0].item.why.contains('\x1b'));
            }
        }
    }

    #[test]
    fn a_worktree_is_kept_with_a_reason() {
        let risk = |unpushed| Risk {
            dirty: 0,
            untracked: 0,
            files: Vec::new(),
            unpushed,
            commits: Vec::new(),
            ..Risk::default()
        };
        let why = |path: &str, state: State| {
            let entry = rules(0, |rules| rules.worktree(path, Some(1), &state));
            assert!(!entry.item.remove && entry.removal == Removal::Nothing);
            entry.item.why
        };
        assert_eq!(why("/worktrees/web", State::Unknown), "kept: session web");
        assert_eq!(
            why("/worktrees/x", State::Risk(risk(0))),
            "kept: no session; nothing in it would be lost"
        );
        assert_eq!(
            why("/worktrees/x", State::Risk(risk(1))),
            "kept: no session; it has uncommitted or unpushed work: 1 unpushed commit"
        );
    }
}
