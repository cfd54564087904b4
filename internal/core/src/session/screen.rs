//! Typing into a session's active pane, and reading it.

use shed_api::session::Input;
use shed_model::Rejection;
use shed_tmux::argv::{self, Target};

use crate::Error;

/// The most text typed at once.
const MAX_INPUT_BYTES: usize = 256 << 10;
/// The most keys pressed at once.
const MAX_KEYS: usize = 256;

/// The tmux commands that type text or press keys in a session's active pane.
pub(crate) fn input_commands(target: &Target, input: &Input) -> Result<Vec<Vec<String>>, Error> {
    let invalid = |text: &str| Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
    let mut commands = vec![argv::leave_modes(target)];
    match (&input.text, input.keys.as_slice()) {
        (Some(_), [_, ..]) => return invalid("invalid input; expected text or keys, not both"),
        (None, []) if !input.enter => {
            return invalid("invalid input; expected text, keys or enter");
        }
        (None, []) => {}
        (Some(text), []) => {
            if text.len() > MAX_INPUT_BYTES {
                return Err(Error::Rejected(Rejection::TooLarge(format!(
                    "the text is longer than {MAX_INPUT_BYTES} bytes"
                ))));
            }
            if text.contains('\0') {
                return invalid("the text contains a NUL byte");
            }
            commands.extend(argv::type_text(target, text));
        }
        (None, keys) => {
            if keys.len() > MAX_KEYS {
                return Err(Error::Rejected(Rejection::TooLarge(format!(
                    "more than {MAX_KEYS} keys"
                ))));
            }
            if let Some(bad) = keys.iter().find(|key| !argv::is_key_name(key)) {
                return Err(Error::Rejected(Rejection::Invalid(format!(
                    "invalid key {bad:?}; expected a name like Enter, C-c, Up or F5"
                ))));
            }
            commands.push(argv::press_keys(target, keys));
        }
    }
    if input.enter {
        commands.push(argv::press_keys(target, &["Enter".to_owned()]));
    }
    Ok(commands)
}

/// Drops control characters except line breaks and tabs.
pub(crate) fn without_controls(text: &str) -> String {
    let kept = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().filter(|c| kept(*c)).collect()
}

/// The same, but keeps SGR sequences (`ESC [ … m`).
pub(crate) fn only_colours(text: &str) -> String {
    static SEQUENCE: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new("\x1b\\[[0-9;:]*m").expect("a constant pattern")
    });
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for colour in SEQUENCE.find_iter(text) {
        kept += &without_controls(&text[at..colour.start()]);
        kept += colour.as_str();
        at = colour.end();
    }
    kept + &without_controls(&text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_text_has_no_control_sequences() {
        assert_eq!(without_controls("a\x1b]52;c;eA==\x07b\r\n\tc\u{9b}"), "a]52;c;eA==b\n\tc");
        assert_eq!(
            only_colours("\x1b[31mred\x1b[0m\x1b[2J\x1b]0;t\x07"),
            "\x1b[31mred\x1b[0m[2J]0;t"
        );
    }

    #[test]
    fn input_is_text_or_keys() {
        let target = Target::Id(1);
        let input = |text: Option<&str>, keys: &[&str], enter| Input {
            text: text.map(str::to_owned),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            enter,
        };
        assert_eq!(input_commands(&target, &input(Some("x"), &[], true)).unwrap().len(), 3);
        assert_eq!(input_commands(&target, &input(None, &["C-c", "Up"], false)).unwrap().len(), 2);
        assert_eq!(input_commands(&target, &input(None, &[], true)).unwrap().len(), 2);
        for bad in [
            input(None, &[], false),
            input(Some("x"), &["Up"], false),
            input(None, &["rm -rf"], false),
            input(Some("\0"), &[], false),
        ] {
            assert!(input_commands(&target, &bad).is_err(), "{bad:?}");
        }
    }
}
