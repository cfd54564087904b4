//! Whether the disk with the server's data is full.

use std::path::Path;

use rustix::fs::{StatVfs, StatVfsMountFlags};

/// With less free space the disk counts as full: more than the reserve of the database, so that a full disk stays one when
/// the reserve is given back.
const MIN_FREE_BYTES: u64 = 4 << 20;

/// Why nothing can be written below this directory, if the file system is full.
pub(crate) fn full(dir: &Path) -> Option<String> {
    // A directory that cannot be examined is reported by whoever uses it.
    let system = rustix::fs::statvfs(dir).ok()?;
    let why = problem(&system, rustix::process::geteuid().is_root())?;
    Some(format!("disk: the file system of {} has {why}", dir.display()))
}

fn problem(system: &StatVfs, is_root: bool) -> Option<String> {
    // Some blocks are reserved for root.
    let n_blocks = if is_root { system.f_bfree } else { system.f_bavail };
    let free = n_blocks.saturating_mul(system.f_frsize);
    // Some file systems have no fixed number of files and report 0.
    let has_files = system.f_files == 0 || system.f_ffree > 0;
    if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Some("become read-only".to_owned());
    }
    match (free >= MIN_FREE_BYTES, has_files) {
        (true, true) => None,
        (true, false) => Some("no free inode".to_owned()),
        (false, _) => Some(format!("{} KiB free", free >> 10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_space_or_inodes_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let system = |free_mib: u64, files: (u64, u64)| StatVfs {
            f_frsize: 1 << 20,
            f_bfree: free_mib + 1,
            f_bavail: free_mib,
            f_files: files.0,
            f_ffree: files.1,
            f_flag: StatVfsMountFlags::empty(),
            ..rustix::fs::statvfs(dir.path()).unwrap()
        };
        let found = |free, files, is_root| problem(&system(free, files), is_root);
        assert_eq!(found(4, (9, 1), false), None);
        assert_eq!(found(4, (0, 0), false), None);
        assert_eq!(found(3, (9, 1), true), None);
        assert_eq!(found(3, (9, 1), false).as_deref(), Some("3072 KiB free"));
        let read_only = StatVfs { f_flag: StatVfsMountFlags::RDONLY, ..system(9, (9, 1)) };
        assert_eq!(problem(&read_only, true).as_deref(), Some("become read-only"));
        assert_eq!(found(9, (9, 0), true).as_deref(), Some("no free inode"));
    }
}
