//! Creates a worktree with its branch. Each step records how to undo it, so that a failure leaves nothing behind.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use shed_api::git::quote_path;
use shed_link::git::{AddWorktree, AddedWorktree, Branch, FailureKind, Start};

use super::attempt::Attempt;
use super::directory;
use super::failure::Failure;
use super::include;
use super::interrupt::Interrupt;
use super::lfs;
use super::refs::{self, Step};
use super::repository::Repository;
use super::revision::{self, ResolvedStart};
use super::submodules;
use super::worktrees;

/// Things that were created. They are removed on drop, the last first, unless the list was cleared at the end.
#[derive(Debug)]
struct Undo<'a> {
    repository: &'a Repository,
    created: Vec<Created>,
}

#[derive(Debug)]
enum Created {
    /// A ref and, for a branch, its section of the configuration.
    Ref { name: String, commit: String },
    /// A directory, which is empty again when it is removed.
    Directory(PathBuf),
    /// The worktree and git's record of it.
    Worktree(PathBuf),
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for created in self.created.drain(..).rev() {
            // Errors are ignored: the failure that led here is reported.
            match created {
                Created::Ref { name, commit } => {
                    if let Some(branch) = name.strip_prefix("refs/heads/") {
                        forget_branch(self.repository, branch);
                    }
                    refs::apply(self.repository, &[Step::Delete { name, commit }]).ok();
                }
                Created::Directory(path) => {
                    fs::remove_dir(path).ok();
                }
                Created::Worktree(path) => {
                    let record = worktrees::record(self.repository, &path);
                    directory::remove(&path).ok();
                    forget_record(self.repository, record);
                }
            }
        }
    }
}

/// Creates a worktree.
pub(crate) fn add(request: &AddWorktree) -> Result<AddedWorktree, Failure> {
    let interrupt = Interrupt::catch()?;
    // A signal also ends git, whose failure may have been noticed first.
    create(request, &interrupt).or_else(|failure| interrupt.check().and(Err(failure)))
}

fn create(request: &AddWorktree, interrupt: &Interrupt) -> Result<AddedWorktree, Failure> {
    let repository = Repository::open(&request.repo)?;
    let path = Path::new(request.path.as_str());
    let mut attempt = Attempt::begin(&repository, request)?;
    // While it waited for an earlier attempt, the caller may have gone.
    interrupt.check()?;
    if let Some(added) = attempt.finished(&repository)? {
        return Ok(added);
    }
    attempt.remove_leftovers(&repository)?;
    check_path(&repository, path)?;
    let mut undo = Undo { repository: &repository, created: Vec::new() };
    fetch(request, &mut undo)?;
    interrupt.check()?;
    let start = branch(request, &mut attempt, &mut undo)?;
    interrupt.check()?;
    create_parents(path, &mut undo)?;
    let mut notes = check_out(request, path, &mut undo)?;
    interrupt.check()?;
    notes.extend(submodules::check_out(&repository, path, interrupt)?);
    interrupt.check()?;
    let included = include::copy(&repository, path, interrupt)?;
    interrupt.check()?;
    let added = AddedWorktree {
        base_commit: start.commit,
        base_ref: start.name,
        branch: request.branch.to_string(),
        copied: included.copied,
        n_copied: included.n_copied,
        copied_bytes: included.bytes,
        not_copied: included.not_copied,
        n_not_copied: included.n_not_copied,
        git_dir: worktrees::record(&repository, path)
            .and_then(|record| record.into_os_string().into_string().ok()),
        notes,
    };
    attempt.finish(&added)?;
    undo.created.clear();
    Ok(added)
}

/// Creates a worktree again whose directory was removed. If git still has its record, it is as before, with all files missing.
/// Otherwise the branch is checked out, or the commit if the branch cannot be.
pub(crate) fn recreate(
    repository: &Repository,
    path: &Path,
    branch: Option<&Branch>,
    commit: &str,
) -> Result<(), Failure> {
    let shown = quote_path(path.as_os_str().as_encoded_bytes());
    let text = format!("cannot create worktree {shown} again");
    let failed = |error: &io::Error| Failure::io(&text, error);
    if let Some(record) = worktrees::record(repository, path) {
        fs::create_dir_all(path).map_err(|error| failed(&error))?;
        let pointer = [b"gitdir: ", record.as_os_str().as_bytes(), b"\n"].concat();
        return fs::write(path.join(".git"), pointer).map_err(|error| failed(&error));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    }
    let add = || repository.git.call("worktree").args(["add", "--quiet"]);
    if let Some(branch) = branch {
        let name = format!("refs/heads/{branch}");
        let is_free = repository.commit_of(&name)?.is_some()
            && refuse_if_in_use(repository, &name, branch.as_str()).is_ok();
        if is_free {
            let add = || add().arg("--").arg(path).arg(branch.as_str());
            return lfs::or_pointers(add, &text).map(drop);
        }
    }
    lfs::or_pointers(|| add().args(["--detach", "--"]).arg(path).arg(commit), &text).map(drop)
}

/// Removes a branch's section of the configuration. Most branches have none.
pub(crate) fn forget_branch(repository: &Repository, branch: &str) {
    let section = format!("branch.{branch}");
    repository.git.call("config").args(["--local", "--remove-section", &section]).ended().ok();
}

/// Removes git's record of a worktree, and the directory of records if it was the last one, as git does.
pub(crate) fn forget_record(repository: &Repository, record: Option<PathBuf>) {
    if let Some(record) = record {
        directory::remove(&record).ok();
    }
    // Fails while there are other records.
    fs::remove_dir(repository.common_dir.join("worktrees")).ok();
}

/// Checks that the path does not exist and is not inside a working tree, where tools would find every file twice.
fn check_path(repository: &Repository, path: &Path) -> Result<(), Failure> {
    let shown = quote_path(path.as_os_str().as_encoded_bytes());
    if fs::symlink_metadata(path).is_ok() {
        return Err(Failure::new(FailureKind::Exists, format!("{shown} already exists")));
    }
    let real = worktrees::real(path);
    for worktree in worktrees::list(repository)? {
        if real.starts_with(worktrees::real(&worktree.path)) {
            let text = format!("{shown} is inside a working tree of the repository");
            return Err(Failure::new(FailureKind::Invalid, text));
        }
    }
    if real.starts_with(&repository.common_dir) {
        let text = format!("{shown} is inside the repository");
        return Err(Failure::new(FailureKind::Invalid, text));
    }
    Ok(())
}

fn fetch(request: &AddWorktree, undo: &mut Undo<'_>) -> Result<(), Failure> {
    let repository = undo.repository;
    // FETCH_HEAD belongs to the user.
    let call = || {
        let args = ["--quiet", "--no-write-fetch-head", "--no-recurse-submodules"];
        repository.git.call("fetch").args(args)
    };
    let failed = |failure: Failure| failure.of_kind(FailureKind::Fetch);
    if request.fetch {
        call().args(["--", "origin"]).done("cannot fetch from origin").map_err(failed)?;
    }
    if let (Start::Pull(number), false) = (&request.base, request.existing) {
        let name = revision::pull_ref(*number);
        let known = repository.commit_of(&name)?;
        let spec = format!("+refs/pull/{number}/head:{name}");
        let text = format!("cannot fetch pull request {number} from origin");
        call().args(["--no-tags", "--", "origin", &spec]).done(&text).map_err(failed)?;
        if let (None, Some(commit)) = (known, repository.commit_of(&name)?) {
            undo.created.push(Created::Ref { name, commit });
        }
    }
    Ok(())
}

/// Resolves the existing branch or creates a new one.
fn branch(
    request: &AddWorktree,
    attempt: &mut Attempt,
    undo: &mut Undo<'_>,
) -> Result<ResolvedStart, Failure> {
    let repository = undo.repository;
    let name = format!("refs/heads/{}", request.branch);
    let here = repository.commit_of(&name)?;
    if let Some(commit) = here {
        if !request.existing {
            let text = format!("branch {:?} already exists", request.branch.as_str());
            return Err(Failure::new(FailureKind::Exists, text));
        }
        refuse_if_in_use(repository, &name, request.branch.as_str())?;
        attempt.creates(None)?;
        return Ok(ResolvedStart { commit, name: Some(name) });
    }
    let start = if request.existing {
        let remote = format!("refs/remotes/origin/{}", request.branch);
        let commit = repository.commit_of(&remote)?.ok_or_else(|| {
            let text = format!(
                "branch {:?} does not exist, neither locally nor on origin",
                request.branch.as_str()
            );
            Failure::new(FailureKind::NotFound, text)
        })?;
        ResolvedStart { commit, name: Some(remote) }
    } else {
        revision::start(repository, &request.base)?
    };
    let commit = start.commit.clone();
    attempt.creates(Some(&commit))?;
    let text = format!("cannot create branch {:?}", request.branch.as_str());
    let step = Step::Create { name: name.clone(), commit: commit.clone() };
    refs::apply(repository, &[step]).map_err(|mut failure| {
        failure.0.text = text;
        failure
    })?;
    undo.created.push(Created::Ref { name, commit });
    if request.existing {
        let upstream = format!("--set-upstream-to=origin/{}", request.branch);
        let args = ["--quiet", &upstream, "--", request.branch.as_str()];
        repository.git.call("branch").args(args).done("cannot set the branch's upstream")?;
    }
    Ok(start)
}

/// Fails if the branch is checked out in another worktree. Both would move the branch.
fn refuse_if_in_use(repository: &Repository, name: &str, shown: &str) -> Result<(), Failure> {
    let list = worktrees::list(repository)?;
    let Some(user) = list.iter().find(|worktree| worktree.branch.as_deref() == Some(name)) else {
        return Ok(());
    };
    let place = quote_path(user.path.as_os_str().as_encoded_bytes());
    let text = format!("branch {shown:?} is checked out in {place}");
    Err(Failure::new(FailureKind::BranchInUse, text))
}

fn create_parents(path: &Path, undo: &mut Undo<'_>) -> Result<(), Failure> {
    let missing: Vec<&Path> =
        path.ancestors().skip(1).take_while(|parent| !parent.exists()).collect();
    for parent in missing.into_iter().rev() {
        match fs::create_dir(parent) {
            Ok(()) => undo.created.push(Created::Directory(parent.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let shown = quote_path(parent.as_os_str().as_encoded_bytes());
                return Err(Failure::io(&format!("cannot create {shown}"), &error));
            }
        }
    }
    Ok(())
}

/// Checks out the branch. Returns what is missing, in words.
fn check_out(
    request: &AddWorktree,
    path: &Path,
    undo: &mut Undo<'_>,
) -> Result<Vec<String>, Failure> {
    let shown = quote_path(path.as_os_str().as_encoded_bytes());
    let text = format!("cannot create worktree {shown}");
    // Created here, so that no other process can create it. git accepts an empty directory.
    fs::create_dir(path).map_err(|error| Failure::io(&text, &error))?;
    undo.created.push(Created::Worktree(path.to_owned()));
    let args = ["add", "--quiet", "--", request.path.as_str(), request.branch.as_str()];
    let add = || undo.repository.git.call("worktree").args(args);
    let is_without = lfs::or_pointers(add, &text)?;
    Ok(is_without.then(|| lfs::NOTE.to_owned()).into_iter().collect())
}
