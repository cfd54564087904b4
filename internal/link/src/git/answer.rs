//! The answers of `shed-init git`.

use serde::{Deserialize, Serialize};
use shed_api::git::{Checkpoint, DiffNumbers, FileChange, Risk, SkippedFile, TrashEntry};

#[cfg(doc)]
use super::{GitOp, MAX_LISTED_FILES, MAX_PATCH_BYTES, MAX_SHORT_LIST};

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitAnswer {
    /// The request was carried out.
    Done(Box<GitDone>),
    /// The request failed. Nothing is left half done unless the failure's text says so.
    Failed(GitFailure),
}

/// The result of a request, by kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitDone {
    /// The request has no result beside its success.
    Nothing,
    /// The result of [`GitOp::Facts`].
    Facts(RepoFacts),
    /// The result of [`GitOp::AddWorktree`].
    Worktree(AddedWorktree),
    /// The result of [`GitOp::Risk`].
    Risk(Risk),
    /// The result of [`GitOp::Survey`].
    Survey(Risk),
    /// The result of [`GitOp::RemoveWorktree`].
    Removed(RemovedWorktree),
    /// The result of [`GitOp::Numbers`].
    Numbers(DiffNumbers),
    /// The result of [`GitOp::Diff`]; the patch follows the answer's line.
    Diff(DiffSummary),
    /// The result of [`GitOp::Snapshot`].
    Snapshot(TakenCheckpoint),
    /// The result of [`GitOp::Checkpoints`], oldest first.
    Checkpoints(Vec<Checkpoint>),
    /// The result of [`GitOp::Restore`].
    Restored(Restored),
    /// The result of [`GitOp::Trash`], sorted by name.
    Trash(Vec<TrashEntry>),
    /// The result of [`GitOp::Refs`], sorted by name.
    Refs(Vec<RefLine>),
    /// The result of [`GitOp::Sizes`].
    Sizes(Sizes),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitFailure {
    /// The kind, for programs.
    pub kind: FailureKind,
    /// The message, for people; it names the branch, file or directory.
    pub text: String,
    /// The last lines that git printed to standard error, made printable; empty when git printed nothing.
    #[serde(default)]
    pub git: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The request does not parse, or asks for something that is never done.
    Invalid,
    /// The image has no git.
    NoGit,
    /// The directory is not in a repository.
    NotARepository,
    /// The repository has no commit yet.
    NoCommit,
    /// The named branch, commit, checkpoint, worktree or ref does not exist.
    NotFound,
    /// The named branch, directory or ref already exists.
    Exists,
    /// The branch is checked out in another worktree; the text names that worktree.
    BranchInUse,
    /// The base does not exist, or has no commit in common with `HEAD`.
    BaseGone,
    /// Fetching failed.
    Fetch,
    /// Another operation of this session, or one that holds a lock of git, did not end in time.
    Busy,
    /// The worktree is locked with `git worktree lock`.
    Locked,
    /// The disk or the quota is full.
    NoSpace,
    /// The file system is read-only.
    ReadOnly,
    /// The user lacks a permission.
    Denied,
    /// A limit was exceeded.
    TooMuch,
    /// A signal interrupted the operation, which was undone.
    Interrupted,
    /// Any other failure of git or the system.
    Git,
}

/// A repository, as [`GitOp::Facts`] describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoFacts {
    /// Whether the directory is in a working tree of a repository. If not, all other fields are empty.
    pub repository: bool,
    /// The top of the working tree.
    #[serde(default)]
    pub toplevel: Option<String>,
    /// The directory that all worktrees share, such as `/workspace/.git`.
    #[serde(default)]
    pub common_dir: Option<String>,
    /// Whether the working tree is a linked worktree rather than the repository's main one.
    #[serde(default)]
    pub linked: bool,
    /// The checked-out branch, without `refs/heads/`; absent when `HEAD` is detached.
    #[serde(default)]
    pub branch: Option<String>,
    /// The id of the checked-out commit; absent before the first commit.
    #[serde(default)]
    pub head: Option<String>,
    /// The default branch as a full ref: `origin/HEAD` as fetched, else `main` or `master` of `origin`, else the
    /// checked-out branch.
    #[serde(default)]
    pub default_branch: Option<String>,
    /// The configured remotes, at most 50.
    #[serde(default)]
    pub remotes: Vec<Remote>,
}

/// A remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// The remote's name, such as `origin`.
    pub name: String,
    /// The fetch URL without user and password.
    pub url: String,
}

/// A worktree that [`GitOp::AddWorktree`] created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedWorktree {
    /// The id of the commit that the branch starts at.
    pub base_commit: String,
    /// The full ref that the start point resolved to, for later requests; absent when a bare commit id was given.
    pub base_ref: Option<String>,
    /// The checked-out branch, without `refs/heads/`.
    pub branch: String,
    /// The files that `.worktreeinclude` copied; the first [`MAX_SHORT_LIST`].
    pub copied: Vec<String>,
    /// The number of copied files.
    pub n_copied: u64,
    /// The total size of the copied files, in bytes.
    pub copied_bytes: u64,
    /// The files that `.worktreeinclude` names and that were not copied; the first [`MAX_SHORT_LIST`].
    pub not_copied: Vec<NotCopied>,
    /// The number of files that were not copied.
    pub n_not_copied: u64,
    /// The git directory of the worktree, below the directory `worktrees` of the repository's; absent from an older shed-init.
    #[serde(default)]
    pub git_dir: Option<String>,
    /// What else the worktree lacks, for people; empty from an older shed-init.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A file that `.worktreeinclude` names and that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCopied {
    /// The file, relative to the top of the working tree.
    pub path: String,
    /// The reason, for people.
    pub reason: String,
}

/// The result of removing a worktree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedWorktree {
    /// The refs that this removal created in the trash.
    pub trash: Vec<String>,
    /// Whether a directory existed and was removed.
    pub directory: bool,
    /// Whether the branch was deleted.
    pub branch_deleted: bool,
    /// The reason why the branch was kept although its deletion was requested.
    #[serde(default)]
    pub branch_kept: Option<String>,
}

/// A diff of two trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSummary {
    /// The id of the old tree.
    pub from: String,
    /// The id of the new tree.
    pub to: String,
    /// The changed files, sorted by name; at most [`MAX_LISTED_FILES`].
    pub files: Vec<FileChange>,
    /// The number of changed files.
    pub n_files: u64,
    /// The number of added lines in all files.
    pub insertions: u64,
    /// The number of removed lines in all files.
    pub deletions: u64,
    /// Files of the working tree that were not read; the first [`MAX_SHORT_LIST`].
    pub skipped: Vec<SkippedFile>,
    /// The number of bytes of patch after the answer's line.
    pub patch_bytes: u64,
    /// Whether the patch was cut at [`MAX_PATCH_BYTES`].
    pub patch_truncated: bool,
}

/// The result of taking a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenCheckpoint {
    /// The new checkpoint, or the last one when `unchanged`.
    pub checkpoint: Checkpoint,
    /// Whether the working tree is equal to the last checkpoint, so that no new one was taken.
    pub unchanged: bool,
    /// Files that the checkpoint does not contain; the first [`MAX_SHORT_LIST`].
    pub skipped: Vec<SkippedFile>,
    /// The number of skipped files.
    pub n_skipped: u64,
}

/// The result of restoring a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The checkpoint of the previous state, taken before anything was changed.
    pub safety: Checkpoint,
    /// The files that were written or removed, sorted by name; at most [`MAX_LISTED_FILES`].
    pub files: Vec<FileChange>,
    /// The number of files that were written or removed.
    pub n_files: u64,
    /// Files that differ and were not changed; the first [`MAX_SHORT_LIST`].
    pub kept: Vec<KeptFile>,
    /// The number of files that were not changed.
    pub n_kept: u64,
}

/// A file that a restore did not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// The file, relative to the top of the working tree.
    pub path: String,
    /// The reason, for people.
    pub reason: String,
}

/// A ref under `refs/shed/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefLine {
    /// The full name of the ref.
    #[serde(rename = "ref")]
    pub name: String,
    /// The id of the commit it points to.
    pub commit: String,
    /// The commit's time, in seconds since 1970.
    pub time: i64,
}

/// Disk usage of a repository, in bytes. A number is absent when git could not compute it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The worktrees, in the order of the request.
    pub worktrees: Vec<WorktreeSize>,
    /// All objects of the repository, loose and packed.
    pub objects_bytes: Option<u64>,
    /// Objects that only checkpoints reach.
    pub checkpoint_bytes: Option<u64>,
    /// Objects that only the trash reaches.
    pub trash_bytes: Option<u64>,
    /// Objects that only checkpoints or the trash reach; more than their sum when they share objects.
    pub ours_bytes: Option<u64>,
    /// The private indexes.
    pub index_bytes: u64,
    /// Objects that only one group of refs reaches, in the order of the request; empty from an older shed-init.
    #[serde(default)]
    pub groups: Vec<Option<u64>>,
}

/// Disk usage of a worktree's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeSize {
    /// The worktree's directory.
    pub path: String,
    /// The size of its files on disk, in bytes.
    pub bytes: u64,
    /// Whether some files were not counted: there were too many, or they could not be read.
    pub partial: bool,
}
