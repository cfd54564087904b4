//! The trash of a shed's repositories: branches of deleted sessions.

use std::collections::BTreeSet;

use shed_api::git::TrashEntry;
use shed_link::git::{Branch, GitDone, GitOp, ShedRef};
use shed_model::Rejection;

use crate::Error;
use crate::housekeeping::leftover::{self, Repo};
use crate::shed::entered::Entered;
use shed_guest::Link;
use shed_guest::git::{git, unexpected};

/// What is in the trash of all repositories of a shed's sessions.
pub(crate) async fn list(entered: &Entered) -> Result<Vec<TrashEntry>, Error> {
    let mut entries = Vec::new();
    for repo in repositories(entered).await? {
        entries.extend(trash_of(&entered.link, &repo).await?);
    }
    Ok(entries)
}

/// Makes a branch of an entry, and removes the entry. `trashed` is its whole ref.
pub(crate) async fn restore(
    entered: &Entered,
    trashed: ShedRef,
    branch: Branch,
) -> Result<(), Error> {
    for repo in repositories(entered).await? {
        let entries = trash_of(&entered.link, &repo).await?;
        if entries.iter().any(|entry| entry.name == trashed.as_str()) {
            let op = GitOp::RestoreTrash { repo: repo.path, name: trashed, branch };
            return Ok(git(&entered.link, &op).await.map(drop)?);
        }
    }
    let name = &entered.shed;
    Err(Error::Rejected(Rejection::NotFound(format!(
        "{:?} in the trash of shed {name:?}",
        trashed.as_str()
    ))))
}

/// The repositories of a shed's sessions, and the one in its workspace.
pub(crate) async fn repositories(entered: &Entered) -> Result<Vec<Repo>, Error> {
    let work = entered.handle.work.view.borrow().clone();
    let sessions = work.sessions.values();
    let dirs: BTreeSet<String> = sessions.filter_map(|known| known.row.spec.repo.clone()).collect();
    leftover::repositories(&entered.link, dirs).await
}

/// What is in the trash of a repository.
pub(crate) async fn trash_of(link: &Link, repo: &Repo) -> Result<Vec<TrashEntry>, Error> {
    match git(link, &GitOp::Trash { repo: repo.path.clone() }).await?.0 {
        GitDone::Trash(entries) => Ok(entries),
        _ => Err(unexpected().into()),
    }
}
