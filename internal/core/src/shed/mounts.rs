//! What is at the source of a mount. Whether it may be mounted is decided in [`shed_model::shed::mounts`].

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use shed_model::shed::mounts::Source;

/// Looks up a source without following any symbolic link.
pub(crate) fn look_up(path: &Path) -> Source {
    match metadata(path) {
        Ok(metadata) => Source::Found { is_dir: metadata.is_dir(), uid: metadata.uid() },
        Err(Errno::LOOP) => Source::Linked,
        Err(error) => Source::Unavailable(error.to_string()),
    }
}

fn metadata(path: &Path) -> Result<std::fs::Metadata, Errno> {
    let fd = openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    let file = std::fs::File::from(fd);
    file.metadata().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_symbolic_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("dir/sub")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink(root.join("dir"), root.join("link")).unwrap();
        let uid = std::fs::metadata(&root).unwrap().uid();
        assert_eq!(look_up(&root.join("dir/sub")), Source::Found { is_dir: true, uid });
        assert_eq!(look_up(&root.join("file")), Source::Found { is_dir: false, uid });
        assert_eq!(look_up(&root.join("link")), Source::Linked);
        assert_eq!(look_up(&root.join("link/sub")), Source::Linked);
        assert!(matches!(look_up(&root.join("missing")), Source::Unavailable(_)));
    }
}
