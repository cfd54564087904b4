//! What is left of sessions: orphans, and what is kept of those that are gone.

use shed_model::Rejection;
use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use shed_api::work::{Gc, GcReport, Orphan, OrphanList};
use shed_api::{Scope, SessionName, SessionRef, ShedName};
use shed_link::git::{
    BoxPath, Branch, GitDone, GitOp, MAX_SIZE_GROUPS, RefLine, RemoveWorktree, ShedRef, Sizes,
};
use shed_tmux::argv::{self, Target};
use tokio::sync::oneshot;

use super::App;
use super::many::{repositories, trash_of};
use super::sessions::Place;
use crate::box_link::BoxLink;
use crate::files::git::{git, unexpected};
use crate::housekeeping::leftover::{self, Directory, Repo};
use crate::housekeeping::log_dirs;
use crate::housekeeping::orphans::{self, Evidence, Found, Thing};
use crate::housekeeping::retention::{self, DEFAULT_DAYS, Entry, Rules, State, Thing as Kept};
use crate::output::collector::blocking;
use crate::session::handle::Message;
use crate::shed::handle::KeeperHandle;
use crate::{Error, Person};

/// Questions to git at once.
const AT_ONCE: usize = 4;
/// What is said where git gives no name that can be used.
const NO_TREE: &str = "it is no working tree that git knows, and something is in it";

impl App {
    /// What is in a shed and belongs to no session that is remembered. Of a shed that does not run, what the server knows.
    pub async fn orphans(&self, person: &Person, name: &ShedName) -> Result<OrphanList, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see orphans")?;
        let link = {
            let view = handle.view.borrow();
            view.link.clone().filter(|_| view.can_be_entered())
        };
        Ok(orphans::shown(find_orphans(name, &handle, link.as_ref()).await?, &[]))
    }

    /// Cleans these orphans and no others, and answers what is left. A worktree goes only if nothing in it would be lost.
    pub async fn clean_orphans(
        &self,
        person: &Person,
        name: &ShedName,
        names: Vec<String>,
    ) -> Result<OrphanList, Error> {
        let place = self.enter_awake(person, name, Scope::Drive, "to clean orphans").await?;
        let found = find_orphans(name, &place.handle, Some(&place.link)).await?;
        let chosen = orphans::named(&found, name, &names)?;
        let mut kept: Vec<(Orphan, String)> = Vec::new();
        let mut processes = Vec::new();
        for Found { orphan, thing } in chosen {
            let cleaned = match thing {
                Thing::Process(pid, started) => {
                    processes.push((pid, started));
                    Ok(())
                }
                Thing::Tmux(id) => end_tmux(&place, person, id).await,
                Thing::Directory(directory) => self.remove_directory(&place, &directory).await,
                Thing::Record(id) => drop_record(&place, person, id).await,
                Thing::Session => {
                    let text = format!("shed sessions delete {name} {} deletes it", orphan.name);
                    Err(Error::Rejected(Rejection::Invalid(text)))
                }
            };
            if let Err(error) = cleaned {
                kept.push((orphan, error.to_string()));
            }
        }
        if !processes.is_empty() {
            leftover::end_processes(&place.link, &processes).await?;
        }
        let left = find_orphans(name, &place.handle, Some(&place.link)).await?;
        Ok(orphans::shown(left, &kept))
    }

    /// Removes a directory nothing would be lost with.
    async fn remove_directory(&self, place: &Place, directory: &Directory) -> Result<(), Error> {
        let path = BoxPath::try_from(directory.path.clone())?;
        let facts = directory.facts.as_ref().filter(|facts| facts.repository && facts.linked);
        let is_top = facts.is_some_and(|facts| facts.toplevel.as_ref() == Some(&directory.path));
        let (Some(facts), true) = (facts, is_top) else {
            // An empty one is not missed; of anything else nobody knows what it is worth.
            let removed = leftover::remove_empty(&place.link, &path).await;
            return removed.map_err(|_| Error::Rejected(Rejection::Invalid(NO_TREE.to_owned())));
        };
        let op = GitOp::Risk { worktree: path.clone(), base: None, branch: None };
        let (GitDone::Risk(risk), _) = git(&place.link, &op).await? else {
            return Err(unexpected());
        };
        let lost = shed_model::at_risk(&risk);
        if !lost.is_empty() {
            return Err(Error::Rejected(Rejection::Invalid(format!(
                "it has uncommitted or unpushed work: {lost}"
            ))));
        }
        let common_dir = facts.common_dir.as_deref().unwrap_or_default();
        let repo = repositories(place).await?.into_iter().find(|it| it.common_dir == common_dir);
        let repo = match (repo, common_dir.strip_suffix("/.git")) {
            (Some(repo), _) => repo.path,
            (None, Some(top)) => BoxPath::try_from(top.to_owned())?,
            (None, None) => {
                return Err(Error::Rejected(Rejection::Invalid(
                    "its repository was not found".to_owned(),
                )));
            }
        };
        let dir_name = directory.path.rsplit('/').next().unwrap_or_default();
        let trash: SessionName = dir_name.parse().or_else(|_| "worktree".parse::<SessionName>())?;
        let prefix = &self.settings().sessions.branch_prefix;
        let ours = facts.branch.as_ref().filter(|branch| branch.starts_with(prefix.as_str()));
        // Without a branch checked out one is named that is then left alone.
        let branch = facts.branch.clone().unwrap_or_else(|| format!("{prefix}{trash}"));
        let op = GitOp::RemoveWorktree(RemoveWorktree {
            repo,
            path,
            branch: Branch::try_from(branch)?,
            delete_branch: ours.is_some(),
            trash,
            session: None,
            state: None,
        });
        git(&place.link, &op).await.map(drop)
    }

    /// What shed keeps for a shed's sessions and why; removes, unless told not to, what nobody remembers and what was
    /// deleted long ago. Never a worktree, never anything of a session that is remembered.
    pub async fn gc(&self, person: &Person, name: &ShedName, gc: Gc) -> Result<GcReport, Error> {
        let needed = if gc.dry_run { Scope::Read } else { Scope::Drive };
        let place = self.enter_awake(person, name, needed, "to tidy up").await?;
        let link = &place.link;
        let logs_dir = self.resources.logs.shed_dir(name.as_str());
        // What is there is looked at first and what is remembered after: nobody's is what has no row then.
        let logs = blocking(move || Ok(log_dirs::list(&logs_dir))).await?;
        let spools = leftover::spools(link).await?;
        let repos = repositories(&place).await?;
        let mut refs = Vec::new();
        for repo in &repos {
            refs.push((refs_of(link, repo).await?, trash_of(link, repo).await?));
        }
        let directories = {
            let work = place.handle.work.view.borrow().clone();
            let known: BTreeSet<&str> =
                work.sessions.values().map(|it| it.row.spec.directory.as_str()).collect();
            leftover::worktrees(link, &known).await?
        };
        let ids = self.server.store.session_ids(name.to_string()).await?;
        let work = place.handle.work.view.borrow().clone();
        let days = gc.older_than_days.unwrap_or(DEFAULT_DAYS);
        let rules = Rules { work: &work, ids: &ids, now: self.server.clock.now(), days };
        let mut entries = rules.logs(logs);
        entries.extend(rules.spools(spools));
        for (n, (lines, trash)) in refs.into_iter().enumerate() {
            entries.extend(rules.checkpoints(n, &lines));
            entries.extend(rules.trash(n, trash));
        }
        let freed_refs = measure(link, &rules, &repos, &directories, &mut entries).await?;
        retention::sort(&mut entries);
        let mut freed_bytes = freed_refs;
        if !gc.dry_run {
            freed_bytes = self.remove(&place, &repos, &mut entries, freed_refs).await;
        }
        let removed = entries.iter().filter(|entry| {
            entry.item.remove && matches!(entry.thing, Kept::Log(_) | Kept::Spool(_))
        });
        freed_bytes += removed.map(|entry| entry.item.bytes).sum::<u64>();
        let items = entries.into_iter().map(|entry| entry.item).collect();
        Ok(GcReport { items, freed_bytes })
    }

    /// Removes what goes. What cannot be removed says so. Returns what was freed of refs.
    async fn remove(
        &self,
        place: &Place,
        repos: &[Repo],
        entries: &mut [Entry],
        freed_refs: u64,
    ) -> u64 {
        let spools: Vec<String> = entries
            .iter()
            .filter_map(|entry| match &entry.thing {
                Kept::Spool(worker) => Some(worker.clone()),
                Kept::Kept | Kept::Log(_) | Kept::Refs(..) => None,
            })
            .collect();
        let spools_gone = if spools.is_empty() {
            Ok(())
        } else {
            leftover::remove_spools(&place.link, &spools).await
        };
        let mut refs_gone = Vec::new();
        for (n, repo) in repos.iter().enumerate() {
            let refs: Vec<ShedRef> = refs_to_drop(entries, n);
            refs_gone.push(if refs.is_empty() {
                Ok(())
            } else {
                let op = GitOp::DropRefs { repo: repo.path.clone(), refs };
                git(&place.link, &op).await.map(drop)
            });
        }
        let all_refs_gone = refs_gone.iter().all(Result::is_ok);
        for entry in entries {
            let gone = match &entry.thing {
                Kept::Kept => Ok(()),
                Kept::Spool(_) => spools_gone.as_ref().map(drop).map_err(ToString::to_string),
                Kept::Refs(n, _) => refs_gone[*n].as_ref().map(drop).map_err(ToString::to_string),
                Kept::Log(worker) => {
                    let (logs, shed, worker) =
                        (self.resources.logs.clone(), place.shed.clone(), worker.clone());
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
}

async fn find_orphans(
    shed: &ShedName,
    handle: &KeeperHandle,
    link: Option<&BoxLink>,
) -> Result<Vec<Found>, Error> {
    let (mut directories, mut processes) = (Vec::new(), Vec::new());
    if let Some(link) = link {
        let work = handle.work.view.borrow().clone();
        let known: BTreeSet<&str> =
            work.sessions.values().map(|it| it.row.spec.directory.as_str()).collect();
        // One after the other: a session that is made meanwhile has its row before it has either.
        directories = leftover::worktrees(link, &known).await?;
        processes = leftover::processes(link).await?;
    }
    let table = handle.view.borrow().table.clone().filter(|_| link.is_some());
    let work = handle.work.view.borrow().clone();
    Ok(orphans::find(&Evidence {
        shed,
        work: &work,
        listing: table.as_ref().map(|table| &*table.listing),
        directories: &directories,
        processes: &processes,
    }))
}

async fn end_tmux(place: &Place, person: &Person, id: u32) -> Result<(), Error> {
    let target = SessionRef::Id(id);
    place.expect(&target, person).await;
    match place.tmux(argv::kill_session(&Target::Id(id)), &target).await {
        // It has ended.
        Ok(_) | Err(Error::NoSession { .. }) => {}
        Err(error) => return Err(error),
    }
    place.unshown(&target).await;
    Ok(())
}

async fn drop_record(place: &Place, person: &Person, id: String) -> Result<(), Error> {
    let (done, dropped) = oneshot::channel();
    place.handle.work.post(Message::DropRecord(id, person.actor.clone(), done)).await?;
    dropped.await.map_err(|_| Error::ShuttingDown)?
}

async fn refs_of(link: &BoxLink, repo: &Repo) -> Result<Vec<RefLine>, Error> {
    match git(link, &GitOp::Refs { repo: repo.path.clone() }).await?.0 {
        GitDone::Refs(lines) => Ok(lines),
        _ => Err(unexpected()),
    }
}

fn refs_to_drop(entries: &[Entry], repo: usize) -> Vec<ShedRef> {
    let of_entry = |entry: &Entry| match &entry.thing {
        Kept::Refs(n, refs) if *n == repo => refs.clone(),
        Kept::Kept | Kept::Log(_) | Kept::Spool(_) | Kept::Refs(..) => Vec::new(),
    };
    entries.iter().flat_map(of_entry).collect()
}

/// Measures what refs hold, adds worktrees and indexes, and says what would be freed of refs.
async fn measure(
    link: &BoxLink,
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
            directories.iter().filter_map(|it| BoxPath::try_from(it.path.clone()).ok()).collect()
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
    link: &BoxLink,
    repo: &Repo,
    worktrees: Vec<BoxPath>,
    groups: Vec<Vec<ShedRef>>,
) -> Result<Sizes, Error> {
    let op = GitOp::Sizes { repo: repo.path.clone(), worktrees, groups };
    match git(link, &op).await?.0 {
        GitDone::Sizes(sizes) => Ok(sizes),
        _ => Err(unexpected()),
    }
}

/// What is known of a directory whose session, if it has one, is not asked for it.
async fn state_of(link: &BoxLink, directory: &Directory) -> State {
    let Some(facts) = &directory.facts else {
        return State::Unknown;
    };
    let Some(path) = BoxPath::try_from(directory.path.clone()).ok().filter(|_| facts.repository)
    else {
        return State::NoTree;
    };
    match git(link, &GitOp::Risk { worktree: path, base: None, branch: None }).await {
        Ok((GitDone::Risk(risk), _)) => State::Risk(risk),
        Ok(_) | Err(_) => State::Unknown,
    }
}
