//! Refs of shed: listed, created and deleted. A change of several refs is made completely or not at all.

use shed_link::git::{ContainerPath, FailureKind, MAX_LISTED_REFS, RefLine, ShedRef};

use super::failure::Failure;
use super::repository::Repository;

/// The prefix of all refs of shed.
const PREFIX: &str = "refs/shed/";
/// The fields that `for-each-ref` prints for each ref.
const FORMAT: &str =
    "--format=%(refname)%00%(objectname)%00%(tree)%00%(committerdate:unix)%00%(contents)%00";
/// The number of these fields.
const N_FIELDS: usize = 5;
/// The most bytes of a commit message that are kept; those of checkpoints are far shorter.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// A ref that points to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) commit: String,
    pub(crate) tree: String,
    /// The commit's time, in seconds since 1970.
    pub(crate) time: i64,
    pub(crate) message: String,
}

/// A change of a ref, as part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Create the ref; it must not exist.
    Create { name: String, commit: String },
    /// Delete the ref; it must point to this commit.
    Delete { name: String, commit: String },
}

/// The refs below a prefix, which ends at a part of the path, or the ref of this name.
pub(crate) fn list(repository: &Repository, prefix: &str) -> Result<Vec<Entry>, Failure> {
    let call = repository.git.call("for-each-ref").args([FORMAT, "--", prefix]);
    let output = call.output("cannot list refs")?;
    parse(&output).ok_or_else(|| Failure::new(FailureKind::Git, "cannot parse git's list of refs"))
}

/// Creates a ref; `false` if another process has created it before.
pub(crate) fn create(repository: &Repository, name: &str, commit: &str) -> Result<bool, Failure> {
    let step = Step::Create { name: name.to_owned(), commit: commit.to_owned() };
    match apply(repository, &[step]) {
        Ok(()) => Ok(true),
        Err(failure) => {
            let taken = repository.commit_of(name)?.is_some();
            if taken { Ok(false) } else { Err(failure) }
        }
    }
}

/// Makes all changes or none.
pub(crate) fn apply(repository: &Repository, steps: &[Step]) -> Result<(), Failure> {
    if steps.is_empty() {
        return Ok(());
    }
    let mut input = Vec::new();
    for step in steps {
        let line = match step {
            Step::Create { name, commit } => format!("create {name}\0{commit}\0"),
            Step::Delete { name, commit } => format!("delete {name}\0{commit}\0"),
        };
        input.extend(line.into_bytes());
    }
    let call = repository.git.call("update-ref").args(["--stdin", "-z", "--no-deref"]);
    call.input(input).done("cannot change refs")
}

/// Lists all refs of shed.
pub(crate) fn all(repo: &ContainerPath) -> Result<Vec<RefLine>, Failure> {
    let repository = Repository::open(repo)?;
    let entries = list(&repository, PREFIX)?;
    let line = |entry: Entry| RefLine { name: entry.name, commit: entry.commit, time: entry.time };
    Ok(entries.into_iter().take(MAX_LISTED_REFS).map(line).collect())
}

/// Deletes refs of shed. Refs that do not exist are not an error.
pub(crate) fn drop_refs(repo: &ContainerPath, names: &[ShedRef]) -> Result<(), Failure> {
    let repository = Repository::open(repo)?;
    let entries = list(&repository, PREFIX)?;
    let wanted: std::collections::HashSet<&str> = names.iter().map(ShedRef::as_str).collect();
    let steps: Vec<Step> = entries
        .into_iter()
        .filter(|entry| wanted.contains(entry.name.as_str()))
        .map(|entry| Step::Delete { name: entry.name, commit: entry.commit })
        .collect();
    apply(&repository, &steps)
}

fn parse(listing: &[u8]) -> Option<Vec<Entry>> {
    let mut fields: Vec<&[u8]> = listing.split(|byte| *byte == 0).collect();
    // The last field is the line end.
    let last = fields.pop()?;
    if !matches!(last, b"" | b"\n") || !fields.len().is_multiple_of(N_FIELDS) {
        return None;
    }
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut entries = Vec::new();
    for record in fields.chunks_exact(N_FIELDS) {
        let name = record[0].strip_prefix(b"\n").unwrap_or(record[0]);
        // A ref to a tag, a tree or a blob has no time. shed creates no such refs.
        let Ok(time) = text(record[3]).parse() else { continue };
        let message = &record[4][..record[4].len().min(MAX_MESSAGE_BYTES)];
        entries.push(Entry {
            name: text(name),
            commit: text(record[1]),
            tree: text(record[2]),
            time,
            message: text(message),
        });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_with_messages_of_several_lines_are_parsed() {
        let listing = b"refs/shed/a\0c1\0t1\x0017\0one\n\ntwo\n\0\nrefs/shed/b\0c2\0\0\0tag\0\n";
        let entries = parse(listing).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].name, "refs/shed/a");
        assert_eq!(entries[0].time, 17);
        assert_eq!(entries[0].message, "one\n\ntwo\n");
        assert_eq!(parse(b""), Some(Vec::new()));
        assert_eq!(parse(b"refs/shed/a\0c1"), None);
    }
}
