//! Examines a worktree before it is removed: its files and commits, other worktrees and repositories inside it, and what the
//! trash cannot hold. Everything that removes a worktree begins here. It writes nothing that a user's git would notice.

mod files;
mod nested;
mod walk;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use shed_api::git::{Risk, Unsaved, quote_path};
use shed_link::git::{Branch, FailureKind, MAX_SHORT_LIST, SurveyWorktree};

use super::failure::Failure;
use super::repository::Repository;
use super::risk;
use super::status::Status;
use super::worktrees::{self, Worktree, real};

/// Why a file or directory cannot be saved that our user may not read.
const UNREADABLE: &str = "not readable";

/// A worktree that would be removed, or one inside it.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The top directory.
    pub(crate) path: PathBuf,
    /// Its files; `None` if there are none, or none of its own.
    pub(crate) files: Option<Repository>,
    /// git's entry in its list of worktrees.
    pub(crate) entry: Option<Worktree>,
    /// The directory of git's record of it.
    pub(crate) record: Option<PathBuf>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The session's repository; `None` if it is gone.
    pub(crate) repository: Option<Repository>,
    /// All worktrees of the repository, the main one first.
    pub(crate) list: Vec<Worktree>,
    /// The worktree itself.
    pub(crate) own: Tree,
    /// The repository's worktrees inside it.
    pub(crate) inside: Vec<Tree>,
    /// What would be lost or cannot be saved, as it is reported.
    pub(crate) risk: Risk,
}

/// Lists what removing a worktree would lose.
pub(crate) fn risk(request: &SurveyWorktree) -> Result<Risk, Failure> {
    Ok(survey(request)?.risk)
}

/// Examines a worktree.
pub(crate) fn survey(request: &SurveyWorktree) -> Result<Survey, Failure> {
    let path = Path::new(request.path.as_str());
    let repository = match Repository::open(&request.repo) {
        Ok(repository) => repository,
        Err(failure) if failure.kind() == FailureKind::NoGit => return Err(failure),
        Err(failure) => return Ok(without_repository(path, &failure)),
    };
    let list = worktrees::list(&repository)?;
    let (entry, others) = split(&repository, path, &list)?;
    let mut unsaved = Vec::new();
    // Looked up while the directory exists, since its path may contain symlinks.
    let record = worktrees::record(&repository, path);
    let branch = request.branch.as_ref().map(Branch::as_str);
    let files = files_at(&repository, path, record.as_deref(), branch, &mut unsaved)?;
    let own = Tree { path: path.to_owned(), files, entry, record };
    let mut inside: Vec<Tree> = others
        .into_iter()
        .map(|entry| Tree {
            record: worktrees::record(&repository, &entry.path),
            path: entry.path.clone(),
            files: None,
            entry: Some(entry),
        })
        .collect();
    unsaved.extend(look_inside(&repository, &own, &mut inside));
    let (status, head) = match &own.files {
        Some(files) if files.is_forgotten() => (files::changed(files)?, files.head()?),
        Some(files) => (Status::of(files)?, files.head()?),
        None => (Status::default(), own.entry.as_ref().and_then(|entry| entry.head.clone())),
    };
    let doomed = branch.filter(|_| request.delete_branch);
    let commits = risk::commits(&repository, head.as_deref(), doomed, request.base.as_ref())?;
    for tree in std::iter::once(&own).chain(&inside) {
        if let Some(files) = &tree.files {
            unsaved.extend(files::unsaved(files, path)?);
        }
    }
    unsaved.sort_by(|one, other| one.path.cmp(&other.path));
    unsaved.dedup_by(|one, other| one.path == other.path);
    let mut risk = commits.with(status);
    risk.n_unsaved = unsaved.len() as u64;
    unsaved.truncate(MAX_SHORT_LIST);
    risk.unsaved = unsaved;
    risk.locked = own.entry.as_ref().is_some_and(|entry| entry.locked);
    risk.n_worktrees = inside.len() as u64;
    let shown = inside.iter().take(MAX_SHORT_LIST);
    risk.worktrees = shown.map(|tree| quote_path(tree.path.as_os_str().as_bytes())).collect();
    Ok(Survey { repository: Some(repository), list, own, inside, risk })
}

/// A survey when the repository is gone or cannot be read. Nothing can be saved, so there must be nothing.
fn without_repository(path: &Path, failure: &Failure) -> Survey {
    let mut risk = Risk::default();
    if is_directory(path) && !walk::is_empty(path) {
        let why = format!("its repository cannot be used: {}", failure.0.text);
        risk.unsaved.push(unsaved(path, path, why));
        risk.n_unsaved = 1;
    }
    let own = Tree { path: path.to_owned(), files: None, entry: None, record: None };
    Survey { repository: None, list: Vec::new(), own, inside: Vec::new(), risk }
}

/// git's entry for the worktree at a path, and those of other worktrees inside it. A path that contains the repository is
/// refused.
fn split(
    repository: &Repository,
    path: &Path,
    list: &[Worktree],
) -> Result<(Option<Worktree>, Vec<Worktree>), Failure> {
    let shown = quote_path(path.as_os_str().as_bytes());
    let refuse =
        |what: &str| Err(Failure::new(FailureKind::Invalid, format!("{shown} contains {what}")));
    let top = real(path);
    if repository.common_dir.starts_with(&top) {
        return refuse("the repository");
    }
    let (mut own, mut others) = (None, Vec::new());
    for (n, worktree) in list.iter().enumerate() {
        let other = real(&worktree.path);
        if !other.starts_with(&top) {
            continue;
        }
        if n == 0 {
            return refuse("the main working tree of the repository");
        }
        if other == top {
            own = Some(worktree.clone());
        } else {
            others.push(worktree.clone());
        }
    }
    Ok((own, others))
}

/// The files of the worktree at a path. What is there and is not the session's worktree cannot be saved.
fn files_at(
    repository: &Repository,
    path: &Path,
    record: Option<&Path>,
    branch: Option<&str>,
    unsaveds: &mut Vec<Unsaved>,
) -> Result<Option<Repository>, Failure> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(None) };
    if metadata.is_symlink() || walk::is_empty(path) {
        return Ok(None);
    }
    let mut cannot = |why: &str| {
        unsaveds.push(unsaved(path, path, why.to_owned()));
        Ok(None)
    };
    if !metadata.is_dir() {
        return cannot("not a directory");
    }
    if !walk::may_search(path) {
        return cannot(UNREADABLE);
    }
    let dot_git = path.join(".git");
    match Repository::open_at(path) {
        Ok(files) if real(&files.toplevel) == real(path) => {
            if files.common_dir != repository.common_dir {
                return cannot(
                    "a repository of its own, not a worktree of the session's repository",
                );
            }
            if record.is_some_and(|record| real(record) == real(&files.git_dir)) {
                return Ok(Some(files));
            }
        }
        Err(failure) if failure.kind() == FailureKind::NoGit => return Err(failure),
        Ok(_) | Err(_) if is_directory(&dot_git) && !walk::is_empty(&dot_git) => {
            return cannot(nested::DAMAGED);
        }
        Ok(_) | Err(_) => {}
    }
    if record.is_none() && !dot_git.is_file() {
        let text = format!(
            "{} is not a worktree of the repository",
            quote_path(path.as_os_str().as_bytes())
        );
        return Err(Failure::new(FailureKind::Invalid, text));
    }
    Ok(Some(repository.forgotten_worktree(path, branch)))
}

/// Finds the files of the worktrees inside. Returns what only the repositories inside and the submodules have.
fn look_inside(repository: &Repository, own: &Tree, inside: &mut [Tree]) -> Vec<Unsaved> {
    let top = real(&own.path);
    let trees = std::iter::once(own).chain(&*inside);
    let records: Vec<PathBuf> =
        trees.filter_map(|tree| Some(real(tree.record.as_ref()?))).collect();
    let doomed: Vec<&Path> =
        std::iter::once(&*top).chain(records.iter().map(PathBuf::as_path)).collect();
    let mut unsaveds = Vec::new();
    let mut seen = BTreeSet::new();
    let found =
        if is_directory(&own.path) { walk::walk(&own.path) } else { walk::Found::default() };
    let unreadable = found.unreadable.iter();
    unsaveds.extend(unreadable.map(|path| unsaved(&own.path, path, UNREADABLE.to_owned())));
    for path in found.repositories {
        let nested = Repository::open_at(&path).ok();
        let Some(nested) = nested.filter(|nested| real(&nested.toplevel) == real(&path)) else {
            // The files beside a broken link to a repository count as those around them.
            if is_directory(&path.join(".git")) {
                unsaveds.push(unsaved(&own.path, &path, nested::DAMAGED.to_owned()));
            }
            continue;
        };
        let git_dir = real(&nested.git_dir);
        let is_it = |tree: &&mut Tree| {
            tree.record.as_ref().is_some_and(|record| real(record) == git_dir)
                && real(&tree.path) == real(&path)
        };
        if nested.common_dir == repository.common_dir
            && let Some(tree) = inside.iter_mut().find(is_it)
        {
            tree.files = Some(nested);
            continue;
        }
        seen.insert(git_dir);
        let lost = in_words(nested::loss(&nested, &doomed));
        unsaveds.extend(lost.map(|why| unsaved(&own.path, &path, why)));
    }
    let modules = records.iter().flat_map(|record| nested::modules(record));
    for module in modules.filter(|module| !seen.contains(module)) {
        // Not below the worktree: it is named by its own place.
        let path = quote_path(module.as_os_str().as_bytes());
        let lost = in_words(nested::module_loss(&module));
        unsaveds.extend(lost.map(|reason| Unsaved { path, reason }));
    }
    unsaveds
}

/// What would be lost with a repository. If git cannot read it, that is everything.
fn in_words(lost: Result<Option<String>, Failure>) -> Option<String> {
    lost.unwrap_or_else(|failure| Some(format!("{}: {}", nested::DAMAGED, failure.0.text)))
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Something that cannot be saved, by its path in the worktree; `.` is the worktree itself.
fn unsaved(top: &Path, path: &Path, reason: String) -> Unsaved {
    let name = path.strip_prefix(top).unwrap_or(path).as_os_str().as_bytes();
    let path = if name.is_empty() { ".".to_owned() } else { quote_path(name) };
    Unsaved { path, reason }
}
