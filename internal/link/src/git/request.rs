//! The requests that `shed-init git` takes.

use serde::{Deserialize, Serialize};
use shed_api::SessionName;
use shed_api::git::{Branch, ContainerPath, FilePath, Rev, ShedRef};

use super::DEFAULT_MAX_FILE_BYTES;

#[cfg(doc)]
use super::{GitDone, MAX_SIZE_GROUPS};

/// A request. Each variant names the [`GitDone`] that answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitOp {
    /// Describe the repository of a directory. Answered by [`GitDone::Facts`].
    Facts {
        /// Any directory, also outside of a repository.
        directory: ContainerPath,
    },
    /// Create a worktree with a branch; on failure nothing is left behind. Answered by [`GitDone::Worktree`].
    AddWorktree(AddWorktree),
    /// List what deleting a worktree and its branch would lose. Answered by [`GitDone::Risk`].
    Risk {
        /// A directory in the worktree.
        worktree: ContainerPath,
        /// The answer says whether this commit contains all commits of `HEAD`; without it that is not answered.
        #[serde(default)]
        base: Option<Rev>,
        /// The branch that would be deleted with the worktree; the checked-out branch when absent.
        #[serde(default)]
        branch: Option<Branch>,
    },
    /// List what removing a worktree would lose, and what the trash cannot hold. Answered by [`GitDone::Survey`]; unknown to
    /// an older shed-init.
    Survey(SurveyWorktree),
    /// Remove a worktree, the repository's worktrees inside it, and optionally its branch. What nothing else holds is saved
    /// to the trash first; if the trash cannot hold something, nothing is removed. Answered by [`GitDone::Removed`].
    RemoveWorktree(RemoveWorktree),
    /// Rename a branch. Answered by [`GitDone::Nothing`].
    RenameBranch {
        /// A directory in any worktree of the repository.
        worktree: ContainerPath,
        /// The current name.
        from: Branch,
        /// The new name; an existing branch of this name is an error.
        to: Branch,
    },
    /// Count the changes between the working tree and its base. Answered by [`GitDone::Numbers`].
    Numbers {
        /// The working tree to count in.
        view: View,
        /// The commit to compare with.
        base: Base,
    },
    /// Compute a diff. Answered by [`GitDone::Diff`], followed by the patch.
    Diff {
        /// The working tree, for [`Side::Worktree`].
        view: View,
        /// The old side.
        from: Side,
        /// The new side.
        to: Side,
        /// Limits the diff to this file or directory.
        #[serde(default)]
        path: Option<FilePath>,
        /// Return the list of files without a patch.
        #[serde(default)]
        stat_only: bool,
    },
    /// Take a checkpoint of the working tree. Answered by [`GitDone::Snapshot`].
    Snapshot {
        /// The working tree to save.
        view: View,
        /// A person's text. It is cut to a limit and made printable.
        #[serde(default)]
        message: String,
        /// Why it is taken: `manual`, `timer`, `before-terminate`.
        kind: SessionName,
    },
    /// List the checkpoints of a session. Answered by [`GitDone::Checkpoints`].
    Checkpoints {
        /// Any directory of the repository.
        repo: ContainerPath,
        /// The session that the checkpoints belong to.
        session: SessionName,
    },
    /// Make the working tree equal to a checkpoint. Answered by [`GitDone::Restored`].
    Restore {
        /// The working tree to change.
        view: View,
        /// The session that the checkpoint belongs to; it may be another session than the view's.
        from: SessionName,
        /// The checkpoint's number.
        n: u64,
        /// Restores only these files and directories; everything when empty.
        #[serde(default)]
        paths: Vec<FilePath>,
        /// If the worktree's directory is missing, it is created again. Without it, and by an older shed-init, that is an
        /// error.
        #[serde(default)]
        missing: Option<Missing>,
    },
    /// List the trash. Answered by [`GitDone::Trash`].
    Trash {
        /// Any directory of the repository.
        repo: ContainerPath,
    },
    /// List all refs under `refs/shed/`. Answered by [`GitDone::Refs`].
    Refs {
        /// Any directory of the repository.
        repo: ContainerPath,
    },
    /// Delete refs under `refs/shed/`, all or none. A ref that does not exist is no error. Answered by
    /// [`GitDone::Nothing`].
    DropRefs {
        /// Any directory of the repository.
        repo: ContainerPath,
        /// The refs to delete.
        refs: Vec<ShedRef>,
    },
    /// Create a branch from a ref in the trash and delete that ref. Answered by [`GitDone::Nothing`].
    RestoreTrash {
        /// Any directory of the repository.
        repo: ContainerPath,
        /// A ref under `refs/shed/trash/`.
        #[serde(rename = "ref")]
        name: ShedRef,
        /// The new branch; an existing branch of this name is an error.
        branch: Branch,
    },
    /// Measure disk usage. Answered by [`GitDone::Sizes`].
    Sizes {
        /// Any directory of the repository.
        repo: ContainerPath,
        /// Worktrees whose files are measured.
        #[serde(default)]
        worktrees: Vec<ContainerPath>,
        /// Groups of refs, at most [`MAX_SIZE_GROUPS`]. For each group the objects that no other ref reaches are measured.
        #[serde(default)]
        groups: Vec<Vec<ShedRef>>,
    },
}

/// A working tree, read through a private index that belongs to one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// A directory in the working tree; the whole working tree is read.
    pub worktree: ContainerPath,
    /// The directory of the private indexes; `shed` in the repository's common directory when absent.
    #[serde(default)]
    pub state: Option<ContainerPath>,
    /// The session that names the private index and the checkpoints.
    pub session: SessionName,
    /// Files with more bytes are skipped: neither read nor saved.
    #[serde(default = "default_max_file_bytes")]
    pub max_file_bytes: u64,
}

fn default_max_file_bytes() -> u64 {
    DEFAULT_MAX_FILE_BYTES
}

/// The commit that a working tree is compared with. It is resolved for each request, so that it follows a moving ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// This commit.
    At(Rev),
    /// The merge base of `HEAD` and this commit.
    Fork(Rev),
    /// The empty tree, for a session that started before the first commit.
    Nothing,
}

/// One side of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The tree of a base.
    Base(Base),
    /// The checked-out commit; the empty tree before the first commit.
    Head,
    /// A checkpoint.
    Checkpoint {
        /// The session that the checkpoint belongs to.
        session: SessionName,
        /// The checkpoint's number.
        n: u64,
    },
    /// The current files of the working tree, including untracked ones.
    Worktree,
}

/// The start point of a new branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The repository's default branch, as last fetched.
    Default,
    /// This commit. A name that is no local branch or tag is looked up among the branches of `origin`.
    Rev(Rev),
    /// The head of this pull request of `origin`, which is fetched.
    Pull(u32),
}

/// The fields of [`GitOp::AddWorktree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddWorktree {
    /// Any directory of the repository.
    pub repo: ContainerPath,
    /// The worktree's directory. It must not exist and must not be inside a working tree of the repository; missing
    /// parents are created.
    pub path: ContainerPath,
    /// The branch to check out.
    pub branch: Branch,
    /// The start point of a new branch; ignored with `existing`.
    pub base: Start,
    /// Fetch `origin` first.
    #[serde(default)]
    pub fetch: bool,
    /// Use an existing branch, local or of `origin`, instead of creating one.
    #[serde(default)]
    pub existing: bool,
    /// The session it is for. A repeated request of the same session, after a server that was killed, continues with what
    /// the first one created. An older shed-init ignores it.
    #[serde(default)]
    pub session: Option<SessionName>,
}

/// How a worktree whose directory is missing is created again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Any directory of the repository.
    pub repo: ContainerPath,
    /// The branch to check out if git has forgotten the worktree; the checkpoint's commit when the branch cannot be.
    #[serde(default)]
    pub branch: Option<Branch>,
}

/// The fields of [`GitOp::Survey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyWorktree {
    /// Any directory of the repository outside of the worktree. It may be missing.
    pub repo: ContainerPath,
    /// The worktree's directory. It may be missing or broken.
    pub path: ContainerPath,
    /// The worktree's branch.
    #[serde(default)]
    pub branch: Option<Branch>,
    /// Whether the branch would be deleted too.
    #[serde(default)]
    pub delete_branch: bool,
    /// The answer says whether this commit contains all commits of `HEAD`; without it that is not answered.
    #[serde(default)]
    pub base: Option<Rev>,
}

/// The fields of [`GitOp::RemoveWorktree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveWorktree {
    /// Any directory of the repository outside of the worktree.
    pub repo: ContainerPath,
    /// The worktree's directory. It may be missing or broken.
    pub path: ContainerPath,
    /// The worktree's branch.
    pub branch: Branch,
    /// Delete the branch too.
    pub delete_branch: bool,
    /// Its name in the trash: `refs/shed/trash/DAY/NAME`. A number is appended when the name is taken.
    pub trash: SessionName,
    /// The session whose last checkpoint goes to the trash and whose other checkpoints are deleted.
    #[serde(default)]
    pub session: Option<SessionName>,
    /// The directory of the private indexes, as [`View::state`].
    #[serde(default)]
    pub state: Option<ContainerPath>,
}
