//! The submodules of a new worktree. git leaves their directories empty.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use shed_api::git::quote_path;
use shed_api::name::printable;

use super::command::{Call, Git};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::repository::Repository;

/// The deepest submodule in submodules. git itself has no limit.
pub(crate) const MAX_DEPTH: usize = 8;
/// The command that fetches what is missing.
pub(crate) const COMMAND: &str = "git submodule update --init --recursive";

/// A submodule of a working tree.
#[derive(Debug, PartialEq, Eq)]
struct Submodule {
    name: String,
    /// Relative to the top of the working tree.
    path: PathBuf,
}

/// Checks out the submodules of a worktree, and those in them. Returns what is missing, in words. They are taken from the
/// repository's own copies if those have the commits, otherwise from their URLs.
pub(crate) fn check_out(
    repository: &Repository,
    worktree: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    let mut left = vec![(worktree.to_owned(), repository.common_dir.clone(), 0)];
    while let Some((top, copies, depth)) = left.pop() {
        for submodule in submodules(&top)? {
            interrupt.check()?;
            let path = top.join(&submodule.path);
            let copy = copies.join("modules").join(&submodule.name);
            if let Some(why) = update(&top, &submodule, &copy)? {
                let shown = path.strip_prefix(worktree).unwrap_or(&path);
                let shown = quote_path(shown.as_os_str().as_bytes());
                missing.push(format!("submodule {shown} is empty: {why}"));
            } else if depth < MAX_DEPTH {
                left.push((path, copy, depth + 1));
            }
        }
    }
    if !missing.is_empty() {
        missing.push(format!("to fetch submodules, in the worktree: {COMMAND}"));
    }
    Ok(missing)
}

/// The paths of the submodules that a working tree declares and has; none if git cannot say.
pub(crate) fn paths(top: &Path) -> Vec<PathBuf> {
    let found = submodules(top).unwrap_or_default();
    found.into_iter().map(|submodule| submodule.path).collect()
}

/// The submodules that a working tree declares and has.
fn submodules(top: &Path) -> Result<Vec<Submodule>, Failure> {
    let file = top.join(".gitmodules");
    if !fs::symlink_metadata(&file).is_ok_and(|file| file.is_file()) {
        return Ok(Vec::new());
    }
    let args = ["-z", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$"];
    let ended = Git::at(top).call("config").args(args).ended()?;
    // Exit status 1: it declares none.
    let listing = if ended.status.code() == Some(1) { Vec::new() } else { ended.output };
    Ok(parse(&listing).into_iter().filter(|found| top.join(&found.path).is_dir()).collect())
}

/// Parses the output of `config -z`: key, line end, value, NUL byte. Names that are paths out of `modules` are left out, as
/// git refuses them.
fn parse(listing: &[u8]) -> Vec<Submodule> {
    let text = String::from_utf8_lossy(listing);
    let is_below = |text: &str| {
        let mut parts = Path::new(text).components();
        !text.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let entry = |entry: &str| {
        let (key, path) = entry.split_once('\n')?;
        let name = key.strip_prefix("submodule.")?.strip_suffix(".path")?;
        let found = Submodule { name: name.to_owned(), path: PathBuf::from(path) };
        (is_below(name) && is_below(path)).then_some(found)
    };
    text.split('\0').filter_map(entry).collect()
}

/// Checks out one submodule. Returns why it could not, in words.
fn update(top: &Path, submodule: &Submodule, copy: &Path) -> Result<Option<String>, Failure> {
    let git = Git::at(top);
    let call = |words: &[&str]| git.call("submodule").args(words).arg("--").arg(&submodule.path);
    if copy.join("HEAD").is_file() {
        let copied = from_copy(call(&["update", "--init", "--quiet"]), submodule, copy);
        let has_copied = copied.ended()?.status.success();
        // It remembers the copy as its origin, also if that lacks the commit.
        call(&["sync", "--quiet"]).ended()?;
        if has_copied {
            return Ok(None);
        }
    }
    let ended = call(&["update", "--init", "--quiet"]).ended()?;
    if ended.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&ended.stderr);
    let told = text.lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    Ok(Some(printable(told.unwrap_or("git could not fetch it"))))
}

/// The call with another URL of the submodule: a directory of the repository. git takes directories only if it is told to.
fn from_copy(call: Call, submodule: &Submodule, copy: &Path) -> Call {
    let url = copy.to_string_lossy();
    call.env("GIT_CONFIG_COUNT", "2")
        .env("GIT_CONFIG_KEY_0", "protocol.file.allow")
        .env("GIT_CONFIG_VALUE_0", "always")
        .env("GIT_CONFIG_KEY_1", &format!("submodule.{}.url", submodule.name))
        .env("GIT_CONFIG_VALUE_1", &url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodules_are_parsed_and_none_leads_out() {
        let listing =
            b"submodule.a/b.path\nlibs/b\0submodule.../x.path\ny\0submodule.c.path\n/etc\0\
                        submodule.d.path\n../d\0junk\0";
        let expected = Submodule { name: "a/b".to_owned(), path: PathBuf::from("libs/b") };
        assert_eq!(parse(listing), [expected]);
    }
}
