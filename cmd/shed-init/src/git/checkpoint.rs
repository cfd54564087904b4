//! Checkpoints: commits of the whole working tree under `refs/shed/ckpt/SESSION/N`. Taking one changes neither `HEAD` nor the
//! user's index nor any file.

use chrono::{DateTime, Utc};
use shed_api::SessionName;
use shed_api::git::{Checkpoint, SkippedFile};
use shed_link::git::{FailureKind, MAX_LISTED_REFS, MAX_SHORT_LIST, TakenCheckpoint, View};

use super::failure::Failure;
use super::private_index::PrivateIndex;
use super::refs::{self, Entry};
use super::repository::Repository;
use super::trailers::{self, Facts};

/// How often another process may take the next number before us.
const TRIES: usize = 10;
/// Author and committer of checkpoints. The user's may not be configured, and a checkpoint is not the user's commit.
pub(crate) const IDENTITY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "shed"),
    ("GIT_AUTHOR_EMAIL", "shed@localhost"),
    ("GIT_COMMITTER_NAME", "shed"),
    ("GIT_COMMITTER_EMAIL", "shed@localhost"),
];

/// A checkpoint that was taken, with the list of all files that are not in it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) unchanged: bool,
    pub(crate) skipped: Vec<SkippedFile>,
}

/// Takes a checkpoint of a working tree.
pub(crate) fn snapshot(view: &View, kind: &str, message: &str) -> Result<TakenCheckpoint, Failure> {
    let repository = Repository::open(&view.worktree)?;
    let index = PrivateIndex::open(&repository, view)?;
    let mut taken = take(&repository, &index, view, kind, message)?;
    let n_skipped = taken.skipped.len() as u64;
    taken.skipped.truncate(MAX_SHORT_LIST);
    Ok(TakenCheckpoint {
        checkpoint: taken.checkpoint,
        unchanged: taken.unchanged,
        skipped: taken.skipped,
        n_skipped,
    })
}

/// Takes a checkpoint through an open index.
pub(crate) fn take(
    repository: &Repository,
    index: &PrivateIndex,
    view: &View,
    kind: &str,
    message: &str,
) -> Result<Taken, Failure> {
    let skipped = index.update_from_worktree(view.max_file_bytes)?;
    let tree = index.tree()?;
    let facts = Facts {
        session: view.session.to_string(),
        kind: kind.to_owned(),
        message: message.to_owned(),
        head: repository.head()?,
        branch: repository.branch()?,
        index_tree: index.staged_tree()?,
        skipped: skipped.len() as u64,
    };
    for _ in 0..TRIES {
        let last = list_of(repository, &view.session)?.pop();
        if let Some(last) = &last
            && last.tree == tree
        {
            return Ok(Taken { checkpoint: last.clone(), unchanged: true, skipped });
        }
        let commit = commit(repository, &tree, &facts, last.as_ref())?;
        let n = last.map_or(1, |last| last.n.saturating_add(1));
        let name = format!("{}{n}", prefix(&view.session));
        if refs::create(repository, &name, &commit)? {
            return Ok(Taken {
                checkpoint: find(repository, &view.session, n)?,
                unchanged: false,
                skipped,
            });
        }
    }
    Err(Failure::new(FailureKind::Busy, "other processes keep taking checkpoints of this session"))
}

/// The checkpoints of a session, oldest first.
pub(crate) fn list_of(
    repository: &Repository,
    session: &SessionName,
) -> Result<Vec<Checkpoint>, Failure> {
    let prefix = prefix(session);
    let entries = refs::list(repository, &prefix)?;
    let mut list: Vec<Checkpoint> =
        entries.iter().filter_map(|entry| read(entry, &prefix)).collect();
    list.sort_by_key(|checkpoint| checkpoint.n);
    let surplus = list.len().saturating_sub(MAX_LISTED_REFS);
    list.drain(..surplus);
    Ok(list)
}

/// Finds one checkpoint.
pub(crate) fn find(
    repository: &Repository,
    session: &SessionName,
    n: u64,
) -> Result<Checkpoint, Failure> {
    let prefix = prefix(session);
    let name = format!("{prefix}{n}");
    let entries = refs::list(repository, &name)?;
    let found = entries.iter().find(|entry| entry.name == name);
    let found = found.and_then(|entry| read(entry, &prefix));
    found.ok_or_else(|| {
        Failure::new(FailureKind::NotFound, format!("session {session} has no checkpoint {n}"))
    })
}

/// The prefix of the refs of a session's checkpoints, with a slash at the end.
pub(crate) fn prefix(session: &SessionName) -> String {
    format!("refs/shed/ckpt/{session}/")
}

/// Reads a ref as a checkpoint; `None` for a ref that shed did not create.
fn read(entry: &Entry, prefix: &str) -> Option<Checkpoint> {
    let n = entry.name.strip_prefix(prefix)?;
    // `+1` and `01` parse too, but would be a second checkpoint 1.
    let n: u64 = n.parse().ok().filter(|number: &u64| number.to_string() == n)?;
    let facts = trailers::read(&entry.message);
    Some(Checkpoint {
        n,
        commit: entry.commit.clone(),
        tree: entry.tree.clone(),
        time: time(entry.time),
        kind: facts.kind,
        message: facts.message,
        branch: facts.branch,
        head: facts.head,
        index_tree: facts.index_tree,
        skipped: facts.skipped,
    })
}

/// Converts seconds since 1970 to a time.
pub(crate) fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

fn commit(
    repository: &Repository,
    tree: &str,
    facts: &Facts,
    last: Option<&Checkpoint>,
) -> Result<String, Failure> {
    let mut call = repository.git.call("commit-tree").arg("--no-gpg-sign").arg(tree);
    let parents = [facts.head.as_ref(), last.map(|last| &last.commit)];
    for parent in parents.into_iter().flatten() {
        call = call.args(["-p", parent]);
    }
    for (name, value) in IDENTITY {
        call = call.env(name, value);
    }
    let input = trailers::write(facts).into_bytes();
    let output = call.input(input).output("cannot write a checkpoint")?;
    Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
}
