//! What a confined session may write to.

use super::SessionSpec;

/// Directories of the home directory: caches, and what agents keep there.
const OF_HOME: [&str; 8] =
    [".cache", ".local", ".npm", ".cargo", ".config", ".claude", ".codex", ".gemini"];

/// The paths that a confined session may write to; some may not exist. `home` is the user's home directory.
pub fn writable(spec: &SessionSpec, home: &str) -> Vec<String> {
    let mut paths = vec![spec.directory.clone(), "/tmp".to_owned()];
    // What a commit writes: the worktree's index, objects and refs. Not the configuration and the hooks of the repository:
    // others run them. The path is from before the session could write anything.
    let record = spec.git_dir.as_ref();
    if let Some((record, (common, _))) =
        record.and_then(|path| Some((path, path.rsplit_once("/worktrees/")?)))
    {
        paths.push(record.clone());
        paths.extend(["objects", "refs", "logs"].map(|name| format!("{common}/{name}")));
    }
    paths.extend(OF_HOME.iter().map(|name| format!("{home}/{name}")));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worktree_can_be_committed_to_and_its_repository_is_not_configured() {
        let mut spec = SessionSpec::adopted("/worktrees/fix".to_owned());
        let plain = writable(&spec, "/home/dev");
        assert_eq!(plain[..2], ["/worktrees/fix", "/tmp"]);
        assert!(plain[2..].iter().all(|path| path.starts_with("/home/dev/.")), "{plain:?}");
        spec.git_dir = Some("/workspace/.git/worktrees/fix".to_owned());
        let of_git: Vec<String> =
            writable(&spec, "/home/dev").into_iter().filter(|path| !plain.contains(path)).collect();
        let expected = ["worktrees/fix", "objects", "refs", "logs"];
        assert_eq!(of_git, expected.map(|name| format!("/workspace/.git/{name}")));
        // A git directory of no worktree is not opened.
        spec.git_dir = Some("/workspace/.git".to_owned());
        assert_eq!(writable(&spec, "/home/dev"), plain);
    }
}
