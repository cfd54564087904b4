//! The settings of the supervisor and the daemon: directories and the session user.
//!
//! In a container the directories are fixed and the session user has uid 1000 and the name that the image has for it. A test
//! starts shed-init as a plain process: the directories are flags, and the session user is the one who runs the test.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use shed_api::can_be_home;
use shed_link::{
    CONTAINER_LINK_DIR, CONTAINER_PROGRAM_DIR, CONTAINER_RUN_DIR, ONLY_OWN_GROUP, PROGRAM,
};

use crate::passwd::{self, User};
use crate::{log, profile};

/// Directories and session user. The supervisor and each daemon compute them from the same flags.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The directory of the server's socket.
    pub(crate) link_dir: PathBuf,
    /// The directory of our socket in the container.
    pub(crate) run_dir: PathBuf,
    /// The path of the shed-init program in the container.
    pub(crate) program: PathBuf,
    /// The default working directory of commands.
    pub(crate) workspace: PathBuf,
    /// The directory of worktrees and of the spools of workers.
    pub(crate) worktrees: PathBuf,
    /// The session user.
    pub(crate) user: User,
    /// Whether we are root and have to become the session user.
    pub(crate) switch_user: bool,
}

impl Settings {
    /// Reads the flags. On failure the error is logged.
    pub(crate) fn from_args_or_log(args: &[String]) -> Option<Self> {
        let settings = Self::from_args(args);
        settings.map_err(|error| log::line(&format!("shed-init: {error}"))).ok()
    }

    /// Reads the flags: at most [`ONLY_OWN_GROUP`] in a container; `--link-dir D --run-dir D --workspace D --home D [--worktrees D]` in a test.
    /// Without `--worktrees` worktrees are in a directory beside the workspace.
    fn from_args(args: &[String]) -> Result<Self, String> {
        let flag = |name: &str| {
            let at = args.iter().position(|arg| arg == name)?;
            args.get(at + 1).map(PathBuf::from)
        };
        let own = std::env::current_exe()
            .map_err(|error| format!("cannot find the path of shed-init: {error}"))?;
        let root = rustix::process::geteuid().is_root();
        match (flag("--link-dir"), flag("--run-dir"), flag("--workspace"), flag("--home")) {
            (Some(link_dir), Some(run_dir), Some(workspace), Some(home)) => Ok(Self {
                link_dir,
                run_dir,
                program: own,
                worktrees: flag("--worktrees")
                    .unwrap_or_else(|| workspace.with_file_name("worktrees")),
                workspace,
                user: passwd::current_user(&home),
                switch_user: false,
            }),
            (None, None, None, None) => Ok(Self {
                link_dir: CONTAINER_LINK_DIR.into(),
                run_dir: CONTAINER_RUN_DIR.into(),
                program: Path::new(CONTAINER_PROGRAM_DIR).join(PROGRAM),
                workspace: "/workspace".into(),
                worktrees: "/worktrees".into(),
                user: passwd::container_user(args.iter().any(|arg| arg == ONLY_OWN_GROUP)),
                switch_user: root,
            }),
            _ => {
                Err("expected all of --link-dir, --run-dir, --workspace and --home, or none".into())
            }
        }
    }

    /// The `TMUX_TMPDIR` of the session user: the parent of the directory of tmux's socket. It is not below `/tmp`, which
    /// people and programs empty.
    pub(crate) fn tmux_dir(&self) -> PathBuf {
        self.run_dir.join("tmux")
    }

    /// Creates [`Self::tmux_dir`] if it is missing. tmux would use `/tmp` then.
    pub(crate) fn make_tmux_dir(&self) -> std::io::Result<()> {
        let dir = self.tmux_dir();
        if dir.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        // The session user cannot replace it in between: the parent is root's.
        if self.switch_user { own_directory(&dir, &self.user) } else { Ok(()) }
    }

    /// Root, for commands of a person who administers the shed. The session user if we cannot change users.
    pub(crate) fn root(&self) -> User {
        if !self.switch_user {
            return self.user.clone();
        }
        passwd::root()
    }

    /// Creates what a shed needs: the directory of tmux's socket, the user's entry in `/etc/passwd`, home, workspace,
    /// worktrees and `/tmp`; makes login shells keep their `PATH`; and closes the directory of the link to all but root.
    /// Called once by the supervisor. Failures are only logged, so that a person can enter the shed and repair it.
    pub(crate) fn prepare(&self) {
        if let Err(error) = self.make_tmux_dir() {
            let dir = self.tmux_dir();
            log::line(&format!("shed-init: cannot prepare {}: {error}", dir.display()));
        }
        if !self.switch_user {
            return;
        }
        let tried = [
            ("the directory of the link", guard_link(&self.link_dir)),
            ("/etc/passwd", passwd::prepare(&self.user)),
            ("/etc/profile", profile::keep_path()),
            ("home", own_home(&self.user)),
            ("/workspace", own_directory(&self.workspace, &self.user)),
            ("/worktrees", own_directory(&self.worktrees, &self.user)),
            ("/tmp", sticky_tmp()),
        ];
        for (what, result) in tried {
            if let Err(error) = result {
                log::line(&format!("shed-init: cannot prepare {what}: {error}"));
            }
        }
    }
}

/// Lets only root enter the directory above the link's. The engine makes it so at the first start, but at a further one its
/// tmpfs gets the mode of the directory below it.
fn guard_link(link_dir: &Path) -> std::io::Result<()> {
    let guard = link_dir.parent().unwrap_or(link_dir);
    fs::set_permissions(guard, fs::Permissions::from_mode(0o700))
}

/// Makes the user the owner of the home, unless a link of the image leads to a directory that cannot be a home.
fn own_home(user: &User) -> std::io::Result<()> {
    let home = Path::new(&user.home);
    fs::create_dir_all(home)?;
    let real = home.canonicalize()?;
    if !real.to_str().is_some_and(can_be_home) {
        let text =
            format!("{} leads to {}, which cannot be a home", home.display(), real.display());
        return Err(std::io::Error::other(text));
    }
    own_directory(&real, user)
}

/// Creates a directory and makes the user its owner, unless it already belongs to another user than root.
fn own_directory(path: &Path, user: &User) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    let metadata = fs::metadata(path)?;
    if metadata.uid() == 0 { chown(path, Some(user.uid), Some(user.gid)) } else { Ok(()) }
}

/// Creates `/tmp`, which an image built from scratch lacks.
fn sticky_tmp() -> std::io::Result<()> {
    let tmp = Path::new("/tmp");
    if tmp.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(tmp)?;
    fs::set_permissions(tmp, fs::Permissions::from_mode(0o1777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_may_enter_the_directory_above_the_link() {
        let guard = tempfile::tempdir().unwrap();
        let link_dir = guard.path().join("host");
        fs::create_dir(&link_dir).unwrap();
        fs::set_permissions(guard.path(), fs::Permissions::from_mode(0o755)).unwrap();
        guard_link(&link_dir).unwrap();
        assert_eq!(fs::metadata(guard.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
