//! Names for sessions and workers that were given none.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shed_api::session::NewSession;

use super::SessionRow;

/// The longest generated name in bytes, before a number is appended.
const MAX_SLUG_BYTES: usize = 24;

/// What a name is made from when none is given.
pub(crate) fn slug(request: &NewSession) -> String {
    let texts = [&request.title, &request.prompt, &request.branch, &request.agent];
    let words = request.command.first().map(|word| word.rsplit('/').next().unwrap_or(word));
    let found = texts.into_iter().flatten().map(String::as_str).chain(words).find_map(slugify);
    found.unwrap_or_else(|| "session".to_owned())
}

/// Lower-case letters, digits and `-`; `None` of a text that has nothing of it.
pub(crate) fn slugify(text: &str) -> Option<String> {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= MAX_SLUG_BYTES {
            break;
        }
    }
    let slug = slug.trim_end_matches('-').to_owned();
    (!slug.is_empty()).then_some(slug)
}

/// The name, or the name with the first number that makes it free.
pub(crate) fn free_name(taken: &BTreeSet<String>, name: &str) -> String {
    if !taken.contains(name) {
        return name.to_owned();
    }
    // These are as many numbers as there are names, and the name itself is one of those.
    let mut numbered = (2..=taken.len() + 1).map(|n| format!("{name}-{n}"));
    numbered.find(|name| !taken.contains(name)).expect("one of the numbers is free")
}

/// What the name of a session was made from that was given none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutomaticName {
    /// The name without a number.
    pub stem: String,
    /// What its branch has before the name; absent if the branch was requested, and without a worktree of its own.
    #[serde(default)]
    pub branch_prefix: Option<String>,
}

impl SessionRow {
    /// The same session under the first automatic name that is not taken, with the directory and branch of that name. For a
    /// worktree that is not made yet. `None` if the name was requested.
    pub fn with_next_name(&self, taken: &BTreeSet<String>) -> Option<Self> {
        let automatic = self.spec.automatic.as_ref()?;
        let name = free_name(taken, &automatic.stem);
        let mut next = self.clone();
        let (parent, _) = self.spec.directory.rsplit_once('/')?;
        next.spec.directory = format!("{parent}/{name}");
        if let Some(prefix) = &automatic.branch_prefix {
            next.spec.branch = Some(format!("{prefix}{name}"));
        }
        next.name = name;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_has_letters_digits_and_single_hyphens() {
        let longest = "a".repeat(MAX_SLUG_BYTES);
        for (text, expected) in [
            ("Fix  the_Login!", Some("fix-the-login")),
            ("--a--", Some("a")),
            ("日本", None),
            ("", None),
            (&*"a".repeat(40), Some(longest.as_str())),
            (&*format!("{} b", "a".repeat(23)), Some(&longest[1..])),
        ] {
            assert_eq!(slugify(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_name_is_made_from_the_first_text_that_gives_one() {
        let some = |text: &str| Some(text.to_owned());
        let mut request = NewSession {
            title: some("T"),
            prompt: some("p"),
            branch: some("b"),
            agent: some("a"),
            command: vec!["/bin/ls".to_owned(), "-l".to_owned()],
            ..NewSession::default()
        };
        assert_eq!(slug(&request), "t");
        request.title = some("日本");
        assert_eq!(slug(&request), "p");
        request.prompt = None;
        assert_eq!(slug(&request), "b");
        request.branch = None;
        assert_eq!(slug(&request), "a");
        request.agent = None;
        assert_eq!(slug(&request), "ls");
        request.command.clear();
        assert_eq!(slug(&request), "session");
    }

    #[test]
    fn a_taken_name_gets_the_first_free_number() {
        let taken = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(free_name(&taken(&["y"]), "x"), "x");
        assert_eq!(free_name(&taken(&["x"]), "x"), "x-2");
        assert_eq!(free_name(&taken(&["x", "x-3"]), "x"), "x-2");
        assert_eq!(free_name(&taken(&["x", "x-2", "x-3"]), "x"), "x-4");
    }
}
