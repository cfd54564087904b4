//! How many bytes what takes, for people who wonder where their disk went.

use std::path::Path;

use shed_link::git::{BoxPath, Sizes, WorktreeSize};

use super::failure::Failure;
use super::private_index;
use super::repository::Repository;
use super::tree;

/// Counts.
pub(crate) fn sizes(repo: &BoxPath, worktrees: &[BoxPath]) -> Result<Sizes, Failure> {
    let repository = Repository::open(repo)?;
    let worktrees = worktrees.iter().map(|path| {
        let (bytes, partial) = tree::size(Path::new(path.as_str()));
        WorktreeSize { path: path.to_string(), bytes, partial }
    });
    let indexes = private_index::directory(&repository, None);
    let index_bytes = if indexes.is_dir() { tree::size(&indexes).0 } else { 0 };
    let only = |glob| only_under(&repository, glob);
    Ok(Sizes {
        worktrees: worktrees.collect(),
        objects_bytes: objects(&repository)?,
        checkpoint_bytes: only("refs/shed/ckpt/*")?,
        trash_bytes: only("refs/shed/trash/*")?,
        ours_bytes: only("refs/shed/*")?,
        index_bytes,
    })
}

/// What is reachable from these refs and from no other, on disk. Refs of ours outside of the pattern count as others,
/// so that what two of them share is nobody's alone. `None` when git is too old to tell.
fn only_under(repository: &Repository, glob: &str) -> Result<Option<u64>, Failure> {
    let (these, others) = (format!("--glob={glob}"), format!("--exclude={glob}"));
    let words =
        ["--disk-usage", "--objects-edge-aggressive", &these, "--not", &others, "--all", "--"];
    let line = repository.git.call("rev-list").args(words).line()?;
    // Commits at the edge stand before the number.
    Ok(line.and_then(|line| line.lines().last()?.parse().ok()))
}

/// Loose and packed objects together.
fn objects(repository: &Repository) -> Result<Option<u64>, Failure> {
    let listing = repository.git.call("count-objects").arg("-v").line()?;
    Ok(listing.as_deref().and_then(parse))
}

fn parse(listing: &str) -> Option<u64> {
    let value = |key: &str| {
        let mut lines = listing.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")?.parse::<u64>().ok())
    };
    // Both are in KiB.
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
