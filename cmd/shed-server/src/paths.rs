//! Default paths of a user's server: data directory, state of the background service, unix socket.

use std::path::{Path, PathBuf};

/// What decides about default paths: who runs the server, and the XDG base directories of that user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) is_root: bool,
    home: Option<PathBuf>,
    data_home: Option<PathBuf>,
    state_home: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
}

impl User {
    /// The user and the environment of this process.
    pub(crate) fn current() -> Self {
        Self {
            is_root: rustix::process::geteuid().is_root(),
            home: absolute("HOME"),
            data_home: absolute("XDG_DATA_HOME"),
            state_home: absolute("XDG_STATE_HOME"),
            runtime_dir: absolute("XDG_RUNTIME_DIR"),
        }
    }

    /// `$HOME`; absent where it is not an absolute path.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The data directory. None if the environment names no home.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        self.dir("/var/lib/shed", self.data_home.as_ref(), ".local/share")
    }

    /// State of `shed-server service`: pid, addresses, log. None if the environment names no home.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        self.dir("/var/lib/shed-run", self.state_home.as_ref(), ".local/state")
    }

    /// The unix socket of the server with this data directory.
    pub(crate) fn socket(&self, data_dir: &Path) -> PathBuf {
        if self.is_root {
            return PathBuf::from("/run/shed/shed.sock");
        }
        let dir = self.runtime_dir.as_ref().map(|dir| dir.join("shed"));
        dir.unwrap_or_else(|| data_dir.to_owned()).join("shed.sock")
    }

    fn dir(&self, of_root: &str, xdg: Option<&PathBuf>, below_home: &str) -> Option<PathBuf> {
        if self.is_root {
            return Some(PathBuf::from(of_root));
        }
        let base = xdg.cloned().or_else(|| self.home.as_ref().map(|home| home.join(below_home)))?;
        Some(base.join("shed"))
    }
}

/// An absolute path from the environment. Relative paths are ignored, as the XDG specification asks.
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_system_paths_and_other_users_have_xdg_paths() {
        let root = User { is_root: true, home: Some(PathBuf::from("/root")), ..User::default() };
        assert_eq!(root.data_dir(), Some("/var/lib/shed".into()));
        assert_eq!(root.state_dir(), Some("/var/lib/shed-run".into()));
        assert_eq!(root.socket(Path::new("/d")), Path::new("/run/shed/shed.sock"));

        let ann = User { home: Some(PathBuf::from("/home/ann")), ..User::default() };
        assert_eq!(ann.data_dir(), Some("/home/ann/.local/share/shed".into()));
        assert_eq!(ann.state_dir(), Some("/home/ann/.local/state/shed".into()));
        assert_eq!(ann.socket(Path::new("/d")), Path::new("/d/shed.sock"));

        let xdg = User {
            data_home: Some(PathBuf::from("/x/data")),
            state_home: Some(PathBuf::from("/x/state")),
            runtime_dir: Some(PathBuf::from("/run/user/7")),
            ..ann
        };
        assert_eq!(xdg.data_dir(), Some("/x/data/shed".into()));
        assert_eq!(xdg.state_dir(), Some("/x/state/shed".into()));
        assert_eq!(xdg.socket(Path::new("/d")), Path::new("/run/user/7/shed/shed.sock"));

        assert_eq!(User::default().data_dir(), None);
    }
}
