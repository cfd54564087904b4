//! Inspection of a shed: templates, worktrees, processes, spools, repositories. Every query runs as `dev`, without a shell,
//! and is bounded. Answers are checked before use: a shed may answer anything.

use crate::session::WORKSPACE;
use shed_model::Rejection;
use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use shed_link::git::{ContainerPath, GitDone, GitOp, RepoFacts};
use shed_link::leftover::{MAX_MARKED, MAX_SPOOLS, Marked, SpoolDir};
use shed_link::{Ran, Refusal, Run, Status};

use crate::Error;
use crate::session::templates::{
    self, File, IN_REPOSITORY, MAX_TEMPLATE_BYTES, MAX_TEMPLATES, SUFFIX,
};
use shed_guest::Link;
use shed_guest::git::{git, unexpected};

/// How long a query may take: a disk may be slow, a shed may hang.
const RUN_LIMIT_MS: u64 = 15_000;
/// The most worktrees that are inspected. A shed has dozens.
pub(crate) const MAX_WORKTREES: usize = 500;
/// The most repositories whose trash and checkpoints are inspected.
pub(crate) const MAX_REPOSITORIES: usize = 64;
/// Queries in one shed at once: each is a process there.
const AT_ONCE: usize = 4;

/// A directory in the directory of worktrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Its path as the shed reports it. It may be one that git cannot be given.
    pub(crate) path: String,
    /// What git reports; `None` when git was not asked.
    pub(crate) facts: Option<RepoFacts>,
}

/// A repository of a shed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repo {
    /// Its main directory, which is not a worktree.
    pub(crate) path: ContainerPath,
    /// The git directory that all its worktrees share.
    pub(crate) common_dir: String,
}

/// The directory of the default repository.
pub(crate) fn workspace(link: &Link) -> &str {
    let said = link.hello().workspace.as_str();
    if said.is_empty() { WORKSPACE } else { said }
}

async fn run(link: &Link, argv: Vec<String>) -> Result<Ran, Error> {
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: RUN_LIMIT_MS };
    Ok(link.run(run).await?)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// The entries of a directory, not recursive. Empty if there is no such directory.
async fn find(link: &Link, dir: &str, tests: &[&str]) -> Result<Vec<String>, Error> {
    let mut argv = words(&["find", dir, "-mindepth", "1", "-maxdepth", "1"]);
    argv.extend(words(tests));
    argv.push("-print0".to_owned());
    let ran = match run(link, argv).await {
        // A small image without it shows nothing, and works otherwise.
        Err(Error::Refused(Refusal::NotExecutable { missing: true, .. })) => {
            tracing::info!(shed = %link.shed(), dir, "the shed's image has no `find`; nothing is listed");
            return Ok(Vec::new());
        }
        ran => ran?,
    };
    let mut paths: Vec<String> =
        ran.stdout.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    if ran.truncated {
        // Its last name may be a part of one.
        paths.pop();
    }
    paths.sort();
    Ok(paths)
}

/// The directories of the workspace that have templates, sorted: repositories that are not the workspace itself.
pub(crate) async fn template_dirs(link: &Link) -> Result<Vec<String>, Error> {
    let root = workspace(link);
    let mut found = Vec::new();
    let below = find(link, root, &["-type", "d", "!", "-name", ".*"]).await?;
    for dir in below.into_iter().take(MAX_REPOSITORIES) {
        if !find(link, &format!("{dir}/{IN_REPOSITORY}"), &["-name", "*.toml"]).await?.is_empty() {
            found.push(dir);
        }
    }
    Ok(found)
}

/// The templates of the repository at `top`, by name, or only the one named `only`, which was parsed before.
pub(crate) async fn templates(
    link: &Link,
    top: &str,
    only: Option<&str>,
) -> Result<Vec<File>, Error> {
    let dir = format!("{top}/{IN_REPOSITORY}");
    let pattern = format!("{}{SUFFIX}", only.unwrap_or("*"));
    let mut paths = find(link, &dir, &["-name", &pattern, "-type", "f"]).await?;
    paths.truncate(MAX_TEMPLATES);
    let read = paths.into_iter().map(|path| async move {
        let file = path.rsplit('/').next().unwrap_or_default();
        let name = file.strip_suffix(SUFFIX).unwrap_or(file).to_owned();
        let limit = (MAX_TEMPLATE_BYTES + 1).to_string();
        let ran = run(link, words(&["head", "-c", &limit, "--", &path])).await?;
        let text = match ran.status {
            Status::Code(0) if ran.truncated || ran.stdout.len() > MAX_TEMPLATE_BYTES => {
                Err(templates::too_large())
            }
            Status::Code(0) => Ok(ran.stdout),
            Status::Code(_) | Status::Signal(_) => Err(ran.stderr),
        };
        Ok(File { name, text })
    });
    let read: Vec<Result<File, Error>> =
        futures_util::stream::iter(read).buffered(AT_ONCE).collect().await;
    read.into_iter().collect()
}

/// The directories in the directory of worktrees. Git is asked about those not in `known`.
pub(crate) async fn worktrees(
    link: &Link,
    known: &BTreeSet<&str>,
) -> Result<Vec<Directory>, Error> {
    let root = link.hello().worktrees.clone();
    if root.is_empty() {
        return Ok(Vec::new());
    }
    let mut paths = find(link, &root, &["-type", "d", "!", "-name", ".shed"]).await?;
    paths.truncate(MAX_WORKTREES);
    let looked = paths.into_iter().map(|path| async move {
        if known.contains(path.as_str()) {
            return Directory { path, facts: None };
        }
        let facts = match ContainerPath::try_from(path.clone()) {
            Ok(directory) => facts(link, directory).await.ok(),
            Err(_) => None,
        };
        Directory { path, facts }
    });
    Ok(futures_util::stream::iter(looked).buffered(AT_ONCE).collect().await)
}

/// What git reports about a directory.
pub(crate) async fn facts(link: &Link, directory: ContainerPath) -> Result<RepoFacts, Error> {
    match git(link, &GitOp::Facts { directory }).await?.0 {
        GitDone::Facts(facts) => Ok(facts),
        _ => Err(unexpected().into()),
    }
}

/// The repositories of these directories, each once.
pub(crate) async fn repositories(
    link: &Link,
    directories: BTreeSet<String>,
) -> Result<Vec<Repo>, Error> {
    let mut repos: Vec<Repo> = Vec::new();
    for directory in std::iter::once(workspace(link).to_owned()).chain(directories) {
        if repos.len() >= MAX_REPOSITORIES {
            break;
        }
        let Ok(path) = ContainerPath::try_from(directory) else {
            continue;
        };
        let facts = match facts(link, path.clone()).await {
            // A directory that is gone has no repository any more.
            Err(Error::Git { .. } | Error::Rejected(Rejection::Invalid(_))) => continue,
            facts => facts?,
        };
        if let Some(common_dir) = facts.common_dir.filter(|_| facts.repository)
            && !repos.iter().any(|repo| repo.common_dir == common_dir)
        {
            repos.push(Repo { path, common_dir });
        }
    }
    Ok(repos)
}

/// The processes whose environment names a session or worker.
pub(crate) async fn processes(link: &Link) -> Result<Vec<Marked>, Error> {
    own(link, &["orphans"], MAX_MARKED).await
}

/// Ends processes, each given by its id and start time.
pub(crate) async fn end_processes(link: &Link, ended: &[(u32, u64)]) -> Result<(), Error> {
    let mut argv = vec!["orphans".to_owned()];
    argv.extend(ended.iter().map(|(pid, started)| format!("{pid}:{started}")));
    done(&tell(link, argv).await?)
}

/// The spools of all workers.
pub(crate) async fn spools(link: &Link) -> Result<Vec<SpoolDir>, Error> {
    own(link, &["spools", &link.spool_dir()], MAX_SPOOLS).await
}

/// Removes the spools of these workers, unless a runner writes there.
pub(crate) async fn remove_spools(link: &Link, workers: &[String]) -> Result<(), Error> {
    let mut argv = words(&["spools", &link.spool_dir()]);
    argv.extend(workers.iter().cloned());
    done(&tell(link, argv).await?)
}

/// Removes an empty directory.
pub(crate) async fn remove_empty(link: &Link, path: &ContainerPath) -> Result<(), Error> {
    done(&run(link, words(&["rmdir", "--", path.as_str()])).await?)
}

async fn tell(link: &Link, mut argv: Vec<String>) -> Result<Ran, Error> {
    argv.insert(0, link.hello().program.clone());
    run(link, argv).await
}

fn done(ran: &Ran) -> Result<(), Error> {
    if ran.status == Status::Code(0) {
        return Ok(());
    }
    let said = shed_api::name::printable(&ran.stderr.trim().replace('\n', "; "));
    Err(Error::Connect(format!("the command failed in the shed: {said}")))
}

/// Runs a subcommand of shed-init that prints lines of JSON.
async fn own<T: serde::de::DeserializeOwned>(
    link: &Link,
    subcommand: &[&str],
    most: usize,
) -> Result<Vec<T>, Error> {
    let ran = tell(link, words(subcommand)).await?;
    if ran.status == Status::Code(2) {
        // It does not know the question.
        return Err(Error::Refused(Refusal::Unsupported));
    }
    done(&ran)?;
    let no_answer = || Error::Connect(format!("{} in the shed did not answer", subcommand[0]));
    let mut lines = ran.stdout.lines();
    if ran.truncated {
        lines.next_back();
    }
    lines.take(most).map(|line| serde_json::from_str(line).map_err(|_| no_answer())).collect()
}
