//! Confinement: a command and its descendants may read and execute what their user may, and write only where they are
//! told (Landlock). All or nothing: where the kernel or the container's profile does not offer it whole, it is refused.
//!
//! It needs Landlock's third version (Linux 6.2). Older ones do not hold `truncate`, so that a confined command could
//! still empty any file of its user's. It sets `no_new_privs`: no `sudo` in a confined session.

use std::path::Path;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use shed_link::Confine;

/// The version whose rights are all held.
const VERSION: ABI = ABI::V3;

/// What no program can do without. A directory opens everything below it: `/dev/pts` is the terminal itself.
const ALWAYS: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm"];

/// Why no command can be confined here; `None` when it can. Changes nothing.
pub(crate) fn unavailable() -> Option<String> {
    ruleset().err().map(|error| explain(&error))
}

/// Confines this process and what it becomes. For the child stage, which has one thread.
pub(crate) fn apply(confine: &Confine) -> Result<(), String> {
    let rules = ruleset().map_err(|error| explain(&error))?;
    let everywhere = ALWAYS.iter().filter(|path| Path::new(path).exists());
    let mut rules = rules
        .add_rules(path_beneath_rules(everywhere, rights()))
        .map_err(|error| error.to_string())?;
    for path in &confine.write {
        let rule = writable(path).map_err(|why| format!("{path:?}: {why}"))?;
        rules = rules.add_rule(rule).map_err(|error| format!("{path:?}: {error}"))?;
    }
    let done = rules.restrict_self().map_err(|error| error.to_string())?;
    if done.ruleset == RulesetStatus::FullyEnforced {
        Ok(())
    } else {
        Err("the kernel enforces it only in part".to_owned())
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
        return Err("not an absolute path".to_owned());
    }
    let is_dir = std::fs::metadata(path).map_err(|error| error.to_string())?.is_dir();
    let fd = PathFd::new(path).map_err(|error| error.to_string())?;
    let rights = if is_dir { rights() } else { rights() & AccessFs::from_file(VERSION) };
    Ok(PathBeneath::new(fd, rights))
}

fn explain(error: &RulesetError) -> String {
    format!("this kernel or the container's profile has no Landlock with truncation ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_error_and_not_left_out() {
        assert!(writable("relative").is_err());
        let why = writable("/no/such/directory").unwrap_err();
        assert!(why.contains("No such file"), "{why}");
        assert!(writable("/dev/null").is_ok());
    }
}
