//! Git in the box, asked through `shed-init git`. What comes back is from a shed: bounded, checked, never trusted.

use shed_model::Rejection;
use std::time::Duration;

use shed_api::name::printable;
use shed_link::git::{
    FailureKind, GitAnswer, GitDone, GitFailure, GitNameError, GitOp, MAX_GIT_HEAD_BYTES,
    MAX_PATCH_BYTES,
};
use shed_link::{Io, Program, Spawn, User};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::Error;
use crate::box_link::BoxLink;
use crate::stream::{read_some, start};

/// How long git may take: a fetch of a large repository over a slow line.
const GIT_LIMIT: Duration = Duration::from_secs(600);
/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// Asks; returns what was done, and the patch of a diff.
pub(crate) async fn git(link: &BoxLink, op: &GitOp) -> Result<(GitDone, Vec<u8>), Error> {
    let limit = || Error::TimedOut("git did not end in time".to_owned());
    timeout(GIT_LIMIT, ask(link, op)).await.map_err(|_| limit())?
}

async fn ask(link: &BoxLink, op: &GitOp) -> Result<(GitDone, Vec<u8>), Error> {
    let spawn = Spawn {
        program: Program::Own(vec!["git".to_owned()]),
        env: Vec::new(),
        directory: None,
        user: User::Dev,
        io: Io::Pipes,
        detached: None,
        worker: None,
    };
    let mut running = start(link, spawn).await?;
    let request = serde_json::to_vec(op)
        .map_err(|error| Error::Rejected(Rejection::Invalid(error.to_string())))?;
    if let Some(mut input) = running.input.take() {
        // One that ended before it had read all says why on its output.
        input.write_all(&request).await.ok();
    }
    // What git prints beside its answers goes nowhere; a full pipe would stop it.
    let mut errors = running.errors.take();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut noise = vec![0; READ_BYTES];
    loop {
        let n_read = tokio::select! {
            read = read_some(&mut running.output, &mut buffer) => read.unwrap_or(0),
            read = read_errors(errors.as_mut(), &mut noise) => {
                if read == 0 {
                    errors = None;
                }
                continue;
            }
        };
        if n_read == 0 {
            break;
        }
        bytes.extend(&buffer[..n_read]);
        if bytes.len() > MAX_GIT_HEAD_BYTES + MAX_PATCH_BYTES {
            return Err(Error::Rejected(Rejection::TooLarge(
                "git in the shed says more than is taken".to_owned(),
            )));
        }
    }
    read_answer(&bytes)
}

async fn read_errors(
    pipe: Option<&mut tokio::net::unix::pipe::Receiver>,
    noise: &mut [u8],
) -> usize {
    match pipe {
        Some(pipe) => read_some(pipe, noise).await.unwrap_or(0),
        None => std::future::pending().await,
    }
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
    let text = printable(&format!("{text}{said}").replace('\n', " | "));
    match kind {
        FailureKind::Invalid => Error::Rejected(Rejection::Invalid(text)),
        FailureKind::TooMuch => Error::Rejected(Rejection::TooLarge(text)),
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

impl From<GitNameError> for Error {
    fn from(error: GitNameError) -> Self {
        Self::Rejected(error.into())
    }
}

/// An answer of another kind than was asked for.
pub(crate) fn unexpected() -> Error {
    Error::Connect("git in the shed answered something else".to_owned())
}
