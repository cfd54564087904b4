//! Git work inside a shed: what is asked of `shed-init git`, and what it answers.
//!
//! `shed-init git` runs as the session's user. It reads one [`GitOp`] as JSON from standard input, to its end or to the
//! first line end, at most [`MAX_GIT_REQUEST_BYTES`]. It writes one [`GitAnswer`] as a line of JSON, at most
//! [`MAX_GIT_HEAD_BYTES`] with its line end. After the line of a [`GitDone::Diff`] follow exactly
//! [`Diffed::patch_bytes`] bytes of patch. The exit status is 0 when there is an answer, also a failure.
//!
//! A hangup, TERM or INT to the process group ends an operation; one that makes or removes several things takes back
//! what it did and answers with [`FailureKind::Interrupted`].
//!
//! `shed-init watch-tree DIR` prints [`TreeNews`], one a line, until its standard input ends.
//!
//! Nothing of an answer can be trusted: the box may run any program in place of git.

use serde::{Deserialize, Serialize};
use shed_api::SessionName;
use shed_api::git::{Checkpoint, DiffNumbers, FileChange, Risk, SkippedFile, TrashEntry};

pub use shed_api::git::{
    BoxPath, Branch, FilePath, GitNameError, MAX_PATH_BYTES, MAX_REF_BYTES, Rev, ShedRef,
};

/// The longest request in bytes: a few thousand file names.
pub const MAX_GIT_REQUEST_BYTES: usize = 1 << 20;
/// The longest head of an answer in bytes, line end included. Lists in it are cut long before.
pub const MAX_GIT_HEAD_BYTES: usize = 8 << 20;
/// The longest patch in bytes. More than anyone reads; it is held in memory on both sides.
pub const MAX_PATCH_BYTES: usize = 32 << 20;
/// The most files a diff or a restore lists. The rest is counted.
pub const MAX_LISTED_FILES: usize = 5_000;
/// The most entries of the short lists: files and commits at risk, copied files, skipped files.
pub const MAX_SHORT_LIST: usize = 100;
/// The most refs of one kind that are listed. The newest stay.
pub const MAX_LISTED_REFS: usize = 10_000;
/// Files over so many bytes are not in a checkpoint unless the request says otherwise: they would fill the disk, and
/// source code is far below.
pub const DEFAULT_MAX_FILE_BYTES: u64 = 10 << 20;
/// The most groups of refs that are measured at once. Each is a walk through the repository's objects.
pub const MAX_SIZE_GROUPS: usize = 64;
/// The most files `.worktreeinclude` copies. Beyond it, it names a whole directory of dependencies by mistake.
pub const MAX_INCLUDED_FILES: usize = 2_000;
/// The most bytes `.worktreeinclude` copies, of all files together.
pub const MAX_INCLUDED_BYTES: u64 = 256 << 20;
/// The most directories `watch-tree` watches. Linux gives a user 8,192 of them on small machines, for all sheds.
pub const MAX_TREE_WATCHES: usize = 4_096;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitOp {
    /// What there is. Answered by [`GitDone::Facts`].
    Facts {
        /// Any directory.
        directory: BoxPath,
    },
    /// Make a worktree with a branch, whole or not at all. Answered by [`GitDone::Worktree`].
    AddWorktree(AddWorktree),
    /// What deleting would lose. Answered by [`GitDone::Risk`].
    Risk {
        /// The worktree.
        worktree: BoxPath,
        /// Whether its commits are in there is told.
        #[serde(default)]
        base: Option<Rev>,
        /// The branch that goes with the worktree, whatever is checked out; by default the one that is.
        #[serde(default)]
        branch: Option<Branch>,
    },
    /// Remove a worktree and perhaps its branch, into the trash. Answered by [`GitDone::Removed`].
    RemoveWorktree(RemoveWorktree),
    /// Give a branch another name. Answered by [`GitDone::Nothing`].
    RenameBranch {
        /// A worktree of the repository.
        worktree: BoxPath,
        /// The name it has.
        from: Branch,
        /// The name it gets; no branch has it.
        to: Branch,
    },
    /// How far the working tree is from its base. Answered by [`GitDone::Numbers`].
    Numbers {
        /// Whose index, and where it is kept.
        view: View,
        /// What it is compared with.
        base: Base,
    },
    /// A diff. Answered by [`GitDone::Diff`] and the patch.
    Diff {
        /// Whose index, and where it is kept.
        view: View,
        /// Before.
        from: Side,
        /// After.
        to: Side,
        /// Only this file or directory.
        #[serde(default)]
        path: Option<FilePath>,
        /// Whether the list of files is enough and no patch is wanted.
        #[serde(default)]
        stat_only: bool,
    },
    /// Take a checkpoint. Answered by [`GitDone::Snapshot`].
    Snapshot {
        /// Whose index, and where it is kept.
        view: View,
        /// What the person wrote. Bounded and made printable on the way.
        #[serde(default)]
        message: String,
        /// What it is taken for: `manual`, `timer`, `before-terminate`.
        kind: SessionName,
    },
    /// The checkpoints of a session. Answered by [`GitDone::Checkpoints`].
    Checkpoints {
        /// Any directory of the repository.
        repo: BoxPath,
        /// The session.
        session: SessionName,
    },
    /// Make the working tree equal to a checkpoint. Answered by [`GitDone::Restored`].
    Restore {
        /// Whose index, and where it is kept.
        view: View,
        /// The session whose checkpoint it is; another one's may be taken.
        from: SessionName,
        /// The checkpoint's number.
        n: u64,
        /// Only these files and directories; everything when empty.
        #[serde(default)]
        paths: Vec<FilePath>,
    },
    /// What was deleted. Answered by [`GitDone::Trash`].
    Trash {
        /// Any directory of the repository.
        repo: BoxPath,
    },
    /// All refs of ours. Answered by [`GitDone::Refs`].
    Refs {
        /// Any directory of the repository.
        repo: BoxPath,
    },
    /// Delete refs of ours, all or none; those that are gone already are no failure. Answered by [`GitDone::Nothing`].
    DropRefs {
        /// Any directory of the repository.
        repo: BoxPath,
        /// Which.
        refs: Vec<ShedRef>,
    },
    /// Make a branch of something in the trash and take it out of there. Answered by [`GitDone::Nothing`].
    RestoreTrash {
        /// Any directory of the repository.
        repo: BoxPath,
        /// What.
        #[serde(rename = "ref")]
        name: ShedRef,
        /// The branch; none has this name.
        branch: Branch,
    },
    /// How many bytes what takes. Answered by [`GitDone::Sizes`].
    Sizes {
        /// Any directory of the repository.
        repo: BoxPath,
        /// Worktrees whose files are counted.
        #[serde(default)]
        worktrees: Vec<BoxPath>,
        /// Groups of refs of ours, at most [`MAX_SIZE_GROUPS`]: what only each group holds.
        #[serde(default)]
        groups: Vec<Vec<ShedRef>>,
    },
}

/// A working tree as one session sees it, through an index of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The working tree, or a directory in it: it is always seen whole.
    pub worktree: BoxPath,
    /// Where private indexes are kept; `shed` in the repository's common directory when absent.
    #[serde(default)]
    pub state: Option<BoxPath>,
    /// Names the index and the checkpoints.
    pub session: SessionName,
    /// Larger files are neither read nor kept.
    #[serde(default = "default_max_file_bytes")]
    pub max_file_bytes: u64,
}

fn default_max_file_bytes() -> u64 {
    DEFAULT_MAX_FILE_BYTES
}

/// What a working tree is compared with. Asked anew each time, so that it follows the ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// That commit.
    At(Rev),
    /// Where `HEAD` and that commit part.
    Fork(Rev),
    /// The empty tree: the session began before the first commit.
    Nothing,
}

/// One side of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The session's base.
    Base(Base),
    /// What is checked out; the empty tree before the first commit.
    Head,
    /// A checkpoint.
    Checkpoint {
        /// Whose.
        session: SessionName,
        /// Its number.
        n: u64,
    },
    /// The files as they are.
    Worktree,
}

/// Where a new branch begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The default branch as fetched.
    Default,
    /// That commit. A name without a branch or tag is looked for among the branches of `origin`.
    Rev(Rev),
    /// A pull request of `origin`; it is fetched.
    Pull(u32),
}

/// [`GitOp::AddWorktree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddWorktree {
    /// Any directory of the repository.
    pub repo: BoxPath,
    /// Where it is made. Nothing is there; missing parents are made. Not in the repository's own working tree.
    pub path: BoxPath,
    /// Its branch.
    pub branch: Branch,
    /// Where the branch begins. Not asked of an existing branch.
    pub base: Start,
    /// Whether `origin` is fetched first.
    #[serde(default)]
    pub fetch: bool,
    /// Whether the branch exists, here or on `origin`.
    #[serde(default)]
    pub existing: bool,
}

/// [`GitOp::RemoveWorktree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveWorktree {
    /// Any directory of the repository outside of the worktree.
    pub repo: BoxPath,
    /// The worktree. It may be gone or broken.
    pub path: BoxPath,
    /// Its branch.
    pub branch: Branch,
    /// Whether the branch goes too.
    pub delete_branch: bool,
    /// Its name in the trash: `refs/shed/trash/DAY/NAME`, with a number behind it if there is such a one.
    pub trash: SessionName,
    /// The session whose checkpoints go into the trash as well.
    #[serde(default)]
    pub session: Option<SessionName>,
    /// Where its private index is, see [`View::state`].
    #[serde(default)]
    pub state: Option<BoxPath>,
}

/// What `shed-init git` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitAnswer {
    /// It is done.
    Done(Box<GitDone>),
    /// It is not done, and nothing is left half-done unless the text says so.
    Failed(GitFailure),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitDone {
    /// There is nothing to tell.
    Nothing,
    /// Of [`GitOp::Facts`].
    Facts(RepoFacts),
    /// Of [`GitOp::AddWorktree`].
    Worktree(AddedWorktree),
    /// Of [`GitOp::Risk`].
    Risk(Risk),
    /// Of [`GitOp::RemoveWorktree`].
    Removed(RemovedWorktree),
    /// Of [`GitOp::Numbers`].
    Numbers(DiffNumbers),
    /// Of [`GitOp::Diff`].
    Diff(Diffed),
    /// Of [`GitOp::Snapshot`].
    Snapshot(Snapshot),
    /// Of [`GitOp::Checkpoints`], oldest first.
    Checkpoints(Vec<Checkpoint>),
    /// Of [`GitOp::Restore`].
    Restored(Restored),
    /// Of [`GitOp::Trash`], by name.
    Trash(Vec<TrashEntry>),
    /// Of [`GitOp::Refs`], by name.
    Refs(Vec<RefLine>),
    /// Of [`GitOp::Sizes`].
    Sizes(Sizes),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitFailure {
    /// For programs.
    pub kind: FailureKind,
    /// For people; names the thing.
    pub text: String,
    /// git's own words, printable, the last few lines; empty when git said nothing.
    #[serde(default)]
    pub git: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The request cannot be read or asks for something that is never done.
    Invalid,
    /// There is no git in the image.
    NoGit,
    /// The directory is in no repository.
    NotARepository,
    /// The repository has no commit yet.
    NoCommit,
    /// There is no such branch, commit, checkpoint, worktree or ref.
    NotFound,
    /// There is such a branch, directory or ref already.
    Exists,
    /// The branch is checked out in another worktree; the text says where.
    BranchInUse,
    /// The base is gone, or has no commit in common with `HEAD`.
    BaseGone,
    /// Fetching failed.
    Fetch,
    /// Another operation of this session, or a lock of git's, did not end in time.
    Busy,
    /// The worktree was locked with `git worktree lock`.
    Locked,
    /// The disk or the quota is full.
    NoSpace,
    /// The file system is read-only.
    ReadOnly,
    /// The user may not.
    Denied,
    /// More than the limits allow.
    TooMuch,
    /// A signal came; what was begun was taken back.
    Interrupted,
    /// Anything else git or the system said.
    Git,
}

/// [`GitDone::Facts`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoFacts {
    /// Whether the directory is in a working tree of a repository. The rest is empty when not.
    pub repository: bool,
    /// The top of the working tree.
    #[serde(default)]
    pub toplevel: Option<String>,
    /// What all worktrees share: `/workspace/.git`.
    #[serde(default)]
    pub common_dir: Option<String>,
    /// Whether it is a worktree beside the repository's own.
    #[serde(default)]
    pub linked: bool,
    /// The branch that is checked out; absent when detached.
    #[serde(default)]
    pub branch: Option<String>,
    /// The commit that is checked out; absent before the first.
    #[serde(default)]
    pub head: Option<String>,
    /// The default branch as a whole ref: as fetched, else `main` or `master` of `origin`, else the branch of `HEAD`.
    #[serde(default)]
    pub default_branch: Option<String>,
    /// The remotes.
    #[serde(default)]
    pub remotes: Vec<Remote>,
}

/// A remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its name.
    pub name: String,
    /// Its URL without user and password.
    pub url: String,
}

/// [`GitDone::Worktree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedWorktree {
    /// The commit it began at.
    pub base_commit: String,
    /// The whole ref that was meant, to be asked again later; absent when a bare commit was given.
    pub base_ref: Option<String>,
    /// The branch.
    pub branch: String,
    /// Files that `.worktreeinclude` named and that were copied, the first of them.
    pub copied: Vec<String>,
    /// How many were copied.
    pub n_copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Files that it named and that were not copied, with the reason, the first of them.
    pub not_copied: Vec<NotCopied>,
    /// How many were not.
    pub n_not_copied: u64,
}

/// A file that `.worktreeinclude` names and that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCopied {
    /// Its name.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

/// [`GitDone::Removed`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedWorktree {
    /// The refs in the trash, those that this removal made.
    pub trash: Vec<String>,
    /// Whether there was a directory.
    pub directory: bool,
    /// Whether the branch was deleted.
    pub branch_deleted: bool,
    /// Why the branch was kept though it was to go.
    #[serde(default)]
    pub branch_kept: Option<String>,
}

/// [`GitDone::Diff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diffed {
    /// The tree before.
    pub from: String,
    /// The tree after.
    pub to: String,
    /// The files, by name; at most [`MAX_LISTED_FILES`].
    pub files: Vec<FileChange>,
    /// How many files there are.
    pub n_files: u64,
    /// Lines that were added, in all of them.
    pub insertions: u64,
    /// Lines that were taken away, in all of them.
    pub deletions: u64,
    /// Files of the working tree that were not read, the first of them.
    pub skipped: Vec<SkippedFile>,
    /// How many bytes of patch follow the line.
    pub patch_bytes: u64,
    /// Whether the patch was cut at [`MAX_PATCH_BYTES`].
    pub patch_truncated: bool,
}

/// [`GitDone::Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Whether nothing differed from the last one, which this then is.
    pub unchanged: bool,
    /// Files that are not in it, the first of them.
    pub skipped: Vec<SkippedFile>,
    /// How many are not.
    pub n_skipped: u64,
}

/// [`GitDone::Restored`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What was there before.
    pub safety: Checkpoint,
    /// The files that were written or removed; at most [`MAX_LISTED_FILES`].
    pub files: Vec<FileChange>,
    /// How many.
    pub n_files: u64,
    /// Files that differ and were left alone, with the reason, the first of them.
    pub kept: Vec<KeptFile>,
    /// How many.
    pub n_kept: u64,
}

/// A file that a restore left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its name.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

/// A ref of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefLine {
    /// The whole name.
    #[serde(rename = "ref")]
    pub name: String,
    /// What it points to.
    pub commit: String,
    /// That commit's time, in seconds since 1970.
    pub time: i64,
}

/// [`GitDone::Sizes`]. A number is absent when it could not be told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The worktrees, as asked.
    pub worktrees: Vec<WorktreeSize>,
    /// What the repository's objects take on disk.
    pub objects_bytes: Option<u64>,
    /// What only checkpoints hold, on disk, as git stores it now.
    pub checkpoint_bytes: Option<u64>,
    /// What only the trash holds.
    pub trash_bytes: Option<u64>,
    /// What only the two together hold; more than their sum when they share something.
    pub ours_bytes: Option<u64>,
    /// What the private indexes take.
    pub index_bytes: u64,
    /// What only each group of refs holds, as asked; empty of an older shed-init.
    #[serde(default)]
    pub groups: Vec<Option<u64>>,
}

/// The files of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeSize {
    /// The worktree.
    pub path: String,
    /// What its files take on disk.
    pub bytes: u64,
    /// Whether there were more files than are counted, or some could not be seen.
    pub partial: bool,
}

/// A line of `shed-init watch-tree`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeNews {
    /// What happened.
    pub news: TreeEvent,
    /// How many directories are watched.
    pub n_watches: usize,
    /// Whether some directories are not watched: there are more than [`MAX_TREE_WATCHES`], or the kernel gave no more.
    pub partial: bool,
}

/// What a [`TreeNews`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TreeEvent {
    /// Everything is watched; the first line.
    Watching,
    /// Something is different: files, the index or refs.
    Changed,
}
