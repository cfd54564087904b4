//! Changing a session's name, title, branch and the like.

use shed_api::EventKind;
use shed_link::git::{Branch, ContainerPath, GitOp};
use shed_model::session::Managed;
use shed_model::{NewEvent, Rejection};
use shed_tmux::argv::{self, Target};
use tokio::time::timeout;

use super::SHOW_LIMIT;
use crate::Error;
use crate::session::env::SessionOpEnv;
use crate::session::windows::tmux;
use shed_guest::git::git;

/// Changes a session. git and tmux are changed first: they may refuse.
pub(super) async fn patch(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let Some(patch) = env.order.patch.clone() else {
        return Ok(());
    };
    let spec = &known.row.spec;
    if let Some(to) = patch.branch.as_ref().filter(|to| Some(*to) != spec.branch.as_ref()) {
        let (Some(from), true) = (&spec.branch, spec.placed) else {
            return Err(Error::Rejected(Rejection::Invalid(
                "only a session with a worktree has a branch".to_owned(),
            )));
        };
        let op = GitOp::RenameBranch {
            worktree: ContainerPath::try_from(spec.directory.clone())?,
            from: Branch::try_from(from.clone())?,
            to: Branch::try_from(to.clone())?,
        };
        git(&env.link()?, &op).await?;
        let to = to.clone();
        env.change(move |known| known.row.spec.branch = Some(to), Vec::new()).await?;
    }
    if let Some(name) = patch.name.as_ref().filter(|name| **name != known.row.name) {
        rename(env, &known, name.clone()).await?;
    }
    let event = NewEvent::new(env.now(), EventKind::SessionChanged, env.actor.clone())
        .shed(env.shed.as_str())
        .session(patch.name.as_deref().unwrap_or(&known.row.name));
    env.change(
        move |known| {
            let spec = &mut known.row.spec;
            if let Some(title) = patch.title {
                spec.title = Some(title).filter(|title| !title.is_empty());
            }
            spec.tags = patch.tags.unwrap_or(std::mem::take(&mut spec.tags));
            spec.limits = patch.limits.unwrap_or(std::mem::take(&mut spec.limits));
            spec.auto_respond = patch.auto_respond.or(spec.auto_respond);
        },
        vec![event],
    )
    .await
    .map(drop)
}

async fn rename(env: &SessionOpEnv, known: &Managed, name: String) -> Result<(), Error> {
    let taken = env.view.borrow().sessions.values().any(|other| other.row.name == name);
    if taken {
        return Err(Error::SessionExists { shed: env.shed.clone(), session: name });
    }
    let table = env.shed_view.borrow().table.clone();
    if let (Some(listed), Ok(link)) =
        (table.as_ref().and_then(|table| table.marked(&known.row.id)), env.link())
    {
        env.expect_session(&name).await;
        let argv = argv::rename_session(&Target::Id(listed.id), &name);
        match tmux(env, &link, argv).await {
            Err(Error::SessionExists { shed, .. }) => {
                return Err(Error::SessionExists { shed, session: name });
            }
            renamed => drop(renamed?),
        }
        // A snapshot from before the renaming that arrives late would look as if somebody had renamed it back.
        let (mut view, id) = (env.shed_view.clone(), known.row.id.clone());
        let shown = view.wait_for(|view| {
            let listed = view.table.as_ref().and_then(|table| table.marked(&id));
            listed.is_none_or(|listed| listed.name == name)
        });
        // A table that lags does not make the new name undone.
        timeout(SHOW_LIMIT, shown).await.ok();
    }
    let change = move |known: &mut Managed| {
        known.row.name = name;
        // A worktree that is made later does not replace the name.
        known.row.spec.automatic = None;
    };
    env.change(change, Vec::new()).await.map(drop)
}
