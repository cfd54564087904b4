//! What a creation does before the first worker: the worktree and the setup.

use shed_model::Rejection;
use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shed_api::worker::WorkerStatus;
use shed_link::git::{
    AddWorktree, AddedWorktree, Branch, ContainerPath, FailureKind, GitDone, GitOp, Rev,
    Start as GitStart,
};
use shed_model::worker::{Opening, WorkerRow, WorkerSpec, exit_note};
use shed_store::StoreError;
use shed_tmux::argv;
use tokio::time::timeout;

use crate::Error;
use crate::files::worktree::{facts, git_name, tree_view};
use crate::session::env::SessionOpEnv;
use crate::session::ids;
use crate::session::operations::end_everything;
use crate::session::windows::{self, GRACE, tmux};
use shed_guest::git::{git, unexpected};
use shed_model::session::Managed;

/// How long a setup may take.
const SETUP_LIMIT: Duration = Duration::from_secs(1800);
/// How long a teardown may take.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(300);
/// How long a deletion with force waits for the teardown.
const FORCED_TEARDOWN_LIMIT: Duration = Duration::from_secs(10);

/// Makes the worktree, if the session needs one and has none.
pub(crate) async fn place(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    let spec = &known.row.spec;
    let (false, Some(_), Some(repo)) = (spec.placed, &spec.branch, &spec.repo) else {
        return take_checkpoint(env, &known).await;
    };
    let added = add_worktree(env).await?;
    let notes = notes(&added);
    // A branch that exists is compared with the default branch, not with itself.
    let compared = if spec.existing_branch {
        facts(&env.link()?, repo).await?.default_branch
    } else {
        added.base_ref
    };
    let change = move |known: &mut Managed| {
        let spec = &mut known.row.spec;
        spec.placed = true;
        spec.notes = notes;
        spec.git_dir = added.git_dir;
        spec.branch = Some(added.branch);
        // A base that is no ref, such as `HEAD~2`, would name another commit after the next one.
        let commit = spec.base.take().map(|_| added.base_commit.clone());
        spec.base = compared.or(commit);
        spec.base_commit = Some(added.base_commit);
    };
    let known = env.change(change, Vec::new()).await?;
    take_checkpoint(env, &known).await
}

/// How many automatic names are tried.
const NAME_TRIES: usize = 16;

/// Makes the worktree. If the directory or branch of an automatic name is there already, for example of a session that was
/// renamed, the session takes the next name.
async fn add_worktree(env: &SessionOpEnv) -> Result<AddedWorktree, Error> {
    let mut tried = BTreeSet::new();
    let mut last = None;
    loop {
        let known = env.known()?;
        let (kind, text) = match try_worktree(env, &known).await {
            Err(Error::Git { kind, text }) => (kind, text),
            done => return done,
        };
        let failed = Error::Git { kind, text: text.clone() };
        // A branch that was requested stays in the way under every name.
        let in_vain = last.as_ref() == Some(&text) || tried.len() >= NAME_TRIES;
        if kind != FailureKind::Exists || in_vain {
            return Err(failed);
        }
        last = Some(text);
        tried.insert(known.row.name.clone());
        let Some(next) = known.row.with_next_name(&taken(env, &tried)) else {
            return Err(failed);
        };
        let change = move |known: &mut Managed| {
            known.row.name = next.name;
            known.row.spec.directory = next.spec.directory;
            known.row.spec.branch = next.spec.branch;
        };
        match env.change(change, Vec::new()).await {
            // Another session took the name meanwhile; `last` is of the name before.
            Err(Error::Store(StoreError::Exists(_))) => last = None,
            changed => drop(changed?),
        }
    }
}

/// Names that a session cannot take: those of sessions, managed or not, and those that were `tried`.
fn taken(env: &SessionOpEnv, tried: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = tried.clone();
    names.extend(env.view.borrow().sessions.values().map(|known| known.row.name.clone()));
    let view = env.shed_view.borrow();
    names.extend(view.table.iter().flat_map(|table| table.rows()).map(|row| row.name.clone()));
    names
}

/// Makes the worktree under the session's present name.
async fn try_worktree(env: &SessionOpEnv, known: &Managed) -> Result<AddedWorktree, Error> {
    let spec = &known.row.spec;
    let (Some(branch), Some(repo)) = (&spec.branch, &spec.repo) else {
        return Err(unexpected().into());
    };
    let op = GitOp::AddWorktree(AddWorktree {
        repo: ContainerPath::try_from(repo.clone())?,
        path: ContainerPath::try_from(spec.directory.clone())?,
        branch: Branch::try_from(branch.clone())?,
        base: git_start(spec.base.as_deref())?,
        fetch: spec.fetch,
        existing: spec.existing_branch,
        session: Some(git_name(known)?),
    });
    let link = env.link()?;
    let (done, _) = env.unless_cancelled(git(&link, &op)).await??;
    match done {
        GitDone::Worktree(added) => Ok(added),
        _ => Err(unexpected().into()),
    }
}

/// The most files of `.worktreeinclude` that are named.
const MAX_NOTED: usize = 5;

/// What the creation of a worktree left out, in words.
fn notes(added: &AddedWorktree) -> Vec<String> {
    let mut notes = added.notes.clone();
    if added.n_not_copied > 0 {
        let named = added.not_copied.iter().take(MAX_NOTED);
        let named: Vec<String> =
            named.map(|file| format!("{} ({})", file.path, file.reason)).collect();
        let rest = added.n_not_copied.saturating_sub(named.len() as u64);
        let rest = if rest > 0 { format!(", and {rest} more") } else { String::new() };
        notes.push(format!("not copied of .worktreeinclude: {}{rest}", named.join(", ")));
    }
    notes
}

/// Gives a fork the files of its checkpoint, once.
async fn take_checkpoint(env: &SessionOpEnv, known: &Managed) -> Result<(), Error> {
    if let Some((from, n)) = &known.row.spec.from_checkpoint {
        let view = tree_view(&env.server, known)?;
        let op =
            GitOp::Restore { view, from: from.parse()?, n: *n, paths: Vec::new(), missing: None };
        git(&env.link()?, &op).await?;
        env.change(|known| known.row.spec.from_checkpoint = None, Vec::new()).await?;
    }
    Ok(())
}

fn git_start(base: Option<&str>) -> Result<GitStart, Error> {
    let Some(base) = base else {
        return Ok(GitStart::Default);
    };
    match base.strip_prefix("pr/").map(str::parse) {
        Some(Ok(number)) => Ok(GitStart::Pull(number)),
        Some(Err(_)) => Err(Error::Rejected(Rejection::Invalid(format!(
            "invalid pull request {base:?}; expected pr/NUMBER"
        )))),
        None => Ok(GitStart::Rev(Rev::try_from(base.to_owned())?)),
    }
}

/// Runs the session's setup as a worker of its own, if it has one that was not run to its end.
pub(crate) async fn set_up(env: &SessionOpEnv) -> Result<(), Error> {
    let known = env.known()?;
    if known.row.spec.set_up {
        return Ok(());
    }
    run_hook(env, "setup", known.row.spec.setup.clone(), SETUP_LIMIT).await?;
    env.change(|known| known.row.spec.set_up = true, Vec::new()).await.map(drop)
}

/// Runs the session's teardown. One that fails or does not end in time prevents a deletion without force; with force, and
/// when another deletion with force comes, it is ended and noted.
pub(crate) async fn tear_down(env: &SessionOpEnv, command: Vec<String>) -> Result<(), Error> {
    let force = env.order.force;
    let limit = if force { FORCED_TEARDOWN_LIMIT } else { TEARDOWN_LIMIT };
    let ran = tokio::select! {
        ran = run_hook(env, "teardown", command, limit) => ran,
        () = env.order.cut.cancelled() => {
            env.order.notes.add("its teardown was ended by a deletion with force");
            Ok(())
        }
    };
    match ran {
        Ok(()) => {}
        // The server is going away.
        Err(error @ Error::Cancelled) => return Err(error),
        Err(error) if force => {
            env.order.notes.add(&format!("{error}; the session was deleted without it"));
        }
        Err(error) => {
            end_everything(env, GRACE).await?;
            let (shed, session) = (&env.shed, &env.known()?.row.name);
            return Err(Error::Rejected(Rejection::Invalid(format!(
                "{error}; to delete the session anyway: shed sessions delete --force {shed} {session}"
            ))));
        }
    }
    end_everything(env, GRACE).await
}

/// Runs a command as a worker and waits for its end; anything but 0 is a failure.
async fn run_hook(
    env: &SessionOpEnv,
    name: &str,
    command: Vec<String>,
    limit: Duration,
) -> Result<(), Error> {
    let known = env.known()?;
    let there = known.workers.iter().find(|row| row.spec.hook && row.name == name);
    let worker = if let Some(row) = there {
        row.id.clone()
    } else {
        let row = hook_row(&known, name, command, env.now());
        let id = row.id.clone();
        env.change(move |known| known.workers.push(row), Vec::new()).await?;
        id
    };
    let opened = windows::open(env, &worker, &Opening::Command { continues: false });
    env.unless_cancelled(opened).await??;
    let mut view = env.view.clone();
    let ended = view.wait_for(|view| {
        let row = view
            .sessions
            .get(&env.id)
            .and_then(|known| known.workers.iter().find(|row| row.id == worker));
        row.is_none_or(|row| row.status == WorkerStatus::Exited)
    });
    let late = || {
        let seconds = limit.as_secs();
        Error::TimedOut(format!("the {name} did not end within {seconds} seconds"))
    };
    let ended = env.unless_cancelled(timeout(limit, ended)).await?;
    drop(ended.map_err(|_| late())?.map_err(|_| Error::ShuttingDown)?);
    let known = env.known()?;
    let row = known.workers.iter().find(|row| row.id == worker);
    match row.and_then(|row| row.exit.clone()) {
        Some(shed_api::stream::Exit::Code(0)) => {
            // Its output stays in its log.
            close_window(env, &worker).await;
            Ok(())
        }
        exit => {
            let unknown = || "exit status unknown".to_owned();
            let how = exit.as_ref().map_or_else(unknown, exit_note);
            Err(Error::HookFailed {
                shed: env.shed.clone(),
                session: known.row.name.clone(),
                hook: name.to_owned(),
                how,
            })
        }
    }
}

fn hook_row(known: &Managed, name: &str, command: Vec<String>, now: DateTime<Utc>) -> WorkerRow {
    WorkerRow {
        id: ids::new_id(),
        session: known.row.id.clone(),
        name: name.to_owned(),
        status: WorkerStatus::Starting,
        epoch: 0,
        exit: None,
        reason: None,
        created_at: now,
        started_at: None,
        ended_at: None,
        spec: WorkerSpec {
            kind: shed_api::worker::WorkerKind::Terminal,
            agent: None,
            model: None,
            prompt: None,
            conversation: None,
            record: None,
            command,
            directory: None,
            env: std::collections::BTreeMap::new(),
            keep: true,
            restart: false,
            hook: true,
        },
    }
}

pub(crate) async fn close_window(env: &SessionOpEnv, worker: &str) {
    let window = env.shed_view.borrow().table.as_ref().and_then(|table| table.window_of(worker));
    if let (Some(window), Ok(link)) = (window, env.link()) {
        // It may have closed by itself.
        tmux(env, &link, argv::kill_window(&window)).await.ok();
    }
}
