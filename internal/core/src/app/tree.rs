//! The files of a session: how they differ, and their checkpoints. git in the shed does it; here is who may, and what it
//! is compared with.

use shed_api::git::{
    Checkpoint, CheckpointList, Diff, DiffNumbers, KeptFile, MadeCheckpoint, RestoredCheckpoint,
};
use shed_api::session::{NewSession, Session, SessionType};
use shed_api::{EventKind, Scope, SessionRef, ShedName};
use shed_link::git::{Base, FilePath, GitDone, GitOp, Rev, Side};
use shed_model::NewEvent;
use shed_model::Rejection;
use tokio::sync::{oneshot, watch};

use super::App;
use crate::box_link::BoxLink;
use crate::files::git::{git, unexpected};
use crate::files::worktree::{facts, git_name, take_checkpoint, tree_view};
use crate::server::Server;
use crate::session::handle::Message;
use crate::{Error, Person};
use shed_model::patch::{self, Extent};
use shed_model::session::Managed;

/// What is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffQuery {
    /// Before: `base` (when absent), `head`, or a checkpoint's number.
    pub from: Option<String>,
    /// After: `worktree` (when absent), `head`, or a checkpoint's number.
    pub to: Option<String>,
    /// Only this file or directory.
    pub path: Option<String>,
    /// Without the lines.
    pub stat_only: bool,
}

/// A session and the shed it is in, both there to be asked.
struct Tree {
    known: std::sync::Arc<Managed>,
    link: BoxLink,
    handle: crate::shed::handle::KeeperHandle,
}

impl App {
    async fn tree(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        needed: Scope,
        what: &str,
    ) -> Result<Tree, Error> {
        let (handle, known) = self.remembered(person, name, target, needed, what)?;
        let link = self.enter_awake(person, name, needed, what).await?.link;
        if known.row.spec.kind == SessionType::Worktree && !known.row.spec.placed {
            let session = known.row.name.clone();
            let text = "its worktree was not made yet".to_owned();
            return Err(Error::SessionBusy { shed: name.clone(), session, text });
        }
        Ok(Tree { known, link, handle })
    }

    /// How the session's files differ. The patch as git prints it comes with it.
    pub async fn diff(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        query: DiffQuery,
    ) -> Result<(Diff, Vec<u8>), Error> {
        let tree = self.tree(person, name, target, Scope::Read, "to see a diff").await?;
        let from = side(&tree, query.from.as_deref().unwrap_or("base")).await?;
        let to = side(&tree, query.to.as_deref().unwrap_or("worktree")).await?;
        let op = GitOp::Diff {
            view: tree_view(&self.server, &tree.known)?,
            from,
            to,
            path: query.path.map(FilePath::try_from).transpose()?,
            stat_only: query.stat_only,
        };
        let (GitDone::Diff(done), text) = git(&tree.link, &op).await? else {
            return Err(unexpected());
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

    /// How far the session's files are from its base.
    pub async fn diff_numbers(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<DiffNumbers, Error> {
        let tree = self.tree(person, name, target, Scope::Read, "to see a diff").await?;
        numbers(&self.server, &tree.link, &tree.known).await
    }

    /// The same, and again whenever something changes. The work is done once for all who watch, and only while one does.
    pub async fn diff_watch(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<watch::Receiver<Option<DiffNumbers>>, Error> {
        let tree = self.tree(person, name, target, Scope::Read, "to see a diff").await?;
        let Tree { known, link, .. } = tree;
        Ok(self.diffs.subscribe(&self.server, link, known))
    }

    /// The session's checkpoints.
    pub async fn checkpoints(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
    ) -> Result<CheckpointList, Error> {
        let tree = self.tree(person, name, target, Scope::Read, "to see checkpoints").await?;
        let op = GitOp::Checkpoints {
            repo: tree.known.row.spec.directory.clone().try_into()?,
            session: git_name(&tree.known)?,
        };
        match git(&tree.link, &op).await?.0 {
            GitDone::Checkpoints(checkpoints) => Ok(CheckpointList { checkpoints }),
            _ => Err(unexpected()),
        }
    }

    /// One of them.
    pub async fn checkpoint_by_number(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        n: u64,
    ) -> Result<Checkpoint, Error> {
        let list = self.checkpoints(person, name, target).await?.checkpoints;
        let found = list.into_iter().find(|checkpoint| checkpoint.n == n);
        found.ok_or_else(|| Error::Rejected(Rejection::NotFound(format!("checkpoint {n}"))))
    }

    /// Makes a checkpoint of everything in the session's directory.
    pub async fn checkpoint(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        message: &str,
    ) -> Result<MadeCheckpoint, Error> {
        let tree = self.tree(person, name, target, Scope::Drive, "to make a checkpoint").await?;
        let taken =
            take_checkpoint(&self.server, &tree.link, &tree.known, "manual", message).await?;
        if !taken.unchanged {
            let n = taken.checkpoint.n;
            self.note(person, &tree, EventKind::CheckpointMade, n.to_string()).await?;
        }
        let shed_link::git::Snapshot { checkpoint, unchanged, skipped, .. } = taken;
        Ok(MadeCheckpoint { checkpoint, unchanged, skipped })
    }

    /// Sets the session's files back to a checkpoint. What was there before is a checkpoint of its own.
    pub async fn restore_checkpoint(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        n: u64,
        paths: Vec<String>,
    ) -> Result<RestoredCheckpoint, Error> {
        let tree = self.tree(person, name, target, Scope::Drive, "to restore a checkpoint").await?;
        let op = GitOp::Restore {
            view: tree_view(&self.server, &tree.known)?,
            from: git_name(&tree.known)?,
            n,
            paths: paths.into_iter().map(FilePath::try_from).collect::<Result<_, _>>()?,
        };
        let GitDone::Restored(done) = git(&tree.link, &op).await?.0 else {
            return Err(unexpected());
        };
        self.note(person, &tree, EventKind::CheckpointRestored, n.to_string()).await?;
        let kept = done.kept.into_iter();
        let kept = kept.map(|file| KeptFile { path: file.path, reason: file.reason }).collect();
        Ok(RestoredCheckpoint {
            safety: done.safety,
            files: done.files,
            n_files: done.n_files,
            kept,
        })
    }

    /// Opens a new session in a worktree of its own that begins as a checkpoint. What is not said is as in the old one.
    pub async fn fork_checkpoint(
        &self,
        person: &Person,
        name: &ShedName,
        target: &SessionRef,
        n: u64,
        request: NewSession,
    ) -> Result<Session, Error> {
        let tree = self.tree(person, name, target, Scope::Drive, "to fork a checkpoint").await?;
        let checkpoint = self.checkpoint_by_number(person, name, target, n).await?;
        if request.base.is_some() || request.share.is_some() || request.existing_branch {
            let text = "a fork begins at its checkpoint: leave out base, share and existing_branch";
            return Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
        }
        let head = checkpoint.head.ok_or_else(|| {
            Error::Rejected(Rejection::Invalid(format!(
                "checkpoint {n} is from before the first commit"
            )))
        })?;
        let known = &tree.known;
        let first = known.workers.iter().find(|row| !row.spec.hook).map(|row| &row.spec);
        let says_what = request.agent.is_some() || !request.command.is_empty();
        let request = NewSession {
            kind: Some(SessionType::Worktree),
            base: Some(head),
            directory: request.directory.or_else(|| repository(known)),
            agent: request
                .agent
                .or_else(|| first.filter(|_| !says_what).and_then(|spec| spec.agent.clone())),
            model: request.model.or_else(|| first.and_then(|spec| spec.model.clone())),
            title: request.title.or_else(|| known.row.spec.title.clone()),
            keep: request.keep.or(Some(true)),
            ..request
        };
        let request =
            NewSession { model: request.model.filter(|_| request.agent.is_some()), ..request };
        let place = self.enter_awake(person, name, Scope::Drive, "to fork a checkpoint").await?;
        place.needs_tmux()?;
        let mut plan = self.plan(&place, request)?;
        plan.session.spec.from_checkpoint = Some((known.row.id.clone(), n));
        let id = plan.session.id.clone();
        let (answer, answered) = oneshot::channel();
        let post = Message::Create(Box::new(plan), person.actor.clone(), answer);
        tree.handle.work.post(post).await?;
        answered.await.map_err(|_| Error::ShuttingDown)??;
        self.session(person, name, &id.parse()?)
    }

    async fn note(
        &self,
        person: &Person,
        tree: &Tree,
        kind: EventKind,
        note: String,
    ) -> Result<(), Error> {
        let row = &tree.known.row;
        let event = NewEvent::new(self.server.clock.now(), kind, person.actor.clone());
        let event = event.shed(&row.shed).session(&row.name).note(note);
        Ok(self.server.store.add_events(vec![event]).await?)
    }
}

/// The repository of a session: a quick one works in it.
fn repository(known: &Managed) -> Option<String> {
    known.row.spec.repo.clone().or_else(|| Some(known.row.spec.directory.clone()))
}

/// What the session's files are compared with: where its branch parts from its base, which moves with it; in a directory
/// of the shed, what is checked out there.
pub(crate) async fn base(link: &BoxLink, known: &Managed) -> Result<Base, Error> {
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

/// How far a session's files are from its base.
pub(crate) async fn numbers(
    server: &Server,
    link: &BoxLink,
    known: &Managed,
) -> Result<DiffNumbers, Error> {
    let op = GitOp::Numbers { view: tree_view(server, known)?, base: base(link, known).await? };
    match git(link, &op).await?.0 {
        GitDone::Numbers(numbers) => Ok(numbers),
        _ => Err(unexpected()),
    }
}

async fn side(tree: &Tree, word: &str) -> Result<Side, Error> {
    Ok(match word {
        "base" => Side::Base(base(&tree.link, &tree.known).await?),
        "head" => Side::Head,
        "worktree" => Side::Worktree,
        word => {
            let n = word.parse().map_err(|_| {
                Error::Rejected(Rejection::Invalid(format!(
                    "{word:?} is none of base, head, worktree and a checkpoint's number"
                )))
            })?;
            Side::Checkpoint { session: git_name(&tree.known)?, n }
        }
    })
}
