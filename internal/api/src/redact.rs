//! Removes user names, passwords and queries of URLs from texts that are stored, logged or shown: the words of git and of the
//! container engine. Rather too much than too little: a text is for people.

/// Stands for what was removed.
const GONE: &str = "…";

/// A text in which each word may be a URL.
#[must_use]
pub fn redact(text: &str) -> String {
    let is_boundary = |c: char| c.is_whitespace() || "'\"`<>()".contains(c);
    let words = text.split_inclusive(is_boundary);
    words
        .map(|word| {
            let end = word.trim_end_matches(is_boundary).len();
            redact_value(&word[..end]) + &word[end..]
        })
        .collect()
}

/// A text that is one URL, or was meant to be one: everything between its scheme and its last `@`, and everything after a `?`
/// or `#`. Without a scheme only what has a `:` before the `@`, so that `git@host:path` and mail addresses stay.
#[must_use]
pub fn redact_value(value: &str) -> String {
    let (scheme, rest) = match value.find("://") {
        Some(at) => value.split_at(at + 3),
        None => ("", value),
    };
    let rest = match rest.rfind('@') {
        Some(at) if !scheme.is_empty() || rest[..at].contains(':') => {
            format!("{GONE}{}", &rest[at..])
        }
        _ => rest.to_owned(),
    };
    match rest.find(['?', '#']) {
        Some(at) if !scheme.is_empty() => format!("{scheme}{}{GONE}", &rest[..=at]),
        _ => format!("{scheme}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_is_left_in_what_git_says() {
        for (text, expected) in [
            (
                "fatal: unable to access 'https://me:p4ss/word@host/x/': no",
                "fatal: unable to access 'https://…@host/x/': no",
            ),
            ("https://ghp_x@h/a and https://h/b?t=1.", "https://…@h/a and https://h/b?…"),
            ("git@host:path: denied", "git@host:path: denied"),
            ("me:pw@host/x", "…@host/x"),
            ("me@example.com, it is 5:30 #1?", "me@example.com, it is 5:30 #1?"),
            ("https://h/@scope", "https://…@scope"),
            ("https://a:b@h/?x@y", "https://…@y"),
            ("", ""),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
