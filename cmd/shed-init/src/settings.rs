//! The settings of the supervisor and the daemon: directories and the session user.
//!
//! In a container the directories are fixed and the session user has uid 1000 and the name that the image has for it. A test
//! starts shed-init as a plain process: the directories are flags, and the session user is the one who runs the test.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use shed_api::{DEFAULT_HOME, can_be_home};
use shed_link::{CONTAINER_LINK_DIR, CONTAINER_PROGRAM_DIR, CONTAINER_RUN_DIR, PROGRAM};

use crate::{log, profile};

/// The uid of the session user in a container.
const DEV_UID: u32 = 1000;
/// The name of the session user if the image has none for [`DEV_UID`].
const DEV_NAME: &str = "dev";

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

/// A user, from `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

impl Settings {
    /// Reads the flags. On failure the error is logged.
    pub(crate) fn from_args_or_log(args: &[String]) -> Option<Self> {
        let settings = Self::from_args(args);
        settings.map_err(|error| log::line(&format!("shed-init: {error}"))).ok()
    }

    /// Reads the flags: none in a container; `--link-dir D --run-dir D --workspace D --home D [--worktrees D]` in a test.
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
                user: current_user(&home),
                switch_user: false,
            }),
            (None, None, None, None) => Ok(Self {
                link_dir: CONTAINER_LINK_DIR.into(),
                run_dir: CONTAINER_RUN_DIR.into(),
                program: Path::new(CONTAINER_PROGRAM_DIR).join(PROGRAM),
                workspace: "/workspace".into(),
                worktrees: "/worktrees".into(),
                user: container_user(),
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
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let shell = find_passwd(&passwd, |_, uid| uid == 0).map_or_else(default_shell, |u| u.shell);
        User {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".to_owned(),
            shell,
        }
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
            ("/etc/passwd", add_user(&self.user).and_then(|()| correct_home(&self.user))),
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

fn default_shell() -> String {
    let shells = ["/bin/bash", "/usr/bin/bash"];
    let found = shells.iter().find(|shell| Path::new(shell).exists());
    (*found.unwrap_or(&"/bin/sh")).to_owned()
}

fn current_user(home: &Path) -> User {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = find_passwd(&passwd, |_, known| known == uid);
    User {
        name: found.map_or_else(|| uid.to_string(), |user| user.name),
        uid,
        gid: rustix::process::getegid().as_raw(),
        groups: Vec::new(),
        home: home.to_string_lossy().into_owned(),
        shell: default_shell(),
    }
}

fn container_user() -> User {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let mut user = find_passwd(&passwd, |_, uid| uid == DEV_UID).unwrap_or_else(|| User {
        name: DEV_NAME.to_owned(),
        uid: DEV_UID,
        gid: DEV_UID,
        groups: Vec::new(),
        home: DEFAULT_HOME.to_owned(),
        shell: default_shell(),
    });
    if user.shell.is_empty() || user.shell.ends_with("/nologin") || user.shell.ends_with("/false") {
        user.shell = default_shell();
    }
    // The server mounts no volume at such a home.
    if !can_be_home(&user.home) {
        DEFAULT_HOME.clone_into(&mut user.home);
    }
    user.groups = groups_of(&group, &user);
    user
}

/// The first user in a passwd file for whom `matches(name, uid)` holds.
fn find_passwd(passwd: &str, matches: impl Fn(&str, u32) -> bool) -> Option<User> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields.as_slice() else {
            return None;
        };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        matches(name, uid).then(|| User {
            name: (*name).to_owned(),
            uid,
            gid,
            groups: Vec::new(),
            home: if home.is_empty() { "/".to_owned() } else { (*home).to_owned() },
            shell: (*shell).to_owned(),
        })
    })
}

/// The ids of the user's primary group and of the groups that list the user.
fn groups_of(group: &str, user: &User) -> Vec<u32> {
    let named = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields.as_slice() else {
            return None;
        };
        members.split(',').any(|member| member == user.name).then(|| gid.parse().ok())?
    });
    let mut groups: Vec<u32> = std::iter::once(user.gid).chain(named).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Adds the user to `/etc/passwd` and `/etc/group` if the image has no user with its uid.
fn add_user(user: &User) -> std::io::Result<()> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if find_passwd(&passwd, |_, uid| uid == user.uid).is_some() {
        return Ok(());
    }
    fs::create_dir_all("/etc")?;
    let append = |path: &str, line: String| {
        let known = fs::read_to_string(path).unwrap_or_default();
        let newline = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(format!("{newline}{line}\n").as_bytes())
    };
    let User { name, uid, gid, home, shell, .. } = user;
    if passwd.is_empty() {
        append("/etc/passwd", "root:x:0:0:root:/root:/bin/sh".to_owned())?;
    }
    append("/etc/passwd", format!("{name}:x:{uid}:{gid}::{home}:{shell}"))?;
    append("/etc/group", format!("{name}:x:{gid}:"))
}

/// Writes the user's home into `/etc/passwd` if the image names another one, which was not accepted. `~` and programs that
/// look the home up then agree with `HOME`.
fn correct_home(user: &User) -> std::io::Result<()> {
    let path = Path::new("/etc/passwd");
    let passwd = fs::read_to_string(path)?;
    let corrected = with_home(&passwd, user);
    if corrected == passwd {
        return Ok(());
    }
    fs::write(path, corrected)
}

/// A passwd file with this home in the first entry of the user's uid.
fn with_home(passwd: &str, user: &User) -> String {
    let mut is_done = false;
    let lines = passwd.split_inclusive('\n').map(|line| {
        let mut fields: Vec<&str> = line.split(':').collect();
        let is_user = fields.len() == 7 && fields[2].parse() == Ok(user.uid);
        if is_done || !is_user {
            return line.to_owned();
        }
        is_done = true;
        fields[5] = &user.home;
        fields.join(":")
    });
    lines.collect()
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

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\n# odd\nnode:x:1000:1000::/home/node:/bin/sh\n";

    #[test]
    fn the_images_name_for_uid_1000_is_used() {
        let user = find_passwd(PASSWD, |_, uid| uid == DEV_UID).unwrap();
        assert_eq!((user.name.as_str(), user.home.as_str()), ("node", "/home/node"));
        assert_eq!(find_passwd("broken:x\n", |_, _| true), None);
    }

    #[test]
    fn only_root_may_enter_the_directory_above_the_link() {
        let guard = tempfile::tempdir().unwrap();
        let link_dir = guard.path().join("host");
        fs::create_dir(&link_dir).unwrap();
        fs::set_permissions(guard.path(), fs::Permissions::from_mode(0o755)).unwrap();
        guard_link(&link_dir).unwrap();
        assert_eq!(fs::metadata(guard.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_home_that_is_not_accepted_is_replaced_in_the_entry() {
        let mut user = find_passwd(PASSWD, |_, uid| uid == DEV_UID).unwrap();
        assert_eq!(with_home(PASSWD, &user), PASSWD);
        let bad = PASSWD.replace("/home/node", "/run") + "twin:x:1000:1000::/twin:/bin/sh";
        DEFAULT_HOME.clone_into(&mut user.home);
        let corrected = with_home(&bad, &user);
        assert_eq!(corrected, bad.replace("::/run:", &format!("::{DEFAULT_HOME}:")));
    }

    #[test]
    fn groups_are_the_primary_one_and_those_that_list_the_user() {
        let user = find_passwd(PASSWD, |_, uid| uid == DEV_UID).unwrap();
        let group = "root:x:0:\naudio:x:29:pulse,node\nvideo:x:44:nodeling\nnode:x:1000:\n";
        assert_eq!(groups_of(group, &user), [29, 1000]);
    }
}
