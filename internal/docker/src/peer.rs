//! Checks who connects on a link, by the kernel's credentials. Pure, but for one file of `/proc`.
//!
//! The caller must be root in the container, and the container's first process or a child of it: shed-init's supervisor or
//! worker. This separates the containers of one host, and everyone in a container who is not root. It cannot separate root
//! from shed-init in one container: root there can trace shed-init, and orphans of root become its children. Input from a
//! container is trusted to affect that container and nothing else.

use shed_engine::local::Peer;

/// The uid of root in a container, as the host sees it.
const ROOT: u32 = 0;

/// Whether the caller can be root of a container. With a rootless engine, root is the user who runs the engine: `owner`.
pub(crate) fn may_be_root(peer: Peer, owner: Option<u32>) -> bool {
    peer.pid != 0 && (peer.uid == ROOT || Some(peer.uid) == owner)
}

/// Whether the caller is the container's first process or a child of it.
pub(crate) fn is_shed_init(peer: Peer, first: u32) -> bool {
    first != 0 && (peer.pid == first || parent_of(peer.pid) == Some(first))
}

/// The uid this process runs as.
pub(crate) fn own_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}

fn parent_of(pid: u32) -> Option<u32> {
    parse_parent(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The fourth field of a `stat` file. The second is a name in parentheses, which may contain anything.
fn parse_parent(stat: &str) -> Option<u32> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_whatever_the_process_name_contains() {
        assert_eq!(parse_parent("7 (a) S 1 7 7 0"), Some(1));
        assert_eq!(parse_parent("7 (x) R 9 (y) S 42 7"), Some(42));
        assert_eq!(parse_parent("7"), None);
    }

    #[test]
    fn a_caller_in_another_pid_namespace_or_of_another_user_is_refused() {
        assert!(!may_be_root(Peer { pid: 0, uid: 0 }, None));
        assert!(!may_be_root(Peer { pid: 5, uid: 1000 }, None));
        assert!(may_be_root(Peer { pid: 5, uid: 1000 }, Some(1000)));
        let own = std::process::id();
        assert!(is_shed_init(Peer { pid: own, uid: 0 }, own));
        assert!(is_shed_init(Peer { pid: own, uid: 0 }, std::os::unix::process::parent_id()));
        assert!(!is_shed_init(Peer { pid: own, uid: 0 }, 0));
        assert!(!is_shed_init(Peer { pid: own, uid: 0 }, 1_u32 << 30));
    }
}
