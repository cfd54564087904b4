//! Tags of sessions.

use crate::Rejection;

/// The most tags of one session.
pub const MAX_TAGS: usize = 32;
/// The longest tag in bytes.
pub const MAX_TAG_BYTES: usize = 64;

/// Checks a session's tags: at most [`MAX_TAGS`], each of 1 to [`MAX_TAG_BYTES`] bytes without commas and control characters.
pub fn check(tags: &[String]) -> Result<(), Rejection> {
    if tags.len() > MAX_TAGS {
        return Err(Rejection::TooLarge(format!("a session has at most {MAX_TAGS} tags")));
    }
    let bad = |tag: &&String| {
        tag.is_empty()
            || tag.len() > MAX_TAG_BYTES
            || tag.contains(|c: char| c.is_control() || c == ',')
    };
    match tags.iter().find(bad) {
        Some(tag) => Err(Rejection::Invalid(format!(
            "invalid tag {tag:?}; expected 1 to {MAX_TAG_BYTES} bytes without commas and control characters"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(all: &[&str]) -> Vec<String> {
        all.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn a_tag_is_a_short_word_without_commas() {
        let longest = "t".repeat(MAX_TAG_BYTES);
        assert_eq!(check(&tags(&["a", "b c", "日本", &longest])), Ok(()));
        let too_long = format!("{longest}t");
        for bad in ["", "a,b", "a\n", &too_long] {
            assert!(matches!(check(&tags(&[bad])), Err(Rejection::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_session_has_a_limited_number_of_tags() {
        let most = vec!["t".to_owned(); MAX_TAGS];
        assert_eq!(check(&most), Ok(()));
        let more = vec!["t".to_owned(); MAX_TAGS + 1];
        assert!(matches!(check(&more), Err(Rejection::TooLarge(_))));
    }
}
