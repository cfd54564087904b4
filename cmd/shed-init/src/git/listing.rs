//! The parser of the output of `git diff-tree --raw --numstat -z`. Pure.

use shed_api::git::{FileChange, FileStatus, quote_path};

/// A changed file, with its name as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The old mode in git's form; `000000` for an added file.
    pub(crate) old_mode: String,
    /// The new mode in git's form; `000000` for a deleted file.
    pub(crate) new_mode: String,
    /// The kind of change.
    pub(crate) status: FileStatus,
    /// The name.
    pub(crate) path: Vec<u8>,
    /// The old name of a renamed or copied file.
    pub(crate) old_path: Option<Vec<u8>>,
    /// The number of added lines; 0 for a binary file, or without `--numstat`.
    pub(crate) insertions: u64,
    /// The number of removed lines, in the same way.
    pub(crate) deletions: u64,
    /// Whether git considers it binary.
    pub(crate) binary: bool,
}

impl Change {
    /// The same in the form of the API.
    pub(crate) fn to_api(&self) -> FileChange {
        let mode = |mode: &str| (mode != "000000").then(|| mode.to_owned());
        FileChange {
            status: self.status,
            path: quote_path(&self.path),
            old_path: self.old_path.as_deref().map(quote_path),
            old_mode: mode(&self.old_mode),
            new_mode: mode(&self.new_mode),
            insertions: self.insertions,
            deletions: self.deletions,
            binary: self.binary,
        }
    }
}

/// Parses raw lines, and the numbers after them if there are any; `None` if any part does not parse.
pub(crate) fn parse(listing: &[u8]) -> Option<Vec<Change>> {
    if listing.is_empty() {
        return Some(Vec::new());
    }
    let mut fields = listing.strip_suffix(b"\0")?.split(|byte| *byte == 0).peekable();
    let mut changes = Vec::new();
    while let Some(head) = fields.next_if(|field| field.starts_with(b":")) {
        changes.push(raw(head, &mut fields)?);
    }
    let mut numbered = 0;
    while let Some(head) = fields.next() {
        let change = changes.get_mut(numbered)?;
        numbered += 1;
        let mut columns = head.splitn(3, |byte| *byte == b'\t');
        let (insertions, deletions, path) = (columns.next()?, columns.next()?, columns.next()?);
        let (old, new) =
            if path.is_empty() { (Some(fields.next()?), fields.next()?) } else { (None, path) };
        if old != change.old_path.as_deref() || new != change.path {
            return None;
        }
        change.binary = insertions == b"-" && deletions == b"-";
        if !change.binary {
            change.insertions = number(insertions)?;
            change.deletions = number(deletions)?;
        }
    }
    (numbered == 0 || numbered == changes.len()).then_some(changes)
}

/// Parses `:100644 100755 ID ID R090`, then one or two names.
fn raw<'a>(head: &[u8], fields: &mut impl Iterator<Item = &'a [u8]>) -> Option<Change> {
    let head = std::str::from_utf8(head.strip_prefix(b":")?).ok()?;
    let mut words = head.split(' ');
    let (old_mode, new_mode, _, _, status) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let status = match status.as_bytes().first()? {
        b'A' => FileStatus::Added,
        b'D' => FileStatus::Deleted,
        b'M' => FileStatus::Modified,
        b'T' => FileStatus::TypeChanged,
        b'R' => FileStatus::Renamed,
        b'C' => FileStatus::Copied,
        _ => return None,
    };
    let first = fields.next()?.to_vec();
    let (path, old_path) = match status {
        FileStatus::Renamed | FileStatus::Copied => (fields.next()?.to_vec(), Some(first)),
        FileStatus::Added
        | FileStatus::Deleted
        | FileStatus::Modified
        | FileStatus::TypeChanged => (first, None),
    };
    let (old_mode, new_mode) = (old_mode.to_owned(), new_mode.to_owned());
    let (insertions, deletions, binary) = (0, 0, false);
    Some(Change { old_mode, new_mode, status, path, old_path, insertions, deletions, binary })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_modes_and_numbers_are_parsed() {
        let listing = b":000000 100644 0 1 A\0-x\n\xff\0:100644 100755 1 2 R090\0old\0a\tb\0\
            :120000 000000 1 0 D\0bin\0\
            3\t0\t-x\n\xff\x001\t2\t\0old\0a\tb\0-\t-\tbin\0";
        let changes = parse(listing).unwrap();
        let seen: Vec<_> = changes
            .iter()
            .map(|change| {
                (change.status, change.path.as_slice(), change.insertions, change.deletions)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (FileStatus::Added, b"-x\n\xff".as_slice(), 3, 0),
                (FileStatus::Renamed, b"a\tb", 1, 2),
                (FileStatus::Deleted, b"bin", 0, 0),
            ]
        );
        assert_eq!(changes[1].old_path.as_deref(), Some(b"old".as_slice()));
        assert_eq!(changes[0].to_api().old_mode, None);
        assert_eq!(changes[0].to_api().path, "\"-x\\n\\377\"");
        assert!(changes[2].to_api().binary);
    }

    #[test]
    fn truncated_and_unknown_listings_do_not_parse() {
        for listing in [
            b"x".as_slice(),
            b":000000 100644 0 1 A\0",
            b":000000 100644 0 1 Q\0a\0",
            b":000000 100644 0 1 A\0a\x001\t2\tb\0",
            b"1\t2\ta\0",
            b":000000 100644 0 1 A\0a\0:000000 100644 0 1 A\0b\x001\t2\ta\0",
        ] {
            assert_eq!(parse(listing), None, "{:?}", String::from_utf8_lossy(listing));
        }
        assert_eq!(parse(b""), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_listing_makes_the_parser_panic(listing in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&listing);
        }
    }
}
