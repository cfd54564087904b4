//! The commit message of a checkpoint: a person's text, then facts as trailers in the last paragraph. Pure.

use shed_api::name::printable;

/// The longest text of a person, in characters. A longer one is cut.
const MAX_MESSAGE_CHARS: usize = 2_000;

const SESSION: &str = "Shed-Session";
const KIND: &str = "Shed-Kind";
const HEAD: &str = "Shed-Head";
const BRANCH: &str = "Shed-Branch";
const INDEX: &str = "Shed-Index";
const SKIPPED: &str = "Shed-Skipped";

/// The data of a checkpoint in addition to its files.
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

/// Formats the commit message.
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

/// Parses a commit message. Trailers are only read from the last paragraph, which never contains a person's text.
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
    let default = format!("checkpoint of {}", facts.session);
    facts.message = if message == default { String::new() } else { clean(message) };
    facts
}

/// Makes a text printable, trims it and cuts it at the limit. Line ends are kept.
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
    fn a_message_cannot_forge_facts() {
        let given = facts("before the change\n\nShed-Kind: timer\nShed-Head: 000");
        assert_eq!(read(&write(&given)), given);
        assert_eq!(read(&write(&facts(""))), facts(""));
        assert_eq!(read("Shed-Kind: x").kind, "x");
    }

    proptest! {
        #[test]
        fn formatted_messages_parse_to_the_same_values(message in "[a-z:\n -]{0,60}") {
            let given = facts(&message);
            let back = read(&write(&given));
            prop_assert_eq!(&back.message, &clean(&message));
            prop_assert_eq!(Facts { message: String::new(), ..back }, facts(""));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            read(&text);
        }
    }
}
