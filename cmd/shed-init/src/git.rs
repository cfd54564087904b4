//! `git`: a git operation for the server, as the session user. It reads one request from standard input and writes one
//! answer to standard output, in the format of [`shed_link::git`].
//!
//! It runs the image's git, never through a shell, with names that were checked when the request was parsed. It takes no
//! lock that the user's git would have to wait for: files are read through a private index.

mod attempt;
mod branch;
mod checkpoint;
mod command;
mod diff;
mod directory;
mod failure;
mod gitlink;
mod include;
mod interrupt;
pub(crate) mod lfs;
mod listing;
mod loose;
mod private_index;
mod refs;
mod removal;
mod repository;
mod restore;
mod revision;
mod risk;
mod sizes;
mod status;
pub(crate) mod submodules;
mod survey;
mod trailers;
mod trash;
mod worktree;
mod worktrees;

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::process::ExitCode;

use shed_link::git::{
    FailureKind, GitAnswer, GitDone, GitOp, MAX_GIT_HEAD_BYTES, MAX_GIT_REQUEST_BYTES,
};

use diff::DiffRequest;
pub(crate) use directory::size;
pub(crate) use failure::Failure;
pub(crate) use repository::Repository;

/// The result of a request, and the patch that follows its line.
type Done = (GitDone, Vec<u8>);

/// Answers one request.
pub(crate) fn main() -> ExitCode {
    let (answer, patch) = match request().and_then(|op| perform(&op)) {
        Ok((done, patch)) => (GitAnswer::Done(Box::new(done)), patch),
        Err(failure) => (GitAnswer::Failed(*failure.0), Vec::new()),
    };
    match write(&answer, &patch) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe.
        Err(_) => ExitCode::FAILURE,
    }
}

fn request() -> Result<GitOp, Failure> {
    let invalid = |text: String| Failure::new(FailureKind::Invalid, text);
    let mut text = Vec::new();
    let limit = MAX_GIT_REQUEST_BYTES as u64 + 1;
    let mut input = io::stdin().lock().take(limit);
    input
        .read_until(b'\n', &mut text)
        .map_err(|error| Failure::io("cannot read the request", &error))?;
    if text.len() > MAX_GIT_REQUEST_BYTES {
        return Err(invalid(format!(
            "invalid request; expected at most {MAX_GIT_REQUEST_BYTES} bytes"
        )));
    }
    serde_json::from_slice(&text).map_err(|error| invalid(format!("invalid request: {error}")))
}

fn perform(op: &GitOp) -> Result<Done, Failure> {
    let done = match op {
        GitOp::Facts { directory } => GitDone::Facts(repository::facts(directory)?),
        GitOp::AddWorktree(request) => GitDone::Worktree(worktree::add(request)?),
        GitOp::Risk { worktree, base, branch } => {
            GitDone::Risk(risk::risk(worktree, base.as_ref(), branch.as_ref())?)
        }
        GitOp::Survey(request) => GitDone::Survey(survey::risk(request)?),
        GitOp::RemoveWorktree(request) => GitDone::Removed(removal::remove(request)?),
        GitOp::RenameBranch { worktree, from, to } => {
            branch::rename(worktree, from, to)?;
            GitDone::Nothing
        }
        GitOp::Numbers { view, base } => GitDone::Numbers(diff::numbers(view, base)?),
        GitOp::Diff { view, from, to, path, stat_only } => {
            let request =
                DiffRequest { view, from, to, path: path.as_ref(), stat_only: *stat_only };
            let (head, patch) = diff::diff(&request)?;
            return Ok((GitDone::Diff(head), patch));
        }
        GitOp::Snapshot { view, message, kind } => {
            GitDone::Snapshot(checkpoint::snapshot(view, kind.as_str(), message)?)
        }
        GitOp::Checkpoints { repo, session } => {
            GitDone::Checkpoints(checkpoint::list_of(&Repository::open(repo)?, session)?)
        }
        GitOp::Restore { view, from, n, paths, missing } => {
            if let Some(missing) = missing {
                restore::recreate(view, from, *n, missing)?;
            }
            GitDone::Restored(restore::restore(view, from, *n, paths)?)
        }
        GitOp::Trash { repo } => GitDone::Trash(trash::list(repo)?),
        GitOp::Refs { repo } => GitDone::Refs(refs::all(repo)?),
        GitOp::DropRefs { repo, refs } => {
            refs::drop_refs(repo, refs)?;
            GitDone::Nothing
        }
        GitOp::RestoreTrash { repo, name, branch } => {
            trash::restore(repo, name, branch)?;
            GitDone::Nothing
        }
        GitOp::Sizes { repo, worktrees, groups } => {
            GitDone::Sizes(sizes::sizes(repo, worktrees, groups)?)
        }
    };
    Ok((done, Vec::new()))
}

fn write(answer: &GitAnswer, patch: &[u8]) -> io::Result<()> {
    let mut head = serde_json::to_vec(answer)?;
    let mut patch = patch;
    if head.len() >= MAX_GIT_HEAD_BYTES {
        let text = "the answer is too long; request a part of it";
        let failure = Failure::new(FailureKind::TooMuch, text);
        head = serde_json::to_vec(&GitAnswer::Failed(*failure.0))?;
        patch = &[];
    }
    head.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&head)?;
    output.write_all(patch)?;
    output.flush()
}
