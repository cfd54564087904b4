//! Paths that the server resolves for the client: absolute paths and `~`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt};
use std::path::{Path, PathBuf};

use crate::sftp::accounts::Accounts;
use crate::sftp::reply::Status;

/// The most symlinks that are followed at the end of a path whose last name is missing; the kernel's limit.
const MAX_LINKS: usize = 40;

/// The absolute path without symlinks. The last name may be missing, so that a client can resolve the path of a new file. An
/// empty path is the current directory.
pub(super) fn real(path: &[u8]) -> Result<Vec<u8>, Status> {
    let path = if path.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(path)) };
    Ok(resolve(path, MAX_LINKS)?.into_os_string().into_vec())
}

fn resolve(path: &Path, links_left: usize) -> io::Result<PathBuf> {
    let error = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        done => return done,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(error);
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = std::fs::canonicalize(parent)?;
    let missing = parent.join(name);
    // It may be a symlink whose target is missing.
    match std::fs::read_link(&missing) {
        Ok(target) if links_left > 0 => resolve(&parent.join(target), links_left - 1),
        Ok(_) | Err(_) => Ok(missing),
    }
}

/// Expands `~` and `~user` at the start of a path; other paths are not changed.
pub(super) fn expand(path: &[u8], accounts: &Accounts) -> Result<Vec<u8>, Status> {
    let Some(rest) = path.strip_prefix(b"~") else {
        return Ok(path.to_vec());
    };
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let (user, below) = rest.split_at(end);
    let mut expanded = home(user, accounts).ok_or(Status::NoSuchFile)?;
    expanded.extend(below);
    Ok(expanded)
}

/// The home directory of a user; an empty name is our user.
pub(super) fn home(user: &[u8], accounts: &Accounts) -> Option<Vec<u8>> {
    if user.is_empty() {
        return std::env::var_os("HOME").map(OsStringExt::into_vec);
    }
    let home = accounts.home(std::str::from_utf8(user).ok()?)?;
    Some(home.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_name_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        std::os::unix::fs::symlink("a", root.join("to-a")).unwrap();
        std::os::unix::fs::symlink("a/gone", root.join("to-gone")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        let check = |path: &str, leads_to: Result<&str, Status>| {
            let answer = real(root.join(path).as_os_str().as_bytes());
            let expected = leads_to.map(|path| root.join(path).into_os_string().into_vec());
            assert_eq!(answer, expected, "{path}");
        };
        check("to-a/../a", Ok("a"));
        check("to-a/new", Ok("a/new"));
        check("to-gone", Ok("a/gone"));
        check("new/new", Err(Status::NoSuchFile));
        check("new/..", Err(Status::NoSuchFile));
        check("loop", Err(Status::NoSuchFile));
        check("zero\0byte", Err(Status::BadMessage));
    }
}
