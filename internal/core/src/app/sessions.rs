//! Sessions: list, create, change and delete them, type into them and read them.

use std::sync::Arc;

use shed_api::git::Risk;
use shed_api::session::{
    DeletedSession, Input, NewSession, PatchSession, Session, SessionList, Warning,
};
use shed_api::worker::Restart;
use shed_api::{SessionName, SessionRef, ShedName, ShedStatus};
use shed_model::session::life::Operation;
use shed_tmux::argv;

use crate::access::Caller;
use crate::files::worktree;
use crate::server::Server;
use crate::session::handle::SessionOrder;
use crate::session::list::{self, Lists, Rows};
use crate::session::requests::{self, submit};
use crate::session::submit::{self, Pane};
use crate::session::view::workers;
use crate::session::{screen, unmanaged};
use crate::shed::handle::KeeperHandle;
use crate::shed::registry::Registry;
use crate::{Error, Person};
use shed_guest::Link;

/// How long sheds read foreground commands and activity after [`Sessions::observe`], in seconds.
const OBSERVED_SECONDS: u32 = 5;

/// The sessions of all sheds.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    pub(crate) lists: Lists,
}

impl Sessions {
    /// The sessions of one shed, or of all the person may see. Read from memory; no shed is asked.
    pub fn list(&self, person: &Person, name: Option<&ShedName>) -> Result<SessionList, Error> {
        let (lists, warnings) = self.rows(person, name)?;
        let sessions = lists.iter().flat_map(|rows| rows.sessions.iter().cloned()).collect();
        Ok(SessionList { sessions, warnings })
    }

    /// The same as JSON. Of a shed in which nothing changed since the last call, its text is copied.
    pub fn list_json(&self, person: &Person, name: Option<&ShedName>) -> Result<String, Error> {
        let (lists, warnings) = self.rows(person, name)?;
        Ok(list::to_json(&lists, &warnings))
    }

    fn rows(
        &self,
        person: &Person,
        name: Option<&ShedName>,
    ) -> Result<(Vec<Arc<Rows>>, Vec<Warning>), Error> {
        let handles = match name {
            None => self.registry.seen_by(person),
            Some(name) => {
                let caller = Caller::read(person, name, "to see sessions");
                vec![(name.clone(), self.registry.keeper(&caller)?)]
            }
        };
        let now = self.server.clock.now();
        let lists = handles.iter().map(|(name, handle)| self.lists.of(name, handle)).collect();
        let warnings = handles.iter().filter_map(|(_, handle)| {
            let view = handle.view.borrow();
            // In a list of all sheds, one that was stopped on purpose needs no warning.
            let quiet = name.is_none() && view.status() == ShedStatus::Stopped;
            view.warning(now).filter(|_| !quiet)
        });
        Ok((lists, warnings.collect()))
    }

    /// One session, by name, by tmux's id (`$3`), or by id.
    pub fn get(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        let caller = Caller::read(person, name, "to see a session");
        self.lists.find(name, &self.registry.keeper(&caller)?, target)
    }

    /// The shed of the session with this id, if the person may see it.
    pub fn shed_of(&self, person: &Person, id: &str) -> Option<ShedName> {
        let has = |handle: &KeeperHandle| handle.work.view.borrow().sessions.contains_key(id);
        let found = self.registry.seen_by(person).into_iter().find(|(_, handle)| has(handle));
        found.map(|(name, _)| name)
    }

    /// Has the sheds a person may see read foreground commands and activity for the next five seconds.
    pub fn observe(&self, person: &Person) {
        for (_, view) in self.registry.views(person) {
            if view.status() == ShedStatus::Running {
                view.link.iter().for_each(|link| Link::observe(link, OBSERVED_SECONDS));
            }
        }
    }

    /// Creates a session: a row, its worktree if it has one, and its first worker. Returns when it runs, or when it waits
    /// for its turn.
    pub async fn create(
        &self,
        person: &Person,
        name: &ShedName,
        request: NewSession,
    ) -> Result<Session, Error> {
        // What can be refused without starting a shed is.
        if let Some(session) = &request.name {
            session.parse::<SessionName>()?;
        }
        let caller = Caller::drive(person, name, "to create a session");
        let entered = self.registry.enter(&caller).await?;
        entered.needs_tmux()?;
        let id = requests::create(&self.server, &entered, &caller, request).await?;
        self.by_id(name, &entered.handle, &id)
    }

    fn by_id(&self, name: &ShedName, handle: &KeeperHandle, id: &str) -> Result<Session, Error> {
        self.lists.find(name, handle, &requests::reference(id))
    }

    pub(crate) async fn submit(
        &self,
        caller: &Caller<'_>,
        target: &SessionRef,
        operation: Operation,
        order: SessionOrder,
    ) -> Result<Session, Error> {
        let (handle, id) = submit(&self.registry, caller, target, operation, order).await?;
        self.by_id(caller.shed, &handle, &id)
    }

    /// Deletes a session and ends everything in it. What only its worktree has goes to the trash; if there is such, only
    /// with `force`.
    pub async fn delete(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        force: bool,
    ) -> Result<DeletedSession, Error> {
        let caller = Caller::drive(person, name, "to delete a session");
        match self.registry.managed(&caller, target) {
            Ok(found) => requests::delete(&self.registry, &caller, found, force).await,
            Err(Error::Unmanaged { .. }) => {
                let entered = self.registry.enter_awake(&caller).await?;
                unmanaged::kill(&entered, &caller, target).await?;
                Ok(DeletedSession::default())
            }
            Err(Error::NoSession { shed, session }) => {
                // It may be too new for the table.
                let entered = self.registry.enter_awake(&caller).await?;
                entered.needs_tmux()?;
                if entered.exists(target).await? {
                    unmanaged::kill(&entered, &caller, target).await?;
                    return Ok(DeletedSession::default());
                }
                Err(Error::NoSession { shed, session })
            }
            Err(error) => Err(error),
        }
    }

    /// Changes name, title, tags, limits, branch or the way prompts are answered.
    pub async fn patch(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        patch: PatchSession,
    ) -> Result<Session, Error> {
        requests::check_patch(&patch)?;
        let caller = Caller::drive(person, name, "to change a session");
        let found = self.registry.managed(&caller, target);
        if let Err(Error::Unmanaged { .. } | Error::NoSession { .. }) = found {
            let entered = self.registry.enter_awake(&caller).await?;
            return unmanaged::rename(&entered, &caller, target, patch).await;
        }
        let order = SessionOrder { patch: Some(Box::new(patch)), ..SessionOrder::default() };
        self.submit(&caller, target, Operation::Patch, order).await
    }

    /// Ends a session's processes, with a checkpoint; the session stays.
    pub async fn terminate(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        let caller = Caller::drive(person, name, "to change a session");
        self.submit(&caller, target, Operation::Terminate, SessionOrder::default()).await
    }

    /// Starts a session's workers again.
    pub async fn restart(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        restart: Restart,
    ) -> Result<Session, Error> {
        let caller = Caller::drive(person, name, "to restart a session");
        self.registry.managed(&caller, target)?;
        // A stopped shed is started: the session runs in it.
        self.registry.enter(&caller).await?;
        let order = SessionOrder { continues: restart.continues, ..SessionOrder::default() };
        self.submit(&caller, target, Operation::Restart, order).await
    }

    /// Freezes all processes of a session's workers, or lets them go on.
    pub async fn freeze(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        freeze: bool,
    ) -> Result<Session, Error> {
        let caller = Caller::drive(person, name, "to change a session");
        let operation = if freeze { Operation::Freeze } else { Operation::Thaw };
        self.submit(&caller, target, operation, SessionOrder::default()).await
    }

    /// Makes an unmanaged tmux session a managed one. Its windows stay as they are.
    pub async fn adopt(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Session, Error> {
        let caller = Caller::drive(person, name, "to adopt a session");
        let entered = self.registry.enter_awake(&caller).await?;
        entered.needs_tmux()?;
        if entered.known(target).is_some() {
            return self.get(person, name, target);
        }
        let id = unmanaged::adopt(&self.server, &entered, &caller, target).await?;
        self.by_id(name, &entered.handle, &id)
    }

    /// What deleting a session would lose.
    pub async fn risk(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<Risk, Error> {
        let caller = Caller::read(person, name, "to see a session");
        let (_, known) = self.registry.managed(&caller, target)?;
        let entered = self.registry.enter_awake(&caller).await?;
        worktree::risk(&entered.link, &known).await
    }

    /// Submits text to the program in a session's active pane, or presses keys. It goes on when its caller goes away, so
    /// that no text is left without its Enter.
    pub async fn input(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        input: Input,
    ) -> Result<(), Error> {
        // Checked before a shed is asked.
        submit::check(&input)?;
        let caller = Caller::drive(person, name, "to type into a session");
        let entered = self.registry.enter_awake(&caller).await?;
        entered.needs_tmux()?;
        let there = entered.target(target).await?;
        let (server, session) = (Arc::clone(&self.server), target.to_string());
        let task = async move {
            let pane = Pane {
                turns: &server.turns,
                link: &entered.link,
                shed: &entered.shed,
                session: &session,
                target: &there.pane(),
            };
            let program = |worker: &str| {
                let work = entered.handle.work.view.borrow();
                workers(&work)
                    .find(|row| row.id == worker)
                    .and_then(|row| server.settings.sessions.program_of(row))
            };
            pane.submit(&input, program).await
        };
        self.server.tasks.spawn(task).await.map_err(|_| Error::ShuttingDown)?
    }

    /// The active pane's screen with `lines` lines of history; with `ansi`, in colours.
    pub async fn screen(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        lines: Option<u32>,
        ansi: bool,
    ) -> Result<String, Error> {
        let caller = Caller::read(person, name, "to read a session");
        let entered = self.registry.enter_awake(&caller).await?;
        entered.needs_tmux()?;
        let there = entered.target(target).await?;
        let text = entered.tmux(argv::capture(&there, lines, ansi), target).await?;
        Ok(if ansi { screen::only_colours(&text) } else { screen::without_controls(&text) })
    }
}
