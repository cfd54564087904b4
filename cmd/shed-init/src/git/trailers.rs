//! The message of a checkpoint's commit: what the person wrote, then facts as trailers in the last paragraph. Pure.

use shed_api::name::printable;

/// The longest text a person may leave, in characters. More is cut.
const MAX_MESSAGE_CHARS: usize = 2_000;

const SESSION: &str = "Shed-Session";
const KIND: &str = "Shed-Kind";
const HEAD: &str = "Shed-Head";
const BRANCH: &str = "Shed-Branch";
const INDEX: &str = "Shed-Index";
const SKIPPED: &str = "Shed-Skipped";

/// What a checkpoint knows besides its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) session: String,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) head: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) index_tree: Option<String>,
    pub(crate) skipped: u64,
}

/// The commit's message.
pub(crate) fn write(facts: &Facts) -> String {
    let message = clean(&facts.message);
    let subject =
        if message.is_empty() { format!("checkpoint of {}", facts.session) } else { message };
    let skipped = facts.skipped.to_string();
    let trailers = [
        (SESSION, Some(&facts.session)),
        (KIND, Some(&facts.kind)),
        (HEAD, facts.head.as_ref()),
        (BRANCH, facts.branch.as_ref()),
        (INDEX, facts.index_tree.as_ref()),
        (SKIPPED, Some(&skipped)),
    ];
    let line = |(key, value): (&str, Option<&String>)| {
        value.map(|value| format!("{key}: {}\n", printable(value)))
    };
    let trailers: String = trailers.into_iter().filter_map(line).collect();
    format!("{subject}\n\n{trailers}")
}

/// Reads a message. Only the last paragraph has trailers, which a person's text cannot be in.
pub(crate) fn read(text: &str) -> Facts {
    let text = text.trim_end();
    let (message, trailers) = text.rsplit_once("\n\n").unwrap_or(("", text));
    let mut facts = Facts::default();
    for line in trailers.lines() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        let value = printable(value);
        match key {
            SESSION => facts.session = value,
            KIND => facts.kind = value,
            HEAD => facts.head = Some(value),
            BRANCH => facts.branch = Some(value),
            INDEX => facts.index_tree = Some(value),
            SKIPPED => facts.skipped = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let ours = format!("checkpoint of {}", facts.session);
    facts.message = if message == ours { String::new() } else { clean(message) };
    facts
}

/// Printable, without empty ends, not longer than the limit; lines stay lines.
fn clean(message: &str) -> String {
    let message: String = message.trim().chars().take(MAX_MESSAGE_CHARS).collect();
    message.lines().map(|line| printable(line.trim_end())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(message: &str) -> Facts {
        Facts {
            session: "web".to_owned(),
            kind: "manual".to_owned(),
            message: message.to_owned(),
            head: Some("abc".to_owned()),
            branch: None,
            index_tree: Some("def".to_owned()),
            skipped: 3,
        }
    }

    #[test]
    fn a_message_cannot_pass_for_facts() {
        let given = facts("before the change\n\nShed-Kind: timer\nShed-Head: 000");
        assert_eq!(read(&write(&given)), given);
        assert_eq!(read(&write(&facts(""))), facts(""));
        assert_eq!(read("Shed-Kind: x").kind, "x");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(message in "[a-z:\n -]{0,60}") {
            let given = facts(&message);
            let back = read(&write(&given));
            prop_assert_eq!(&back.message, &clean(&message));
            prop_assert_eq!(Facts { message: String::new(), ..back }, facts(""));
        }

        #[test]
        fn any_text_is_read(text in "\\PC{0,200}") {
            read(&text);
        }
    }
}
