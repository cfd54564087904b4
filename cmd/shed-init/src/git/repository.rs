//! A repository, opened from one of its working trees.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use shed_api::git::quote_path;
use shed_link::git::{ContainerPath, FailureKind, Remote, RepoFacts};

use super::command::Git;
use super::failure::Failure;

/// The most remotes that are listed. A fork of a fork has three.
const MAX_REMOTES: usize = 50;
/// The number of lines that `rev-parse` prints in [`Repository::open`].
const N_ANSWERS: usize = 4;

/// A working tree and the repository behind it.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The top of the working tree.
    pub(crate) toplevel: PathBuf,
    /// The git directory of the working tree, with `HEAD` and the index.
    pub(crate) git_dir: PathBuf,
    /// The git directory that all worktrees share.
    pub(crate) common_dir: PathBuf,
    /// The user's index.
    pub(crate) index: PathBuf,
    /// The name of the checked-out commit: `HEAD`, except in a directory that git has forgotten.
    checked_out: String,
    /// git in the top directory.
    pub(crate) git: Git,
}

impl Repository {
    /// Opens the repository that contains a directory.
    pub(crate) fn open(directory: &ContainerPath) -> Result<Self, Failure> {
        Self::open_at(Path::new(directory.as_str()))
    }

    /// The same for a path that was found rather than given.
    pub(crate) fn open_at(directory: &Path) -> Result<Self, Failure> {
        let shown = quote_path(directory.as_os_str().as_bytes());
        if !directory.is_dir() {
            let text = format!("directory {shown} does not exist");
            return Err(Failure::new(FailureKind::NotFound, text));
        }
        let ended = Git::at(directory)
            .call("rev-parse")
            .args([
                "--show-toplevel",
                "--absolute-git-dir",
                "--git-common-dir",
                "--git-path",
                "index",
            ])
            .ended()?;
        let output = ended.success(&format!("{shown} is not in a working tree of git"))?;
        let lines: Vec<&[u8]> = output.split(|byte| *byte == b'\n').collect();
        if lines.len() != N_ANSWERS + 1 {
            return Err(Failure::new(FailureKind::Git, "cannot parse git's list of directories"));
        }
        let path = |line: &[u8]| directory.join(OsString::from_vec(line.to_vec()));
        let toplevel = path(lines[0]);
        let common_dir = path(lines[2]);
        let common_dir = common_dir
            .canonicalize()
            .map_err(|error| Failure::io("cannot find the repository's directory", &error))?;
        let git = Git::at(&toplevel);
        let (git_dir, index) = (path(lines[1]), path(lines[3]));
        let checked_out = "HEAD".to_owned();
        Ok(Self { toplevel, git_dir, common_dir, index, checked_out, git })
    }

    /// A directory that was a worktree of this repository with a branch, and that git has forgotten. Its files can be read
    /// as if the branch were checked out there with nothing in the index.
    pub(crate) fn forgotten_worktree(&self, directory: &Path, branch: Option<&str>) -> Self {
        Self {
            toplevel: directory.to_owned(),
            git_dir: self.common_dir.clone(),
            common_dir: self.common_dir.clone(),
            index: self.common_dir.join("shed/no-index"),
            // A name that no ref has, so that nothing counts as checked out.
            checked_out: format!("refs/heads/{}", branch.unwrap_or(".none")),
            git: Git::through(&self.common_dir, directory),
        }
    }

    /// Whether it was made by [`Self::forgotten_worktree`].
    pub(crate) fn is_forgotten(&self) -> bool {
        self.checked_out != "HEAD"
    }

    /// The id of the checked-out commit; `None` before the first commit.
    pub(crate) fn head(&self) -> Result<Option<String>, Failure> {
        self.commit_of(&self.checked_out)
    }

    /// The id of the commit that a name resolves to, if there is one.
    pub(crate) fn commit_of(&self, name: &str) -> Result<Option<String>, Failure> {
        let commit = format!("{name}^{{commit}}");
        let args = ["--verify", "--quiet", "--end-of-options", &commit];
        self.git.call("rev-parse").args(args).line()
    }

    /// The checked-out branch, without `refs/heads/`; `None` when `HEAD` is detached.
    pub(crate) fn branch(&self) -> Result<Option<String>, Failure> {
        let name = if self.is_forgotten() {
            self.head()?.map(|_| self.checked_out.clone())
        } else {
            self.git.call("symbolic-ref").args(["--quiet", "HEAD"]).line()?
        };
        Ok(name.and_then(|name| name.strip_prefix("refs/heads/").map(str::to_owned)))
    }

    /// The id of the empty tree. It depends on the repository's hash; git does not need to store the tree.
    pub(crate) fn empty_tree(&self) -> Result<String, Failure> {
        let line = self.git.call("hash-object").args(["-t", "tree", "/dev/null"]).line()?;
        line.ok_or_else(|| {
            Failure::new(FailureKind::Git, "git cannot compute the id of the empty tree")
        })
    }

    /// The default branch as a full ref, and its commit.
    pub(crate) fn default_branch(&self) -> Result<Option<(String, String)>, Failure> {
        let fetched =
            self.git.call("symbolic-ref").args(["--quiet", "refs/remotes/origin/HEAD"]).line()?;
        let usual = ["refs/remotes/origin/main", "refs/remotes/origin/master"].map(str::to_owned);
        let here = self.branch()?.map(|branch| format!("refs/heads/{branch}"));
        for name in fetched.into_iter().chain(usual).chain(here) {
            if let Some(commit) = self.commit_of(&name)? {
                return Ok(Some((name, commit)));
            }
        }
        Ok(None)
    }

    fn remotes(&self) -> Result<Vec<Remote>, Failure> {
        let args = ["-z", "--get-regexp", r"^remote\..*\.url$"];
        let ended = self.git.call("config").args(args).ended()?;
        // Exit status 1: no key matches.
        if ended.status.code() == Some(1) {
            return Ok(Vec::new());
        }
        Ok(parse_remotes(&ended.success("cannot read the remotes")?))
    }
}

/// Describes the repository of a directory.
pub(crate) fn facts(directory: &ContainerPath) -> Result<RepoFacts, Failure> {
    let repository = match Repository::open(directory) {
        Ok(repository) => repository,
        Err(failure) if failure.kind() == FailureKind::NotARepository => {
            return Ok(RepoFacts::default());
        }
        Err(failure) => return Err(failure),
    };
    Ok(RepoFacts {
        repository: true,
        toplevel: Some(quote_path(repository.toplevel.as_os_str().as_bytes())),
        common_dir: Some(quote_path(repository.common_dir.as_os_str().as_bytes())),
        linked: repository.git_dir.canonicalize().ok().as_ref() != Some(&repository.common_dir),
        branch: repository.branch()?,
        head: repository.head()?,
        default_branch: repository.default_branch()?.map(|(name, _)| name),
        remotes: repository.remotes()?,
    })
}

/// Parses the output of `config -z`: key, line end, value, NUL byte.
fn parse_remotes(listing: &[u8]) -> Vec<Remote> {
    let text = String::from_utf8_lossy(listing);
    let entry = |entry: &str| {
        let (key, url) = entry.split_once('\n')?;
        let name = key.strip_prefix("remote.")?.strip_suffix(".url")?;
        let name = shed_api::name::printable(name);
        let url = shed_api::redact::redact_value(&without_userinfo(url));
        Some(Remote { name, url: shed_api::name::printable(&url) })
    };
    text.split('\0').filter_map(entry).take(MAX_REMOTES).collect()
}

/// Removes user and password from a URL. `git@host:path` has no password and is not changed.
fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_removed_from_urls() {
        for (given, expected) in [
            ("https://u:p@h/x", "https://h/x"),
            ("https://u:p@ss@h:1/x@y", "https://h:1/x@y"),
            ("https://h", "https://h"),
            ("ssh://git@h/x", "ssh://h/x"),
            ("git@h:x", "git@h:x"),
            ("/srv/x.git", "/srv/x.git"),
        ] {
            assert_eq!(without_userinfo(given), expected);
        }
    }

    #[test]
    fn remotes_are_parsed_from_the_configuration() {
        let unclean = b"remote.u.url\nhttps://me:p4ss/word@h/a?token=p4ss\0";
        assert_eq!(parse_remotes(unclean)[0].url, "https://…@h/a?…");
        let remotes =
            parse_remotes(b"remote.origin.url\nhttps://t@h/a\0remote.a.b.url\nx\x1b\0odd\0");
        let pair = |name: &str, url: &str| Remote { name: name.to_owned(), url: url.to_owned() };
        assert_eq!(remotes, [pair("origin", "https://h/a"), pair("a.b", "x\u{fffd}")]);
    }
}
