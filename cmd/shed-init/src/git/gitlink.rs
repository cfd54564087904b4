//! The commit that a submodule has checked out.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use shed_link::git::FailureKind;

use super::command::Git;
use super::failure::Failure;
use super::repository::Repository;
use super::status::Status;
use super::worktrees::real;

/// The commit of the submodule at `name` in an index.
pub(crate) fn commit_in(index: &Git, name: &[u8]) -> Result<String, Failure> {
    let call = index.call("ls-files").args(["--stage", "-z", "--"]).arg(OsStr::from_bytes(name));
    let output = call.output("cannot read the commit of a submodule")?;
    // `160000 COMMIT 0`, a tab and the name.
    let text = String::from_utf8_lossy(&output);
    let commit = text.split(' ').nth(1).map(str::to_owned);
    commit.ok_or_else(|| {
        Failure::new(FailureKind::Git, "cannot parse git's description of a submodule")
    })
}

/// Checks out another commit in the submodule at `name`, if nothing is lost by that. Otherwise returns why it is kept.
pub(crate) fn check_out(
    top: &Path,
    name: &[u8],
    commit: &str,
) -> Result<Option<&'static str>, Failure> {
    let path = top.join(OsStr::from_bytes(name));
    // Never through a symlink, which may lead out of the working tree.
    if real(&path) != real(top).join(OsStr::from_bytes(name))
        || fs::symlink_metadata(path.join(".git")).is_err()
    {
        return Ok(Some("it is a submodule that is not initialised"));
    }
    let Ok(submodule) = Repository::open_at(&path) else {
        return Ok(Some("it is a submodule that git cannot read"));
    };
    if real(&submodule.toplevel) != real(&path) {
        return Ok(Some("it is a submodule that git cannot read"));
    }
    if Status::of(&submodule)?.n_files() > 0 {
        return Ok(Some("it is a submodule with changed files"));
    }
    if submodule.commit_of(commit)?.is_none() {
        return Ok(Some("it is a submodule that does not have the checkpoint's commit"));
    }
    let args = ["--count=1", "--format=%(refname)", "--contains", "HEAD"];
    let refs = submodule.git.call("for-each-ref").args(args).line()?;
    if refs.is_none_or(|refs| refs.is_empty()) {
        return Ok(Some("it is a submodule whose commit is on no branch"));
    }
    let args = ["--quiet", "--detach", "--no-overwrite-ignore", commit];
    let is_done = submodule.git.call("checkout").args(args).succeeds()?;
    Ok((!is_done).then_some("it is a submodule whose files git cannot replace"))
}
