//! The archives of a copy: packing local files, and unpacking what a shed sent without leaving the target directory.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Packs a file or directory; its name in the archive is `base`.
pub(super) fn pack(from: &Path, base: &str, to: impl io::Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    // Not every tar reads the GNU format for sparse files.
    archive.sparse(false);
    if fs::metadata(from)?.is_dir() {
        pack_dir(&mut archive, from, Path::new(base))?;
    } else {
        archive.append_path_with_name(fs::canonicalize(from)?, base)?;
    }
    archive.into_inner()?.flush()
}

fn pack_dir<W: io::Write>(
    archive: &mut tar::Builder<W>,
    from: &Path,
    name: &Path,
) -> io::Result<()> {
    archive.append_dir(name, from)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name, kind) = (entry.path(), name.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            pack_dir(archive, &path, &name)?;
        } else if kind.is_file() || kind.is_symlink() {
            archive.append_path_with_name(path, name)?;
        }
        // Sockets, pipes and devices are skipped.
    }
    Ok(())
}

/// Unpacks an archive whose entries are all below `base`, as `new` in the directory `parent`. The archive is not trusted:
/// an entry that would be written outside is an error.
pub(super) fn unpack(from: impl io::Read, base: &str, parent: &Path, new: &str) -> io::Result<()> {
    let target = Target { root: fs::canonicalize(parent)?, base, new };
    let mut archive = tar::Archive::new(from);
    archive.set_overwrite(true);
    let mut dirs = Vec::new();
    let mut found = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        found = true;
        let path = target.resolve(&entry.path()?)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            make_dir(&path)?;
            dirs.push((path, entry.header().mode()?, entry.header().mtime()?));
        } else if kind.is_hard_link() {
            let linked = entry.link_name()?.unwrap_or_default();
            link(&target.resolve(&linked)?, &path)?;
        } else if kind.is_file() || kind.is_symlink() {
            unpack_beside(&mut entry, &path)?;
        }
        // Devices and pipes are skipped.
    }
    // Last, and children before parents: unpacking into a directory needs write permission and changes its time.
    for (path, mode, mtime) in dirs.iter().rev() {
        fs::File::open(path)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(*mtime))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
    }
    if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Unpacks a file under another name and renames it: what is under its own name is complete, also after a copy that was cut.
fn unpack_beside(entry: &mut tar::Entry<'_, impl io::Read>, path: &Path) -> io::Result<()> {
    let beside = path.with_file_name(super::beside());
    let unpacked = entry.unpack(&beside).and_then(|_| fs::rename(&beside, path));
    if unpacked.is_err() {
        fs::remove_file(&beside).ok();
    }
    unpacked
}

/// Creates a directory, or makes an existing one writable; its final mode is set at the end.
fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path)?;
            if !metadata.is_dir() {
                return Err(error);
            }
            let mode = metadata.permissions().mode() | 0o700;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
        made => made,
    }
}

/// Creates a hard link to a file that was unpacked before.
fn link(existing: &Path, path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(existing)?.is_file() {
        return Err(io::Error::other(format!(
            "cannot link to {}: not a regular file",
            existing.display()
        )));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    fs::hard_link(existing, path)
}

/// Where entries are unpacked to: `base` of the archive becomes `root/new`.
struct Target<'a> {
    root: PathBuf,
    base: &'a str,
    new: &'a str,
}

impl Target<'_> {
    /// The local path of an entry, with all symbolic links of its directory resolved.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let Ok(rest) = path.strip_prefix(self.base) else {
            return Err(io::Error::other(format!(
                "unexpected entry {} in the archive",
                path.display()
            )));
        };
        let outside =
            || io::Error::other(format!("entry {} is outside the target", path.display()));
        if !rest.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(outside());
        }
        let (dir, name) = match (rest.parent(), rest.file_name()) {
            (Some(dir), Some(name)) => (Path::new(self.new).join(dir), name.to_owned()),
            _ => (PathBuf::new(), self.new.into()),
        };
        let dir = fs::canonicalize(self.root.join(dir))?;
        // Through a symbolic link in the archive, or one that existed here before.
        if !dir.starts_with(&self.root) {
            return Err(outside());
        }
        Ok(dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use tar::{EntryType, Header};

    use super::*;

    /// An entry: path, type, link target, mode.
    type Entry<'a> = (&'a str, EntryType, &'a str, u32);

    const FILE: EntryType = EntryType::Regular;
    const DIR: EntryType = EntryType::Directory;

    /// An archive whose files all contain `sent`. Writes paths unchecked, including those that `tar::Builder` refuses.
    fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, kind, link, mode) in entries {
            let mut header = Header::new_gnu();
            let content: &[u8] = if *kind == FILE { b"sent" } else { b"" };
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(1_000_000_000);
            header.set_cksum();
            archive.append(&header, content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn unpacking_never_writes_outside_the_target() {
        let link = EntryType::Symlink;
        let hard = EntryType::Link;
        let fifo = EntryType::Fifo;
        let cases: &[&[Entry<'_>]] = &[
            &[("../secret", FILE, "", 0o644)],
            &[("base/../../secret", FILE, "", 0o644)],
            &[("/secret", FILE, "", 0o644)],
            &[("other/secret", FILE, "", 0o644)],
            &[("basement", FILE, "", 0o644)],
            &[("base", link, "../..", 0o777), ("base/secret", FILE, "", 0o644)],
            &[
                ("base", DIR, "", 0o755),
                ("base/x", link, "../..", 0o777),
                ("base/x/secret", FILE, "", 0o644),
            ],
            &[
                ("base", DIR, "", 0o755),
                ("base/x", link, "../../kept", 0o777),
                ("base/x", DIR, "", 0o700),
            ],
            &[("base", DIR, "", 0o755), ("base/x", hard, "../kept", 0o644)],
            &[
                ("base", DIR, "", 0o755),
                ("base/l", link, "../../kept", 0o777),
                ("base/x", hard, "base/l", 0o644),
            ],
            &[],
        ];
        for entries in cases {
            let dir = tempfile::tempdir().unwrap();
            let parent = dir.path().join("parent");
            fs::create_dir(&parent).unwrap();
            fs::write(dir.path().join("kept"), "kept").unwrap();
            unpack(archive(entries).as_slice(), "base", &parent, "new").unwrap_err();
            assert_eq!(fs::read(dir.path().join("kept")).unwrap(), b"kept", "{entries:?}");
            let names = fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(names, 2, "{entries:?}");
        }
        // A file replaces a symbolic link instead of following it; a pipe is skipped.
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        let sent = archive(&[
            ("base", DIR, "", 0o755),
            ("base/x", link, kept.to_str().unwrap(), 0o777),
            ("base/x", FILE, "", 0o644),
            ("base/pipe", fifo, "", 0o644),
        ]);
        unpack(sent.as_slice(), "base", dir.path(), "new").unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"kept");
        assert_eq!(fs::read(dir.path().join("new/x")).unwrap(), b"sent");
        assert!(!dir.path().join("new/pipe").exists());
    }

    #[test]
    fn modes_and_times_are_restored() {
        let dir = tempfile::tempdir().unwrap();
        let sent = archive(&[
            ("base", DIR, "", 0o755),
            ("base/shut", DIR, "", 0o555),
            ("base/shut/file", FILE, "", 0o4750),
            ("base/shut/deep", DIR, "", 0o500),
            ("base/shut/deep/file", FILE, "", 0o400),
            ("base/again", EntryType::Link, "base/shut/file", 0o750),
        ]);
        // Twice: the second time over existing files.
        for _ in 0..2 {
            unpack(sent.as_slice(), "base", dir.path(), "new").unwrap();
            let new = dir.path().join("new");
            assert_eq!(mode(&new.join("shut")), 0o555);
            assert_eq!(mode(&new.join("shut/deep")), 0o500);
            assert_eq!(mode(&new.join("shut/file")), 0o750);
            assert_eq!(fs::read(new.join("again")).unwrap(), b"sent");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            for path in ["", "shut", "shut/file", "shut/deep"] {
                assert_eq!(
                    fs::metadata(new.join(path)).unwrap().modified().unwrap(),
                    time,
                    "{path}"
                );
            }
        }
        // Makes the directories writable, so that the temporary directory can be removed.
        make_dir(&dir.path().join("new/shut")).unwrap();
        make_dir(&dir.path().join("new/shut/deep")).unwrap();
    }

    #[test]
    fn an_archive_that_is_cut_leaves_nothing_under_a_final_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("new"), "before").unwrap();
        let mut header = Header::new_gnu();
        header.set_path("base").unwrap();
        header.set_entry_type(FILE);
        header.set_size(100_000);
        header.set_mode(0o644);
        header.set_cksum();
        let cut = [header.as_bytes().as_slice(), &vec![b'x'; 50_000]].concat();
        assert!(unpack(cut.as_slice(), "base", dir.path(), "new").is_err());
        assert_eq!(fs::read(dir.path().join("new")).unwrap(), b"before");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_socket_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        drop(std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap());
        fs::write(tree.join("file"), "x").unwrap();
        let mut packed = Vec::new();
        pack(&tree, "base", &mut packed).unwrap();
        unpack(packed.as_slice(), "base", dir.path(), "new").unwrap();
        assert!(dir.path().join("new/file").exists() && !dir.path().join("new/socket").exists());
    }
}
