//! Where shed-init finds itself: its directories, and the user that sessions run as.
//!
//! In a container the directories are fixed and the user is uid 1000, under whatever name the image has for it. As a
//! plain child of a test the directories are given as flags and the user is who started it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use shed_link::{BOX_LINK_DIR, BOX_PROGRAM_DIR, BOX_RUN_DIR, PROGRAM};

use crate::say;

/// The uid sessions run as in a container.
const DEV_UID: u32 = 1000;
/// The name a container gets for [`DEV_UID`] when its image has none.
const DEV_NAME: &str = "dev";

/// Directories and user. Computed once by each supervisor and worker from the same flags.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Holds the server's socket.
    pub(crate) link_dir: PathBuf,
    /// Where we listen for programs of the box.
    pub(crate) run_dir: PathBuf,
    /// Where shed-init can be started from inside the box.
    pub(crate) program: PathBuf,
    /// Where commands run when nothing else is said.
    pub(crate) workspace: PathBuf,
    /// Where worktrees and the spools of workers are.
    pub(crate) worktrees: PathBuf,
    /// The user sessions run as.
    pub(crate) user: UserFacts,
    /// Whether we are root and may become that user.
    pub(crate) switch_user: bool,
}

/// A user, as `/etc/passwd` and `/etc/group` have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserFacts {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

impl Place {
    /// Reads the flags: none in a container; `--link-dir D --run-dir D --workspace D --home D` in a test, where
    /// `--worktrees D` may follow and is beside the workspace otherwise.
    pub(crate) fn from_args(args: &[String]) -> Result<Self, String> {
        let flag = |name: &str| {
            let at = args.iter().position(|arg| arg == name)?;
            args.get(at + 1).map(PathBuf::from)
        };
        let own = std::env::current_exe().map_err(|error| format!("no path to myself: {error}"))?;
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
                link_dir: BOX_LINK_DIR.into(),
                run_dir: BOX_RUN_DIR.into(),
                program: Path::new(BOX_PROGRAM_DIR).join(PROGRAM),
                workspace: "/workspace".into(),
                worktrees: "/worktrees".into(),
                user: container_user(),
                switch_user: root,
            }),
            _ => Err("give all of --link-dir, --run-dir, --workspace and --home, or none".into()),
        }
    }

    /// Root, for the human's way.
    pub(crate) fn root(&self) -> UserFacts {
        if !self.switch_user {
            return self.user.clone();
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let shell = find_passwd(&passwd, |_, uid| uid == 0).map_or_else(default_shell, |u| u.shell);
        UserFacts {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".to_owned(),
            shell,
        }
    }

    /// Makes what a shed needs to exist: the user's entry, home, workspace and worktrees. Done once, by the supervisor;
    /// a failure is said and lived with, since a shed that can be entered can be repaired.
    pub(crate) fn prepare(&self) {
        if !self.switch_user {
            return;
        }
        let tried = [
            ("/etc/passwd", add_user(&self.user)),
            ("home", own_directory(Path::new(&self.user.home), &self.user)),
            ("/workspace", own_directory(&self.workspace, &self.user)),
            ("/worktrees", own_directory(&self.worktrees, &self.user)),
            ("/tmp", sticky_tmp()),
        ];
        for (what, result) in tried {
            if let Err(error) = result {
                say(&format!("shed-init: cannot prepare {what}: {error}"));
            }
        }
    }
}

fn default_shell() -> String {
    let shells = ["/bin/bash", "/usr/bin/bash"];
    let found = shells.iter().find(|shell| Path::new(shell).exists());
    (*found.unwrap_or(&"/bin/sh")).to_owned()
}

fn current_user(home: &Path) -> UserFacts {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = find_passwd(&passwd, |_, known| known == uid);
    UserFacts {
        name: found.map_or_else(|| uid.to_string(), |user| user.name),
        uid,
        gid: rustix::process::getegid().as_raw(),
        groups: Vec::new(),
        home: home.to_string_lossy().into_owned(),
        shell: default_shell(),
    }
}

fn container_user() -> UserFacts {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let mut user = find_passwd(&passwd, |_, uid| uid == DEV_UID).unwrap_or_else(|| UserFacts {
        name: DEV_NAME.to_owned(),
        uid: DEV_UID,
        gid: DEV_UID,
        groups: Vec::new(),
        home: format!("/home/{DEV_NAME}"),
        shell: default_shell(),
    });
    if user.shell.is_empty() || user.shell.ends_with("/nologin") || user.shell.ends_with("/false") {
        user.shell = default_shell();
    }
    user.groups = groups_of(&group, &user);
    user
}

/// The first line of a passwd file that fits.
fn find_passwd(passwd: &str, fits: impl Fn(&str, u32) -> bool) -> Option<UserFacts> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields.as_slice() else {
            return None;
        };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        fits(name, uid).then(|| UserFacts {
            name: (*name).to_owned(),
            uid,
            gid,
            groups: Vec::new(),
            home: if home.is_empty() { "/".to_owned() } else { (*home).to_owned() },
            shell: (*shell).to_owned(),
        })
    })
}

/// The user's own group and those that name it.
fn groups_of(group: &str, user: &UserFacts) -> Vec<u32> {
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

/// Adds the user to an image that has none with its uid.
fn add_user(user: &UserFacts) -> std::io::Result<()> {
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
    let UserFacts { name, uid, gid, home, shell, .. } = user;
    if passwd.is_empty() {
        append("/etc/passwd", "root:x:0:0:root:/root:/bin/sh".to_owned())?;
    }
    append("/etc/passwd", format!("{name}:x:{uid}:{gid}::{home}:{shell}"))?;
    append("/etc/group", format!("{name}:x:{gid}:"))
}

/// Makes a directory the user's. One that is somebody else's on purpose stays theirs.
fn own_directory(path: &Path, user: &UserFacts) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    let metadata = fs::metadata(path)?;
    if metadata.uid() == 0 { chown(path, Some(user.uid), Some(user.gid)) } else { Ok(()) }
}

/// An image from scratch has no `/tmp`, and tmux puts its socket there.
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
    fn an_image_keeps_its_own_name_for_uid_1000() {
        let user = find_passwd(PASSWD, |_, uid| uid == DEV_UID).unwrap();
        assert_eq!((user.name.as_str(), user.home.as_str()), ("node", "/home/node"));
        assert_eq!(find_passwd("broken:x\n", |_, _| true), None);
    }

    #[test]
    fn groups_are_the_own_one_and_those_that_list_the_user() {
        let user = find_passwd(PASSWD, |_, uid| uid == DEV_UID).unwrap();
        let group = "root:x:0:\naudio:x:29:pulse,node\nvideo:x:44:nodeling\nnode:x:1000:\n";
        assert_eq!(groups_of(group, &user), [29, 1000]);
    }
}
