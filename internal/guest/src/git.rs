//! git in a container, asked through `shed-init git`. What comes back is from a shed: bounded, checked, never trusted.

use std::time::Duration;

use shed_api::name::printable;
use shed_api::redact::redact;
use shed_link::git::{
    FailureKind, GitAnswer, GitDone, GitFailure, GitOp, MAX_GIT_HEAD_BYTES, MAX_PATCH_BYTES,
};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::Error;
use crate::link::Link;
use crate::output::{Chunks, Main};
use crate::stream::Stream;

/// How long git may take: a fetch of a large repository over a slow line.
const GIT_LIMIT: Duration = Duration::from_secs(600);

/// Sends a request to git and returns what was done, and the patch of a diff.
pub async fn git(link: &Link, op: &GitOp) -> Result<(GitDone, Vec<u8>), Error> {
    let limit = || Error::TimedOut("git did not end in time".to_owned());
    timeout(GIT_LIMIT, ask(link, op)).await.map_err(|_| limit())?
}

async fn ask(link: &Link, op: &GitOp) -> Result<(GitDone, Vec<u8>), Error> {
    let stream = link.start_own(&["git"]).await?;
    let Stream { input, output, errors, control: _control, exit: _ } = stream;
    let request = serde_json::to_vec(op).map_err(|error| Error::Invalid(error.to_string()))?;
    if let Some(mut input) = input {
        // One that ended before it had read all says why on its output.
        input.write_all(&request).await.ok();
    }
    // What git prints beside its answer is dropped.
    let chunks = Chunks::new(output, errors, Main::Output);
    let bytes = match chunks.collect(MAX_GIT_HEAD_BYTES + MAX_PATCH_BYTES).await {
        Err(Error::TooLarge(_)) => {
            return Err(Error::TooLarge("the output of git in the shed is too large".to_owned()));
        }
        collected => collected?,
    };
    read_answer(&bytes)
}

fn read_answer(bytes: &[u8]) -> Result<(GitDone, Vec<u8>), Error> {
    let nonsense = || Error::Connect("git in the shed did not answer".to_owned());
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(nonsense)?;
    let answer: GitAnswer = serde_json::from_slice(&bytes[..end]).map_err(|_| nonsense())?;
    match answer {
        GitAnswer::Done(done) => {
            let patch = bytes[end + 1..].to_vec();
            if let GitDone::Diff(diff) = &*done
                && diff.patch_bytes != patch.len() as u64
            {
                return Err(nonsense());
            }
            Ok((*done, patch))
        }
        GitAnswer::Failed(failure) => Err(failed(failure)),
    }
}

fn failed(failure: GitFailure) -> Error {
    let GitFailure { kind, text, git } = failure;
    let said = if git.trim().is_empty() { String::new() } else { format!(": {}", git.trim()) };
    let text = printable(&redact(&format!("{text}{said}")).replace('\n', " | "));
    match kind {
        FailureKind::Invalid => Error::Invalid(text),
        FailureKind::TooMuch => Error::TooLarge(text),
        FailureKind::NoGit
        | FailureKind::NotARepository
        | FailureKind::NoCommit
        | FailureKind::NotFound
        | FailureKind::Exists
        | FailureKind::BranchInUse
        | FailureKind::BaseGone
        | FailureKind::Fetch
        | FailureKind::Busy
        | FailureKind::Locked
        | FailureKind::NoSpace
        | FailureKind::ReadOnly
        | FailureKind::Denied
        | FailureKind::Interrupted
        | FailureKind::Git => Error::Git { kind, text },
    }
}

/// The error for an answer of another kind than was asked for.
pub fn unexpected() -> Error {
    Error::Connect("unexpected answer of git in the shed".to_owned())
}
