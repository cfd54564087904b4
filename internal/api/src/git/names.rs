//! Names that git is given: branches, revisions, refs, directories and files, parsed once where they enter.
//!
//! The rules are those of `git check-ref-format`. No name begins with `-`, so that git never reads one as an option.

use std::fmt;

use super::{quote_path, unquote_path};
use serde::{Deserialize, Serialize};

/// The longest name of a ref, in bytes. A part of it becomes a file name with `.lock` behind it.
pub const MAX_REF_BYTES: usize = 200;
/// The longest path, in bytes: what Linux takes.
pub const MAX_PATH_BYTES: usize = 4_096;

/// Why a text was rejected, as a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {shown:?}; {rule}")]
pub struct GitNameError {
    /// What was expected, for example `branch name`.
    kind: &'static str,
    /// The beginning of what was given.
    shown: String,
    /// What is expected, or which rule the text breaks.
    rule: &'static str,
}

/// The name of a branch, without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Branch(String);

/// Something that names a commit: a branch, a tag, a whole ref, `HEAD` or a commit's id, and an ancestor of any of these
/// (`HEAD~2`, `v1^`). No `@{…}` and no `^{…}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rev(String);

/// A ref of ours: under `refs/shed/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShedRef(String);

/// An absolute directory in the container, without `..` and control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerPath(String);

/// A file or directory of a working tree, relative to its top. As text it is in the form of
/// [`quote_path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(Vec<u8>);

impl FilePath {
    /// The name as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for Branch {
    type Error = GitNameError;

    fn try_from(given: String) -> Result<Self, GitNameError> {
        let rule = check_ref(&given).err().or_else(|| {
            (given == "HEAD" || given.starts_with("refs/"))
                .then_some("expected a name that is not `HEAD` and does not begin with `refs/`")
        });
        rule.map_or(Ok(()), |rule| Err(rejected("branch name", &given, rule)))?;
        Ok(Self(given))
    }
}

impl TryFrom<String> for Rev {
    type Error = GitNameError;

    fn try_from(given: String) -> Result<Self, GitNameError> {
        check_ref(without_ancestry(&given))
            .map_err(|rule| rejected("branch, tag or commit", &given, rule))?;
        Ok(Self(given))
    }
}

impl TryFrom<String> for ShedRef {
    type Error = GitNameError;

    fn try_from(given: String) -> Result<Self, GitNameError> {
        check_ref(&given)
            .and_then(|()| {
                let ours = given.starts_with("refs/shed/");
                ours.then_some(()).ok_or("expected a ref under `refs/shed/`")
            })
            .map_err(|rule| rejected("ref of shed", &given, rule))?;
        Ok(Self(given))
    }
}

impl TryFrom<String> for ContainerPath {
    type Error = GitNameError;

    fn try_from(given: String) -> Result<Self, GitNameError> {
        let rule = if !given.starts_with('/') {
            Some("expected an absolute path")
        } else if given.len() > MAX_PATH_BYTES {
            Some("expected at most 4096 bytes")
        } else if given.contains(char::is_control) {
            Some("expected no control characters")
        } else if given.split('/').any(|part| part == "..") {
            Some("expected no '..'")
        } else {
            None
        };
        rule.map_or(Ok(()), |rule| Err(rejected("directory", &given, rule)))?;
        Ok(Self(given))
    }
}

impl TryFrom<String> for FilePath {
    type Error = GitNameError;

    fn try_from(given: String) -> Result<Self, GitNameError> {
        let error = |rule| rejected("file of a working tree", &given, rule);
        let path = unquote_path(&given).ok_or_else(|| error("expected well-formed quotes"))?;
        if path.is_empty() || path.len() > MAX_PATH_BYTES {
            return Err(error("expected 1 to 4096 bytes"));
        }
        if path.contains(&0) {
            return Err(error("expected no NUL byte"));
        }
        let mut parts = path.split(|byte| *byte == b'/');
        if parts
            .any(|part| matches!(part, b"" | b"." | b"..") || part.eq_ignore_ascii_case(b".git"))
        {
            return Err(error("expected a plain relative path outside .git"));
        }
        Ok(Self(path))
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> Self {
        quote_path(&path.0)
    }
}

/// Reading and showing, the same for the names that are text.
macro_rules! text_name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text_name!(Branch);
text_name!(Rev);
text_name!(ShedRef);
text_name!(ContainerPath);

fn rejected(kind: &'static str, given: &str, rule: &'static str) -> GitNameError {
    GitNameError { kind, shown: given.chars().take(80).collect(), rule }
}

/// The rules of `git check-ref-format --allow-onelevel`, and no `-` in front.
/// What is left of a revision without steps to ancestors at its end, each `~` or `^` and an optional number.
fn without_ancestry(given: &str) -> &str {
    let start = given.find(['~', '^']).unwrap_or(given.len());
    let is_ancestry = given[start..].chars().all(|c| matches!(c, '~' | '^') || c.is_ascii_digit());
    if is_ancestry && given.len() <= MAX_REF_BYTES { &given[..start] } else { given }
}

fn check_ref(given: &str) -> Result<(), &'static str> {
    if given.is_empty() {
        return Err("expected a name that is not empty");
    }
    if given.len() > MAX_REF_BYTES {
        return Err("expected at most 200 bytes");
    }
    if given.starts_with('-') {
        return Err("expected a name that does not begin with '-'");
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if given.contains(odd) {
        return Err("expected no control characters, white space or any of ~ ^ : ? * [ \\");
    }
    if given == "@" || given.contains("..") || given.contains("@{") || given.ends_with('.') {
        return Err("expected no '..' or '@{', no '.' at the end, and not '@' alone");
    }
    let bad = |part: &str| {
        let lock =
            part.len() >= 5 && part.as_bytes()[part.len() - 5..].eq_ignore_ascii_case(b".lock");
        part.is_empty() || part.starts_with('.') || lock
    };
    if given.split('/').any(bad) {
        return Err(
            "expected parts between '/' that are not empty, do not begin with '.' and do not end with '.lock'",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: [&str; 24] = [
        "",
        "-x",
        "--upload-pack=x",
        "a..b",
        "../x",
        "a/../b",
        "a b",
        "a\nb",
        "a\0b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a.",
        "a.lock",
        "a.lock/b",
        "/a",
        "a/",
        "a//b",
        ".a",
        "@",
    ];

    #[test]
    fn names_that_git_or_a_command_line_could_misread_are_rejected() {
        for bad in BAD {
            assert!(Branch::try_from(bad.to_owned()).is_err(), "{bad:?} passed as a branch");
            let is_ancestor = matches!(bad, "a~1" | "a^");
            let passed = Rev::try_from(bad.to_owned()).is_ok();
            assert_eq!(passed, is_ancestor, "{bad:?} as a revision");
        }
        for bad in ["~1", "^", "-a~1", "a^{tree}", "a~b", "a^..b", "a@{1}^", "a~1:x", "a ~1"] {
            assert!(Rev::try_from(bad.to_owned()).is_err(), "{bad:?} passed as a revision");
        }
        for bad in ["HEAD", "refs/heads/x", "a@{1}"] {
            assert!(Branch::try_from(bad.to_owned()).is_err(), "{bad:?} passed as a branch");
        }
        for bad in ["refs/heads/x", "refs/shed", "refs/shed/../heads/x", "refs/shed/-x/.y"] {
            assert!(ShedRef::try_from(bad.to_owned()).is_err(), "{bad:?} passed as a ref of ours");
        }
    }

    #[test]
    fn names_git_takes_pass() {
        for good in
            ["main", "shed/web-1", "#(id)", "ä/ö", "a-b_c.d", "it's", "\"q\"", "$(x)", "a@b"]
        {
            assert!(Branch::try_from(good.to_owned()).is_ok(), "{good:?} was refused");
        }
        for good in ["HEAD", "HEAD~2", "v1^", "v1^2~3", "origin/main~10^"] {
            assert!(Rev::try_from(good.to_owned()).is_ok(), "{good:?} was refused");
        }
        assert!(ShedRef::try_from("refs/shed/trash/20260101/x".to_owned()).is_ok());
    }

    #[test]
    fn files_stay_in_their_tree() {
        for bad in
            ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", ".git/config", "a/.GIT/x", "\"a"]
        {
            assert!(FilePath::try_from(bad.to_owned()).is_err(), "{bad:?} passed as a file");
        }
        let path = FilePath::try_from("\"a\\377\"".to_owned()).unwrap();
        assert_eq!(path.as_bytes(), b"a\xff");
        assert_eq!(String::from(path), "\"a\\377\"");
        assert!(FilePath::try_from("-x".to_owned()).is_ok());
    }

    #[test]
    fn directories_are_absolute() {
        for bad in ["", "a", "/a/../b", "/a\nb"] {
            assert!(
                ContainerPath::try_from(bad.to_owned()).is_err(),
                "{bad:?} passed as a directory"
            );
        }
        assert!(ContainerPath::try_from("/worktrees/#(id)".to_owned()).is_ok());
    }
}
