//! A shed that was entered: it runs, its shed-init answers, and tmux in it can be asked.

use std::sync::Arc;
use std::time::Duration;

use shed_api::session::{Session, SessionStatus};
use shed_api::{Scope, SessionName, SessionRef, ShedName, ShedStatus};
use shed_guest::tmux::Command;
use shed_link::Refusal;
use shed_model::Rejection;
use shed_model::session::Managed;
use shed_model::session::life::Denial;
use shed_model::shed::life::Request;
use shed_tmux::argv::{self, Target};
use tokio::time::timeout;

use crate::access::Caller;
use crate::session::table::NoSessions;
use crate::shed::handle::Order;
use crate::shed::handle::{KeeperHandle, Message};
use crate::shed::registry::Registry;
use crate::{Error, Person};
use shed_guest::Link;

/// How long a caller waits for a shed that is being started.
const ENTER_LIMIT: Duration = Duration::from_secs(60);
/// How long they wait for a running shed's link: the server or shed-init was just restarted.
const LINK_LIMIT: Duration = Duration::from_secs(10);
/// How long they wait for the sessions that are restored with the shed.
const COMPARE_LIMIT: Duration = Duration::from_secs(5);
/// How long a change may take to show in the live table.
const SHOW_LIMIT: Duration = Duration::from_secs(2);
/// How long a session that is being created or restored is waited for.
const COME_LIMIT: Duration = Duration::from_secs(20);

/// A shed in which things can be done now.
pub(crate) struct Entered {
    pub(crate) shed: ShedName,
    pub(crate) link: Link,
    pub(crate) handle: KeeperHandle,
}

impl Registry {
    /// The caller's shed, running and answering. A stopped one is started, if they have the scope for it.
    pub(crate) async fn enter(&self, caller: &Caller<'_>) -> Result<Entered, Error> {
        let (name, handle) = (caller.shed, self.keeper(caller)?);
        let entered = timeout(ENTER_LIMIT, wait_to_enter(caller, &handle));
        let link = entered.await.map_err(|_| {
            let status = handle.view.borrow().status();
            Error::TimedOut(format!("shed {name:?} is still {status}"))
        })??;
        // The sessions that are restored with the shed come before what the caller wants.
        timeout(COMPARE_LIMIT, compared(&handle)).await.ok();
        Ok(Entered { shed: name.clone(), link, handle })
    }

    /// The same for what is done with a session that exists. A stopped shed has none, and is not started to find that out.
    pub(crate) async fn enter_awake(&self, caller: &Caller<'_>) -> Result<Entered, Error> {
        let status = self.keeper(caller)?.view.borrow().status();
        if status == ShedStatus::Stopped {
            let shed = caller.shed.clone();
            return Err(Error::Rejected(Rejection::NotRunning { shed, status }));
        }
        self.enter(caller).await
    }
}

async fn wait_to_enter(caller: &Caller<'_>, handle: &KeeperHandle) -> Result<Link, Error> {
    let name = caller.shed;
    let mut view = handle.view.clone();
    loop {
        let now = view.borrow_and_update().clone();
        let status = now.status();
        if let (true, Some(link)) = (now.can_be_entered(), now.link) {
            return Ok(link);
        }
        match status {
            ShedStatus::Stopped if caller.person.scope >= Scope::Drive => {
                handle.request(Request::Start, caller.actor(), Order::default()).await?;
            }
            ShedStatus::Stopped
            | ShedStatus::Paused
            | ShedStatus::Failed
            | ShedStatus::Removing => {
                return Err(Error::Rejected(Rejection::NotRunning { shed: name.clone(), status }));
            }
            ShedStatus::Running => {
                let changed = timeout(LINK_LIMIT, view.changed()).await;
                let unreachable = || {
                    let error = if view.borrow().is_stranded() {
                        Error::Stranded
                    } else {
                        Error::ShedUnreachable
                    };
                    error(name.clone())
                };
                changed.map_err(|_| unreachable())?.map_err(|_| Error::ShuttingDown)?;
            }
            ShedStatus::Creating | ShedStatus::Starting | ShedStatus::Stopping => {
                view.changed().await.map_err(|_| Error::ShuttingDown)?;
            }
        }
    }
}

/// Waits until the shed's sessions were compared with tmux's table, as long as that can happen.
async fn compared(handle: &KeeperHandle) {
    let (mut view, mut work) = (handle.view.clone(), handle.work.view.clone());
    loop {
        let can_be_compared = view.borrow_and_update().can_be_compared();
        if !can_be_compared || work.borrow_and_update().reconciled {
            return;
        }
        let changed = tokio::select! {
            changed = view.changed() => changed,
            changed = work.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

impl Entered {
    /// An error if the image has no tmux, as far as is known.
    pub(crate) fn needs_tmux(&self) -> Result<(), Error> {
        let table = self.handle.view.borrow().table.clone();
        match table.as_ref().map(|table| &table.sessions) {
            Some(Err(NoSessions::NoTmux)) => Err(Error::NoTmux(self.shed.clone())),
            Some(Err(NoSessions::Down(_)) | Ok(_)) | None => Ok(()),
        }
    }

    /// The events of what happens to this session next name this person.
    pub(crate) async fn expect(&self, target: &SessionRef, person: &Person) {
        let name = self
            .handle
            .view
            .borrow()
            .table
            .as_ref()
            .and_then(|table| table.find(target).map(|row| row.name.clone()));
        let name = name.unwrap_or_else(|| target.to_string());
        // A keeper that has ended writes no events.
        self.handle.messages.send(Message::Expect(name, person.actor.clone())).await.ok();
    }

    /// Creates an unmanaged session, as somebody in the shed would: only tmux has it.
    pub(crate) async fn make(
        &self,
        session: &SessionName,
        env: &[(String, String)],
        person: &Person,
    ) -> Result<(), Error> {
        let target = SessionRef::Name(session.clone());
        self.expect(&target, person).await;
        self.tmux(argv::new_session(session.as_str(), env, &[]), &target).await.map(drop)
    }

    /// The managed session with this name or id.
    pub(crate) fn known(&self, target: &SessionRef) -> Option<Arc<Managed>> {
        let table = self.handle.view.borrow().table.clone();
        self.handle.work.view.borrow().resolve(table.as_deref(), target).cloned()
    }

    /// What tmux knows the session by. A managed session is waited for while it is being created or restored; one that has
    /// ended does not exist.
    pub(crate) async fn target(&self, target: &SessionRef) -> Result<Target, Error> {
        let Some(known) = self.known(target) else {
            return Ok(to_target(target));
        };
        let id = known.row.id.clone();
        let (mut view, mut work) = (self.handle.view.clone(), self.handle.work.view.clone());
        let there = async {
            loop {
                let table = view.borrow_and_update().table.clone();
                if let Some(listed) = table.as_ref().and_then(|table| table.marked(&id)) {
                    return Ok(Target::Id(listed.id));
                }
                let row = work.borrow_and_update().sessions.get(&id).map(|known| known.row.clone());
                let Some(row) = row else {
                    return Err(no_session(&self.shed, target));
                };
                if let Some(denial) = not_there(row.status) {
                    let (shed, session) = (self.shed.clone(), row.name);
                    return Err(Error::Rejected(Rejection::Session { shed, session, denial }));
                }
                tokio::select! {
                    changed = view.changed() => changed.map_err(|_| Error::ShuttingDown)?,
                    changed = work.changed() => changed.map_err(|_| Error::ShuttingDown)?,
                }
            }
        };
        match tokio::time::timeout(COME_LIMIT, there).await {
            Ok(there) => there,
            Err(_) => Err(no_session(&self.shed, target)),
        }
    }

    /// Runs a tmux command that concerns a session and returns what it printed.
    pub(crate) async fn tmux(
        &self,
        argv: Vec<String>,
        target: &SessionRef,
    ) -> Result<String, Error> {
        let ran = Command::new(argv).run(&self.link).await;
        ran.map_err(|failure| Error::tmux(&self.shed, target, failure))
    }

    /// Whether the session exists. The table is asked first; what is not in it may be too new for it.
    pub(crate) async fn exists(&self, target: &SessionRef) -> Result<bool, Error> {
        let known = self
            .handle
            .view
            .borrow()
            .table
            .as_ref()
            .is_some_and(|table| table.find(target).is_some());
        if known {
            return Ok(true);
        }
        match self.tmux(argv::has_session(&to_target(target)), target).await {
            Ok(_) => Ok(true),
            Err(Error::NoSession { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until the live table shows the session, so that whoever created it can list it.
    pub(crate) async fn shown(&self, target: &SessionRef) -> Result<Session, Error> {
        let mut view = self.handle.view.clone();
        let find = |view: &crate::shed::view::View| {
            view.table.as_ref().and_then(|table| table.find(target).cloned())
        };
        let wait = async {
            loop {
                if let Some(session) = find(&view.borrow_and_update()) {
                    return Some(session);
                }
                view.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(SHOW_LIMIT, wait).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => Err(Error::ShuttingDown),
            // It ended at once, or the table cannot be read; either way there is nothing to show.
            Err(_) => Err(no_session(&self.shed, target)),
        }
    }

    /// A terminal that could not be started because there is no tmux.
    pub(crate) fn no_tmux(&self, error: Error) -> Error {
        match error {
            Error::Refused(Refusal::NotExecutable { program, missing: true, .. })
                if program == "tmux" =>
            {
                Error::NoTmux(self.shed.clone())
            }
            error => error,
        }
    }

    /// Waits until the live table does not show the session any more.
    pub(crate) async fn unshown(&self, target: &SessionRef) {
        let mut view = self.handle.view.clone();
        let gone = view
            .wait_for(|view| view.table.as_ref().is_none_or(|table| table.find(target).is_none()));
        // A table that lags does not make the kill undone.
        tokio::time::timeout(SHOW_LIMIT, gone).await.ok();
    }
}

pub(crate) fn to_target(session: &SessionRef) -> Target {
    match session {
        SessionRef::Name(name) => Target::Name(name.to_string()),
        SessionRef::Id(id) => Target::Id(*id),
    }
}

/// Why a session of this status has nothing in tmux, if it has not and will not by itself.
fn not_there(status: SessionStatus) -> Option<Denial> {
    match status {
        SessionStatus::Running | SessionStatus::Frozen | SessionStatus::Creating => None,
        SessionStatus::Waiting => Some(Denial::Waiting),
        SessionStatus::Ended | SessionStatus::Stopped => Some(Denial::Ended),
        SessionStatus::Failed => Some(Denial::Failed),
        SessionStatus::Removing => Some(Denial::Removing),
        SessionStatus::Orphaned => Some(Denial::Orphaned),
    }
}

pub(crate) fn no_session(shed: &ShedName, target: &SessionRef) -> Error {
    Error::NoSession { shed: shed.clone(), session: target.to_string() }
}
