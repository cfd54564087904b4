//! Confinement: a command and its descendants may read and execute what their user may, but write only to given paths. It
//! uses Landlock. If the kernel or the container's seccomp profile does not support all of it, the command is refused.
//!
//! It requires version 3 of Landlock (Linux 6.2). Older versions do not restrict `truncate`, so that a confined command could
//! empty any file of its user. Confinement sets `no_new_privs`, so that `sudo` does not work in a confined session.

use std::path::Path;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use shed_link::Confine;

/// The version of Landlock, all of whose rights are restricted.
const VERSION: ABI = ABI::V3;

/// Paths that are always writable, because no program works without them. A directory includes everything below it, such as
/// the terminal in `/dev/pts`.
const ALWAYS_WRITABLE: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm"];

/// Why commands cannot be confined in this container; `None` when they can. Confines nothing.
pub(crate) fn unavailable() -> Option<String> {
    ruleset().err().map(|error| explain(&error))
}

/// Confines this process and the program that it executes. Must be called with one thread only, as in the child stage.
pub(crate) fn apply(confine: &Confine) -> Result<(), String> {
    let rules = ruleset().map_err(|error| explain(&error))?;
    let everywhere = ALWAYS_WRITABLE.iter().filter(|path| Path::new(path).exists());
    let mut rules = rules
        .add_rules(path_beneath_rules(everywhere, rights()))
        .map_err(|error| error.to_string())?;
    for path in &confine.write {
        let rule = writable(path).map_err(|error| format!("{path:?}: {error}"))?;
        rules = rules.add_rule(rule).map_err(|error| format!("{path:?}: {error}"))?;
    }
    let done = rules.restrict_self().map_err(|error| error.to_string())?;
    if done.ruleset == RulesetStatus::FullyEnforced {
        Ok(())
    } else {
        Err("the kernel enforces it only partially".to_owned())
    }
}

fn rights() -> BitFlags<AccessFs> {
    AccessFs::from_write(VERSION)
}

fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(rights())?
        .create()
}

fn writable(path: &str) -> Result<PathBeneath<PathFd>, String> {
    if !path.starts_with('/') {
        return Err("expected an absolute path".to_owned());
    }
    let is_dir = std::fs::metadata(path).map_err(|error| error.to_string())?.is_dir();
    let fd = PathFd::new(path).map_err(|error| error.to_string())?;
    let rights = if is_dir { rights() } else { rights() & AccessFs::from_file(VERSION) };
    Ok(PathBeneath::new(fd, rights))
}

fn explain(error: &RulesetError) -> String {
    format!("Landlock version 3 (Linux 6.2) is not available in this container ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_is_an_error() {
        assert!(writable("relative").is_err());
        let error = writable("/no/such/directory").unwrap_err();
        assert!(error.contains("No such file"), "{error}");
        assert!(writable("/dev/null").is_ok());
    }
}
