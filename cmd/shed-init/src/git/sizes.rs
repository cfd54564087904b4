//! Disk usage of a repository and its worktrees.

use std::collections::HashSet;
use std::path::Path;

use shed_link::git::{ContainerPath, MAX_SIZE_GROUPS, ShedRef, Sizes, WorktreeSize};

use super::directory;
use super::failure::Failure;
use super::private_index;
use super::repository::Repository;

/// Measures the disk usage.
pub(crate) fn sizes(
    repo: &ContainerPath,
    worktrees: &[ContainerPath],
    groups: &[Vec<ShedRef>],
) -> Result<Sizes, Failure> {
    let repository = Repository::open(repo)?;
    let worktrees = worktrees.iter().map(|path| {
        let (bytes, partial) = directory::size(Path::new(path.as_str()));
        WorktreeSize { path: path.to_string(), bytes, partial }
    });
    let indexes = private_index::directory(&repository, None);
    let index_bytes = if indexes.is_dir() { directory::size(&indexes).0 } else { 0 };
    let only = |glob| only_under(&repository, glob);
    Ok(Sizes {
        worktrees: worktrees.collect(),
        objects_bytes: objects(&repository)?,
        checkpoint_bytes: only("refs/shed/ckpt/*")?,
        trash_bytes: only("refs/shed/trash/*")?,
        ours_bytes: only("refs/shed/*")?,
        index_bytes,
        groups: of_groups(&repository, groups)?,
    })
}

/// The size of the objects that only one group of refs reaches, for each group. Refs that do not exist do not count.
fn of_groups(
    repository: &Repository,
    groups: &[Vec<ShedRef>],
) -> Result<Vec<Option<u64>>, Failure> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let listing = repository.git.call("for-each-ref").arg("--format=%(refname)");
    let listing = listing.output("cannot list refs")?;
    let listing = String::from_utf8_lossy(&listing);
    let all: Vec<&str> = listing.lines().collect();
    let head = repository.head()?;
    let measure = |group: &Vec<ShedRef>| {
        let group: HashSet<&str> = group.iter().map(ShedRef::as_str).collect();
        // Through standard input, since there may be more refs than fit on a command line.
        let lines = all.iter().map(|name| {
            let not = if group.contains(name) { "" } else { "^" };
            format!("{not}{name}\n")
        });
        // The checked-out commit may not be on a branch.
        let input: String = lines.chain(head.iter().map(|head| format!("^{head}\n"))).collect();
        let args = ["--disk-usage", "--objects-edge-aggressive", "--stdin"];
        let call = repository.git.call("rev-list").args(args).input(input.into_bytes());
        Ok(call.line()?.and_then(|line| line.lines().last()?.parse().ok()))
    };
    groups.iter().take(MAX_SIZE_GROUPS).map(measure).collect()
}

/// The size of the objects that only refs of this pattern reach. Other refs of shed count as others too, so that objects that
/// two of them share belong to neither. `None` if git is too old.
fn only_under(repository: &Repository, glob: &str) -> Result<Option<u64>, Failure> {
    let (these, others) = (format!("--glob={glob}"), format!("--exclude={glob}"));
    let args =
        ["--disk-usage", "--objects-edge-aggressive", &these, "--not", &others, "--all", "--"];
    let line = repository.git.call("rev-list").args(args).line()?;
    // git prints boundary commits before the number.
    Ok(line.and_then(|line| line.lines().last()?.parse().ok()))
}

/// The size of loose and packed objects together.
fn objects(repository: &Repository) -> Result<Option<u64>, Failure> {
    let listing = repository.git.call("count-objects").arg("-v").line()?;
    Ok(listing.as_deref().and_then(parse))
}

fn parse(listing: &str) -> Option<u64> {
    let value = |key: &str| {
        let mut lines = listing.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")?.parse::<u64>().ok())
    };
    // Both values are in KiB.
    value("size")?.checked_add(value("size-pack")?)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_and_packed_objects_are_added() {
        assert_eq!(
            parse("count: 3\nsize: 12\nin-pack: 0\npacks: 0\nsize-pack: 4\n"),
            Some(16 << 10)
        );
        assert_eq!(parse("count: 3"), None);
    }
}
