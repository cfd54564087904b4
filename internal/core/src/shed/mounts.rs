//! Which directories of the host may be mounted into a shed.
//!
//! The source must lie under one of the allowed directories (or be the local caller's own), must be reached without a
//! symbolic link, and must neither hold nor lie in what controls the host: the engine's socket or the server's data.

use shed_model::Rejection;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use shed_api::shed::Mount;

use crate::Error;

/// Targets that are shed's own in every box.
const TAKEN_TARGETS: &[&str] =
    &["/workspace", "/worktrees", "/run/shed", "/opt/shed", "/proc", "/sys", "/dev"];

/// What the server allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountPolicy {
    /// Directories under which sources may lie.
    pub allow: Vec<PathBuf>,
    /// Paths that no source may hold or lie in.
    pub never: Vec<PathBuf>,
}

impl MountPolicy {
    /// Passes if `mount`, which was allowed once, still leads where it did: whoever may write beside its source could have
    /// put a symbolic link in its place.
    pub fn recheck(&self, mount: &Mount) -> Result<(), Error> {
        self.resolve(mount).map(drop)
    }

    /// Passes if `mount` may be made for a caller with this uid on the host (`None`: not a local caller).
    pub fn check(&self, mount: &Mount, local_uid: Option<u32>, home: &str) -> Result<(), Error> {
        let source = plain_path(&mount.source)?;
        let target = plain_path(&mount.target)?;
        if target == Path::new("/")
            || target == Path::new(home)
            || TAKEN_TARGETS.iter().any(|taken| touches(&target, Path::new(taken)))
        {
            return Err(Error::Rejected(Rejection::Invalid(format!(
                "mount target {:?} is shed's own",
                mount.target
            ))));
        }
        let metadata = self.resolve(mount)?;
        if self.allow.iter().any(|allowed| source.starts_with(allowed)) {
            return Ok(());
        }
        let own =
            metadata.is_dir() && local_uid == Some(metadata.uid()) && source != Path::new("/");
        if own {
            return Ok(());
        }
        let why = "is not under a directory of [mounts] allow";
        Err(Error::Rejected(Rejection::Forbidden(format!("mount source {:?} {why}", mount.source))))
    }

    /// Where the source leads: to no place that controls the host, and through no symbolic link.
    fn resolve(&self, mount: &Mount) -> Result<std::fs::Metadata, Error> {
        let source = plain_path(&mount.source)?;
        let refuse = |why: String| {
            Err(Error::Rejected(Rejection::Forbidden(format!(
                "mount source {:?} {why}",
                mount.source
            ))))
        };
        if let Some(never) = self.never.iter().find(|never| touches(&source, never)) {
            return refuse(format!(
                "holds or lies in {}, which controls the host",
                never.display()
            ));
        }
        match resolved_metadata(&source) {
            Ok(metadata) => Ok(metadata),
            Err(rustix::io::Errno::LOOP) => refuse("goes through a symbolic link".to_owned()),
            Err(error) => Err(Error::Rejected(Rejection::Invalid(format!(
                "mount source {:?}: {error}",
                mount.source
            )))),
        }
    }
}

/// Whether one path is the other or lies in it.
fn touches(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn plain_path(given: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(given);
    let plain = path.is_absolute()
        && !given.contains([':', '\0', '\n'])
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if plain {
        Ok(path)
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!("{given:?} is no absolute, plain path"))))
    }
}

/// Looks at what is there, refusing every symbolic link on the way.
fn resolved_metadata(path: &Path) -> Result<std::fs::Metadata, rustix::io::Errno> {
    let fd = openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    let file = std::fs::File::from(fd);
    file.metadata()
        .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &Path, target: &str) -> Mount {
        let source = source.to_str().unwrap().to_owned();
        Mount { source, target: target.to_owned(), read_only: false }
    }

    fn policy(allow: &Path, never: &Path) -> MountPolicy {
        MountPolicy { allow: vec![allow.to_owned()], never: vec![never.to_owned()] }
    }

    #[test]
    fn only_allowed_or_own_directories_pass() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for dir in ["ok/sub", "other", "data"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("other"), root.join("ok/link")).unwrap();
        let policy = policy(&root.join("ok"), &root.join("data"));
        let owner = std::fs::metadata(&root).unwrap().uid();
        let check = |source: &str, uid| {
            policy.check(&mount(&root.join(source), "/mnt/x"), uid, "/home/dev")
        };
        assert!(check("ok/sub", None).is_ok());
        assert!(matches!(check("other", None), Err(Error::Rejected(Rejection::Forbidden(_)))));
        assert!(matches!(
            check("other", Some(owner + 1)),
            Err(Error::Rejected(Rejection::Forbidden(_)))
        ));
        assert!(check("other", Some(owner)).is_ok());
        assert!(matches!(
            check("ok/link", Some(owner)),
            Err(Error::Rejected(Rejection::Forbidden(_)))
        ));
        assert!(matches!(
            check("data", Some(owner)),
            Err(Error::Rejected(Rejection::Forbidden(_)))
        ));
        assert!(matches!(
            check(".", Some(owner)),
            Err(Error::Rejected(Rejection::Forbidden(_) | Rejection::Invalid(_)))
        ));
        assert!(matches!(check("ok/../other", None), Err(Error::Rejected(Rejection::Invalid(_)))));
        assert!(matches!(check("missing", None), Err(Error::Rejected(Rejection::Invalid(_)))));
    }

    #[test]
    fn a_target_of_sheds_own_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let policy = policy(root.path(), Path::new("/nowhere"));
        for target in [
            "/",
            "/workspace",
            "/workspace/x",
            "/home/dev",
            "/run/shed/box",
            "/proc",
            "relative",
            "/run",
        ] {
            let result = policy.check(&mount(root.path(), target), None, "/home/dev");
            assert!(matches!(result, Err(Error::Rejected(Rejection::Invalid(_)))), "{target}");
        }
    }
}
