//! How the files of a session differ from its base, or from a checkpoint.

use std::sync::Arc;

use shed_api::git::{Diff, DiffNumbers};
use shed_api::session::SessionType;
use shed_api::{EventKind, SessionRef};
use shed_link::git::{
    Base, Branch, ContainerPath, DiffSummary, FailureKind, FilePath, GitDone, GitOp, Missing, Rev,
    Side,
};
use shed_model::patch::{self, Extent};
use shed_model::session::Managed;
use shed_model::{NewEvent, Rejection};

use crate::Error;
use crate::access::Caller;
use crate::files::worktree::{facts, git_name, repository, tree_view};
use crate::server::Server;
use crate::shed::handle::KeeperHandle;
use crate::shed::registry::Registry;
use shed_guest::Link;
use shed_guest::git::{git, unexpected};

/// Which states of a session's files are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffQuery {
    /// Before: `base` (when absent), `head`, or a checkpoint's number.
    pub from: Option<String>,
    /// After: `worktree` (when absent), `head`, or a checkpoint's number.
    pub to: Option<String>,
    /// Only this file or directory.
    pub path: Option<String>,
    /// Leave out the changed lines.
    pub stat_only: bool,
}

/// A managed session with files, in a shed that answers.
pub(crate) struct SessionFiles {
    pub(crate) known: Arc<Managed>,
    pub(crate) link: Link,
    pub(crate) handle: KeeperHandle,
}

impl SessionFiles {
    /// The files of a session that the caller may use.
    pub(crate) async fn of(
        registry: &Registry,
        caller: &Caller<'_>,
        target: &SessionRef,
    ) -> Result<Self, Error> {
        let (handle, known) = registry.managed(caller, target)?;
        let link = registry.enter_awake(caller).await?.link;
        if known.row.spec.kind == SessionType::Worktree && !known.row.spec.placed {
            let (shed, session) = (caller.shed.clone(), known.row.name.clone());
            let text = "its worktree was not created yet".to_owned();
            return Err(Error::SessionBusy { shed, session, text });
        }
        Ok(Self { known, link, handle })
    }

    /// Records what the caller did with them.
    pub(crate) async fn record(
        &self,
        server: &Server,
        caller: &Caller<'_>,
        kind: EventKind,
        note: String,
    ) -> Result<(), Error> {
        let row = &self.known.row;
        let event = NewEvent::new(server.clock.now(), kind, caller.actor());
        let event = event.shed(&row.shed).session(&row.name).note(note);
        Ok(server.store.add_events(vec![event]).await?)
    }

    /// The repository's directory, which is there even when the worktree is gone.
    pub(crate) fn repository(&self) -> Result<ContainerPath, Error> {
        Ok(repository(&self.known).try_into()?)
    }

    /// How its worktree is created again when it is gone; `None` without a worktree.
    pub(crate) fn missing(&self) -> Result<Option<Missing>, Error> {
        let spec = &self.known.row.spec;
        let branch = spec.branch.clone().map(Branch::try_from).transpose()?;
        let repo = spec.repo.clone().map(ContainerPath::try_from).transpose()?;
        Ok(repo.map(|repo| Missing { repo, branch }))
    }

    fn side(&self, word: &str, base: &Base) -> Result<Side, Error> {
        Ok(match word {
            "base" => Side::Base(base.clone()),
            "head" => Side::Head,
            "worktree" => Side::Worktree,
            word => {
                let n = word.parse().map_err(|_| {
                    Error::Rejected(Rejection::Invalid(format!(
                        "invalid side {word:?}; expected base, head, worktree or a checkpoint's number"
                    )))
                })?;
                Side::Checkpoint { session: git_name(&self.known)?, n }
            }
        })
    }

    /// How the files differ, and the patch as git prints it.
    pub(crate) async fn diff(
        &self,
        server: &Server,
        query: DiffQuery,
    ) -> Result<(Diff, Vec<u8>), Error> {
        let base = base(&self.link, &self.known).await?;
        let query = &query;
        let (done, text) = match self.compare(server, query, &base).await {
            Err(error) if is_base_gone(&error) => {
                let kept = kept_base(&self.known)?.ok_or(error)?;
                self.compare(server, query, &kept).await?
            }
            compared => compared?,
        };
        let extent = if done.patch_truncated { Extent::Cut } else { Extent::Whole };
        let parsed = patch::parse(&text, extent);
        let diff = Diff {
            from: done.from,
            to: done.to,
            files: done.files,
            n_files: done.n_files,
            insertions: done.insertions,
            deletions: done.deletions,
            skipped: done.skipped,
            patch: parsed.files,
            truncated: done.patch_truncated || parsed.truncated,
        };
        Ok((diff, text))
    }

    async fn compare(
        &self,
        server: &Server,
        query: &DiffQuery,
        base: &Base,
    ) -> Result<(DiffSummary, Vec<u8>), Error> {
        let from = self.side(query.from.as_deref().unwrap_or("base"), base)?;
        let to = self.side(query.to.as_deref().unwrap_or("worktree"), base)?;
        let mut view = tree_view(server, &self.known)?;
        // Checkpoints are compared in the repository: the worktree may be gone.
        let is_checkpoint = |side: &Side| matches!(side, Side::Checkpoint { .. });
        if is_checkpoint(&from) && is_checkpoint(&to) {
            view.worktree = self.repository()?;
        }
        let op = GitOp::Diff {
            view,
            from,
            to,
            path: query.path.clone().map(FilePath::try_from).transpose()?,
            stat_only: query.stat_only,
        };
        match git(&self.link, &op).await? {
            (GitDone::Diff(done), text) => Ok((done, text)),
            _ => Err(unexpected().into()),
        }
    }
}

/// What the session's files are compared with: where its branch parts from its base, which moves with it; in a directory
/// of the shed, what is checked out there.
pub(crate) async fn base(link: &Link, known: &Managed) -> Result<Base, Error> {
    let spec = &known.row.spec;
    match (&spec.base, &spec.base_commit) {
        (Some(name), _) => Ok(Base::Fork(Rev::try_from(name.clone())?)),
        (None, Some(commit)) => Ok(Base::At(Rev::try_from(commit.clone())?)),
        (None, None) => match facts(link, &spec.directory).await?.head {
            Some(_) => Ok(Base::At(Rev::try_from("HEAD".to_owned())?)),
            None => Ok(Base::Nothing),
        },
    }
}

/// What takes the place of a base that is gone, for example a branch that was deleted after its merge: where the session's
/// branch parts from the commit at which it began.
fn kept_base(known: &Managed) -> Result<Option<Base>, Error> {
    let commit = known.row.spec.base_commit.clone().map(Rev::try_from).transpose()?;
    Ok(commit.map(Base::Fork))
}

fn is_base_gone(error: &Error) -> bool {
    matches!(error, Error::Git { kind: FailureKind::BaseGone, .. })
}

/// How far a session's files are from its base.
pub(crate) async fn numbers(
    server: &Server,
    link: &Link,
    known: &Managed,
) -> Result<DiffNumbers, Error> {
    let view = tree_view(server, known)?;
    let count = async |base| -> Result<DiffNumbers, Error> {
        match git(link, &GitOp::Numbers { view: view.clone(), base }).await?.0 {
            GitDone::Numbers(numbers) => Ok(numbers),
            _ => Err(unexpected().into()),
        }
    };
    match count(base(link, known).await?).await {
        Err(error) if is_base_gone(&error) => count(kept_base(known)?.ok_or(error)?).await,
        counted => counted,
    }
}

#[cfg(test)]
mod tests {
    /// shed-init lists as many files of a diff as the server reads patches of.
    #[test]
    fn a_diff_lists_as_many_files_as_its_patch_has() {
        assert_eq!(shed_model::patch::MAX_FILES, shed_link::git::MAX_LISTED_FILES);
    }
}
