//! The files in a log's directory: their names, and listing them.
//!
//! A chunk is a part of the output without a hole. `START.log` has its bytes uncompressed, `START-END.gz` the same bytes
//! compressed, `START.marks` its marks. The names contain the offsets, so that no index is needed. The marks of a chunk are
//! created before its bytes and removed after them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{Error, MAX_OFFSET};

/// Only the server's user may read terminal output.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Decimal digits of [`MAX_OFFSET`]; a fixed width makes names sort as numbers do.
const DIGITS: usize = 16;

/// A file of a log, parsed from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Raw { start: u64 },
    Gz { start: u64, end: u64 },
    Marks { start: u64 },
    Unfinished { start: u64 },
}

impl Name {
    /// `None` for a file that is not ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (stem, suffix) = name.split_once('.')?;
        match suffix {
            "log" => Some(Self::Raw { start: number(stem)? }),
            "marks" => Some(Self::Marks { start: number(stem)? }),
            "tmp" => Some(Self::Unfinished { start: number(stem)? }),
            "gz" => {
                let (start, end) = stem.split_once('-')?;
                let (start, end) = (number(start)?, number(end)?);
                (start <= end).then_some(Self::Gz { start, end })
            }
            _ => None,
        }
    }

    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Raw { start } => format!("{start:0DIGITS$}.log"),
            Self::Gz { start, end } => format!("{start:0DIGITS$}-{end:0DIGITS$}.gz"),
            Self::Marks { start } => format!("{start:0DIGITS$}.marks"),
            Self::Unfinished { start } => format!("{start:0DIGITS$}.tmp"),
        })
    }
}

fn number(digits: &str) -> Option<u64> {
    if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number <= MAX_OFFSET)
}

/// The files of one chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) raw: bool,
    /// The end offset, from the name.
    pub(crate) gz: Option<u64>,
    pub(crate) marks: bool,
    pub(crate) unfinished: bool,
}

/// The chunks of `dir` by their starts.
pub(crate) fn list(dir: &Path) -> Result<BTreeMap<u64, Parts>, Error> {
    let failed = |source| Error::io("list", dir, source);
    let mut found: BTreeMap<u64, Parts> = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        // A log without output has no directory.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        match name.to_str().and_then(Name::parse) {
            Some(Name::Raw { start }) => found.entry(start).or_default().raw = true,
            Some(Name::Gz { start, end }) => found.entry(start).or_default().gz = Some(end),
            Some(Name::Marks { start }) => found.entry(start).or_default().marks = true,
            Some(Name::Unfinished { start }) => found.entry(start).or_default().unfinished = true,
            None => {}
        }
    }
    Ok(found)
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
    made.map_err(|source| Error::io("create", dir, source))
}

/// Opens a file for appending; creates it if it does not exist.
pub(crate) fn append_to(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
    opened.map_err(|source| Error::io("open", path, source))
}

/// Creates an empty file for appending; an existing one is truncated.
pub(crate) fn create(path: &Path) -> Result<File, Error> {
    let file = append_to(path)?;
    file.set_len(0).map_err(|source| Error::io("empty", path, source))?;
    Ok(file)
}

/// Removes a file. A missing one is no error.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// The length of a file, in bytes.
pub(crate) fn length(path: &Path) -> Result<u64, Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::io("inspect", path, source))?;
    Ok(metadata.len())
}

/// Syncs a directory, so that new and changed names survive a power failure.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|opened| opened.sync_all());
    synced.map_err(|source| Error::io("sync", dir, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_as_written_and_foreign_ones_are_ignored() {
        let dir = Path::new("");
        for name in [
            Name::Raw { start: 0 },
            Name::Gz { start: 5, end: MAX_OFFSET },
            Name::Marks { start: MAX_OFFSET },
            Name::Unfinished { start: 77 },
        ] {
            assert_eq!(Name::parse(name.path(dir).to_str().unwrap()), Some(name));
        }
        for name in ["lock", "1.log", "+000000000000001.log", "9999999999999999.log", "x.gz"] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
        assert_eq!(Name::parse("0000000000000002-0000000000000001.gz"), None);
    }
}
