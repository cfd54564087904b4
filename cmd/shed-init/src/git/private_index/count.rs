//! An index with which git compares the working tree itself, so that counting changes writes nothing into the repository.

use std::collections::BTreeMap;

use shed_api::git::{SkippedFile, unquote_path};

use super::{Listing, PrivateIndex, Scratch};
use crate::git::failure::Failure;

/// The index's entry for a file that it does not have. git reads such a file in the working tree.
const NEW_FILE: &str = "100644";

/// An index that names all files which are compared. Those that differ from it are read in the working tree.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) index: Scratch,
    /// Files that cannot be read or are too large. They count as they are in the index.
    pub(crate) skipped: Vec<SkippedFile>,
}

impl PrivateIndex {
    /// Lists the files of the working tree in a temporary index.
    pub(crate) fn counted(&self, max_file_bytes: u64) -> Result<Counted, Failure> {
        let (listing, plan) = self.planned(max_file_bytes)?;
        let index = self.temporary("count")?;
        let mut entries = self.unmerged()?;
        let empty = self.git.call("hash-object").args(["-t", "blob", "/dev/null"]);
        let empty = empty.output("cannot list new files")?;
        let empty = String::from_utf8_lossy(&empty).trim_end().to_owned();
        let new = plan.added.keys().filter(|name| listing.untracked.contains(*name));
        entries.extend(new.map(|name| (name.clone(), format!("{NEW_FILE} {empty}"))));
        let mut input = Vec::new();
        for (name, entry) in entries {
            input.extend_from_slice(format!("{entry}\t").as_bytes());
            input.extend_from_slice(&name);
            input.push(0);
        }
        update(&index, &["-z", "--index-info"], input)?;
        let skipped = plan.skipped.iter().filter_map(|file| unquote_path(&file.path));
        let known = skipped.filter(|name| listing.tracked.contains(name));
        let input = known.flat_map(|name| name.into_iter().chain([0])).collect();
        // git does not look at a file with this mark.
        update(&index, &["--assume-unchanged", "-z", "--stdin"], input)?;
        Ok(Counted { index, skipped: plan.skipped })
    }

    /// Files in conflict, each with one of its versions: the file in the working tree is compared.
    fn unmerged(&self) -> Result<BTreeMap<Vec<u8>, String>, Failure> {
        let call = self.git.call("ls-files").args(["-u", "-z"]);
        let listing = call.output("cannot list conflicts")?;
        let entry = |entry: &[u8]| {
            let tab = entry.iter().position(|byte| *byte == b'\t')?;
            let version = String::from_utf8_lossy(&entry[..tab]);
            // Mode, id and stage.
            let (version, _) = version.rsplit_once(' ')?;
            Some((entry[tab + 1..].to_vec(), version.to_owned()))
        };
        Ok(listing.split(|byte| *byte == 0).filter_map(entry).collect())
    }
}

fn update(index: &Scratch, args: &[&str], input: Vec<u8>) -> Result<(), Failure> {
    if input.is_empty() {
        return Ok(());
    }
    index.git().call("update-index").args(args).input(input).done("cannot list changed files")
}

impl Listing {
    /// Parses the output of `ls-files -t -z`: a letter, a space and a name for each file. The letter is `?` for a file that
    /// the index does not have.
    pub(super) fn parse(output: &[u8]) -> Self {
        let mut listing = Self::default();
        for entry in output.split(|byte| *byte == 0) {
            let Some((letter, name)) = entry.split_at_checked(2) else { continue };
            listing.names.extend_from_slice(name);
            listing.names.push(0);
            let kind = if letter == b"? " { &mut listing.untracked } else { &mut listing.tracked };
            kind.insert(name.to_vec());
        }
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_and_changed_files_are_told_apart() {
        let listing = Listing::parse(b"? a b\0C c\nd\0R e\0? f/\0");
        assert_eq!(listing.names, b"a b\0c\nd\0e\0f/\0");
        assert!(listing.untracked.contains(b"a b".as_slice()));
        assert!(listing.tracked.contains(b"c\nd".as_slice()));
        assert_eq!((listing.untracked.len(), listing.tracked.len()), (2, 2));
    }
}
