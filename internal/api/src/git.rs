//! Git as the outside sees it: numbers, diffs, checkpoints, and what a deletion would lose.
//!
//! Paths of files are in the form of [`quote_path`]: a name that is plain text stands as it is, any other in double
//! quotes with escapes, so that every name can be shown and sent back.

mod names;
mod path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use names::{
    BoxPath, Branch, FilePath, GitNameError, MAX_PATH_BYTES, MAX_REF_BYTES, Rev, ShedRef,
};
pub use path::{quote_path, unquote_path};

/// How far a session's working tree is from its base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffNumbers {
    /// Files that differ, untracked ones included, ignored ones not. A renamed file is one.
    pub files: u64,
    /// Lines that were added. A binary file has none.
    pub insertions: u64,
    /// Lines that were taken away.
    pub deletions: u64,
    /// Commits of `HEAD` that the base does not have.
    pub ahead: u64,
    /// Commits of the base that `HEAD` does not have.
    pub behind: u64,
    /// The commit that is checked out; absent before the first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The branch that is checked out; absent when `HEAD` is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit the files are compared with; absent when it is the empty tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Files that were not read, see [`SkippedFile`]. They count as files without lines.
    #[serde(default)]
    pub skipped: u64,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FileStatus {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or mode is another.
    Modified,
    /// It has another name, and perhaps another content.
    Renamed,
    /// It is a copy of another file, which is still there.
    Copied,
    /// It is another kind of file: a symlink became a file, or the like.
    TypeChanged,
}

/// One file of a diff, without its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileChange {
    /// What happened.
    pub status: FileStatus,
    /// The name; the old one of a deleted file.
    pub path: String,
    /// The name before; only of a renamed or copied file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// git's mode before, octal (`100644`); absent of a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_mode: Option<String>,
    /// git's mode after; absent of a deleted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_mode: Option<String>,
    /// Lines that were added.
    pub insertions: u64,
    /// Lines that were taken away.
    pub deletions: u64,
    /// Whether git takes it for binary; it has no lines then.
    pub binary: bool,
}

/// One file of a diff with its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDiff {
    /// What happened.
    pub status: FileStatus,
    /// The name; the old one of a deleted file.
    pub path: String,
    /// The name before; only of a renamed or copied file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// git's mode before, octal; absent of a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_mode: Option<String>,
    /// git's mode after; absent of a deleted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_mode: Option<String>,
    /// Whether git takes it for binary; there are no hunks then.
    pub binary: bool,
    /// How alike a renamed or copied file is to its source, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<u8>,
    /// Lines that were added.
    pub insertions: u64,
    /// Lines that were taken away.
    pub deletions: u64,
    /// The changed places, in order.
    pub hunks: Vec<Hunk>,
    /// Whether the text ended inside this file: the diff was cut at its limit.
    #[serde(default)]
    pub truncated: bool,
}

/// A changed place of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hunk {
    /// The first line before, counted from 1; 0 when there is none.
    pub old_start: u64,
    /// How many lines before.
    pub old_lines: u64,
    /// The first line after, counted from 1; 0 when there is none.
    pub new_start: u64,
    /// How many lines after.
    pub new_lines: u64,
    /// What git says the place is in, such as a function's head.
    pub section: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// What a line of a hunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// In both.
    Context,
    /// Only after.
    Added,
    /// Only before.
    Deleted,
}

/// A line of a hunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Line {
    /// What it is.
    pub kind: LineKind,
    /// Its number before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<u64>,
    /// Its number after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<u64>,
    /// The text without its line end. Bytes that are not UTF-8 are replaced; control characters stand as they are.
    pub text: String,
    /// Whether the file ends here without a line end.
    #[serde(default)]
    pub no_newline: bool,
}

/// Why a file is not in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// It is over the limit of bytes.
    TooLarge,
    /// It may not be read.
    Unreadable,
    /// It is a repository of its own.
    Repository,
    /// git refuses such a name.
    Refused,
}

/// A file that is not in a checkpoint as it is in the working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkippedFile {
    /// Its name.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Why.
    pub reason: SkipReason,
}

/// A kept state of a working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// Its number in the session, counted from 1.
    pub n: u64,
    /// The commit that holds it.
    pub commit: String,
    /// The tree of that commit.
    pub tree: String,
    /// When it was taken. Seconds.
    pub time: DateTime<Utc>,
    /// What it was taken for: `manual`, `timer`, `before-restore` and the like.
    pub kind: String,
    /// What the person wrote; empty when nothing.
    pub message: String,
    /// The branch that was checked out; absent when detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that was checked out; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The tree that was staged; absent when there were conflicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_tree: Option<String>,
    /// How many files are not in it.
    pub skipped: u64,
}

/// A commit in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommitLine {
    /// Its id.
    pub commit: String,
    /// The first line of its message.
    pub subject: String,
}

/// What deleting a worktree and its branch would lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Risk {
    /// Tracked files that differ from `HEAD`.
    pub dirty: u64,
    /// Files git does not know and does not ignore.
    pub untracked: u64,
    /// The first of both, at most 100.
    pub files: Vec<String>,
    /// Commits of `HEAD` that no remote-tracking branch and no other branch has.
    pub unpushed: u64,
    /// The first of them, newest first, at most 100.
    pub commits: Vec<CommitLine>,
    /// Whether the base has all commits of `HEAD`; absent when there is no base to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<bool>,
}

/// Something deleted that can be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrashEntry {
    /// The ref that holds it.
    #[serde(rename = "ref")]
    pub name: String,
    /// The day it was deleted, `YYYYMMDD`, UTC.
    pub day: String,
    /// What it is.
    pub kind: TrashKind,
    /// The commit.
    pub commit: String,
    /// The first line of the commit's message.
    pub subject: String,
    /// The commit's time. Seconds.
    pub time: DateTime<Utc>,
}

/// What a [`TrashEntry`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TrashKind {
    /// The tip of a branch.
    Branch,
    /// What was checked out instead of the branch.
    Head,
    /// The last checkpoint, which has the ones before it as parents.
    Checkpoint,
}

/// `GET …/sessions/{s}/diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diff {
    /// The tree before.
    pub from: String,
    /// The tree after.
    pub to: String,
    /// The files, by name, without their lines; at most 5,000.
    pub files: Vec<FileChange>,
    /// How many files there are.
    pub n_files: u64,
    /// Lines that were added, in all of them.
    pub insertions: u64,
    /// Lines that were taken away, in all of them.
    pub deletions: u64,
    /// Files of the working tree that were not read, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedFile>,
    /// The files with their lines; empty where only the numbers were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patch: Vec<FileDiff>,
    /// Whether `patch` was cut at its limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// `GET …/checkpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckpointList {
    /// Oldest first.
    pub checkpoints: Vec<Checkpoint>,
}

/// `POST …/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewCheckpoint {
    /// What it is, for people.
    #[serde(default)]
    pub message: String,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MadeCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Whether nothing differed from the last one, which this then is.
    pub unchanged: bool,
    /// Files that are not in it, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedFile>,
}

/// `POST …/checkpoints/{c}/restore`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreCheckpoint {
    /// Only these files and directories; everything when empty.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoredCheckpoint {
    /// What was there before, as a checkpoint of its own.
    pub safety: Checkpoint,
    /// The files that were written or removed; at most 5,000.
    pub files: Vec<FileChange>,
    /// How many.
    pub n_files: u64,
    /// Files that differ and were left alone, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptFile>,
}

/// A file that a restore left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeptFile {
    /// Its name.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

/// `GET /api/sheds/{n}/trash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrashList {
    /// By name.
    pub trash: Vec<TrashEntry>,
}

/// `POST /api/sheds/{n}/trash/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreTrash {
    /// What.
    #[serde(rename = "ref")]
    pub name: String,
    /// The branch that is made of it; none has this name.
    pub branch: String,
}
