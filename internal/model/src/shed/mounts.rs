//! Which directories of the host may be mounted into a shed.
//!
//! The source must lie under an allowed directory (or be the local caller's own), must be reached without a symbolic link,
//! and must neither hold nor lie in what controls the host: the engine's socket and the server's data. What is at the
//! source is looked up by the caller.

use std::path::{Component, Path, PathBuf};

use shed_api::shed::Mount;

use crate::Rejection;

/// Targets that shed uses itself in every container.
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

/// What is at a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or directory.
    Found {
        /// Whether it is a directory.
        is_dir: bool,
        /// The user id, on the host, of its owner.
        uid: u32,
    },
    /// The path leads through a symbolic link.
    Linked,
    /// It cannot be opened, for this reason.
    Unavailable(String),
}

impl MountPolicy {
    /// Passes if `mount`, which was allowed once, still leads where it did: whoever may write beside its source could have
    /// put a symbolic link in its place.
    pub fn recheck(
        &self,
        mount: &Mount,
        look_up: impl FnOnce(&Path) -> Source,
    ) -> Result<(), Rejection> {
        self.resolve(mount, &plain_path(&mount.source)?, look_up).map(drop)
    }

    /// Passes if `mount` may be made for a caller with this user id on the host (`None`: not a local caller). `home` is the
    /// home directory in the container.
    pub fn check(
        &self,
        mount: &Mount,
        local_uid: Option<u32>,
        home: &str,
        look_up: impl FnOnce(&Path) -> Source,
    ) -> Result<(), Rejection> {
        let source = plain_path(&mount.source)?;
        let target = plain_path(&mount.target)?;
        if target == Path::new("/")
            || target == Path::new(home)
            || TAKEN_TARGETS.iter().any(|taken| touches(&target, Path::new(taken)))
        {
            return Err(Rejection::Invalid(format!(
                "invalid mount target {:?}; expected a directory that shed does not use itself",
                mount.target
            )));
        }
        let (is_dir, uid) = self.resolve(mount, &source, look_up)?;
        let is_own = is_dir && local_uid == Some(uid) && source != Path::new("/");
        if is_own || self.allow.iter().any(|allowed| source.starts_with(allowed)) {
            return Ok(());
        }
        Err(forbidden(mount, "is not under a directory of [mounts] allow"))
    }

    /// Whether the source is a directory, and its owner.
    fn resolve(
        &self,
        mount: &Mount,
        source: &Path,
        look_up: impl FnOnce(&Path) -> Source,
    ) -> Result<(bool, u32), Rejection> {
        if let Some(never) = self.never.iter().find(|never| touches(source, never)) {
            let why = format!("holds or lies in {}, which controls the host", never.display());
            return Err(forbidden(mount, &why));
        }
        match look_up(source) {
            Source::Found { is_dir, uid } => Ok((is_dir, uid)),
            Source::Linked => Err(forbidden(mount, "goes through a symbolic link")),
            Source::Unavailable(why) => {
                Err(Rejection::Invalid(format!("mount source {:?}: {why}", mount.source)))
            }
        }
    }
}

fn forbidden(mount: &Mount, why: &str) -> Rejection {
    Rejection::Forbidden(format!("mount source {:?} {why}", mount.source))
}

/// Whether one path is the other or lies in it.
fn touches(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn plain_path(given: &str) -> Result<PathBuf, Rejection> {
    let path = PathBuf::from(given);
    let plain = path.is_absolute()
        && !given.contains([':', '\0', '\n'])
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if plain {
        return Ok(path);
    }
    Err(Rejection::Invalid(format!(
        "invalid path {given:?}; expected an absolute path without \"..\", colons and line breaks"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> Mount {
        Mount { source: source.to_owned(), target: target.to_owned(), read_only: false }
    }

    fn policy() -> MountPolicy {
        MountPolicy { allow: vec!["/srv/ok".into()], never: vec!["/srv/data".into()] }
    }

    fn owned_by(uid: u32) -> Source {
        Source::Found { is_dir: true, uid }
    }

    fn check(source: &str, local_uid: Option<u32>, found: Source) -> Result<(), Rejection> {
        policy().check(&mount(source, "/mnt/x"), local_uid, "/home/dev", |_| found)
    }

    #[test]
    fn a_source_is_allowed_by_its_directory_or_its_owner() {
        for (source, local_uid, found) in [
            ("/srv/ok", None, owned_by(0)),
            ("/srv/ok/sub", None, Source::Found { is_dir: false, uid: 0 }),
            ("/home/me", Some(7), owned_by(7)),
        ] {
            assert_eq!(check(source, local_uid, found.clone()), Ok(()), "{source} {found:?}");
        }
        for (source, local_uid, found) in [
            ("/home/me", None, owned_by(7)),
            ("/home/me", Some(8), owned_by(7)),
            ("/home/me/file", Some(7), Source::Found { is_dir: false, uid: 7 }),
            ("/", Some(7), owned_by(7)),
            ("/srv/okay", None, owned_by(0)),
            ("/srv/ok/link", Some(7), Source::Linked),
            ("/srv/data", Some(7), owned_by(7)),
            ("/srv/data/deep", Some(7), owned_by(7)),
            ("/srv", Some(7), owned_by(7)),
        ] {
            let found = check(source, local_uid, found);
            assert!(matches!(found, Err(Rejection::Forbidden(_))), "{source}: {found:?}");
        }
        let missing = || Source::Unavailable("no such directory".to_owned());
        for source in ["/srv/ok/missing", "relative", "/srv/ok/../x", "/a:b", "/a\n", ""] {
            let found = check(source, None, missing());
            assert!(matches!(found, Err(Rejection::Invalid(_))), "{source}: {found:?}");
        }
    }

    #[test]
    fn nobody_owns_the_root_directory() {
        let mount = mount("/", "/mnt/x");
        let root = MountPolicy::default().check(&mount, Some(0), "/home/dev", |_| owned_by(0));
        assert!(matches!(root, Err(Rejection::Forbidden(_))), "{root:?}");
    }

    #[test]
    fn a_target_that_shed_uses_itself_is_rejected() {
        let target = |target: &str| {
            policy().check(&mount("/srv/ok", target), None, "/home/dev", |_| owned_by(0))
        };
        for bad in [
            "/",
            "/workspace",
            "/workspace/x",
            "/home/dev",
            "/run/shed/x",
            "/run",
            "x",
            "/a:b",
            "/a/../b",
        ] {
            assert!(matches!(target(bad), Err(Rejection::Invalid(_))), "{bad}");
        }
        for good in ["/home/dev/data", "/home", "/mnt", "/workspaces"] {
            assert_eq!(target(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn an_allowed_mount_is_rechecked_for_what_may_have_changed() {
        let recheck = |source: &str, found| policy().recheck(&mount(source, "/mnt"), |_| found);
        assert_eq!(recheck("/home/me", owned_by(7)), Ok(()));
        assert!(recheck("/home/me", Source::Linked).is_err());
        assert!(recheck("/srv/data", owned_by(7)).is_err());
        assert!(recheck("relative", owned_by(7)).is_err());
    }
}
