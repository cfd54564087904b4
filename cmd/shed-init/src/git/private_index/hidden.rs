//! Files that the user told git not to compare with the index: `skip-worktree` and `assume-unchanged`. git reports no change
//! of such a file and overwrites it without asking, so both marks are cleared in indexes of ours.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::git::command::Git;
use crate::git::failure::Failure;

/// The marked files of an index.
#[derive(Debug, Default, PartialEq, Eq)]
struct Marked {
    assume_unchanged: Vec<Vec<u8>>,
    skip_worktree: Vec<Vec<u8>>,
}

/// Clears the marks in git's index, which must not be the user's. Files that are absent keep `skip-worktree`, because a sparse
/// checkout is not a deletion; they are returned.
pub(super) fn reveal(git: &Git, top: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let listing = git.call("ls-files").args(["-v", "-z"]).output("cannot list marked files")?;
    let Marked { assume_unchanged, skip_worktree } = parse(&listing);
    clear(git, "--no-assume-unchanged", &assume_unchanged)?;
    reveal_present(git, top, skip_worktree)
}

/// Clears `skip-worktree` of the files that are present. Returns the others.
pub(super) fn reveal_present(
    git: &Git,
    top: &Path,
    names: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let is_present =
        |name: &Vec<u8>| fs::symlink_metadata(top.join(OsStr::from_bytes(name))).is_ok();
    let (present, absent): (Vec<Vec<u8>>, Vec<Vec<u8>>) = names.into_iter().partition(is_present);
    clear(git, "--no-skip-worktree", &present)?;
    Ok(absent)
}

fn clear(git: &Git, option: &str, names: &[Vec<u8>]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let input = names.iter().flat_map(|name| name.iter().copied().chain([0])).collect();
    let call = git.call("update-index").args([option, "-z", "--stdin"]).input(input);
    call.done("cannot read marked files")
}

/// Parses the output of `ls-files -v -z`: a letter, a space and a name for each file. The letter is small for
/// `assume-unchanged`, and `S` or `s` for `skip-worktree`.
fn parse(listing: &[u8]) -> Marked {
    let mut marked = Marked::default();
    for entry in listing.split(|byte| *byte == 0) {
        let Some((letter, name)) = entry.split_first().and_then(|(letter, rest)| {
            let name = rest.strip_prefix(b" ")?;
            Some((*letter, name.to_vec()))
        }) else {
            continue;
        };
        if letter.is_ascii_lowercase() {
            marked.assume_unchanged.push(name.clone());
        }
        if letter.eq_ignore_ascii_case(&b'S') {
            marked.skip_worktree.push(name);
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_parsed_from_gits_letters() {
        let marked = parse(b"H a\0h b c\0S d\0s e\nf\0M g\0");
        assert_eq!(marked.assume_unchanged, [b"b c".to_vec(), b"e\nf".to_vec()]);
        assert_eq!(marked.skip_worktree, [b"d".to_vec(), b"e\nf".to_vec()]);
        assert_eq!(parse(b""), Marked::default());
    }
}
