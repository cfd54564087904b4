//! The archives of a copy: what is packed here, and where what a shed sent may land.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Packs a file or directory under another name.
pub(super) fn pack(from: &Path, base: &str, to: impl io::Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    // Not every tar knows the form of files with holes.
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
        // Sockets, pipes and devices are nobody's data.
    }
    Ok(())
}

/// Unpacks an archive whose entries all lie under `base`, as `new` in `parent`. Nothing lands elsewhere, whatever the shed
/// sends.
pub(super) fn unpack(from: impl io::Read, base: &str, parent: &Path, new: &str) -> io::Result<()> {
    let target = Target { root: fs::canonicalize(parent)?, base, new };
    let mut archive = tar::Archive::new(from);
    archive.set_overwrite(true);
    let mut dirs = Vec::new();
    let mut found = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        found = true;
        let path = target.place(&entry.path()?)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            make_dir(&path)?;
            dirs.push((path, entry.header().mode()?, entry.header().mtime()?));
        } else if kind.is_hard_link() {
            let linked = entry.link_name()?.unwrap_or_default();
            link(&target.place(&linked)?, &path)?;
        } else if kind.is_file() || kind.is_symlink() {
            entry.unpack(path)?;
        }
        // Devices and pipes are nobody's data.
    }
    // Last and from the inside out: nothing is made any more in one that may not be written to, or has its time already.
    for (path, mode, mtime) in dirs.iter().rev() {
        fs::File::open(path)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(*mtime))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
    }
    if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// A directory that we may write to for now, new or as it is.
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

/// One more name of a file that was unpacked before.
fn link(before: &Path, path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(before)?.is_file() {
        return Err(io::Error::other(format!("{} is no file to link to", before.display())));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    fs::hard_link(before, path)
}

/// Where entries may land.
struct Target<'a> {
    root: PathBuf,
    base: &'a str,
    new: &'a str,
}

impl Target<'_> {
    /// The local path of an entry. Its directory has no link in it any more.
    fn place(&self, path: &Path) -> io::Result<PathBuf> {
        let Ok(rest) = path.strip_prefix(self.base) else {
            return Err(io::Error::other(format!("the shed sent {} instead", path.display())));
        };
        let leads_out = || io::Error::other(format!("{} leads out of the target", path.display()));
        if !rest.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(leads_out());
        }
        let (dir, name) = match (rest.parent(), rest.file_name()) {
            (Some(dir), Some(name)) => (Path::new(self.new).join(dir), name.to_owned()),
            _ => (PathBuf::new(), self.new.into()),
        };
        let dir = fs::canonicalize(self.root.join(dir))?;
        // A link the shed sent before, or one that was here.
        if !dir.starts_with(&self.root) {
            return Err(leads_out());
        }
        Ok(dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use tar::{EntryType, Header};

    use super::*;

    /// An entry: its path, its kind, what it links to, its mode.
    type Entry<'a> = (&'a str, EntryType, &'a str, u32);

    const FILE: EntryType = EntryType::Regular;
    const DIR: EntryType = EntryType::Directory;

    /// An archive of files that all say `sent`. Paths are written as they are, also those a builder would refuse.
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
    fn nothing_lands_outside_whatever_is_sent() {
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
        // A file takes the place of a link and does not go through it; a pipe is left out.
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
    fn modes_and_times_are_taken_over_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let sent = archive(&[
            ("base", DIR, "", 0o755),
            ("base/shut", DIR, "", 0o555),
            ("base/shut/file", FILE, "", 0o4750),
            ("base/shut/deep", DIR, "", 0o500),
            ("base/shut/deep/file", FILE, "", 0o400),
            ("base/again", EntryType::Link, "base/shut/file", 0o750),
        ]);
        // Twice: over what the first one left.
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
        // So that the directory can be removed.
        make_dir(&dir.path().join("new/shut")).unwrap();
        make_dir(&dir.path().join("new/shut/deep")).unwrap();
    }

    #[test]
    fn a_socket_is_left_out() {
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
