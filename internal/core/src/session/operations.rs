//! The operations on a session: what its keeper starts and waits for. They act on git, tmux and runners in the box, and
//! change rows through the keeper: written before what they announce is done. Each can be begun again where it was left.

mod delete;

use shed_model::Rejection;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shed_api::session::{PatchSession, SessionStatus, SessionType};
use shed_api::worker::WorkerStatus;
use shed_api::{Actor, EventKind, ShedName, ShedStatus};
use shed_link::git::{BoxPath, Branch, GitOp};
use shed_model::NewEvent;
use shed_model::session::SessionRow;
use shed_model::worker::WorkerRow;
use shed_tmux::argv::{self, Target};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::box_link::BoxLink;
use crate::files::git::git;
use crate::files::worktree::checkpoint;
use crate::housekeeping::leftover;
use crate::housekeeping::orphans;
use crate::server::Server;
use crate::session::Resources;
use crate::session::control::Runner;
use crate::session::hooks::{close_window, place, set_up};
use crate::session::keeper::{ChangePost, Post, status_event};
use crate::session::view::WorkView;
use crate::session::windows::{self, GRACE, Opening, tmux};
use crate::shed::view::View;
use shed_model::session::Managed;
use shed_model::session::life::Wish;

/// How long the collector may take to tell of what ended with the shed.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long the table may take to show what was done.
const SHOW_LIMIT: Duration = Duration::from_secs(2);
/// Between a first try to end a called-off creation's processes and KILL.
pub(crate) const NO_GRACE: Duration = Duration::from_millis(500);

/// What goes with a wish, and is not kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    /// Restart: agents go on with their conversation.
    pub(crate) continues: bool,
    /// Delete: also where work would be lost.
    pub(crate) force: bool,
    /// Create: nothing of it was ever begun.
    pub(crate) fresh: bool,
    /// Which worker, by id.
    pub(crate) worker: Option<String>,
    /// The worker to add.
    pub(crate) new_worker: Option<Box<WorkerRow>>,
    /// What is to be different.
    pub(crate) patch: Option<Box<PatchSession>>,
    /// Terminate: why, in words.
    pub(crate) why: Option<String>,
}

/// What an operation works with.
pub(crate) struct OpEnv {
    pub(crate) server: Arc<Server>,
    pub(crate) resources: Resources,
    pub(crate) shed: ShedName,
    /// The session's id.
    pub(crate) id: String,
    pub(crate) posts: mpsc::Sender<Post>,
    /// The shed's own keeper.
    pub(crate) shed_posts: mpsc::Sender<crate::shed::keeper::Post>,
    pub(crate) view: watch::Receiver<Arc<WorkView>>,
    pub(crate) shed_view: watch::Receiver<View>,
    pub(crate) cancel: CancellationToken,
    pub(crate) actor: Actor,
    pub(crate) order: Order,
}

/// Runs an operation to its end and reports it.
pub(crate) async fn run(wish: Wish, env: OpEnv) {
    let (id, posts) = (env.id.clone(), env.posts.clone());
    // A mistake of ours ends this operation and must not leave the session in the middle of it for ever.
    let ended = tokio::spawn(async move { dispatch(wish, &env).await }).await;
    let result = ended.unwrap_or_else(|_| {
        let text = "the server made a mistake; its log has more";
        Err(Error::Failed(crate::Failure::new(shed_api::Code::Internal, text)))
    });
    // The keeper is gone when this fails: the server is going away.
    posts.send(Post::Done(id, result)).await.ok();
}

async fn dispatch(wish: Wish, env: &OpEnv) -> Result<(), Error> {
    match wish {
        Wish::Create => create(env).await,
        Wish::Restore => restore(env).await,
        Wish::Terminate => terminate(env).await,
        Wish::Restart => restart(env).await,
        Wish::Delete => delete::delete(env).await,
        Wish::Freeze => freeze(env, true).await,
        Wish::Thaw => freeze(env, false).await,
        Wish::AddWorker => add_worker(env).await,
        Wish::RestartWorker => restart_worker(env).await,
        Wish::RemoveWorker => remove_worker(env).await,
        Wish::Patch => patch(env).await,
    }
}

impl OpEnv {
    /// The session as it is remembered now.
    pub(crate) fn known(&self) -> Result<Arc<Managed>, Error> {
        let view = self.view.borrow();
        view.sessions
            .get(&self.id)
            .cloned()
            .ok_or_else(|| Error::NoSession { shed: self.shed.clone(), session: self.id.clone() })
    }

    /// The shed's link.
    pub(crate) fn link(&self) -> Result<BoxLink, Error> {
        let link = self.shed_view.borrow().link.clone();
        link.ok_or_else(|| Error::ShedUnreachable(self.shed.clone()))
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.server.clock.now()
    }

    /// Changes the session, with what happened.
    pub(crate) async fn change(
        &self,
        change: impl FnOnce(&mut Managed) + Send + 'static,
        events: Vec<NewEvent>,
    ) -> Result<Arc<Managed>, Error> {
        let (done, changed) = oneshot::channel();
        let session = self.id.clone();
        let post = ChangePost { session, change: Box::new(change), events, done };
        self.posts.send(Post::Change(post)).await.map_err(|_| Error::ShuttingDown)?;
        changed.await.map_err(|_| Error::ShuttingDown)?
    }

    async fn set_status(&self, status: SessionStatus, reason: Option<String>) -> Result<(), Error> {
        let known = self.known()?;
        let now = self.now();
        let row = SessionRow { status, reason, status_since: now, ..known.row.clone() };
        let event = status_event(now, &row, &self.actor);
        let since = (status == SessionStatus::Running).then_some(now);
        self.change(
            move |known| {
                known.row.status = row.status;
                known.row.reason = row.reason;
                known.row.status_since = now;
                known.row.spec.running_since = since.or(known.row.spec.running_since);
            },
            vec![event],
        )
        .await
        .map(drop)
    }

    /// A worker's next start, written before anything is started.
    pub(crate) async fn begin_epoch(&self, worker: &str) -> Result<WorkerRow, Error> {
        let known = self.known()?;
        let now = self.now();
        let find = |known: &Managed| known.workers.iter().find(|row| row.id == worker).cloned();
        let gone =
            || Error::NoWorker { session: known.row.name.clone(), worker: worker.to_owned() };
        let row = find(&known).ok_or_else(gone)?;
        let event = windows::started_event(now, &known.row, &row, &self.actor);
        let id = worker.to_owned();
        let after = self.change(
            move |known| {
                for row in known.workers.iter_mut().filter(|row| row.id == id) {
                    row.epoch += 1;
                    row.status = WorkerStatus::Starting;
                    row.exit = None;
                    row.reason = None;
                    row.started_at = Some(now);
                    row.ended_at = None;
                }
            },
            vec![event],
        );
        find(&*after.await?).ok_or_else(gone)
    }

    /// A session of this name is about to appear because of this operation's actor.
    pub(crate) async fn expect_session(&self, name: &str) {
        let post = crate::shed::keeper::Post::Expect(name.to_owned(), self.actor.clone());
        // A keeper that has ended writes no events.
        self.shed_posts.send(post).await.ok();
    }

    pub(crate) async fn unless_called_off<T>(
        &self,
        step: impl Future<Output = T>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = step => Ok(done),
            () = self.cancel.cancelled() => Err(Error::CalledOff),
        }
    }
}

/// From a plan to a running session.
async fn create(env: &OpEnv) -> Result<(), Error> {
    match make(env).await {
        Ok(()) => Ok(()),
        // What was called off is ended or deleted by whoever called it off.
        Err(Error::CalledOff) => {
            undo(env).await;
            env.set_status(SessionStatus::Failed, Some("it was called off".to_owned())).await?;
            Err(Error::CalledOff)
        }
        Err(error) => {
            let known = env.known()?;
            let has_worktree =
                known.row.spec.placed && known.row.spec.kind == SessionType::Worktree;
            if !has_worktree {
                // Nothing was made: everything is as it was.
                undo(env).await;
            }
            // A worktree, and perhaps work in it, stays to be looked at; so does what a setup printed. And nobody else would
            // ever hear of one that had to wait for its turn.
            let hook_failed = matches!(error, Error::HookFailed { .. });
            if has_worktree || hook_failed || !env.order.fresh {
                env.set_status(SessionStatus::Failed, Some(error.to_string())).await?;
            } else {
                forget(env).await?;
            }
            Err(error)
        }
    }
}

/// Ends what a creation has begun. A worker that was never started has no runner to ask: its window's end is its end.
async fn undo(env: &OpEnv) {
    let alive: Vec<WorkerRow> = match env.known() {
        Ok(known) => known.workers.iter().filter(|row| is_alive(row)).cloned().collect(),
        Err(_) => return,
    };
    let running = alive.iter().filter(|row| !is_starting(row));
    let stopped = running.map(|worker| windows::stop(env, worker, NO_GRACE));
    futures_util::future::join_all(stopped).await;
    // What does not go now goes when the session is deleted.
    kill_session(env).await.ok();
}

async fn make(env: &OpEnv) -> Result<(), Error> {
    place(env).await?;
    set_up(env).await?;
    let begun = !env.order.fresh;
    if begun {
        // A start that was cut off by the end of the server may yet be told of.
        let mut view = env.view.clone();
        let told = view.wait_for(|view| {
            let known = view.sessions.get(&env.id);
            known.is_none_or(|known| !known.workers.iter().any(is_starting))
        });
        timeout(SHOW_LIMIT, told).await.map(drop).ok();
    }
    let workers = env.known()?.workers.clone();
    let runs = |row: &WorkerRow| begun && is_alive(row) && !is_starting(row);
    for worker in workers.iter().filter(|row| !row.spec.hook && !runs(row)) {
        let opening = Opening::Command { continues: worker.epoch > 0 && env.order.continues };
        env.unless_called_off(windows::open(env, &worker.id, &opening)).await??;
    }
    env.set_status(SessionStatus::Running, None).await?;
    shown(env).await;
    Ok(())
}

fn is_starting(row: &WorkerRow) -> bool {
    row.epoch > 0 && row.status == WorkerStatus::Starting
}

pub(super) fn is_alive(row: &WorkerRow) -> bool {
    row.epoch > 0 && row.status != WorkerStatus::Exited
}

/// Waits until the table shows the session, so that whoever made it can list it.
async fn shown(env: &OpEnv) {
    let mut view = env.shed_view.clone();
    let link = env.link().ok();
    let there = view.wait_for(|view| {
        // A shed that went shows nothing more.
        view.link != link
            || view.table.as_ref().is_some_and(|table| table.marked(&env.id).is_some())
    });
    // One that ended at once is never shown.
    timeout(SHOW_LIMIT, there).await.map(drop).ok();
}

/// Brings back what went with the shed: names, windows, what was in them, commands that are to be started again.
async fn restore(env: &OpEnv) -> Result<(), Error> {
    let link = env.link()?;
    settle(env).await;
    let known = env.known()?;
    let mut lost = Vec::new();
    for worker in known.workers.iter().filter(|row| !row.spec.hook) {
        match way_back(env, &known.row.name, worker) {
            Some(opening) => {
                if let Err(error) = windows::open(env, &worker.id, &opening).await {
                    let runs = env.shed_view.borrow().status() == ShedStatus::Running;
                    if !runs || link.gone().is_cancelled() {
                        // The shed is stopping again: the session stays as it is and is restored with it.
                        return Err(error);
                    }
                    lost.push(format!("{}: {error}", worker.name));
                }
            }
            None => lost.push(format!("{}: its window had closed", worker.name)),
        }
    }
    let came_back = known.workers.iter().filter(|row| !row.spec.hook).count() > lost.len();
    let reason = (!lost.is_empty()).then(|| format!("did not come back: {}", lost.join("; ")));
    let status = if came_back {
        SessionStatus::Running
    } else if known.row.spec.kind == SessionType::Worktree && !lost.is_empty() {
        SessionStatus::Orphaned
    } else {
        SessionStatus::Ended
    };
    env.set_status(status, reason).await?;
    if came_back {
        shown(env).await;
    }
    Ok(())
}

/// How a worker comes back; `None` if nothing of it is shown.
fn way_back(env: &OpEnv, session: &str, worker: &WorkerRow) -> Option<Opening> {
    let spec = &worker.spec;
    let is_shell = spec.command.is_empty() && spec.agent.is_none();
    let ran = worker.status != WorkerStatus::Exited
        || worker.reason.as_deref() == Some(crate::session::keeper::WITH_SHED);
    if !ran {
        let how = crate::session::keeper::end_note(worker).unwrap_or_default();
        return spec.keep.then(|| Opening::Notice(format!("the command had ended: {how}")));
    }
    let resumes = spec.agent.as_ref().is_some_and(|agent| {
        let agents = &env.server.settings.sessions.agents;
        agents.get(agent).is_some_and(|agent| agent.resume.iter().any(|w| w == "{conversation}"))
    });
    if is_shell || spec.restart || resumes {
        return Some(Opening::Command { continues: resumes });
    }
    let again = format!(
        "the command was ended with the shed; shed workers restart {} {session} {} starts it again",
        env.shed, worker.name
    );
    Some(Opening::Notice(again))
}

/// Waits until it is known how every worker ended.
async fn settle(env: &OpEnv) {
    let mut view = env.view.clone();
    let settled = view.wait_for(|view| {
        let known = view.sessions.get(&env.id);
        known.is_none_or(|known| known.workers.iter().all(|row| !is_alive(row)))
    });
    timeout(SETTLE_LIMIT, settled).await.map(drop).ok();
}

/// Ends the session's processes, with a checkpoint of what they leave.
async fn terminate(env: &OpEnv) -> Result<(), Error> {
    let known = env.known()?;
    if known.row.status == SessionStatus::Waiting {
        env.resources.slots.leave(env.shed.as_str(), &env.id);
        return env.set_status(SessionStatus::Ended, env.order.why.clone()).await;
    }
    end_everything(env, GRACE).await?;
    end_leftovers(env).await;
    if let Err(error) = checkpoint(env, "before-terminate", "").await {
        tracing::warn!(shed = %env.shed, session = %known.row.name, %error, "no checkpoint was made of a session that ended");
    }
    env.set_status(SessionStatus::Ended, env.order.why.clone()).await
}

/// Ends every worker's tree and then the tmux session.
pub(super) async fn end_everything(env: &OpEnv, grace: Duration) -> Result<(), Error> {
    let known = env.known()?;
    let alive = known.workers.iter().filter(|row| is_alive(row));
    let stopped = alive.map(|worker| windows::stop(env, worker, grace));
    let stopped = futures_util::future::join_all(stopped).await;
    kill_session(env).await?;
    stopped.into_iter().collect()
}

/// Ends what outlived the commands that had started it, as far as it can be found.
pub(super) async fn end_leftovers(env: &OpEnv) {
    let Ok(link) = env.link() else {
        return;
    };
    let ended = async {
        let found = leftover::processes(&link).await?;
        let ours = found.iter().filter(|process| {
            process.session.as_deref() == Some(&*env.id) && !orphans::is_tmux(&process.command)
        });
        let ours: Vec<(u32, u64)> = ours.map(|process| (process.pid, process.started)).collect();
        if ours.is_empty() { Ok(()) } else { leftover::end_processes(&link, &ours).await }
    };
    if let Err(error) = ended.await {
        tracing::warn!(shed = %env.shed, session = env.id, %error, "what commands left running was not ended");
    }
}

/// Closes what is left of the session in tmux: windows made by hand among ours.
async fn kill_session(env: &OpEnv) -> Result<(), Error> {
    let Ok(link) = env.link() else {
        // A shed that does not run has no tmux.
        return Ok(());
    };
    let known = env.known()?;
    let listed = env
        .shed_view
        .borrow()
        .table
        .as_ref()
        .and_then(|table| table.marked(&env.id).map(|row| (row.id, row.name.clone())));
    let (target, name) = match listed {
        Some((id, name)) => (Target::Id(id), name),
        // Made a moment ago, and not in the table yet.
        None => match windows::has_ours(env, &link, &known.row.name, &env.id).await {
            Ok(Some(target)) => (target, known.row.name.clone()),
            Ok(None) | Err(Error::NoTmux(_)) => return Ok(()),
            Err(error) => return Err(error),
        },
    };
    env.expect_session(&name).await;
    match tmux(env, &link, argv::kill_session(&target)).await {
        Ok(_) | Err(Error::NoSession { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut view = env.shed_view.clone();
    let gone = view.wait_for(|view| {
        view.table.as_ref().is_none_or(|table| table.marked(&known.row.id).is_none())
    });
    // A table that lags does not make it undone.
    timeout(SHOW_LIMIT, gone).await.map(drop).ok();
    Ok(())
}

/// Starts all workers again; of a session that was never completely made, makes the rest.
async fn restart(env: &OpEnv) -> Result<(), Error> {
    end_everything(env, GRACE).await?;
    match make(env).await {
        Ok(()) => Ok(()),
        Err(error) => {
            env.set_status(SessionStatus::Failed, Some(error.to_string())).await?;
            Err(error)
        }
    }
}

/// The last change of a session: its rows go. Its output stays until it is tidied up.
pub(super) async fn forget(env: &OpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let (done, forgotten) = oneshot::channel();
    let post = Post::Forget(known.row.id.clone(), env.actor.clone(), done);
    env.posts.send(post).await.map_err(|_| Error::ShuttingDown)?;
    forgotten.await.map_err(|_| Error::ShuttingDown)?
}

async fn freeze_worker(link: &BoxLink, worker: &WorkerRow, on: bool) -> Result<(), Error> {
    let asked = async {
        let mut runner = Runner::connect(link, &worker.id, worker.epoch).await?;
        if on { runner.freeze().await } else { runner.thaw().await }
    };
    match asked.await {
        // It ended just now.
        Err(Error::Connect(_)) => Ok(()),
        done => done,
    }
}

async fn freeze(env: &OpEnv, on: bool) -> Result<(), Error> {
    let known = env.known()?;
    let link = env.link()?;
    let alive: Vec<&WorkerRow> = known.workers.iter().filter(|row| is_alive(row)).collect();
    for (n, worker) in alive.iter().enumerate() {
        if let Err(error) = freeze_worker(&link, worker, on).await {
            // All of it or nothing.
            for worker in alive[..n].iter().filter(|_| on) {
                freeze_worker(&link, worker, false).await.ok();
            }
            return Err(error);
        }
    }
    let status = if on { SessionStatus::Frozen } else { SessionStatus::Running };
    env.set_status(status, None).await
}

async fn add_worker(env: &OpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let Some(row) = env.order.new_worker.clone() else {
        return Err(Error::Rejected(Rejection::Invalid("there is no worker to add".to_owned())));
    };
    if known.workers.iter().any(|other| other.name == row.name) {
        return Err(Error::WorkerExists {
            session: known.row.name.clone(),
            worker: row.name.clone(),
        });
    }
    let (id, keep) = (row.id.clone(), row.spec.keep);
    let added = *row;
    env.change(
        move |known| {
            known.workers.push(added);
            // There is something now that is worth coming back to.
            known.row.spec.closes &= !keep;
        },
        Vec::new(),
    )
    .await?;
    windows::open(env, &id, &Opening::Command { continues: false }).await
}

fn meant(env: &OpEnv, known: &Managed) -> Result<WorkerRow, Error> {
    let id = env.order.worker.clone().unwrap_or_default();
    let found = known.workers.iter().find(|row| row.id == id).cloned();
    found.ok_or_else(|| Error::NoWorker { session: known.row.name.clone(), worker: id })
}

async fn restart_worker(env: &OpEnv) -> Result<(), Error> {
    let worker = meant(env, &*env.known()?)?;
    windows::stop(env, &worker, GRACE).await?;
    let opening = Opening::Command { continues: env.order.continues };
    windows::open(env, &worker.id, &opening).await
}

async fn remove_worker(env: &OpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let worker = meant(env, &known)?;
    if is_alive(&worker) {
        windows::stop(env, &worker, GRACE).await?;
    }
    close_window(env, &worker.id).await;
    let event = NewEvent::new(env.now(), EventKind::WorkerRemoved, env.actor.clone())
        .shed(env.shed.as_str())
        .session(&known.row.name)
        .note(worker.name.clone());
    let (done, removed) = oneshot::channel();
    let post = Post::RemoveWorker(env.id.clone(), worker.id, event, done);
    env.posts.send(post).await.map_err(|_| Error::ShuttingDown)?;
    removed.await.map_err(|_| Error::ShuttingDown)?
}

/// Changes what is said about a session. What git and tmux must agree to is asked of them first.
async fn patch(env: &OpEnv) -> Result<(), Error> {
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
            worktree: BoxPath::try_from(spec.directory.clone())?,
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

async fn rename(env: &OpEnv, known: &Managed, name: String) -> Result<(), Error> {
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
        // A picture from before that is still on its way would look as if somebody had renamed it back by hand.
        let (mut view, id) = (env.shed_view.clone(), known.row.id.clone());
        let shown = view.wait_for(|view| {
            let listed = view.table.as_ref().and_then(|table| table.marked(&id));
            listed.is_none_or(|listed| listed.name == name)
        });
        // A table that lags does not make the new name undone.
        timeout(SHOW_LIMIT, shown).await.ok();
    }
    env.change(move |known| known.row.name = name, Vec::new()).await.map(drop)
}

/// A longer limit is none: a hundred years in seconds, which clocks can add.
const LONGEST_RUNTIME: u64 = 100 * 365 * 86_400;

/// How long a session may still run, if that is limited and it does.
pub(crate) fn runtime_left(row: &SessionRow, now: DateTime<Utc>) -> Option<Duration> {
    let limit = row.spec.limits.runtime_seconds?;
    let since = row.spec.running_since.filter(|_| row.status == SessionStatus::Running)?;
    let ran = (now - since).to_std().unwrap_or_default();
    Some(Duration::from_secs(limit.min(LONGEST_RUNTIME)).saturating_sub(ran))
}
