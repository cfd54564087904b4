//! Our refs: listed, made, moved and dropped, each change all or nothing.

use shed_link::git::{BoxPath, FailureKind, MAX_LISTED_REFS, RefLine, ShedRef};

use super::failure::Failure;
use super::repository::Repository;

/// Under which everything of ours is.
const OURS: &str = "refs/shed/";
/// What `for-each-ref` prints of each ref.
const FORMAT: &str =
    "--format=%(refname)%00%(objectname)%00%(tree)%00%(committerdate:unix)%00%(contents)%00";
/// How many fields that is.
const N_FIELDS: usize = 5;
/// The most bytes of a commit's message that are kept; ours are far shorter.
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

/// A change of a ref, part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make it; there is none.
    Create { name: String, commit: String },
    /// Delete it; it points there.
    Delete { name: String, commit: String },
}

/// The refs with that beginning, whole path parts, or that name.
pub(crate) fn list(repository: &Repository, prefix: &str) -> Result<Vec<Entry>, Failure> {
    let call = repository.git.call("for-each-ref").args([FORMAT, "--", prefix]);
    let output = call.output("cannot list refs")?;
    parse(&output)
        .ok_or_else(|| Failure::new(FailureKind::Git, "git listed refs in an unknown form"))
}

/// Makes a ref that does not exist; `false` when somebody else has made it.
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

/// Does all steps or none.
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

/// All refs of ours.
pub(crate) fn all(repo: &BoxPath) -> Result<Vec<RefLine>, Failure> {
    let repository = Repository::open(repo)?;
    let entries = list(&repository, OURS)?;
    let line = |entry: Entry| RefLine { name: entry.name, commit: entry.commit, time: entry.time };
    Ok(entries.into_iter().take(MAX_LISTED_REFS).map(line).collect())
}

/// Deletes refs of ours; those that are gone already are no failure.
pub(crate) fn drop_refs(repo: &BoxPath, names: &[ShedRef]) -> Result<(), Failure> {
    let repository = Repository::open(repo)?;
    let entries = list(&repository, OURS)?;
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
    // The line end after the last field.
    let last = fields.pop()?;
    if !matches!(last, b"" | b"\n") || !fields.len().is_multiple_of(N_FIELDS) {
        return None;
    }
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut entries = Vec::new();
    for record in fields.chunks_exact(N_FIELDS) {
        let name = record[0].strip_prefix(b"\n").unwrap_or(record[0]);
        // A ref to a tag, a tree or a blob has no time; nobody needs it in a list of ours.
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
    fn refs_are_read_with_messages_of_several_lines() {
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
