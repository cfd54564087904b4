//! Git data of sessions: change counts, diffs, checkpoints, and the work that a deletion would lose.
//!
//! Paths of files are in the form of [`quote_path`]: a plain name is unchanged, any other is in double quotes with escapes,
//! so that every name can be displayed and sent back.

mod names;
mod path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use names::{
    Branch, ContainerPath, FilePath, GitNameError, MAX_PATH_BYTES, MAX_REF_BYTES, Rev, ShedRef,
};
pub use path::{quote_path, unquote_path};

/// How much a session's working tree differs from its base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffNumbers {
    /// Number of files that differ, including untracked and excluding ignored ones. A renamed file counts once.
    pub files: u64,
    /// Number of added lines. A binary file has none.
    pub insertions: u64,
    /// Number of deleted lines. A binary file has none.
    pub deletions: u64,
    /// Number of commits of `HEAD` that the base does not have.
    pub ahead: u64,
    /// Number of commits of the base that `HEAD` does not have.
    pub behind: u64,
    /// Id of the commit that is checked out; absent before the first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Branch that is checked out; absent if `HEAD` is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Id of the commit that the files are compared with; absent if it is the empty tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Number of files that were not read, see `SkippedFile`. They count as files without lines.
    #[serde(default)]
    pub skipped: u64,
}

/// How a file changed. `renamed` and `copied` files may also have other content. `type-changed`: for example a symbolic link
/// became a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FileStatus {
    /// The file is new.
    Added,
    /// The file was deleted.
    Deleted,
    /// The content or the mode changed.
    Modified,
    /// The file has another name, and maybe other content.
    Renamed,
    /// The file is a copy of another one that still exists.
    Copied,
    /// The file has another type, for example a symbolic link became a file.
    TypeChanged,
}

/// One file of a diff, without its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileChange {
    /// How the file changed.
    pub status: FileStatus,
    /// Path after the change; of a deleted file, before it.
    pub path: String,
    /// Path before the change; only of a renamed or copied file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// git's mode before the change, octal (`100644`); absent for a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_mode: Option<String>,
    /// git's mode after the change, octal; absent for a deleted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_mode: Option<String>,
    /// Number of added lines.
    pub insertions: u64,
    /// Number of deleted lines.
    pub deletions: u64,
    /// Whether git treats the file as binary; it has no lines then.
    pub binary: bool,
}

/// One file of a diff with its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDiff {
    /// How the file changed.
    pub status: FileStatus,
    /// Path after the change; of a deleted file, before it.
    pub path: String,
    /// Path before the change; only of a renamed or copied file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// git's mode before the change, octal (`100644`); absent for a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_mode: Option<String>,
    /// git's mode after the change, octal; absent for a deleted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_mode: Option<String>,
    /// Whether git treats the file as binary; it has no hunks then.
    pub binary: bool,
    /// Similarity of a renamed or copied file to its source, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<u8>,
    /// Number of added lines.
    pub insertions: u64,
    /// Number of deleted lines.
    pub deletions: u64,
    /// The changed parts of the file, in order.
    pub hunks: Vec<Hunk>,
    /// Whether the diff was cut inside this file, at its size limit.
    #[serde(default)]
    pub truncated: bool,
}

/// A changed part of a file, with context lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hunk {
    /// Number of the first line before the change, counted from 1; 0 if there is none.
    pub old_start: u64,
    /// Number of lines before the change.
    pub old_lines: u64,
    /// Number of the first line after the change, counted from 1; 0 if there is none.
    pub new_start: u64,
    /// Number of lines after the change.
    pub new_lines: u64,
    /// Section heading as git prints it, such as the enclosing function; may be empty.
    pub section: String,
    /// The lines of the hunk, in order.
    pub lines: Vec<Line>,
}

/// Kind of a line of a hunk. `context`: the line is in both versions. `added`: only after the change. `deleted`: only
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// In both versions.
    Context,
    /// Only after the change.
    Added,
    /// Only before the change.
    Deleted,
}

/// A line of a hunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Line {
    /// Kind of the line.
    pub kind: LineKind,
    /// Number of the line before the change, counted from 1; absent for an added line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<u64>,
    /// Number of the line after the change, counted from 1; absent for a deleted line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<u64>,
    /// The text without its line end. Bytes that are not UTF-8 are replaced; control characters are unchanged.
    pub text: String,
    /// Whether the file ends with this line and without a newline.
    #[serde(default)]
    pub no_newline: bool,
}

/// Why a file is not in a checkpoint. `too-large`: it exceeds the size limit. `unreadable`: no permission to read it.
/// `repository`: it is a git repository of its own. `refused`: git does not accept its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// The file exceeds the size limit.
    TooLarge,
    /// No permission to read the file.
    Unreadable,
    /// The directory is a git repository of its own.
    Repository,
    /// git does not accept the name.
    Refused,
}

/// A file of the working tree that a checkpoint does not contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkippedFile {
    /// Path of the file, relative to the worktree.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Why it was skipped.
    pub reason: SkipReason,
}

/// A saved state of a session's working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// Number of the checkpoint in its session, counted from 1.
    pub n: u64,
    /// Id of the commit that holds it.
    pub commit: String,
    /// Id of that commit's tree.
    pub tree: String,
    /// Time it was created, to the second.
    pub time: DateTime<Utc>,
    /// Why it was created: `manual`, `timer`, `before-restore` and others.
    pub kind: String,
    /// Message for people; may be empty.
    pub message: String,
    /// Branch that was checked out; absent if `HEAD` was detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Id of the commit that was checked out; absent before the first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Id of the tree that was staged; absent if there were conflicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_tree: Option<String>,
    /// Number of files that it does not contain.
    pub skipped: u64,
}

/// A commit in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommitLine {
    /// Id of the commit.
    pub commit: String,
    /// First line of the commit message.
    pub subject: String,
}

/// The work that would be lost if a session's worktree and branch were deleted. Files, commits and worktrees need `force` and go
/// to the trash; what is in `unsaved`, and a lock, prevents the deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Risk {
    /// Number of tracked files that differ from `HEAD`.
    pub dirty: u64,
    /// Number of untracked files that are not ignored.
    pub untracked: u64,
    /// Paths of these files, at most 100.
    pub files: Vec<String>,
    /// Number of commits of `HEAD` that no remote-tracking branch and no other branch has.
    pub unpushed: u64,
    /// These commits, newest first, at most 100.
    pub commits: Vec<CommitLine>,
    /// Whether the base has all commits of `HEAD`; absent if there is no base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<bool>,
    /// Number of worktrees of the same repository inside the worktree.
    #[serde(default)]
    pub n_worktrees: u64,
    /// Paths of these worktrees, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worktrees: Vec<String>,
    /// Number of things that exist nowhere else and that the trash cannot hold.
    #[serde(default)]
    pub n_unsaved: u64,
    /// These things, sorted by path, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaved: Vec<Unsaved>,
    /// Whether the worktree is locked with `git worktree lock`.
    #[serde(default)]
    pub locked: bool,
}

/// Something in a worktree that exists nowhere else and that the trash cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unsaved {
    /// Path, relative to the worktree; `.` is the worktree itself. The repository of a removed submodule has an absolute path.
    pub path: String,
    /// Why it cannot be saved, for people.
    pub reason: String,
}

/// Deleted work that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrashEntry {
    /// Full name of the ref that holds it: `refs/shed/trash/…`.
    #[serde(rename = "ref")]
    pub name: String,
    /// Directory of the repository that has the ref. Entries of two repositories may have the same ref.
    #[serde(default)]
    pub repository: String,
    /// Day it was deleted, `YYYYMMDD` in UTC.
    pub day: String,
    /// Kind of the entry.
    pub kind: TrashKind,
    /// Id of the commit.
    pub commit: String,
    /// First line of the commit message.
    pub subject: String,
    /// Time of the commit, to the second.
    pub time: DateTime<Utc>,
}

/// Kind of a trash entry. `branch`: the tip of a branch. `head`: the commit that was checked out instead of the branch.
/// `checkpoint`: the last checkpoint, with the earlier ones as its ancestors. `commits`: commits that no branch contained, as
/// ancestors of one commit: what was staged, what a reset or an amended commit left behind, an interrupted rebase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TrashKind {
    /// The tip of a branch.
    Branch,
    /// The commit that was checked out instead of the branch.
    Head,
    /// The last checkpoint, with the earlier ones as its ancestors.
    Checkpoint,
    /// Commits that no branch contained, as ancestors of one commit.
    Commits,
}

/// `GET …/sessions/{s}/diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diff {
    /// Id of the tree before the change.
    pub from: String,
    /// Id of the tree after the change.
    pub to: String,
    /// The changed files without their lines, sorted by path; at most 5,000.
    pub files: Vec<FileChange>,
    /// Number of changed files, also beyond 5,000.
    pub n_files: u64,
    /// Number of added lines, over all files.
    pub insertions: u64,
    /// Number of deleted lines, over all files.
    pub deletions: u64,
    /// Files of the working tree that were not read; the list may be cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedFile>,
    /// The changed files with their lines; empty with `stat=true`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patch: Vec<FileDiff>,
    /// Whether `patch` was cut at its size limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// `GET …/checkpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckpointList {
    /// The checkpoints, oldest first.
    pub checkpoints: Vec<Checkpoint>,
}

/// `POST …/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewCheckpoint {
    /// Message for people; may be empty.
    #[serde(default)]
    pub message: String,
}

/// The response to `POST …/checkpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MadeCheckpoint {
    /// The new checkpoint, or the last one if nothing has changed since.
    pub checkpoint: Checkpoint,
    /// Whether nothing has changed since the last checkpoint, so that none was created.
    pub unchanged: bool,
    /// Files that the checkpoint does not contain; the list may be cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedFile>,
}

/// `POST …/checkpoints/{c}/restore`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreCheckpoint {
    /// Paths of the files and directories to restore; all when empty.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// The response to `POST …/checkpoints/{c}/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoredCheckpoint {
    /// A checkpoint of the state before the restore.
    pub safety: Checkpoint,
    /// The files that were written or removed; at most 5,000.
    pub files: Vec<FileChange>,
    /// Number of files that were written or removed, also beyond 5,000.
    pub n_files: u64,
    /// Files that differ and were left unchanged; the list may be cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptFile>,
}

/// A file that a restore left unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeptFile {
    /// Path of the file, relative to the worktree.
    pub path: String,
    /// Why it was left unchanged, for people.
    pub reason: String,
}

/// `GET /api/sheds/{n}/trash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrashList {
    /// The entries, sorted by ref.
    pub trash: Vec<TrashEntry>,
}

/// `POST /api/sheds/{n}/trash/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreTrash {
    /// Full name of the ref to restore, as listed: `refs/shed/trash/…`.
    #[serde(rename = "ref")]
    pub name: String,
    /// Name of the branch to create from it. No branch may have this name.
    pub branch: String,
    /// Directory of the repository, as listed; required if several repositories have an entry with this ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}
