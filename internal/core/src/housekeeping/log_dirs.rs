//! Sizes and ages of workers' directories in the server's logs.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use chrono::{DateTime, Utc};

/// The most files that are counted in a shed's logs.
const MAX_FILES: usize = 1_000_000;
/// The unit of `st_blocks` in bytes.
const BLOCK_BYTES: u64 = 512;
/// A worker's directory in the server's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDir {
    /// Its name: the worker's id.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// When something in it was last written.
    pub(crate) modified: DateTime<Utc>,
}

/// The directories of a shed's logs. Blocks on the disk. What cannot be read is not counted.
pub(crate) fn list(dir: &Path) -> Vec<LogDir> {
    let mut left = MAX_FILES;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| {
        let (bytes, modified) = walk(&entry.path(), &mut left);
        let name = entry.file_name().to_string_lossy().into_owned();
        let modified = DateTime::from_timestamp(modified, 0).unwrap_or_default();
        LogDir { name, bytes, modified }
    })
    .collect()
}

/// A directory's size on disk in bytes, and its last change in seconds since 1970.
fn walk(dir: &Path, left: &mut usize) -> (u64, i64) {
    let (mut bytes, mut modified) = (0_u64, 0);
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let own = std::fs::symlink_metadata(&dir).map_or(0, |file| file.mtime());
        modified = modified.max(own);
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Of the entry itself: a symlink is not followed.
            let Ok(metadata) = entry.metadata() else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 {
                return (bytes, modified);
            }
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK_BYTES));
            modified = modified.max(metadata.mtime());
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    (bytes, modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_measured_without_following_symlinks() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs").join("a".repeat(32));
        std::fs::create_dir_all(log.join("chunks")).unwrap();
        std::fs::write(log.join("chunks/1"), vec![1; 8192]).unwrap();
        std::fs::write(dir.path().join("logs/file"), "x").unwrap();
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("large"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&other, log.join("link")).unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("logs/link")).unwrap();
        let found = list(&dir.path().join("logs"));
        assert_eq!(found.len(), 1);
        assert!((8192..1 << 20).contains(&found[0].bytes), "{found:?}");
        assert!((Utc::now() - found[0].modified).num_minutes() < 5, "{found:?}");
        assert_eq!(list(&dir.path().join("none")), []);
    }
}
