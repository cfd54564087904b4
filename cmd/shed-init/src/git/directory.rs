//! Removes and measures directories.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// The most files that are counted for a size.
const MAX_COUNTED: usize = 2_000_000;
/// The mode of a directory whose owner may remove its entries.
const OWNER_ONLY: u32 = 0o700;
/// The unit of `st_blocks`, in bytes.
const BLOCK_BYTES: u64 = 512;

/// Removes a file, a symlink or a directory with its content. Symlinks are not followed. A missing path is not an error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Some directories are read-only, such as Go's module cache.
            make_writable(path);
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Gives the owner all permissions on all directories. Errors are ignored here; the removal reports them.
fn make_writable(path: &Path) {
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(OWNER_ONLY)).ok();
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let entries = entries.filter_map(Result::ok);
        left.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}

/// The size of a directory's files on disk, in bytes, and whether some files were not counted.
pub(crate) fn size(path: &Path) -> (u64, bool) {
    let (mut bytes, mut partial, mut n_files) = (0_u64, false, 0);
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            partial = true;
            continue;
        };
        for entry in entries {
            n_files += 1;
            if n_files > MAX_COUNTED {
                return (bytes, true);
            }
            // The metadata of the entry itself: symlinks are not followed.
            let Some((entry, metadata)) = entry.ok().and_then(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((entry, metadata))
            }) else {
                partial = true;
                continue;
            };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK_BYTES));
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    (bytes, partial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("x"), vec![1; 1 << 20]).unwrap();
        fs::write(tree.join("a/y"), vec![1; 8192]).unwrap();
        std::os::unix::fs::symlink(&other, tree.join("a/link")).unwrap();
        let (bytes, partial) = size(&tree);
        assert!((8192..1 << 20).contains(&bytes) && !partial, "{bytes}");
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o500)).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists() && other.join("x").exists());
        remove(&tree).unwrap();
    }
}
