//! What shed keeps for a shed's sessions, why, and what of it may go. Pure, but for the walk through the server's logs.
//!
//! Only what nobody remembers goes, and only when it was put aside long ago. Worktrees never go, nor anything of a session
//! that has a row, be it one that cannot be read.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use shed_api::git::{Risk, TrashEntry, TrashKind};
use shed_api::name::printable;
use shed_api::work::GcItem;
use shed_link::git::{RefLine, ShedRef};
use shed_link::leftover::SpoolDir;
use shed_link::spool::WorkerId;
use shed_model::session::SessionIds;

use crate::session::view::WorkView;
use shed_model::at_risk;

/// How long what was put aside is kept when nothing else is said.
pub(crate) const DEFAULT_DAYS: u32 = 30;
/// The most files that are counted in the logs of a shed.
const MAX_FILES: usize = 1_000_000;
/// What `st_blocks` counts in, in bytes.
const BLOCK_BYTES: u64 = 512;
/// Under which checkpoints are.
const CHECKPOINTS: &str = "refs/shed/ckpt/";

/// What is remembered, and what time it is.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) work: &'a WorkView,
    /// Which rows there are, read after what is judged was found: what has none then, had none.
    pub(crate) ids: &'a SessionIds,
    pub(crate) now: DateTime<Utc>,
    /// What was put aside longer ago than this goes.
    pub(crate) days: u32,
}

/// What is removed with an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    /// Nothing: it stays.
    Kept,
    /// The log of a worker.
    Log(String),
    /// The spools of a worker.
    Spool(String),
    /// Refs, of the repository with this number.
    Refs(usize, Vec<ShedRef>),
}

/// Something kept, and what would be removed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) item: GcItem,
    pub(crate) thing: Thing,
    /// Refs that are to be measured, of the repository with this number.
    pub(crate) measured: Option<(usize, Vec<ShedRef>)>,
}

/// A directory of the server's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDir {
    /// Its name, which is the worker's id.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// When something in it was last written.
    pub(crate) modified: DateTime<Utc>,
}

impl Entry {
    fn new(kind: &str, name: &str, bytes: u64, why: &str) -> Self {
        let (kind, name, why) = (kind.to_owned(), printable(name), printable(why));
        let item = GcItem { kind, name, bytes, remove: false, why };
        Self { item, thing: Thing::Kept, measured: None }
    }

    fn goes(mut self, thing: Thing) -> Self {
        self.item.remove = true;
        self.thing = thing;
        self
    }

    /// It was to go and could not.
    pub(crate) fn stays(&mut self, why: &str) {
        self.item.remove = false;
        self.item.why = printable(&format!("kept: it could not be removed: {why}"));
        self.thing = Thing::Kept;
    }
}

impl Rules<'_> {
    /// Whose a worker's things are; `None` if nobody remembers it.
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

    /// Whether something nobody remembers was put aside long enough ago.
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

    /// The logs of workers.
    pub(crate) fn logs(&self, found: Vec<LogDir>) -> Vec<Entry> {
        let entry = |LogDir { name, bytes, modified }: LogDir| {
            if let Some(who) = self.worker(&name) {
                return Entry::new("log", &name, bytes, &format!("kept: {who}"));
            }
            if name.parse::<WorkerId>().is_err() {
                return Entry::new("log", &name, bytes, "kept: it is no worker's");
            }
            let why = self.age("its worker is not remembered", modified);
            let entry = Entry::new("log", &name, bytes, &why);
            if self.is_old(modified) { entry.goes(Thing::Log(name)) } else { entry }
        };
        found.into_iter().map(entry).collect()
    }

    /// The spools of workers.
    pub(crate) fn spools(&self, found: Vec<SpoolDir>) -> Vec<Entry> {
        let entry = |SpoolDir { worker, bytes, modified, held }: SpoolDir| {
            let name = worker.to_string();
            if let Some(who) = self.worker(&name) {
                return Entry::new("spool", &name, bytes, &format!("kept: {who}"));
            }
            if held {
                let why = "kept: its worker is not remembered, but it still runs";
                return Entry::new("spool", &name, bytes, why);
            }
            let modified = DateTime::from_timestamp(modified, 0).unwrap_or(self.now);
            let why = self.age("its worker is not remembered", modified);
            let entry = Entry::new("spool", &name, bytes, &why);
            if self.is_old(modified) { entry.goes(Thing::Spool(name)) } else { entry }
        };
        found.into_iter().map(entry).collect()
    }

    /// The checkpoints in the repository with this number, by session. They go together: each holds the ones before it.
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
            let why = self.age(&format!("{many} of a session that is not remembered"), newest);
            let entry = Entry::new("checkpoints", session, 0, &why);
            let entry = Entry { measured: Some((repo, refs.clone())), ..entry };
            // One whose name cannot be said again stays, and with it the whole.
            let whole = refs.len() == n;
            if self.is_old(newest) && whole { entry.goes(Thing::Refs(repo, refs)) } else { entry }
        };
        by_session.into_iter().map(entry).collect()
    }

    /// The trash of the repository with this number.
    pub(crate) fn trash(&self, repo: usize, found: Vec<TrashEntry>) -> Vec<Entry> {
        let today = self.now.date_naive();
        let entry = |TrashEntry { name, day, kind, subject, .. }: TrashEntry| {
            let what = match kind {
                TrashKind::Branch => "the tip of a deleted branch",
                TrashKind::Head => "what was checked out in a deleted worktree",
                TrashKind::Checkpoint => "the last checkpoint of a deleted session",
            };
            let what = format!("{what}, {subject:?}");
            let date = NaiveDate::parse_from_str(&day, "%Y%m%d").ok();
            let refs: Vec<ShedRef> = ShedRef::try_from(name.clone()).into_iter().collect();
            let (Some(date), [_]) = (date, refs.as_slice()) else {
                let why = format!("kept: {what}; its name says no day");
                return Entry::new("trash", &name, 0, &why);
            };
            // Of a day only the day is known: it is kept until its end was long ago.
            let is_old = self.days == 0 || (today - date).num_days() > i64::from(self.days);
            let why = if is_old {
                format!("{what}, deleted on {date}")
            } else {
                format!("kept: {what}, deleted on {date}, less than {} days ago", self.days)
            };
            let entry = Entry::new("trash", &name, 0, &why);
            let entry = Entry { measured: Some((repo, refs.clone())), ..entry };
            if is_old { entry.goes(Thing::Refs(repo, refs)) } else { entry }
        };
        found.into_iter().map(entry).collect()
    }

    /// A directory among the worktrees. It never goes.
    pub(crate) fn worktree(&self, path: &str, bytes: Option<u64>, state: &State) -> Entry {
        let by_path = |path: &str| {
            let mut sessions = self.work.sessions.values();
            sessions.find(|known| known.row.spec.directory == path)
        };
        let why = match (by_path(path), state) {
            (Some(known), _) => format!("kept: session {}", known.row.name),
            (None, State::NoTree) => {
                "kept: no session, and no working tree that git knows".to_owned()
            }
            (None, State::Unknown) => {
                "kept: no session; what is in it could not be told".to_owned()
            }
            (None, State::Risk(risk)) => match at_risk(risk) {
                nothing if nothing.is_empty() => {
                    "kept: no session; nothing in it would be lost".to_owned()
                }
                lost => format!("kept: no session; it has work that is nowhere else: {lost}"),
            },
        };
        let why = if bytes.is_some() { why } else { format!("{why}; its size could not be told") };
        Entry::new("worktree", path, bytes.unwrap_or(0), &why)
    }

    /// The private indexes of a repository.
    pub(crate) fn index(&self, repo: &str, bytes: u64) -> Entry {
        let n = self.work.sessions.len();
        let why =
            format!("kept: what {n} sessions last saw of their files; made again when it is gone");
        Entry::new("index", repo, bytes, &why)
    }
}

/// What is known of a worktree without a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Git knows of no working tree there.
    NoTree,
    /// Git did not say.
    Unknown,
    /// What would be lost with it.
    Risk(Risk),
}

/// By kind, then name.
pub(crate) fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| (&a.item.kind, &a.item.name).cmp(&(&b.item.kind, &b.item.name)));
}

/// The directories of a shed's logs. Blocks on the disk. What cannot be seen is not counted.
pub(crate) fn log_dirs(dir: &Path) -> Vec<LogDir> {
    let mut left = MAX_FILES;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| {
        let (bytes, modified) = walk(&entry.path(), &mut left);
        let name = entry.file_name().to_string_lossy().into_owned();
        let modified = DateTime::from_timestamp(modified, 0).unwrap_or_default();
        LogDir { name, bytes, modified }
    })
    .collect()
}

/// What is in a directory, in bytes on disk, and when it was last written, in seconds since 1970.
fn walk(dir: &Path, left: &mut usize) -> (u64, i64) {
    let (mut bytes, mut modified) = (0_u64, 0);
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let own = std::fs::symlink_metadata(&dir).map_or(0, |file| file.mtime());
        modified = modified.max(own);
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Of the entry itself: a symlink is not followed.
            let Ok(metadata) = entry.metadata() else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 {
                return (bytes, modified);
            }
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK_BYTES));
            modified = modified.max(metadata.mtime());
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    (bytes, modified)
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
                let thing = if goes { Thing::Log(worker.clone()) } else { Thing::Kept };
                assert_eq!((&logs[0].thing, logs[0].item.bytes), (&thing, 7));
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
    fn checkpoints_go_by_session_when_the_newest_is_old() {
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
        assert!(matches!(&entries[3].thing, Thing::Refs(0, refs) if refs.len() == 2));
    }

    #[test]
    fn the_trash_is_kept_for_whole_days() {
        let entry = |day: &str| TrashEntry {
            name: format!("refs/shed/trash/{day}/x"),
            day: day.to_owned(),
            kind: TrashKind::Branch,
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
    fn a_worktree_stays_and_says_why() {
        let risk = |unpushed| Risk {
            dirty: 0,
            untracked: 0,
            files: Vec::new(),
            unpushed,
            commits: Vec::new(),
            merged: None,
        };
        let why = |path: &str, state: State| {
            let entry = rules(0, |rules| rules.worktree(path, Some(1), &state));
            assert!(!entry.item.remove && entry.thing == Thing::Kept);
            entry.item.why
        };
        assert_eq!(why("/worktrees/web", State::Unknown), "kept: session web");
        assert_eq!(
            why("/worktrees/x", State::Risk(risk(0))),
            "kept: no session; nothing in it would be lost"
        );
        assert_eq!(
            why("/worktrees/x", State::Risk(risk(1))),
            "kept: no session; it has work that is nowhere else: 1 commit that is not pushed"
        );
    }

    #[test]
    fn logs_are_measured_without_following_symlinks() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs").join(id("a"));
        std::fs::create_dir_all(log.join("chunks")).unwrap();
        std::fs::write(log.join("chunks/1"), vec![1; 8192]).unwrap();
        std::fs::write(dir.path().join("logs/file"), "x").unwrap();
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("large"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&other, log.join("link")).unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("logs/link")).unwrap();
        let found = log_dirs(&dir.path().join("logs"));
        assert_eq!(found.len(), 1);
        assert!((8192..1 << 20).contains(&found[0].bytes), "{found:?}");
        assert!((Utc::now() - found[0].modified).num_minutes() < 5, "{found:?}");
        assert_eq!(log_dirs(&dir.path().join("none")), []);
    }
}
