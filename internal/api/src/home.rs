//! Where the home of a container's user may be. The image names it, so server and shed-init must agree on what they accept.

use std::path::{Component, Path};

/// The home of a user whose image names none, or one that is not accepted.
pub const DEFAULT_HOME: &str = "/home/dev";

/// Directories of the system and of shed. Root's programs trust what is in them, and the home's volume belongs to the user.
const TAKEN: &[&str] = &[
    "/dev",
    "/etc",
    "/opt",
    "/proc",
    "/run",
    "/sys",
    "/usr",
    "/var/run",
    "/workspace",
    "/worktrees",
];

/// Whether the home's volume may be mounted at a path: it is absolute, has no `..` and no character that separates mount
/// options, and neither contains nor lies in a directory of the system or of shed.
pub fn can_be_home(path: &str) -> bool {
    let home = Path::new(path);
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let touches = |taken: &&str| home.starts_with(taken) || Path::new(taken).starts_with(home);
    home.is_absolute()
        && home.components().all(plain)
        && !path.contains([',', ':'])
        && !TAKEN.iter().any(touches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_touches_no_directory_that_root_trusts() {
        for good in ["/home/node", "/root", "/home", "/var/lib/app", "/srv/app", "/usrlocal"] {
            assert!(can_be_home(good), "{good}");
        }
        for bad in [
            "",
            "relative",
            "/a/../b",
            "/a,b",
            "/a:b",
            "/",
            "/run",
            "/run/",
            "/run//shed",
            "/run/shed/link",
            "/var",
            "/var/run",
            "/var/run/x",
            "/etc/app",
            "/usr/local",
            "/opt",
            "/opt/app",
            "/proc/1",
            "/sys",
            "/dev/shm",
            "/workspace",
            "/workspace/home",
            "/worktrees/a",
            "/./run",
        ] {
            assert!(!can_be_home(bad), "{bad}");
        }
    }
}
