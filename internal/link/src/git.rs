//! Git operations inside a shed: the requests that `shed-init git` takes and the answers it gives.
//!
//! `shed-init git` runs as the session's user. It reads one [`GitOp`] as JSON from standard input, up to the first line end
//! or the end of the input, at most [`MAX_GIT_REQUEST_BYTES`]. It writes one [`GitAnswer`] as a line of JSON, at most
//! [`MAX_GIT_HEAD_BYTES`] including the line end. The line of a [`GitDone::Diff`] is followed by exactly
//! [`DiffSummary::patch_bytes`] bytes of patch. The exit status is 0 whenever there is an answer, including
//! [`GitAnswer::Failed`].
//!
//! SIGHUP, SIGTERM or SIGINT to the process group interrupts an operation. An operation of several steps then undoes what
//! it did and answers with [`FailureKind::Interrupted`].
//!
//! `shed-init watch-tree DIR` prints [`TreeNews`], one per line, until its standard input ends.
//!
//! No answer can be trusted: the container may run any program in place of git.

mod answer;
mod request;
mod watch;

pub use answer::{
    AddedWorktree, DiffSummary, FailureKind, GitAnswer, GitDone, GitFailure, KeptFile, NotCopied,
    RefLine, Remote, RemovedWorktree, RepoFacts, Restored, Sizes, TakenCheckpoint, WorktreeSize,
};
pub use request::{
    AddWorktree, Base, GitOp, Missing, RemoveWorktree, Side, Start, SurveyWorktree, View,
};
pub use shed_api::git::{
    Branch, ContainerPath, FilePath, GitNameError, MAX_PATH_BYTES, MAX_REF_BYTES, Rev, ShedRef,
};
pub use watch::{TreeEvent, TreeNews};

/// The longest request, in bytes. A few thousand file names fit.
pub const MAX_GIT_REQUEST_BYTES: usize = 1 << 20;
/// The longest first line of an answer, in bytes, line end included. The lists in it have limits far below this one.
pub const MAX_GIT_HEAD_BYTES: usize = 8 << 20;
/// The longest patch, in bytes. Both sides hold it in memory.
pub const MAX_PATCH_BYTES: usize = 32 << 20;
/// The most files that a diff or a restore lists; further files are only counted.
pub const MAX_LISTED_FILES: usize = 5_000;
/// The most entries of a short list: files and commits at risk, copied files, skipped files.
pub const MAX_SHORT_LIST: usize = 100;
/// The most refs of one kind that are listed. The newest are kept.
pub const MAX_LISTED_REFS: usize = 10_000;
/// Default of [`View::max_file_bytes`]. Source files are far smaller; larger files would fill the disk with checkpoints.
pub const DEFAULT_MAX_FILE_BYTES: u64 = 10 << 20;
/// The most groups of refs that one [`GitOp::Sizes`] measures. Each group takes a walk through the repository's objects.
pub const MAX_SIZE_GROUPS: usize = 64;
/// The most files that `.worktreeinclude` copies. A list that names more includes a directory of dependencies by mistake.
pub const MAX_INCLUDED_FILES: usize = 2_000;
/// The most bytes that `.worktreeinclude` copies, all files together.
pub const MAX_INCLUDED_BYTES: u64 = 256 << 20;
/// The most directories that `watch-tree` watches. Small machines allow a user 8,192 inotify watches, shared by all sheds.
pub const MAX_TREE_WATCHES: usize = 4_096;
