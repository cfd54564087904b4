//! Finding and removing orphans: what is in a shed and belongs to no managed session.

use std::collections::BTreeSet;

use shed_api::git::Risk;
use shed_api::work::{Orphan, OrphanList};
use shed_api::{SessionName, SessionRef, ShedName};
use shed_link::git::{Branch, ContainerPath, GitDone, GitOp, RemoveWorktree, SurveyWorktree};
use shed_model::Rejection;
use shed_tmux::argv;
use tokio::sync::oneshot;

use crate::Error;
use crate::access::Caller;
use crate::files::trash::repositories;
use crate::files::worktree::survey_directory;
use crate::housekeeping::leftover::{self, Directory};
use crate::housekeeping::orphans::{self, Evidence, Found, Target};
use crate::server::Server;
use crate::session::handle::Message;
use crate::shed::entered::Entered;
use crate::shed::handle::KeeperHandle;
use shed_guest::Link;
use shed_guest::git::{git, unexpected};

/// Why a directory stays whose path is not the top of a linked worktree.
const NO_TREE: &str = "git knows no worktree there, and the directory is not empty";

/// Removes these orphans and no others, and returns what is left. A worktree is removed only if nothing in it would be lost.
pub(crate) async fn clean(
    server: &Server,
    entered: &Entered,
    caller: &Caller<'_>,
    names: &[String],
) -> Result<OrphanList, Error> {
    let name = &entered.shed;
    let found = find(&entered.shed, &entered.handle, Some(&entered.link)).await?;
    let chosen = orphans::named(&found, name, names)?;
    let mut kept: Vec<(Orphan, String)> = Vec::new();
    let mut processes = Vec::new();
    for Found { orphan, target } in chosen {
        let cleaned = match target {
            Target::Process(pid, started) => {
                processes.push((pid, started));
                Ok(())
            }
            Target::Tmux(id) => end_tmux(entered, caller, id).await,
            Target::Directory(directory) => remove_directory(server, entered, &directory).await,
            Target::Record(id) => drop_record(entered, caller, id).await,
            Target::Session => {
                let text = format!("shed sessions delete {name} {} deletes it", orphan.name);
                Err(Error::Rejected(Rejection::Invalid(text)))
            }
        };
        if let Err(error) = cleaned {
            kept.push((orphan, error.to_string()));
        }
    }
    if !processes.is_empty() {
        leftover::end_processes(&entered.link, &processes).await?;
    }
    let left = find(&entered.shed, &entered.handle, Some(&entered.link)).await?;
    Ok(orphans::shown(left, &kept))
}

/// Removes a directory nothing would be lost with.
async fn remove_directory(
    server: &Server,
    entered: &Entered,
    directory: &Directory,
) -> Result<(), Error> {
    let path = ContainerPath::try_from(directory.path.clone())?;
    let facts = directory.facts.as_ref().filter(|facts| facts.repository && facts.linked);
    let is_top = facts.is_some_and(|facts| facts.toplevel.as_ref() == Some(&directory.path));
    let (Some(facts), true) = (facts, is_top) else {
        // An empty one is not missed; of anything else nobody knows what it is worth.
        let removed = leftover::remove_empty(&entered.link, &path).await;
        return removed.map_err(|_| Error::Rejected(Rejection::Invalid(NO_TREE.to_owned())));
    };
    let common_dir = facts.common_dir.as_deref().unwrap_or_default();
    let repo =
        repositories(server, entered).await?.into_iter().find(|it| it.common_dir == common_dir);
    let repo = match (repo, common_dir.strip_suffix("/.git")) {
        (Some(repo), _) => repo.path,
        (None, Some(top)) => ContainerPath::try_from(top.to_owned())?,
        (None, None) => {
            return Err(Error::Rejected(Rejection::Invalid(
                "its repository was not found".to_owned(),
            )));
        }
    };
    let dir_name = directory.path.rsplit('/').next().unwrap_or_default();
    let trash: SessionName = dir_name.parse().or_else(|_| "worktree".parse::<SessionName>())?;
    let prefix = &server.settings.sessions.branch_prefix;
    let ours = facts.branch.as_ref().filter(|branch| branch.starts_with(prefix.as_str()));
    let asked = survey_directory(
        &entered.link,
        SurveyWorktree {
            repo: repo.clone(),
            path: path.clone(),
            branch: facts.branch.clone().map(Branch::try_from).transpose()?,
            delete_branch: ours.is_some(),
            base: None,
        },
    );
    let risk = match asked.await? {
        Some(risk) => risk,
        None => risk_of(&entered.link, &path).await?,
    };
    refuse_loss(&risk)?;
    // Without a branch checked out one is named that is then left alone.
    let branch = facts.branch.clone().unwrap_or_else(|| format!("{prefix}{trash}"));
    let op = GitOp::RemoveWorktree(RemoveWorktree {
        repo,
        path,
        branch: Branch::try_from(branch)?,
        delete_branch: ours.is_some(),
        trash,
        session: None,
        state: None,
    });
    Ok(git(&entered.link, &op).await.map(drop)?)
}

/// What an older shed-init says would be lost.
async fn risk_of(link: &Link, path: &ContainerPath) -> Result<Risk, Error> {
    match git(link, &GitOp::Risk { worktree: path.clone(), base: None, branch: None }).await?.0 {
        GitDone::Risk(risk) => Ok(risk),
        _ => Err(unexpected().into()),
    }
}

/// Fails if something would be lost, or if somebody has locked the worktree.
fn refuse_loss(risk: &Risk) -> Result<(), Error> {
    let lost = shed_model::at_risk(risk);
    let text = if risk.n_unsaved > 0 {
        format!("it has work that cannot be put in the trash: {}", shed_model::unsaved(risk))
    } else if risk.locked {
        "it is locked with git worktree lock".to_owned()
    } else if lost.is_empty() {
        return Ok(());
    } else {
        format!("it has uncommitted or unpushed work: {lost}")
    };
    Err(Error::Rejected(Rejection::Invalid(text)))
}

/// The orphans of a shed; of one without a link, those the server knows of.
pub(crate) async fn find(
    shed: &ShedName,
    handle: &KeeperHandle,
    link: Option<&Link>,
) -> Result<Vec<Found>, Error> {
    let (mut directories, mut processes) = (Vec::new(), Vec::new());
    if let Some(link) = link {
        let work = handle.work.view.borrow().clone();
        let known: BTreeSet<&str> =
            work.sessions.values().map(|it| it.row.spec.directory.as_str()).collect();
        // One after the other: a session that is made meanwhile has its row before it has either.
        directories = leftover::worktrees(link, &known).await?;
        processes = leftover::processes(link).await?;
    }
    let table = handle.view.borrow().table.clone().filter(|_| link.is_some());
    let work = handle.work.view.borrow().clone();
    Ok(orphans::find(&Evidence {
        shed,
        work: &work,
        listing: table.as_ref().map(|table| &*table.listing),
        directories: &directories,
        processes: &processes,
    }))
}

async fn end_tmux(entered: &Entered, caller: &Caller<'_>, id: u32) -> Result<(), Error> {
    let target = SessionRef::Id(id);
    entered.expect(&target, caller.person).await;
    match entered.tmux(argv::kill_session(&argv::Target::Id(id)), &target).await {
        // It has ended.
        Ok(_) | Err(Error::NoSession { .. }) => {}
        Err(error) => return Err(error),
    }
    entered.unshown(&target).await;
    Ok(())
}

async fn drop_record(entered: &Entered, caller: &Caller<'_>, id: String) -> Result<(), Error> {
    let (done, dropped) = oneshot::channel();
    entered.handle.work.post(Message::DropRecord(id, caller.actor(), done)).await?;
    dropped.await.map_err(|_| Error::ShuttingDown)?
}
