//! The trash of a shed's repositories: branches of deleted sessions.

use shed_api::ShedName;
use shed_api::git::TrashEntry;
use shed_link::git::{Branch, ContainerPath, GitDone, GitOp, ShedRef};
use shed_model::Rejection;

use crate::Error;
use crate::housekeeping::leftover::{self, Repo};
use crate::server::Server;
use crate::shed::entered::Entered;
use shed_guest::Link;
use shed_guest::git::{git, unexpected};

/// What is in the trash of all repositories that a shed's sessions have or had.
pub(crate) async fn list(server: &Server, entered: &Entered) -> Result<Vec<TrashEntry>, Error> {
    let mut entries = Vec::new();
    for repo in repositories(server, entered).await? {
        entries.extend(trash_of(&entered.link, &repo).await?);
    }
    entries
        .sort_by(|one, other| (&one.name, &one.repository).cmp(&(&other.name, &other.repository)));
    Ok(entries)
}

/// Makes a branch of an entry, and removes the entry. `trashed` is its whole ref; `repository` tells entries with the same
/// ref apart.
pub(crate) async fn restore(
    server: &Server,
    entered: &Entered,
    trashed: ShedRef,
    branch: Branch,
    repository: Option<&str>,
) -> Result<(), Error> {
    let entries = list(server, entered).await?;
    let named = entries.iter().filter(|entry| entry.name == trashed.as_str());
    let found = named.map(|entry| entry.repository.as_str());
    let found: Vec<&str> =
        found.filter(|directory| repository.is_none_or(|wanted| wanted == *directory)).collect();
    let repo = chosen(&found, &entered.shed, &trashed)?;
    let repo = ContainerPath::try_from(repo.to_owned())?;
    Ok(git(&entered.link, &GitOp::RestoreTrash { repo, name: trashed, branch }).await.map(drop)?)
}

/// The only repository with an entry of this ref.
fn chosen<'a>(found: &[&'a str], shed: &ShedName, trashed: &ShedRef) -> Result<&'a str, Error> {
    let trashed = trashed.as_str();
    match found {
        [one] => Ok(one),
        [] => Err(Error::Rejected(Rejection::NotFound(format!(
            "{trashed:?} in the trash of shed {:?}",
            shed.as_str()
        )))),
        several => Err(Error::Rejected(Rejection::Invalid(format!(
            "ambiguous ref {trashed:?}; expected one of its repositories, {}: shed trash restore {shed} {trashed} BRANCH \
             --repository {}",
            several.join(" or "),
            several[0],
        )))),
    }
}

/// The repositories that a shed's sessions have or had, and the one in its workspace.
pub(crate) async fn repositories(server: &Server, entered: &Entered) -> Result<Vec<Repo>, Error> {
    let mut dirs = server.store.repositories(entered.shed.to_string()).await?;
    let work = entered.handle.work.view.borrow().clone();
    dirs.extend(work.sessions.values().filter_map(|known| known.row.spec.repo.clone()));
    leftover::repositories(&entered.link, dirs).await
}

/// What is in the trash of a repository.
pub(crate) async fn trash_of(link: &Link, repo: &Repo) -> Result<Vec<TrashEntry>, Error> {
    match git(link, &GitOp::Trash { repo: repo.path.clone() }).await?.0 {
        GitDone::Trash(mut entries) => {
            // An older shed-init does not say it.
            for entry in &mut entries {
                entry.repository = repo.path.to_string();
            }
            Ok(entries)
        }
        _ => Err(unexpected().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_of_two_repositories_is_ambiguous() {
        let shed: ShedName = "web".parse().unwrap();
        let trashed = ShedRef::try_from("refs/shed/trash/20260101/fix".to_owned()).unwrap();
        let choose = |found: &[&'static str]| chosen(found, &shed, &trashed);
        assert_eq!(choose(&["/a"]).unwrap(), "/a");
        assert!(matches!(choose(&[]), Err(Error::Rejected(Rejection::NotFound(_)))));
        let text = choose(&["/a", "/b"]).unwrap_err().to_string();
        assert!(text.contains("/a or /b") && text.contains("--repository /a"), "{text}");
    }
}
