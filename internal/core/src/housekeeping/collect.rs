//! Garbage collection: what shed keeps for a shed's sessions and why, and the removal of data without an owner.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use shed_api::work::{Gc, GcReport};
use shed_link::git::{ContainerPath, GitDone, GitOp, MAX_SIZE_GROUPS, RefLine, ShedRef, Sizes};

use crate::Error;
use crate::files::trash::{repositories, trash_of};
use crate::housekeeping::leftover::{self, Directory, Repo};
use crate::housekeeping::log_dirs;
use crate::housekeeping::retention::{self, DEFAULT_DAYS, Entry, Removal, Rules, State};
use crate::output::collector::blocking;
use crate::output::logs::Logs;
use crate::server::Server;
use crate::shed::entered::Entered;
use shed_guest::Link;
use shed_guest::git::{git, unexpected};

/// git commands at once.
const AT_ONCE: usize = 4;

/// Lists what is kept; removes, unless it is a dry run, what belongs to no session and what was deleted long ago. Never a
/// worktree, never anything of a managed session.
pub(crate) async fn collect(
    server: &Server,
    logs: &Logs,
    entered: &Entered,
    gc: &Gc,
) -> Result<GcReport, Error> {
    let link = &entered.link;
    let logs_dir = logs.shed_dir(entered.shed.as_str());
    // What exists is read first and the rows after: what has no row then is nobody's.
    let log_dirs = blocking(move || Ok(log_dirs::list(&logs_dir))).await?;
    let spools = leftover::spools(link).await?;
    let repos = repositories(server, entered).await?;
    let mut refs = Vec::new();
    for repo in &repos {
        refs.push((refs_of(link, repo).await?, trash_of(link, repo).await?));
    }
    let directories = {
        let work = entered.handle.work.view.borrow().clone();
        let known: BTreeSet<&str> =
            work.sessions.values().map(|it| it.row.spec.directory.as_str()).collect();
        leftover::worktrees(link, &known).await?
    };
    let ids = server.store.session_ids(entered.shed.to_string()).await?;
    let work = entered.handle.work.view.borrow().clone();
    let days = gc.older_than_days.unwrap_or(DEFAULT_DAYS);
    let rules = Rules { work: &work, ids: &ids, now: server.clock.now(), days };
    let mut entries = rules.logs(log_dirs);
    entries.extend(rules.spools(spools));
    for (n, (lines, trash)) in refs.into_iter().enumerate() {
        entries.extend(rules.checkpoints(n, &lines));
        entries.extend(rules.trash(n, trash));
    }
    let freed_refs = measure(link, &rules, &repos, &directories, &mut entries).await?;
    retention::sort(&mut entries);
    let mut freed_bytes = freed_refs;
    if !gc.dry_run {
        freed_bytes = remove(logs, entered, &repos, &mut entries, freed_refs).await;
    }
    let removed = entries.iter().filter(|entry| {
        entry.item.remove && matches!(entry.removal, Removal::Log(_) | Removal::Spool(_))
    });
    freed_bytes += removed.map(|entry| entry.item.bytes).sum::<u64>();
    let items = entries.into_iter().map(|entry| entry.item).collect();
    Ok(GcReport { items, freed_bytes })
}

/// Removes what is to be removed, and marks what could not be. Returns the bytes that were freed of refs.
async fn remove(
    logs: &Logs,
    entered: &Entered,
    repos: &[Repo],
    entries: &mut [Entry],
    freed_refs: u64,
) -> u64 {
    let spools: Vec<String> = entries
        .iter()
        .filter_map(|entry| match &entry.removal {
            Removal::Spool(worker) => Some(worker.clone()),
            Removal::Nothing | Removal::Log(_) | Removal::Refs(..) => None,
        })
        .collect();
    let spools_gone = if spools.is_empty() {
        Ok(())
    } else {
        leftover::remove_spools(&entered.link, &spools).await
    };
    let mut refs_gone = Vec::new();
    for (n, repo) in repos.iter().enumerate() {
        let refs: Vec<ShedRef> = refs_to_drop(entries, n);
        refs_gone.push(if refs.is_empty() {
            Ok(())
        } else {
            let op = GitOp::DropRefs { repo: repo.path.clone(), refs };
            git(&entered.link, &op).await.map(drop)
        });
    }
    let all_refs_gone = refs_gone.iter().all(Result::is_ok);
    for entry in entries {
        let gone = match &entry.removal {
            Removal::Nothing => Ok(()),
            Removal::Spool(_) => spools_gone.as_ref().map(drop).map_err(ToString::to_string),
            Removal::Refs(n, _) => refs_gone[*n].as_ref().map(drop).map_err(ToString::to_string),
            Removal::Log(worker) => {
                let (logs, shed, worker) = (logs.clone(), entered.shed.clone(), worker.clone());
                let removed = blocking(move || logs.remove(shed.as_str(), &worker)).await;
                removed.map_err(|error| error.to_string())
            }
        };
        if let Err(why) = gone {
            entry.stays(&why);
        }
    }
    if all_refs_gone { freed_refs } else { 0 }
}

async fn refs_of(link: &Link, repo: &Repo) -> Result<Vec<RefLine>, Error> {
    match git(link, &GitOp::Refs { repo: repo.path.clone() }).await?.0 {
        GitDone::Refs(lines) => Ok(lines),
        _ => Err(unexpected().into()),
    }
}

fn refs_to_drop(entries: &[Entry], repo: usize) -> Vec<ShedRef> {
    let of_entry = |entry: &Entry| match &entry.removal {
        Removal::Refs(n, refs) if *n == repo => refs.clone(),
        Removal::Nothing | Removal::Log(_) | Removal::Spool(_) | Removal::Refs(..) => Vec::new(),
    };
    entries.iter().flat_map(of_entry).collect()
}

/// Measures what refs hold, adds worktrees and indexes, and says what would be freed of refs.
async fn measure(
    link: &Link,
    rules: &Rules<'_>,
    repos: &[Repo],
    directories: &[Directory],
    entries: &mut Vec<Entry>,
) -> Result<u64, Error> {
    let mut freed = 0;
    let mut worktree_bytes = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for (n, repo) in repos.iter().enumerate() {
        // What goes is asked for first: there may be more than is measured at once.
        let mut asked: Vec<usize> = (0..entries.len())
            .filter(|at| entries[*at].measured.as_ref().is_some_and(|(of, _)| *of == n))
            .collect();
        asked.sort_by_key(|at| !entries[*at].item.remove);
        asked.truncate(MAX_SIZE_GROUPS - 1);
        // All that goes, together: what two of them share goes with both only.
        let mut groups = vec![refs_to_drop(entries, n)];
        let refs = |at: &usize| entries[*at].measured.as_ref().map(|(_, refs)| refs.clone());
        groups.extend(asked.iter().filter_map(refs));
        let worktrees = if n == 0 {
            directories
                .iter()
                .filter_map(|it| ContainerPath::try_from(it.path.clone()).ok())
                .collect()
        } else {
            Vec::new()
        };
        let sizes = sizes_of(link, repo, worktrees, groups).await?;
        let bytes = |at: usize| sizes.groups.get(at).copied().flatten();
        freed += bytes(0).filter(|_| !refs_to_drop(entries, n).is_empty()).unwrap_or(0);
        for (group, at) in asked.iter().enumerate() {
            entries[*at].item.bytes = bytes(group + 1).unwrap_or(0);
        }
        worktree_bytes.extend(sizes.worktrees.into_iter().map(|it| (it.path, it.bytes)));
        found.push(rules.index(repo.path.as_str(), sizes.index_bytes));
    }
    // Collected first: with the closure in it the future would be good for one lifetime only, and no task takes that.
    let states: Vec<_> = directories.iter().map(|it| state_of(link, it)).collect();
    let states: Vec<State> = futures_util::stream::iter(states).buffered(AT_ONCE).collect().await;
    for (directory, state) in directories.iter().zip(&states) {
        let bytes = worktree_bytes.get(&directory.path).copied();
        found.push(rules.worktree(&directory.path, bytes, state));
    }
    entries.extend(found);
    Ok(freed)
}

async fn sizes_of(
    link: &Link,
    repo: &Repo,
    worktrees: Vec<ContainerPath>,
    groups: Vec<Vec<ShedRef>>,
) -> Result<Sizes, Error> {
    let op = GitOp::Sizes { repo: repo.path.clone(), worktrees, groups };
    match git(link, &op).await?.0 {
        GitDone::Sizes(sizes) => Ok(sizes),
        _ => Err(unexpected().into()),
    }
}

/// What is known of a directory whose session, if it has one, is not asked for it.
async fn state_of(link: &Link, directory: &Directory) -> State {
    let Some(facts) = &directory.facts else {
        return State::Unknown;
    };
    let Some(path) =
        ContainerPath::try_from(directory.path.clone()).ok().filter(|_| facts.repository)
    else {
        return State::NoTree;
    };
    match git(link, &GitOp::Risk { worktree: path, base: None, branch: None }).await {
        Ok((GitDone::Risk(risk), _)) => State::Risk(risk),
        Ok(_) | Err(_) => State::Unknown,
    }
}
