//! Git queries about a session's files: facts, what a deletion would lose, checkpoints.

use shed_api::git::{Risk, SkipReason};
use shed_api::name::printable;
use shed_api::session::SessionType;
use shed_api::{Actor, EventKind, SessionName};
use shed_link::git::{
    Branch, ContainerPath, FailureKind, GitDone, GitOp, RemoveWorktree, RepoFacts, Rev,
    SurveyWorktree, TakenCheckpoint, View as TreeView,
};
use shed_model::NewEvent;
use shed_model::Rejection;

use crate::Error;
use crate::server::Server;
use crate::session::env::SessionOpEnv;
use shed_guest::Link;
use shed_guest::git::{git, unexpected};
use shed_model::session::Managed;

/// How an older shed-init begins its answer to a request that it does not know.
const UNKNOWN: &str = "invalid request: unknown variant";

/// What git reports about a directory.
pub(crate) async fn facts(link: &Link, directory: &str) -> Result<RepoFacts, Error> {
    let op = GitOp::Facts { directory: ContainerPath::try_from(directory.to_owned())? };
    match git(link, &op).await?.0 {
        GitDone::Facts(facts) => Ok(facts),
        _ => Err(unexpected().into()),
    }
}

/// What deleting the session would lose.
pub(crate) async fn risk(link: &Link, known: &Managed) -> Result<Risk, Error> {
    Ok(survey(link, known).await?.0)
}

/// What deleting the session would lose, and whether shed-init itself saves it before it removes the worktree. An older one
/// does not, and tells less.
pub(crate) async fn survey(link: &Link, known: &Managed) -> Result<(Risk, bool), Error> {
    let spec = &known.row.spec;
    let base = spec.base_commit.clone().map(Rev::try_from).transpose()?;
    let branch = spec.branch.clone().map(Branch::try_from).transpose()?;
    let path = ContainerPath::try_from(spec.directory.clone())?;
    if let Some(repo) = spec.repo.clone() {
        let asked = survey_directory(
            link,
            SurveyWorktree {
                repo: ContainerPath::try_from(repo)?,
                path: path.clone(),
                branch: branch.clone(),
                delete_branch: spec.made_branch,
                base: base.clone(),
            },
        );
        if let Some(risk) = asked.await? {
            return Ok((risk, true));
        }
    }
    let op = GitOp::Risk { worktree: path, base, branch: branch.filter(|_| spec.made_branch) };
    match git(link, &op).await?.0 {
        GitDone::Risk(risk) => Ok((risk, false)),
        _ => Err(unexpected().into()),
    }
}

/// What removing a worktree would lose; `None` from an older shed-init, which does not know the question.
pub(crate) async fn survey_directory(
    link: &Link,
    worktree: SurveyWorktree,
) -> Result<Option<Risk>, Error> {
    match git(link, &GitOp::Survey(worktree)).await {
        Ok((GitDone::Survey(risk), _)) => Ok(Some(risk)),
        Ok(_) => Err(unexpected().into()),
        Err(shed_guest::Error::Invalid(text)) if text.starts_with(UNKNOWN) => Ok(None),
        Err(error) => Err(error.into()),
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

/// The directory of the session's repository: a quick one works in it.
pub(crate) fn repository(known: &Managed) -> String {
    let spec = &known.row.spec;
    spec.repo.clone().unwrap_or_else(|| spec.directory.clone())
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

/// Makes the last checkpoint of a worktree before an older shed-init removes it, whatever the size of its files: what it lacks
/// is lost.
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
