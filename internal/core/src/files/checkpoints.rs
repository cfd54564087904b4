//! Checkpoints of a session's files: list, make, restore, and begin a new session from one.

use shed_api::EventKind;
use shed_api::git::{Checkpoint, KeptFile, MadeCheckpoint, RestoredCheckpoint};
use shed_api::session::{NewSession, SessionType};
use shed_link::git::{FilePath, GitDone, GitOp};
use shed_model::Rejection;
use shed_model::session::Managed;

use crate::Error;
use crate::access::Caller;
use crate::files::diff::SessionFiles;
use crate::files::worktree::{git_name, repository, take_checkpoint, tree_view};
use crate::server::Server;
use shed_guest::git::{git, unexpected};

/// The session's checkpoints.
pub(crate) async fn list(files: &SessionFiles) -> Result<Vec<Checkpoint>, Error> {
    // The worktree may be gone; its checkpoints are in the repository.
    let op = GitOp::Checkpoints { repo: files.repository()?, session: git_name(&files.known)? };
    match git(&files.link, &op).await?.0 {
        GitDone::Checkpoints(checkpoints) => Ok(checkpoints),
        _ => Err(unexpected().into()),
    }
}

/// One of them.
pub(crate) async fn find(files: &SessionFiles, n: u64) -> Result<Checkpoint, Error> {
    let found = list(files).await?.into_iter().find(|checkpoint| checkpoint.n == n);
    found.ok_or_else(|| Error::Rejected(Rejection::NotFound(format!("checkpoint {n}"))))
}

/// Makes a checkpoint of everything in the session's directory.
pub(crate) async fn make(
    server: &Server,
    files: &SessionFiles,
    caller: &Caller<'_>,
    message: &str,
) -> Result<MadeCheckpoint, Error> {
    let taken = take_checkpoint(server, &files.link, &files.known, "manual", message).await?;
    if !taken.unchanged {
        let n = taken.checkpoint.n;
        files.record(server, caller, EventKind::CheckpointMade, n.to_string()).await?;
    }
    let shed_link::git::TakenCheckpoint { checkpoint, unchanged, skipped, .. } = taken;
    Ok(MadeCheckpoint { checkpoint, unchanged, skipped })
}

/// Sets the session's files back to a checkpoint. Their state before is saved as a checkpoint of its own. A worktree that is
/// gone is created again.
pub(crate) async fn restore(
    server: &Server,
    files: &SessionFiles,
    caller: &Caller<'_>,
    n: u64,
    paths: Vec<String>,
) -> Result<RestoredCheckpoint, Error> {
    let op = GitOp::Restore {
        view: tree_view(server, &files.known)?,
        from: git_name(&files.known)?,
        n,
        paths: paths.into_iter().map(FilePath::try_from).collect::<Result<_, _>>()?,
        missing: files.missing()?,
    };
    let GitDone::Restored(done) = git(&files.link, &op).await?.0 else {
        return Err(unexpected().into());
    };
    files.record(server, caller, EventKind::CheckpointRestored, n.to_string()).await?;
    let kept = done.kept.into_iter();
    let kept = kept.map(|file| KeptFile { path: file.path, reason: file.reason }).collect();
    Ok(RestoredCheckpoint { safety: done.safety, files: done.files, n_files: done.n_files, kept })
}

/// The request for a new session in a worktree of its own that begins at a checkpoint. What it leaves out is as in the
/// checkpoint's session.
pub(crate) fn fork_request(
    known: &Managed,
    checkpoint: Checkpoint,
    request: NewSession,
) -> Result<NewSession, Error> {
    let n = checkpoint.n;
    if request.base.is_some() || request.share.is_some() || request.existing_branch {
        let text = "a fork begins at its checkpoint: leave out base, share and existing_branch";
        return Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
    }
    let head = checkpoint.head.ok_or_else(|| {
        Error::Rejected(Rejection::Invalid(format!(
            "checkpoint {n} is from before the first commit"
        )))
    })?;
    let first = known.workers.iter().find(|row| !row.spec.hook).map(|row| &row.spec);
    let says_what = request.agent.is_some() || !request.command.is_empty();
    let request = NewSession {
        kind: Some(SessionType::Worktree),
        base: Some(head),
        directory: request.directory.or_else(|| Some(repository(known))),
        agent: request
            .agent
            .or_else(|| first.filter(|_| !says_what).and_then(|spec| spec.agent.clone())),
        model: request.model.or_else(|| first.and_then(|spec| spec.model.clone())),
        title: request.title.or_else(|| known.row.spec.title.clone()),
        keep: request.keep.or(Some(true)),
        ..request
    };
    let model = request.model.filter(|_| request.agent.is_some());
    Ok(NewSession { model, ..request })
}
