//! Which known name a mistyped one was meant to be.

/// The most letters by which a mistyped name may differ from the one that was meant.
const MAX_TYPOS: usize = 3;

/// The known name that differs least from `unknown`. None if every one differs in more than half of the letters.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (unknown.chars().count() / 2).clamp(1, MAX_TYPOS);
    let (distance, name) = known.iter().map(|name| (edits(unknown, name), *name)).min()?;
    (distance <= limit).then_some(name)
}

/// How many letters must be added, removed or replaced to turn `from` into `to` (Levenshtein distance).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (n_done, letter) in from.chars().enumerate() {
        let mut left = n_done + 1;
        let mut next = vec![left];
        for (other, above) in to.iter().zip(row.windows(2)) {
            let &[diagonal, above] = above else { continue };
            left = (diagonal + usize::from(letter != *other)).min(left + 1).min(above + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, n) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("listn", "listen", 1),
            ("ab", "ba", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(from, to), n, "{from} {to}");
        }
    }

    #[test]
    fn only_a_name_that_is_near_is_suggested() {
        let known = ["http", "ssh", "defaults"];
        for (unknown, expected) in [
            ("htttp", Some("http")),
            ("shs", None),
            ("sh", Some("ssh")),
            ("default", Some("defaults")),
            ("dfults", Some("defaults")),
            ("no", None),
            ("", None),
        ] {
            assert_eq!(nearest(unknown, &known), expected, "{unknown:?}");
        }
        assert_eq!(nearest("a", &[]), None);
    }
}
