//! The words of each tmux command shed runs.

use crate::listing::{SESSION_MARK, WORKER_MARK};

/// A session, exactly: by a checked name or by tmux's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A checked name.
    Name(String),
    /// The number in `$N`.
    Id(u32),
}

impl Target {
    /// For commands that take a session.
    pub fn session(&self) -> String {
        match self {
            Self::Name(name) => format!("={name}"),
            Self::Id(id) => format!("${id}"),
        }
    }

    /// For commands that take a pane or a window: the session's active one.
    pub fn pane(&self) -> String {
        self.session() + ":"
    }
}

/// The most bytes of text in one `send-keys`. tmux refuses a command over 16 KiB.
pub const MAX_TEXT_BYTES: usize = 4 << 10;

/// The most lines of history `capture` gives.
pub const MAX_CAPTURE_LINES: u32 = 100_000;

fn words(list: &[&str]) -> Vec<String> {
    // `-u`: without a UTF-8 locale tmux replaces what it does not print, tabs among them.
    ["tmux", "-u"].iter().chain(list).map(|word| (*word).to_owned()).collect()
}

/// Escapes a word so that tmux takes a `;` at its end as text.
fn literal(text: &str) -> String {
    match text.strip_suffix(';') {
        Some(rest) => format!("{rest}\\;"),
        None => text.to_owned(),
    }
}

/// How a terminal joins a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Attach, or make it first.
    CreateOrAttach,
    /// Attach to what exists.
    Existing,
    /// Attach, looking only.
    ReadOnly,
}

/// Whether a terminal shows 24-bit colours, by what it says of itself.
pub fn has_true_colour(term: &str, colorterm: &str) -> bool {
    const KNOWN: &[&str] =
        &["xterm-ghostty", "xterm-kitty", "alacritty", "wezterm", "foot", "xterm-direct"];
    matches!(colorterm, "truecolor" | "24bit") || KNOWN.contains(&term)
}

/// Runs in a terminal: attaches to a session. The terminal is taken to understand OSC 52 (one that does not ignores it)
/// and, if so said, 24-bit colours: what its `TERM` says may be a fallback. `env` is for a session that is made.
pub fn attach(
    target: &Target,
    join: Join,
    detach_others: bool,
    true_colour: bool,
    env: &[(String, String)],
) -> Vec<String> {
    let session = target.session();
    let mut argv = match (join, target) {
        (Join::CreateOrAttach, Target::Name(name)) => {
            let mut argv = words(&["new-session", "-A", "-s", name]);
            add_environment(&mut argv, env);
            argv
        }
        (Join::CreateOrAttach | Join::Existing, _) => words(&["attach-session", "-t", &session]),
        (Join::ReadOnly, _) => words(&["attach-session", "-r", "-t", &session]),
    };
    if detach_others {
        // -D makes `new-session -A` behave as `attach-session -d`.
        let flag = if argv[2] == "new-session" { "-D" } else { "-d" };
        argv.insert(3, flag.to_owned());
    }
    let features = if true_colour { "256,RGB,clipboard" } else { "clipboard" };
    argv.splice(2..2, ["-T".to_owned(), features.to_owned()]);
    argv
}

/// Makes a session without attaching; fails if it exists. Prints its id. `command` is empty or at least two words: tmux
/// would give a single word to a shell.
pub fn new_session(name: &str, env: &[(String, String)], command: &[String]) -> Vec<String> {
    debug_assert!(command.len() != 1);
    let mut argv = words(&["new-session", "-d", "-s", name, "-P", "-F", "#{session_id}"]);
    add_environment(&mut argv, env);
    if !command.is_empty() {
        argv.push("--".to_owned());
        argv.extend(command.iter().map(|word| literal(word)));
    }
    argv
}

fn add_environment(argv: &mut Vec<String>, env: &[(String, String)]) {
    for (key, value) in env {
        argv.extend(["-e".to_owned(), literal(&format!("{key}={value}"))]);
    }
}

/// Opens a window in the background that runs `command` (at least two words) and closes at its end. It takes no client's
/// focus and raises no alert when it prints. Prints its id.
pub fn background_window(target: &Target, name: &str, command: &[String]) -> Vec<String> {
    debug_assert!(command.len() > 1);
    let pane = target.pane();
    let mut argv =
        words(&["new-window", "-d", "-P", "-F", "#{window_id}", "-n", name, "-t", &pane, "--"]);
    argv.extend(command.iter().map(|word| literal(word)));
    argv
}

/// A window of a worker: what it is called, what marks it, whether it stays when its command has ended, and what runs in
/// it (at least two words).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerWindow {
    /// A checked name.
    pub name: String,
    /// The worker's id.
    pub mark: String,
    /// Whether the window stays.
    pub keep: bool,
    /// The words.
    pub command: Vec<String>,
}

/// The size of a session nobody has attached to yet: room for an agent's screen.
const FIRST_SIZE: (u16, u16) = (120, 36);

/// Makes a session with a worker's window in it; fails if there is one of its name. Prints the window's id. The marks and
/// options are set by the same client without a gap: nobody sees a session of ours without its mark.
pub fn marked_session(
    name: &str,
    mark: &str,
    env: &[(String, String)],
    window: &WorkerWindow,
) -> Vec<String> {
    let (cols, rows) = FIRST_SIZE;
    let (cols, rows) = (cols.to_string(), rows.to_string());
    let mut argv = words(&["new-session", "-d", "-s", name, "-x", &cols, "-y", &rows]);
    argv.extend(["-n", &window.name, "-P", "-F", "#{window_id}"].map(str::to_owned));
    add_environment(&mut argv, env);
    argv.push("--".to_owned());
    argv.extend(window.command.iter().map(|word| literal(word)));
    let target = format!("={name}:");
    add_command(&mut argv, &["set-option", "-t", &target, SESSION_MARK, mark]);
    mark_window(&mut argv, &target, window);
    argv
}

/// Opens a worker's window in the background. Prints its id.
pub fn marked_window(target: &Target, window: &WorkerWindow) -> Vec<String> {
    let pane = target.pane();
    let mut argv =
        words(&["new-window", "-d", "-P", "-F", "#{window_id}", "-n", &window.name, "-t", &pane]);
    argv.push("--".to_owned());
    argv.extend(window.command.iter().map(|word| literal(word)));
    argv
}

/// Marks a window that was just made, and says whether it stays. Who watches hears of its new name, and sees the mark: no
/// hook tells of options.
pub fn mark_worker(window_id: &str, window: &WorkerWindow) -> Vec<String> {
    let mut argv = vec!["tmux".to_owned(), "-u".to_owned()];
    mark_window(&mut argv, window_id, window);
    add_command(&mut argv, &["rename-window", "-t", window_id, &window.name]);
    // Without the separator of a first command.
    argv.remove(2);
    argv
}

fn mark_window(argv: &mut Vec<String>, target: &str, window: &WorkerWindow) {
    let keep = if window.keep { "on" } else { "off" };
    add_command(argv, &["set-option", "-w", "-t", target, WORKER_MARK, &window.mark]);
    add_command(argv, &["set-option", "-w", "-t", target, "remain-on-exit", keep]);
    // The window has its worker's name, whatever runs in it.
    add_command(argv, &["set-option", "-w", "-t", target, "automatic-rename", "off"]);
    add_command(argv, &["set-option", "-w", "-t", target, "allow-rename", "off"]);
}

fn add_command(argv: &mut Vec<String>, command: &[&str]) {
    argv.push(";".to_owned());
    argv.extend(command.iter().map(|word| literal(word)));
}

/// Runs another command in a window in place of what ran there.
pub fn respawn_window(window_id: &str, command: &[String]) -> Vec<String> {
    debug_assert!(command.len() > 1);
    let mut argv = words(&["respawn-window", "-k", "-t", window_id, "--"]);
    argv.extend(command.iter().map(|word| literal(word)));
    argv
}

/// Closes a window.
pub fn kill_window(window_id: &str) -> Vec<String> {
    words(&["kill-window", "-t", window_id])
}

/// Gives a window a size, for viewers that are no clients of tmux. It stays until a client attaches: the mark that a window
/// has a size of its own, which would hold against clients, is taken away by the same client without a gap.
pub fn resize_window(window_id: &str, cols: u16, rows: u16) -> Vec<String> {
    let (cols, rows) = (cols.to_string(), rows.to_string());
    let mut argv = words(&["resize-window", "-t", window_id, "-x", &cols, "-y", &rows]);
    add_command(&mut argv, &["set-option", "-wu", "-t", window_id, "window-size"]);
    argv
}

/// Marks a session that was made by hand as one shed remembers. Its name, checked by the caller, is set again: an option
/// that changes raises no hook, and nobody would see the mark before something else happens.
pub fn mark_session(target: &Target, name: &str, mark: &str) -> Vec<String> {
    let mut argv = words(&["set-option", "-t", &target.pane(), SESSION_MARK, mark]);
    add_command(&mut argv, &["rename-session", "-t", &target.session(), name]);
    argv
}

/// Prints what shed marked a session with. Succeeds with nothing to say about one that does not exist.
pub fn session_mark(target: &Target) -> Vec<String> {
    let format = format!("#{{{SESSION_MARK}}}");
    words(&["display-message", "-p", "-t", &target.pane(), &format])
}

/// Prints the id of a session's current window.
pub fn active_window(target: &Target) -> Vec<String> {
    words(&["display-message", "-p", "-t", &target.pane(), "#{window_id}"])
}

/// Opens a shell in another pane of a window.
pub fn split_window(window: &str) -> Vec<String> {
    words(&["split-window", "-d", "-t", window])
}

/// Opens a window with a shell. Prints its id.
pub fn shell_window(target: &Target, name: &str) -> Vec<String> {
    let pane = target.pane();
    // Not executed as a format: `-n` is taken as it is.
    words(&["new-window", "-d", "-P", "-F", "#{window_id}", "-n", name, "-t", &pane])
}

/// Shares a window's space among its panes as another window's was.
pub fn select_layout(window: &str, layout: &str) -> Vec<String> {
    words(&["select-layout", "-t", window, layout])
}

/// Makes a window its session's current one.
pub fn select_window(window: &str) -> Vec<String> {
    words(&["select-window", "-t", window])
}

/// Succeeds if the session exists.
pub fn has_session(target: &Target) -> Vec<String> {
    words(&["has-session", "-t", &target.session()])
}

/// Ends a session.
pub fn kill_session(target: &Target) -> Vec<String> {
    words(&["kill-session", "-t", &target.session()])
}

/// Renames a session. `name` is checked by the caller.
pub fn rename_session(target: &Target, name: &str) -> Vec<String> {
    words(&["rename-session", "-t", &target.session(), name])
}

/// Prints the directory of the foreground command in the session's active pane. Succeeds with nothing to say about a
/// session that does not exist.
pub fn active_directory(target: &Target) -> Vec<String> {
    words(&["display-message", "-p", "-t", &target.pane(), "#{pane_current_path}"])
}

/// Leaves copy mode, so that what follows reaches the program.
pub fn leave_modes(target: &Target) -> Vec<String> {
    let pane = target.pane();
    words(&["if-shell", "-F", "-t", &pane, "#{pane_in_mode}", "send-keys -X cancel"])
}

/// Types text as it is, in as many commands as it needs. A newline is typed as Enter, as a terminal does when pasting.
pub fn type_text(target: &Target, text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\r\n", "\r").replace('\n', "\r");
    let mut commands = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let mut end = rest.len().min(MAX_TEXT_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (now, later) = rest.split_at(end);
        let pane = target.pane();
        commands.push(words(&["send-keys", "-l", "-t", &pane, "--", &literal(now)]));
        rest = later;
    }
    commands
}

/// Presses keys by their tmux names.
pub fn press_keys(target: &Target, keys: &[String]) -> Vec<String> {
    let mut argv = words(&["send-keys", "-t", &target.pane(), "--"]);
    argv.extend(keys.iter().map(|key| literal(key)));
    argv
}

/// Keys that have a name of more than one character.
const NAMED_KEYS: &[&str] = &[
    "Enter", "Escape", "Tab", "BTab", "Space", "BSpace", "Up", "Down", "Left", "Right", "Home",
    "End", "PageUp", "PgUp", "PPage", "PageDown", "PgDn", "NPage", "Insert", "IC", "Delete", "DC",
];

/// Whether `key` looks like the name of a key (`Enter`, `C-c`, `M-x`, `F12`, `a`): tmux types anything else as text.
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

/// Prints the active pane's screen, with up to `lines` of history above it; with `ansi`, colours as SGR sequences.
pub fn capture(target: &Target, lines: Option<u32>, ansi: bool) -> Vec<String> {
    let mut argv = words(&["capture-pane", "-p", "-t", &target.pane()]);
    if ansi {
        argv.push("-e".to_owned());
    }
    if let Some(lines) = lines {
        argv.extend(["-S".to_owned(), format!("-{}", lines.min(MAX_CAPTURE_LINES))]);
    }
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(argv: &[String]) -> String {
        argv.join(" ")
    }

    #[test]
    fn every_target_is_exact() {
        let name = Target::Name("foo".to_owned());
        let id = Target::Id(3);
        assert_eq!(joined(&kill_session(&name)), "tmux -u kill-session -t =foo");
        assert_eq!(joined(&kill_session(&id)), "tmux -u kill-session -t $3");
        assert_eq!(joined(&rename_session(&id, "bar")), "tmux -u rename-session -t $3 bar");
        assert!(joined(&capture(&name, Some(9), true)).ends_with("-t =foo: -e -S -9"));
    }

    #[test]
    fn attach_has_its_variants() {
        let name = Target::Name("foo".to_owned());
        let env = [("LANG".to_owned(), "C".to_owned())];
        let argv = |join, detach| {
            joined(&attach(&name, join, detach, false, &env)).replace(" -T clipboard", "")
        };
        assert_eq!(argv(Join::CreateOrAttach, false), "tmux -u new-session -A -s foo -e LANG=C");
        assert_eq!(argv(Join::CreateOrAttach, true), "tmux -u new-session -D -A -s foo -e LANG=C");
        assert_eq!(argv(Join::Existing, true), "tmux -u attach-session -d -t =foo");
        assert_eq!(argv(Join::ReadOnly, false), "tmux -u attach-session -r -t =foo");
    }

    #[test]
    fn text_is_cut_at_character_borders_and_kept_whole() {
        let target = Target::Id(1);
        let text = "ü".repeat(5000) + ";";
        let commands = type_text(&target, &text);
        assert!(commands.len() > 1);
        let typed: String = commands.iter().map(|argv| argv[7].as_str()).collect();
        assert!(typed == "ü".repeat(5000) + "\\;");
        assert!(type_text(&target, "").is_empty());
        assert_eq!(type_text(&target, "a\nb\r\nc")[0][7], "a\rb\rc");
    }

    #[test]
    fn key_names_are_told_from_text() {
        for key in ["Enter", "C-c", "M-x", "C-M-Up", "F12", "a", "-", "^C", "ä"] {
            assert!(is_key_name(key), "{key}");
        }
        for text in ["", "enter", "F13", "hello", "C-", "\x1b", "C-hello"] {
            assert!(!is_key_name(text), "{text:?}");
        }
    }
}
