//! The values of `--repo`: a URL, `git@host:path` or `owner/repo`. Pure.
//!
//! A password in a URL is used for the clone and never written down: not in a label, a row, a log or the clone's own
//! configuration. A text in which people, git and this module could disagree about where the password ends is refused.

use std::fmt;

use shed_api::redact::{redact, redact_value};

/// A repository to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Repo {
    /// The URL for git, without a password.
    pub url: String,
    /// The host a credential is for, `host` or `host:port`; `None` for a path or ssh.
    pub credential_host: Option<String>,
    /// `https`, `http`, `ssh`, `git` or `file`.
    pub protocol: &'static str,
    /// User and password from the URL.
    pub credential: Option<(String, String)>,
}

// The password must not get into a log through `{:?}`.
impl fmt::Debug for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repo").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The text is not a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid repository {shown:?}; expected a URL, git@host:path, or owner/repo for GitHub{hint}"
)]
pub struct RepoError {
    shown: String,
    hint: &'static str,
}

/// What most URLs that look right and are refused need.
const ENCODE: &str =
    "; in a URL, write / ? # and @ of a user name, password or path as %2F %3F %23 and %40";

/// How much of an invalid value is shown.
const MAX_SHOWN_CHARS: usize = 200;

/// Parses a value of `--repo`.
pub fn parse(given: &str) -> Result<Repo, RepoError> {
    let error = || RepoError {
        shown: redact_value(given).chars().take(MAX_SHOWN_CHARS).collect(),
        hint: if given.contains(['@', '?', '#']) { ENCODE } else { "" },
    };
    if given.is_empty()
        || given.len() > 2_000
        || given.starts_with('-')
        || given.contains(char::is_control)
    {
        return Err(error());
    }
    if let Some((scheme, rest)) = given.split_once("://") {
        return parse_url(scheme, rest).ok_or_else(error);
    }
    if let Some((host, path)) = given.split_once(':') {
        // scp's form. A host with a slash before the colon would be a path.
        let plain = !host.is_empty() && !host.contains(['/', ' ']) && !host.starts_with('-');
        // A second colon would name a transport of git's that runs commands.
        // An `@` after it is that of `user:password@host`, a URL without its scheme.
        let safe =
            plain && !path.is_empty() && !path.starts_with(['-', ':']) && !path.contains('@');
        return if safe { Ok(plain_repo(given, "ssh")) } else { Err(error()) };
    }
    let word = |word: &str| {
        !word.is_empty()
            && !word.starts_with(['-', '.'])
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match given.split_once('/') {
        Some((owner, name)) if word(owner) && word(name) => {
            let name = name.strip_suffix(".git").unwrap_or(name);
            parse_url("https", &format!("github.com/{owner}/{name}.git")).ok_or_else(error)
        }
        _ => Err(error()),
    }
}

fn plain_repo(url: &str, protocol: &'static str) -> Repo {
    Repo { url: url.to_owned(), credential_host: None, protocol, credential: None }
}

/// As git does: the authority ends at the first `/`, and for http also at `?` or `#`, whatever stands after it. An `@` behind
/// it may belong to a password with a `/` in it, so it is refused, as is a host that is none: `user:pass` of such a text.
fn parse_url(scheme: &str, rest: &str) -> Option<Repo> {
    if scheme == "file" {
        return rest.starts_with('/').then(|| plain_repo(&format!("file://{rest}"), "file"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if !is_host(host) || path.contains('@') {
        return None;
    }
    match scheme {
        "git" if !authority.contains('@') => Some(plain_repo(&format!("git://{rest}"), "git")),
        "ssh" => {
            // ssh takes no password from a URL; only the user's name counts. An option in disguise is refused.
            let user = userinfo.split(':').next().unwrap_or_default();
            if user.starts_with('-') {
                return None;
            }
            let at = if user.is_empty() { "" } else { "@" };
            Some(plain_repo(&format!("ssh://{user}{at}{host}/{path}"), "ssh"))
        }
        "http" | "https" => {
            // A query may be a token, and no server's repository needs one. Git splits at the first `@`, curl at the last.
            if path.is_empty() || rest.contains(['?', '#']) || userinfo.contains('@') {
                return None;
            }
            let credential = match userinfo.split_once(':') {
                Some((user, password)) => Some((decode(user)?, decode(password)?)),
                // GitHub and others take a token as the user name, with any password.
                None if !userinfo.is_empty() => Some((decode(userinfo)?, String::new())),
                None => None,
            };
            Some(Repo {
                url: format!("{scheme}://{host}/{path}"),
                credential_host: Some(host.to_owned()),
                protocol: if scheme == "https" { "https" } else { "http" },
                credential,
            })
        }
        _ => None,
    }
}

/// Whether a text is a host name or an address, with or without a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => {
                (address, after.strip_prefix(':').or(after.is_empty().then_some("0")))
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("0")),
        },
    };
    let is_letter = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let is_v6 = |c: char| c.is_ascii_hexdigit() || ":.%".contains(c);
    let good =
        if text.starts_with('[') { host.chars().all(is_v6) } else { host.chars().all(is_letter) };
    good && !host.is_empty()
        && !host.starts_with('-')
        && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// Percent-decoding. A line break would add a line to git's credential protocol.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// A stored URL as it may be kept and shown: older versions stored some with a password.
pub fn clean(url: &str) -> String {
    parse(url).map_or_else(|_| redact_value(url), |repo| repo.url)
}

/// The arguments of `git` for the clone.
pub fn clone_args(
    repo: &Repo,
    branch: Option<&str>,
    credential_helper: Option<&str>,
) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut config = |text: String| args.extend(["-c".to_owned(), text]);
    // Only the lent helper is asked: an empty value removes the helpers configured before it.
    config("credential.helper=".to_owned());
    if let Some(helper) = credential_helper {
        config(format!("credential.helper={helper}"));
        config("credential.useHttpPath=false".to_owned());
    }
    args.extend(["clone", "--progress"].map(str::to_owned));
    if let Some(branch) = branch {
        // One word, so that no branch is an option.
        args.push(format!("--branch={branch}"));
    }
    args.extend(["--".to_owned(), repo.url.clone()]);
    args
}

/// The newest line of git's progress output: text and percent.
///
/// git writes `Receiving objects:  42% (420/1000), 1.2 MiB | 3 MiB/s` with carriage returns.
pub fn progress(chunk: &str) -> Option<(String, Option<u8>)> {
    // `\d` and `\s` would need tables that the regex crate is built without here.
    static PERCENT: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new("^(?:remote: )?([A-Z][a-z]+(?: [a-z]+)*): +([0-9]{1,3})%")
            .expect("a constant pattern")
    });
    let last = chunk.split(['\r', '\n']).map(str::trim).rfind(|line| !line.is_empty())?;
    match PERCENT.captures(last) {
        Some(found) => Some((found[1].to_lowercase(), found[2].parse().ok())),
        None => Some((shed_api::name::printable(&redact(last)), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for (given, url, host) in [
            ("https://example.com/a/b.git", "https://example.com/a/b.git", Some("example.com")),
            ("https://example.com:8443/a", "https://example.com:8443/a", Some("example.com:8443")),
            ("git@github.com:o/r.git", "git@github.com:o/r.git", None),
            ("ssh://git@h:22/p", "ssh://git@h:22/p", None),
            ("git://h/p", "git://h/p", None),
            ("file:///srv/r.git", "file:///srv/r.git", None),
            ("owner/repo", "https://github.com/owner/repo.git", Some("github.com")),
            ("owner/repo.git", "https://github.com/owner/repo.git", Some("github.com")),
        ] {
            let repo = parse(given).unwrap();
            assert_eq!(
                (repo.url.as_str(), repo.credential_host.as_deref()),
                (url, host),
                "{given}"
            );
        }
    }

    #[test]
    fn a_password_is_used_and_never_shown() {
        let repo = parse("https://me:s%40cret@example.com/a").unwrap();
        assert_eq!(repo.url, "https://example.com/a");
        assert_eq!(repo.credential, Some(("me".to_owned(), "s@cret".to_owned())));
        assert_eq!(format!("{repo:?}"), "Repo { url: \"https://example.com/a\", .. }");
        let repo = parse("https://ghp_x@example.com/a").unwrap();
        assert_eq!(repo.credential, Some(("ghp_x".to_owned(), String::new())));
        assert_eq!(parse("ssh://git:pw@h/p").unwrap().url, "ssh://git@h/p");
        for bad in ["https://me:secret@", "ftp://me:secret@h/p", "https://a%0ahost=evil:x@h/p"] {
            let text = parse(bad).unwrap_err().to_string();
            assert!(!text.contains("secret") && !text.contains("evil:"), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_unclean_url_is_refused_and_not_shown() {
        for bad in [
            "https://me:p4ss/w0rd@host/x",
            "https://me:p4ss?w0rd@host/x",
            "https://me:p4ss#w0rd@host/x",
            "https://me:p4ss@w0rd@host/x",
            "https://me:44/p4ss@host/x",
            "https://p4ss/w0rd@host/x",
            "me:p4ss@host/x",
            "me:p4ss/w0rd@host:x",
            "ssh://me:p4ss/w0rd@host/x",
            "git://me:p4ss@host/x",
            "https://host/x?token=p4ss",
            "https://host/x#p4ss",
            "ftp://me:p4ss@host/x?p4ss@",
            &format!("https://me:p4ss{}@host/x/@", "y".repeat(300)),
        ] {
            let text = parse(bad).unwrap_err().to_string();
            assert!(!text.contains("p4ss") && !text.contains("w0rd"), "{bad}: {text}");
            assert!(text.contains("%2F"), "{text}");
            assert!(!clean(bad).contains("p4ss"), "{bad}: {}", clean(bad));
        }
        assert_eq!(clean("https://me:pw@host/x"), "https://host/x");
        assert_eq!(clean("git@host:x"), "git@host:x");
        for good in ["https://[::1]:8080/x", "https://h/%40scope/x", "ssh://git@[fe80::1]/x"] {
            assert_eq!(parse(good).unwrap().url, good);
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for bad in [
            "",
            "-u",
            "--upload-pack=x",
            "a",
            "a/b/c",
            "/etc",
            "../x/y",
            "ext::sh -c id",
            "ssh://-oProxyCommand=id/x",
            "-oProxyCommand=id:x",
            "https://h",
            "https:///p",
            "file://h/p",
            "a b/c",
            "x\n/y",
            "https://h/a\nb",
            "ssh://h/a\u{7f}",
            "h:-x",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn git_reads_no_option_where_a_value_belongs() {
        let repo = parse("o/r").unwrap();
        let args = clone_args(&repo, Some("--evil"), None);
        assert_eq!(
            args[2..],
            ["clone", "--progress", "--branch=--evil", "--", "https://github.com/o/r.git"]
        );
    }

    #[test]
    fn progress_is_the_last_line_with_its_percent() {
        let chunk =
            "remote: Counting objects:   5% (1/20)\rReceiving objects:  42% (420/1000), 1.2 MiB\r";
        assert_eq!(progress(chunk), Some(("receiving objects".to_owned(), Some(42))));
        assert_eq!(
            progress("Cloning into '.'...\n"),
            Some(("Cloning into '.'...".to_owned(), None))
        );
        assert_eq!(progress("\r\n"), None);
    }

    #[test]
    fn a_scheme_says_how_git_connects() {
        for (given, url, protocol) in [
            ("http://h/a", "http://h/a", "http"),
            ("https://h/a", "https://h/a", "https"),
            ("ssh://h/p", "ssh://h/p", "ssh"),
            ("h:p", "h:p", "ssh"),
            ("git://h/p", "git://h/p", "git"),
            ("file:///p", "file:///p", "file"),
            ("a.b_c-1/d", "https://github.com/a.b_c-1/d.git", "https"),
        ] {
            let repo = parse(given).unwrap();
            assert_eq!((repo.url.as_str(), repo.protocol), (url, protocol), "{given}");
        }
        for bad in [
            "ftp://h/p",
            "git:///p",
            "git://u@h/p",
            "ssh:///p",
            "ssh://u@-h/p",
            "ssh://-u@h/p",
            "http:///a",
            "http://h/",
            ":p",
            "a b:p",
            "a/b:p",
            "h:",
            "h::p",
            ".a/b",
            "a/.b",
            "-a/b",
            "a/-b",
            "/b",
            "a/",
            "a/b!",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let long = |n: usize| format!("https://h/{}", "a".repeat(n - 10));
        assert!(parse(&long(2_000)).is_ok());
        assert!(parse(&long(2_001)).is_err());
    }

    #[test]
    fn userinfo_is_percent_decoded_or_refused() {
        let credential =
            |userinfo: &str| parse(&format!("https://{userinfo}@h/a")).map(|repo| repo.credential);
        let of = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
        assert_eq!(credential("a%2Fb:c%3a"), of("a/b", "c:"));
        assert_eq!(credential("u:"), of("u", ""));
        assert_eq!(credential(""), Ok(None));
        for bad in ["%", "%4", "%zz:x", "u:%ff", "u:%0a", "%00"] {
            assert!(credential(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_shows_what_was_given_without_userinfo() {
        let text = |given: &str| parse(given).unwrap_err().to_string();
        assert!(text("ftp://me:pw@h/p").contains("\"ftp://…@h/p\""));
        assert!(text("ftp://h/p").contains("\"ftp://h/p\""));
        assert!(text("nothing").contains("\"nothing\""));
        assert!(text(&"x".repeat(300)).len() < 300);
    }

    #[test]
    fn only_a_lent_helper_answers_for_credentials() {
        let repo = parse("o/r").unwrap();
        assert_eq!(
            clone_args(&repo, None, Some("!lend")),
            [
                "-c",
                "credential.helper=",
                "-c",
                "credential.helper=!lend",
                "-c",
                "credential.useHttpPath=false",
                "clone",
                "--progress",
                "--",
                "https://github.com/o/r.git",
            ]
        );
        assert_eq!(clone_args(&repo, None, None)[..2], ["-c", "credential.helper="]);
    }
}
