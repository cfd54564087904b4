//! Unmanaged sessions: tmux sessions of a shed that the database has no row of.

use shed_api::session::{PatchSession, Session, SessionStatus};
use shed_api::{SessionName, SessionRef};
use shed_model::session::{SessionRow, SessionSpec};
use shed_tmux::argv;
use tokio::sync::oneshot;

use crate::Error;
use crate::access::Caller;
use crate::server::Server;
use crate::session::handle::Message;
use crate::session::{WORKSPACE, ids};
use crate::shed::entered::{Entered, no_session};

/// Ends the session. Returns when the list does not show it any more.
pub(crate) async fn kill(
    entered: &Entered,
    caller: &Caller<'_>,
    target: &SessionRef,
) -> Result<(), Error> {
    entered.needs_tmux()?;
    entered.expect(target, caller.person).await;
    let there = entered.target(target).await?;
    entered.tmux(argv::kill_session(&there), target).await?;
    entered.unshown(target).await;
    Ok(())
}

/// Gives the session another name, which is all that can be changed of it.
pub(crate) async fn rename(
    entered: &Entered,
    caller: &Caller<'_>,
    target: &SessionRef,
    patch: PatchSession,
) -> Result<Session, Error> {
    let shed = caller.shed;
    entered.needs_tmux()?;
    if !entered.exists(target).await? {
        return Err(no_session(shed, target));
    }
    let rest = PatchSession { name: None, ..patch.clone() };
    let Some(new) = patch.name.filter(|_| rest == PatchSession::default()) else {
        return Err(Error::Unmanaged { shed: shed.clone(), session: target.to_string() });
    };
    let new: SessionName = new.parse()?;
    let new_target = SessionRef::Name(new.clone());
    if entered.known(&new_target).is_some() {
        return Err(Error::SessionExists { shed: shed.clone(), session: new.to_string() });
    }
    entered.expect(&new_target, caller.person).await;
    let there = entered.target(target).await?;
    match entered.tmux(argv::rename_session(&there, new.as_str()), target).await {
        Err(Error::SessionExists { shed, .. }) => {
            Err(Error::SessionExists { shed, session: new.to_string() })
        }
        Err(error) => Err(error),
        Ok(_) => entered.shown(&new_target).await,
    }
}

/// Makes the session a managed one and returns its new id. Its windows stay as they are.
pub(crate) async fn adopt(
    server: &Server,
    entered: &Entered,
    caller: &Caller<'_>,
    target: &SessionRef,
) -> Result<String, Error> {
    let listed = entered.shown(target).await?;
    let session: SessionName = listed.name.parse()?;
    let now = server.clock.now();
    let active = listed.windows.iter().find(|window| window.active);
    let pane = active.and_then(|window| window.panes.iter().find(|pane| pane.active));
    let directory = pane.map_or(WORKSPACE, |pane| pane.directory.as_str()).to_owned();
    let row = SessionRow {
        id: ids::new_id(),
        shed: caller.shed.to_string(),
        name: session.to_string(),
        status: SessionStatus::Running,
        reason: None,
        created_at: now,
        status_since: now,
        spec: SessionSpec::adopted(directory),
    };
    let id = row.id.clone();
    let there = entered.target(target).await?;
    entered.tmux(argv::mark_session(&there, session.as_str(), &id), target).await?;
    let (answer, answered) = oneshot::channel();
    let post = Message::Adopt(Box::new(row), caller.actor(), answer);
    entered.handle.work.post(post).await?;
    answered.await.map_err(|_| Error::ShuttingDown)??;
    Ok(id)
}
