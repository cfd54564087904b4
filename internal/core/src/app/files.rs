//! The files of sessions: how they differ, their checkpoints, and the trash. git in the shed does the work.

use std::sync::Arc;

use shed_api::git::{
    Checkpoint, CheckpointList, Diff, DiffNumbers, MadeCheckpoint, RestoreTrash,
    RestoredCheckpoint, TrashEntry,
};
use shed_api::session::{NewSession, Session};
use shed_api::{SessionRef, ShedName};
use shed_link::git::{Branch, ShedRef};
use tokio::sync::watch;

use super::Sessions;
use crate::access::Caller;
use crate::files::diff::{self, DiffQuery, SessionFiles};
use crate::files::diff_watch::DiffWatches;
use crate::files::{checkpoints, trash};
use crate::server::Server;
use crate::session::requests;
use crate::shed::registry::Registry;
use crate::{Error, Person};

/// The files of all sessions.
#[derive(Clone)]
pub struct Files {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    pub(crate) sessions: Sessions,
    pub(crate) diffs: DiffWatches,
}

impl Files {
    async fn of(&self, caller: &Caller<'_>, target: &SessionRef) -> Result<SessionFiles, Error> {
        SessionFiles::of(&self.registry, caller, target).await
    }

    /// How a session's files differ, and the patch as git prints it.
    pub async fn diff(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        query: DiffQuery,
    ) -> Result<(Diff, Vec<u8>), Error> {
        let caller = Caller::read(person, name, "to see a diff");
        self.of(&caller, target).await?.diff(&self.server, query).await
    }

    /// How far a session's files are from its base.
    pub async fn diff_numbers(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<DiffNumbers, Error> {
        let files = self.of(&Caller::read(person, name, "to see a diff"), target).await?;
        diff::numbers(&self.server, &files.link, &files.known).await
    }

    /// The same, and again after each change. The work is done once for all who watch, and only while somebody does.
    pub async fn diff_watch(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<watch::Receiver<Option<DiffNumbers>>, Error> {
        let files = self.of(&Caller::read(person, name, "to see a diff"), target).await?;
        Ok(self.diffs.subscribe(&self.server, files.link, files.known))
    }

    /// A session's checkpoints.
    pub async fn checkpoints(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<CheckpointList, Error> {
        let files = self.of(&Caller::read(person, name, "to see checkpoints"), target).await?;
        Ok(CheckpointList { checkpoints: checkpoints::list(&files).await? })
    }

    /// One of them, by number.
    pub async fn checkpoint(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        n: u64,
    ) -> Result<Checkpoint, Error> {
        let files = self.of(&Caller::read(person, name, "to see checkpoints"), target).await?;
        checkpoints::find(&files, n).await
    }

    /// Makes a checkpoint of everything in the session's directory.
    pub async fn make_checkpoint(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        message: &str,
    ) -> Result<MadeCheckpoint, Error> {
        let caller = Caller::drive(person, name, "to make a checkpoint");
        checkpoints::make(&self.server, &self.of(&caller, target).await?, &caller, message).await
    }

    /// Sets the session's files back to a checkpoint: all, or those in `paths`. Their state before is saved as a
    /// checkpoint of its own.
    pub async fn restore_checkpoint(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        n: u64,
        paths: Vec<String>,
    ) -> Result<RestoredCheckpoint, Error> {
        let caller = Caller::drive(person, name, "to restore a checkpoint");
        let files = self.of(&caller, target).await?;
        checkpoints::restore(&self.server, &files, &caller, n, paths).await
    }

    /// Creates a session in a worktree of its own that begins at a checkpoint. What the request leaves out is as in the
    /// checkpoint's session.
    pub async fn fork_checkpoint(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        n: u64,
        request: NewSession,
    ) -> Result<Session, Error> {
        let caller = Caller::drive(person, name, "to fork a checkpoint");
        let files = self.of(&caller, target).await?;
        let checkpoint = checkpoints::find(&files, n).await?;
        let request = checkpoints::fork_request(&files.known, checkpoint, request)?;
        let entered = self.registry.enter_awake(&caller).await?;
        entered.needs_tmux()?;
        let mut plan = requests::plan(&self.server, &entered, request)?;
        plan.session.spec.from_checkpoint = Some((files.known.row.id.clone(), n));
        let id = requests::create_planned(&files.handle, &caller, plan).await?;
        self.sessions.get(person, name, &id.parse()?)
    }

    /// What was deleted in a shed's repositories and can be restored, by name.
    pub async fn trash(&self, person: &Person, name: &ShedName) -> Result<Vec<TrashEntry>, Error> {
        let caller = Caller::read(person, name, "to see the trash");
        trash::list(&self.server, &self.registry.enter_awake(&caller).await?).await
    }

    /// Makes a branch of an entry of the trash, and removes the entry.
    pub async fn restore_trash(
        &self,
        person: &Person,
        name: &ShedName,
        request: RestoreTrash,
    ) -> Result<(), Error> {
        let trashed = ShedRef::try_from(request.name)?;
        let branch = Branch::try_from(request.branch)?;
        let caller = Caller::drive(person, name, "to restore a branch");
        let entered = self.registry.enter_awake(&caller).await?;
        let repository = request.repository.as_deref();
        trash::restore(&self.server, &entered, trashed, branch, repository).await
    }
}
