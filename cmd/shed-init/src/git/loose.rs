//! Commits that only git's own files about a worktree name: a detached `HEAD` of the past, an interrupted rebase and its
//! autostash, a bisection, what a reset left behind. They are lost with the worktree unless a ref keeps them.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::checkpoint::IDENTITY;
use super::command::Git;
use super::failure::Failure;
use super::private_index::Scratch;
use super::repository::Repository;

/// The last bytes of a file that are searched; a reflog of 40,000 entries.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// The most parents of a commit that keeps others.
const MAX_PARENTS: usize = 100;
/// The message of such a commit.
const MESSAGE: &[u8] = b"Commits that no branch contained\n";
/// The message of a commit of what was staged.
const STAGED: &[u8] = b"Staged files\n";
/// Files and directories of a git directory without ids of commits: they have content or other repositories.
const WITHOUT_IDS: [&str; 5] = ["index", "modules", "objects", "info", "shed"];
/// The files and directories of an operation in progress.
const IN_PROGRESS: [&str; 3] = ["rebase-merge", "rebase-apply", "MERGE_AUTOSTASH"];

/// The files of git's record of a worktree that may name commits.
pub(crate) fn files_of(record: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(record).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|entry| !WITHOUT_IDS.iter().any(|name| entry.file_name() == *name));
    named.flat_map(|entry| files(entry.path())).collect()
}

/// The files of a git directory that name the commits of an operation in progress.
pub(crate) fn in_progress(git_dir: &Path) -> Vec<PathBuf> {
    IN_PROGRESS.iter().flat_map(|name| files(git_dir.join(name))).collect()
}

/// A file, or the files of a directory at any depth.
fn files(path: PathBuf) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![path]);
    while let Some(path) = left.pop() {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let entries = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
                left.extend(entries.map(|entry| entry.path()));
            }
            Ok(metadata) if metadata.is_file() => found.push(path),
            Ok(_) | Err(_) => {}
        }
    }
    found
}

/// The commits that files name and that exist.
pub(crate) fn named_in(git: &Git, files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut ids = BTreeSet::new();
    for file in files {
        // A file that has just vanished names nothing.
        ids.extend(ids_in(&read_end(file).unwrap_or_default()));
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let input: String = ids.into_iter().map(|id| id + "\n").collect();
    let check = "--batch-check=%(objecttype) %(objectname)";
    let call = git.call("cat-file").arg(check).input(input.into_bytes());
    let output = call.output("cannot look up commits")?;
    let listing = String::from_utf8_lossy(&output);
    Ok(listing.lines().filter_map(|line| line.strip_prefix("commit ")).map(str::to_owned).collect())
}

/// Makes a commit that has all these commits as ancestors which no ref reaches; `None` if refs reach them all.
pub(crate) fn keep(repository: &Repository, commits: &[String]) -> Result<Option<String>, Failure> {
    if commits.is_empty() {
        return Ok(None);
    }
    let input = commits.join("\n") + "\n";
    let args = ["--parents", "--ignore-missing", "--single-worktree", "--stdin", "--not", "--all"];
    let ended = repository.git.call("rev-list").args(args).input(input.into_bytes()).ended()?;
    // Commits whose history is incomplete cannot be kept by any ref.
    let listing = ended.success("cannot list commits").unwrap_or_default();
    let mut keeper: Option<String> = None;
    for tips in tips(&String::from_utf8_lossy(&listing)).chunks(MAX_PARENTS) {
        let tree = format!("{}^{{tree}}", tips[0]);
        let parents: Vec<&str> = tips.iter().copied().chain(keeper.as_deref()).collect();
        keeper = Some(commit(repository, &tree, &parents, MESSAGE)?);
    }
    Ok(keeper)
}

/// Makes a commit of what is staged in an index, without files in conflict, whose versions are in commits; `None` if the
/// index has nothing that is not in a commit or in a saved tree.
pub(crate) fn staged(
    repository: &Repository,
    index: &Path,
    head: Option<&str>,
    saved_tree: Option<&str>,
) -> Result<Option<String>, Failure> {
    let Some(index) = Scratch::of_index(&repository.git, index)? else { return Ok(None) };
    let unmerged =
        index.git().call("ls-files").args(["-u", "-z"]).output("cannot list conflicts")?;
    let names = unmerged.split(|byte| *byte == 0).filter_map(|entry| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        Some(&entry[tab + 1..])
    });
    let names: Vec<u8> = names.flat_map(|name| name.iter().copied().chain([0])).collect();
    if !names.is_empty() {
        let args = ["-z", "--force-remove", "--stdin"];
        let call = index.git().call("update-index").args(args).input(names);
        call.done("cannot read the staged files")?;
    }
    let Some(tree) = index.git().call("write-tree").line()? else { return Ok(None) };
    let head_tree = match head {
        Some(head) => {
            let name = format!("{head}^{{tree}}");
            repository.git.call("rev-parse").args(["--verify", "--quiet", &name]).line()?
        }
        None => Some(repository.empty_tree()?),
    };
    if head_tree.as_deref() == Some(&tree) || saved_tree == Some(&tree) {
        return Ok(None);
    }
    let parents: Vec<&str> = head.into_iter().collect();
    commit(repository, &tree, &parents, STAGED).map(Some)
}

fn commit(
    repository: &Repository,
    tree: &str,
    parents: &[&str],
    message: &[u8],
) -> Result<String, Failure> {
    let mut call = repository.git.call("commit-tree").arg("--no-gpg-sign").arg(tree);
    for parent in parents {
        call = call.args(["-p", parent]);
    }
    for (name, value) in IDENTITY {
        call = call.env(name, value);
    }
    let output = call.input(message.to_vec()).output("cannot keep commits")?;
    Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
}

/// The commits in a listing of commits and their parents that are no parents of others, in the order of the listing.
fn tips(listing: &str) -> Vec<&str> {
    let mut parents = HashSet::new();
    let mut commits = Vec::new();
    for line in listing.lines() {
        let mut words = line.split(' ');
        commits.extend(words.next());
        parents.extend(words);
    }
    commits.retain(|commit| !parents.contains(commit));
    commits
}

/// The last bytes of a file.
fn read_end(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MAX_FILE_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The words that have the form of a whole id: 40 or 64 hexadecimal digits.
fn ids_in(text: &[u8]) -> impl Iterator<Item = String> {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    let ids = words.filter(|word| {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        matches!(word.len(), 40 | 64) && word.iter().all(is_digit)
    });
    ids.map(|word| String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_words_of_40_or_64_digits() {
        let (short, long) = ("a1".repeat(20), "0f".repeat(32));
        let text = format!("x {short} {long}\n{short}0 {}g\t{short}\n", "a".repeat(39));
        let found: Vec<String> = ids_in(text.as_bytes()).collect();
        assert_eq!(found, [short.clone(), long, short]);
    }

    #[test]
    fn tips_are_no_parents_of_others() {
        assert_eq!(tips("c b\nd b x\nb a\n"), ["c", "d"]);
        assert!(tips("").is_empty());
    }
}
