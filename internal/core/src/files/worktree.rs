//! Git queries about a session's files: facts, what a deletion would lose, checkpoints.

use shed_api::git::SkipReason;
use shed_api::name::printable;
use shed_api::session::SessionType;
use shed_api::{Actor, EventKind, SessionName};
use shed_link::git::{
    Branch, ContainerPath, FailureKind, GitDone, GitOp, RemoveWorktree, RepoFacts, Rev,
    TakenCheckpoint, View as TreeView,
};
use shed_model::NewEvent;
use shed_model::Rejection;

use crate::Error;
use crate::server::Server;
use crate::session::env::SessionOpEnv;
use shed_guest::Link;
use shed_guest::git::{git, unexpected};
use shed_model::session::Managed;

/// What git reports about a directory.
pub(crate) async fn facts(link: &Link, directory: &str) -> Result<RepoFacts, Error> {
    let op = GitOp::Facts { directory: ContainerPath::try_from(directory.to_owned())? };
    match git(link, &op).await?.0 {
        GitDone::Facts(facts) => Ok(facts),
        _ => Err(unexpected().into()),
    }
}

/// What deleting the session would lose.
pub(crate) async fn risk(link: &Link, known: &Managed) -> Result<shed_api::git::Risk, Error> {
    let spec = &known.row.spec;
    let base = spec.base_commit.clone().map(Rev::try_from).transpose()?;
    let branch = spec.branch.clone().filter(|_| spec.made_branch);
    let branch = branch.map(Branch::try_from).transpose()?;
    let op =
        GitOp::Risk { worktree: ContainerPath::try_from(spec.directory.clone())?, base, branch };
    match git(link, &op).await?.0 {
        GitDone::Risk(risk) => Ok(risk),
        _ => Err(unexpected().into()),
    }
}

pub(crate) async fn remove_worktree(link: &Link, known: &Managed) -> Result<(), Error> {
    let spec = &known.row.spec;
    let (Some(repo), Some(branch)) = (&spec.repo, &spec.branch) else {
        return Ok(());
    };
    let name: SessionName = known.row.name.parse()?;
    let op = GitOp::RemoveWorktree(RemoveWorktree {
        repo: ContainerPath::try_from(repo.clone())?,
        path: ContainerPath::try_from(spec.directory.clone())?,
        branch: Branch::try_from(branch.clone())?,
        delete_branch: spec.made_branch,
        trash: name,
        session: Some(git_name(known)?),
        state: None,
    });
    Ok(git(link, &op).await.map(drop)?)
}

/// The name of the session's index and checkpoints in git: its id, which is never reused.
pub(crate) fn git_name(known: &Managed) -> Result<SessionName, Error> {
    Ok(known.row.id.parse()?)
}

/// The session's working tree for a git request.
pub(crate) fn tree_view(server: &Server, known: &Managed) -> Result<TreeView, Error> {
    let spec = &known.row.spec;
    let limit = spec.limits.checkpoint_file_bytes;
    Ok(TreeView {
        worktree: ContainerPath::try_from(spec.directory.clone())?,
        state: None,
        session: git_name(known)?,
        max_file_bytes: limit.unwrap_or(server.settings.sessions.checkpoint_file_bytes),
    })
}

/// Makes the last checkpoint of a worktree before its removal, whatever the size of its files: what it lacks is lost.
pub(crate) async fn last_checkpoint(env: &SessionOpEnv) -> Result<(), Error> {
    let mut known = Managed::clone(&*env.known()?);
    known.row.spec.limits.checkpoint_file_bytes = Some(u64::MAX);
    let (server, link) = (&env.server, env.link()?);
    let taken = match take_checkpoint(server, &link, &known, "before-delete", "").await {
        // Broken or missing: there is nothing to save.
        Err(Error::Git { kind: FailureKind::NotARepository | FailureKind::NotFound, text })
            if env.order.force =>
        {
            tracing::warn!(shed = %env.shed, session = %known.row.name, %text, "no checkpoint was made of a session that is deleted");
            return Ok(());
        }
        taken => taken?,
    };
    match taken.skipped.first() {
        None => Ok(()),
        Some(first) => {
            let path = printable(&first.path);
            let why = match first.reason {
                SkipReason::TooLarge => "too large",
                SkipReason::Unreadable => "not readable",
                SkipReason::Repository => "a repository of its own",
                SkipReason::Refused => "refused by git",
            };
            let (shed, n) = (&env.shed, taken.n_skipped);
            Err(Error::Rejected(Rejection::Invalid(format!(
                "{n} of its files cannot be put in the trash; the first is {path:?} ({}); move them away or remove them: \
                 shed exec {shed} -w {} -- ls -la",
                why, known.row.spec.directory,
            ))))
        }
    }
}

/// Makes a checkpoint of the session's directory. `None` if it is not in a repository.
pub(crate) async fn checkpoint(
    env: &SessionOpEnv,
    kind: &str,
    message: &str,
) -> Result<Option<TakenCheckpoint>, Error> {
    let known = env.known()?;
    if known.row.spec.kind != SessionType::Worktree || !known.row.spec.placed {
        return Ok(None);
    }
    let taken = take_checkpoint(&env.server, &env.link()?, &known, kind, message).await?;
    if !taken.unchanged {
        let event = NewEvent::new(env.now(), EventKind::CheckpointMade, env.actor.clone())
            .shed(env.shed.as_str())
            .session(&known.row.name)
            .note(taken.checkpoint.n.to_string());
        env.change(|_| {}, vec![event]).await?;
    }
    Ok(Some(taken))
}

/// Makes a checkpoint without an event.
pub(crate) async fn take_checkpoint(
    server: &Server,
    link: &Link,
    known: &Managed,
    kind: &str,
    message: &str,
) -> Result<TakenCheckpoint, Error> {
    let op = GitOp::Snapshot {
        view: tree_view(server, known)?,
        message: message.to_owned(),
        kind: kind.parse()?,
    };
    match git(link, &op).await?.0 {
        GitDone::Snapshot(taken) => Ok(taken),
        _ => Err(unexpected().into()),
    }
}

/// Makes a timed checkpoint, with its event if anything changed.
pub(crate) async fn timer_checkpoint(
    server: &Server,
    link: &Link,
    known: &Managed,
) -> Result<(), Error> {
    let taken = take_checkpoint(server, link, known, "timer", "").await?;
    if taken.unchanged {
        return Ok(());
    }
    let event = NewEvent::new(server.clock.now(), EventKind::CheckpointMade, Actor::Server)
        .shed(&known.row.shed)
        .session(&known.row.name)
        .note(taken.checkpoint.n.to_string());
    Ok(server.store.add_events(vec![event]).await?)
}
