//! The trash: refs that keep deleted commits, sorted by day.

use shed_api::git::{TrashEntry, TrashKind};
use shed_api::name::printable;
use shed_link::git::{Branch, ContainerPath, FailureKind, MAX_LISTED_REFS, ShedRef};

use super::checkpoint::time;
use super::failure::Failure;
use super::refs::{self, Entry, Step};
use super::repository::Repository;
use super::trailers;

/// The prefix of all refs in the trash.
pub(crate) const PREFIX: &str = "refs/shed/trash/";
/// The suffix of the ref of a checked-out commit.
pub(crate) const HEAD: &str = ".head";
/// The suffix of the ref of the last checkpoint.
pub(crate) const CHECKPOINT: &str = ".ckpt";
/// The suffix of the ref of a commit whose ancestors no branch contained.
pub(crate) const COMMITS: &str = ".commits";

/// Lists the trash.
pub(crate) fn list(repo: &ContainerPath) -> Result<Vec<TrashEntry>, Failure> {
    let repository = Repository::open(repo)?;
    let entries = refs::list(&repository, PREFIX)?;
    let entries = entries.into_iter().filter_map(|entry| read(entry, repo));
    Ok(entries.take(MAX_LISTED_REFS).collect())
}

/// Creates a branch from a ref in the trash and deletes that ref.
pub(crate) fn restore(
    repo: &ContainerPath,
    name: &ShedRef,
    branch: &Branch,
) -> Result<(), Failure> {
    let repository = Repository::open(repo)?;
    let found = name.as_str().starts_with(PREFIX).then(|| repository.commit_of(name.as_str()));
    let Some(commit) = found.transpose()?.flatten() else {
        let text = format!("{:?} is not in the trash", name.as_str());
        return Err(Failure::new(FailureKind::NotFound, text));
    };
    let target = format!("refs/heads/{branch}");
    if repository.commit_of(&target)?.is_some() {
        let text = format!("branch {:?} already exists", branch.as_str());
        return Err(Failure::new(FailureKind::Exists, text));
    }
    let create = Step::Create { name: target, commit: commit.clone() };
    refs::apply(&repository, &[create, Step::Delete { name: name.to_string(), commit }])
}

fn read(entry: Entry, repo: &ContainerPath) -> Option<TrashEntry> {
    let (day, name) = entry.name.strip_prefix(PREFIX)?.split_once('/')?;
    let kind = if name.ends_with(CHECKPOINT) {
        TrashKind::Checkpoint
    } else if name.ends_with(HEAD) {
        TrashKind::Head
    } else if name.ends_with(COMMITS) {
        TrashKind::Commits
    } else {
        TrashKind::Branch
    };
    let subject = match kind {
        TrashKind::Checkpoint => trailers::read(&entry.message).message,
        TrashKind::Head | TrashKind::Branch | TrashKind::Commits => entry.message,
    };
    let subject = printable(subject.lines().next().unwrap_or_default());
    let day = day.to_owned();
    Some(TrashEntry {
        name: entry.name,
        repository: repo.to_string(),
        day,
        kind,
        commit: entry.commit,
        subject,
        time: time(entry.time),
    })
}
