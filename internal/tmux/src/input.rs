//! The command lines of tmux that give a program input: text as a paste, and keys.

use crate::argv::{literal, words};
use crate::listing::WORKER_MARK;

/// The most bytes of text in one command. tmux refuses commands over 16 KiB.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Prints, of the active pane of a target, its id, whether its command has ended (`1`), and the mark of its worker, with
/// blanks between them; see [`PaneState::parse`]. Prints nothing if there is no such pane.
pub fn pane_state(target: &str) -> Vec<String> {
    let format = format!("#{{pane_id}} #{{pane_dead}} #{{{WORKER_MARK}}}");
    words(&["display-message", "-p", "-t", target, &format])
}

/// What [`pane_state`] printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaneState {
    /// tmux's id of the pane, `%N`.
    pub id: String,
    /// Whether the pane shows what a command has left that ended.
    pub dead: bool,
    /// The mark of the worker whose window it is in; empty for any other.
    pub mark: String,
}

impl PaneState {
    /// `None` if there was no such pane.
    pub fn parse(printed: &str) -> Option<Self> {
        let mut fields = printed.trim_end_matches('\n').splitn(3, ' ');
        let id = fields.next().filter(|id| id.starts_with('%'))?.to_owned();
        let dead = fields.next() == Some("1");
        Some(Self { id, dead, mark: fields.next().unwrap_or_default().to_owned() })
    }
}

/// Leaves copy mode, so that the following input reaches the program.
pub fn leave_modes(pane: &str) -> Vec<String> {
    words(&["if-shell", "-F", "-t", pane, "#{pane_in_mode}", "send-keys -X cancel"])
}

/// Pastes text, in as many commands as needed, as a terminal does: between the marks of a paste if the program has asked for
/// them, and with a carriage return for each line break. `buffer` is a name that no other paste has at the same time.
pub fn paste(buffer: &str, pane: &str, text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(MAX_TEXT_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (now, later) = rest.split_at(end);
        let mut argv = words(&["set-buffer", "-b", buffer]);
        if !commands.is_empty() {
            argv.push("-a".to_owned());
        }
        argv.extend(["--".to_owned(), literal(now)]);
        commands.push(argv);
        rest = later;
    }
    if !commands.is_empty() {
        commands.push(words(&["paste-buffer", "-p", "-d", "-b", buffer, "-t", pane]));
    }
    commands
}

/// Removes what [`paste`] left behind if it was interrupted.
pub fn forget_paste(buffer: &str) -> Vec<String> {
    words(&["delete-buffer", "-b", buffer])
}

/// Presses keys, given by their tmux names.
pub fn press_keys(pane: &str, keys: &[String]) -> Vec<String> {
    let mut argv = words(&["send-keys", "-t", pane, "--"]);
    argv.extend(keys.iter().map(|key| literal(key)));
    argv
}

/// Key names with more than one character.
const NAMED_KEYS: &[&str] = &[
    "Enter", "Escape", "Tab", "BTab", "Space", "BSpace", "Up", "Down", "Left", "Right", "Home",
    "End", "PageUp", "PgUp", "PPage", "PageDown", "PgDn", "NPage", "Insert", "IC", "Delete", "DC",
];

/// Whether `key` is the name of a key (`Enter`, `C-c`, `M-x`, `F12`, `a`). tmux types anything else as text.
pub fn is_key_name(key: &str) -> bool {
    let mut base = key;
    while let Some(rest) = ["C-", "M-", "S-", "^"].iter().find_map(|p| base.strip_prefix(p)) {
        if rest.is_empty() {
            break;
        }
        base = rest;
    }
    let function = base.strip_prefix('F').and_then(|n| n.parse::<u8>().ok());
    NAMED_KEYS.contains(&base)
        || function.is_some_and(|n| (1..=12).contains(&n))
        || (base.chars().count() == 1 && !base.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(argv: &[String]) -> String {
        argv.join(" ")
    }

    #[test]
    fn long_text_is_split_between_characters_and_nothing_is_lost() {
        let text = "ü".repeat(5000) + ";";
        let commands = paste("b", "%1", &text);
        let (last, parts) = commands.split_last().unwrap();
        assert!(parts.len() > 1);
        assert_eq!(joined(last), "tmux -u paste-buffer -p -d -b b -t %1");
        let typed: String = parts.iter().map(|argv| argv.last().unwrap().as_str()).collect();
        assert!(typed == "ü".repeat(5000) + "\\;");
        let adds = |argv: &Vec<String>| argv.contains(&"-a".to_owned());
        assert!(!adds(&parts[0]) && parts[1..].iter().all(adds));
        assert!(paste("b", "%1", "").is_empty());
        assert_eq!(joined(&paste("b", "%1", "-a\nb")[0]), "tmux -u set-buffer -b b -- -a\nb");
    }

    #[test]
    fn the_state_of_a_pane_is_its_id_its_end_and_its_worker() {
        let state = |id: &str, dead, mark: &str| {
            Some(PaneState { id: id.to_owned(), dead, mark: mark.to_owned() })
        };
        assert_eq!(PaneState::parse("%3 0 w1\n"), state("%3", false, "w1"));
        assert_eq!(PaneState::parse("%3 1 \n"), state("%3", true, ""));
        assert_eq!(PaneState::parse("  \n"), None);
        assert_eq!(PaneState::parse(""), None);
    }

    #[test]
    fn key_names_are_distinguished_from_text() {
        for key in ["Enter", "C-c", "M-x", "C-M-Up", "F12", "a", "-", "^C", "ä"] {
            assert!(is_key_name(key), "{key}");
        }
        for text in ["", "enter", "F13", "hello", "C-", "\x1b", "C-hello"] {
            assert!(!is_key_name(text), "{text:?}");
        }
    }
}
