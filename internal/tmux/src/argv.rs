//! The command lines of tmux. Each function returns a program and its arguments.

use crate::listing::{COMPANIONS, SESSION_MARK, WORKER_MARK};

/// A session, by name or by tmux's id. It always matches exactly, never by prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A name that was checked to be a valid session name.
    Name(String),
    /// The number N in tmux's id `$N`.
    Id(u32),
}

impl Target {
    /// The target text for commands that take a session.
    pub fn session(&self) -> String {
        match self {
            Self::Name(name) => format!("={name}"),
            Self::Id(id) => format!("${id}"),
        }
    }

    /// The target text for commands that take a window or a pane: the session's active one.
    pub fn pane(&self) -> String {
        self.session() + ":"
    }
}

/// The most lines of history that [`capture`] prints.
pub const MAX_CAPTURE_LINES: u32 = 100_000;

pub(crate) fn words(list: &[&str]) -> Vec<String> {
    // Without `-u` and without a UTF-8 locale, tmux replaces characters in its output, tabs among them.
    ["tmux", "-u"].iter().chain(list).map(|word| (*word).to_owned()).collect()
}

/// Escapes an argument so that tmux takes a `;` at its end as text.
pub(crate) fn literal(text: &str) -> String {
    match text.strip_suffix(';') {
        Some(rest) => format!("{rest}\\;"),
        None => text.to_owned(),
    }
}

/// How a terminal is attached to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Attach; create the session if it does not exist.
    CreateOrAttach,
    /// Attach to an existing session.
    Existing,
    /// Attach read-only to an existing session.
    ReadOnly,
}

/// Whether a terminal supports 24-bit colours, judged by the values of its `TERM` and `COLORTERM`.
pub fn has_true_colour(term: &str, colorterm: &str) -> bool {
    const KNOWN: &[&str] =
        &["xterm-ghostty", "xterm-kitty", "alacritty", "wezterm", "foot", "xterm-direct"];
    matches!(colorterm, "truecolor" | "24bit") || KNOWN.contains(&term)
}

/// Attaches to a session; runs in a terminal. The clipboard feature (OSC 52) is always enabled, since terminals without it
/// ignore it. `true_colour` enables 24-bit colours, because the terminal's `TERM` may be a fallback without them. `env` is
/// the environment of a session that is created.
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
        // `-r` includes the flag `ignore-size`. `-E`: nothing of the client's environment gets into the session's.
        (Join::ReadOnly, _) => words(&["attach-session", "-E", "-r", "-t", &session]),
    };
    if detach_others {
        // -D makes `new-session -A` behave as `attach-session -d`.
        let flag = if argv[2] == "new-session" { "-D" } else { "-d" };
        argv.insert(3, flag.to_owned());
    }
    if let (Join::CreateOrAttach, Target::Name(_)) = (join, target) {
        // The session may be an old one: `-o` keeps an option that somebody set on it, and `-q` keeps silent about it.
        keep_session(&mut argv, &target.pane(), "-oq");
    }
    let features = if true_colour { "256,RGB,clipboard" } else { "clipboard" };
    argv.splice(2..2, ["-T".to_owned(), features.to_owned()]);
    argv
}

/// Overrides the option of a user's configuration with which a session ends when nobody is attached to it. The command
/// follows in the tmux client that makes the session: tmux applies the option once all commands of that client are done.
fn keep_session(argv: &mut Vec<String>, target: &str, flags: &str) {
    add_command(argv, &["set-option", flags, "-t", target, "destroy-unattached", "off"]);
}

/// Attaches a client to [`COMPANIONS`], which is created if it does not exist; runs in a terminal. As long as the client is
/// attached, tmux ignores the sizes of all read-only clients. The session ends with its last client.
pub fn companion() -> Vec<String> {
    // `tail` waits and prints nothing.
    let mut argv =
        words(&["new-session", "-E", "-A", "-s", COMPANIONS, "--", "tail", "-f", "/dev/null"]);
    let target = format!("={COMPANIONS}:");
    add_command(&mut argv, &["set-option", "-t", &target, "destroy-unattached", "on"]);
    argv
}

/// Creates a session without attaching to it and prints its id; fails if it exists. `command` is empty or has at least two
/// words, since tmux passes a single word to a shell.
pub fn new_session(name: &str, env: &[(String, String)], command: &[String]) -> Vec<String> {
    debug_assert!(command.len() != 1);
    let mut argv = words(&["new-session", "-d", "-s", name, "-P", "-F", "#{session_id}"]);
    add_environment(&mut argv, env);
    if !command.is_empty() {
        add_program(&mut argv, command);
    }
    keep_session(&mut argv, &format!("={name}:"), "-q");
    argv
}

fn add_environment(argv: &mut Vec<String>, env: &[(String, String)]) {
    for (key, value) in env {
        argv.extend(["-e".to_owned(), literal(&format!("{key}={value}"))]);
    }
}

/// Opens a window in the background that runs `command` (at least two words) and closes when it ends. Prints the window's
/// id. The window does not become current and raises no alert.
pub fn background_window(target: &Target, name: &str, command: &[String]) -> Vec<String> {
    debug_assert!(command.len() > 1);
    let pane = target.pane();
    let mut argv =
        words(&["new-window", "-d", "-P", "-F", "#{window_id}", "-n", name, "-t", &pane]);
    add_program(&mut argv, command);
    argv
}

/// The window of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerWindow {
    /// A name that was checked to be safe in tmux.
    pub name: String,
    /// The worker's id, the value of [`WORKER_MARK`].
    pub mark: String,
    /// Whether the window stays open when the command has ended.
    pub keep: bool,
    /// The command, at least two words.
    pub command: Vec<String>,
}

/// Columns and rows of a session that no client has attached to yet; large enough for the screens of agents.
const FIRST_SIZE: (u16, u16) = (120, 36);

/// Creates a session with a worker's window and prints the window's id; fails if the session exists. The same tmux client
/// sets the marks and options, so that the session is never visible without its mark.
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
    add_program(&mut argv, &window.command);
    let target = format!("={name}:");
    keep_session(&mut argv, &target, "-q");
    add_command(&mut argv, &["set-option", "-t", &target, SESSION_MARK, mark]);
    mark_window(&mut argv, &target, window);
    argv
}

/// Creates a session with a shell and a mark, and prints the window's id; fails if the session exists.
pub fn marked_shell(name: &str, mark: &str, env: &[(String, String)]) -> Vec<String> {
    let mut argv = words(&["new-session", "-d", "-s", name, "-P", "-F", "#{window_id}"]);
    add_environment(&mut argv, env);
    add_command(&mut argv, &["set-option", "-t", &format!("={name}:"), SESSION_MARK, mark]);
    argv
}

/// Opens a worker's window in the background and prints its id. [`mark_worker`] must follow.
pub fn marked_window(target: &Target, window: &WorkerWindow) -> Vec<String> {
    let pane = target.pane();
    let mut argv =
        words(&["new-window", "-d", "-P", "-F", "#{window_id}", "-n", &window.name, "-t", &pane]);
    add_program(&mut argv, &window.command);
    argv
}

/// Sets the mark and options of a window that [`marked_window`] opened. Options raise no hook, so the window is renamed too:
/// the rename makes watchers read the mark.
pub fn mark_worker(window_id: &str, window: &WorkerWindow) -> Vec<String> {
    let mut argv = vec!["tmux".to_owned(), "-u".to_owned()];
    mark_window(&mut argv, window_id, window);
    add_command(&mut argv, &["rename-window", "-t", window_id, &window.name]);
    // Remove the separator before the first command.
    argv.remove(2);
    argv
}

fn mark_window(argv: &mut Vec<String>, target: &str, window: &WorkerWindow) {
    let keep = if window.keep { "on" } else { "off" };
    add_command(argv, &["set-option", "-w", "-t", target, WORKER_MARK, &window.mark]);
    add_command(argv, &["set-option", "-w", "-t", target, "remain-on-exit", keep]);
    // The window keeps the worker's name, whatever runs in it.
    add_command(argv, &["set-option", "-w", "-t", target, "automatic-rename", "off"]);
    add_command(argv, &["set-option", "-w", "-t", target, "allow-rename", "off"]);
}

/// Appends the program that a window runs.
fn add_program(argv: &mut Vec<String>, command: &[String]) {
    argv.push("--".to_owned());
    argv.extend(command.iter().map(|word| literal(word)));
}

/// Appends another command to a command line of tmux.
fn add_command(argv: &mut Vec<String>, command: &[&str]) {
    argv.push(";".to_owned());
    argv.extend(command.iter().map(|word| literal(word)));
}

/// Replaces the command that runs in a window.
pub fn respawn_window(window_id: &str, command: &[String]) -> Vec<String> {
    debug_assert!(command.len() > 1);
    let mut argv = words(&["respawn-window", "-k", "-t", window_id]);
    add_program(&mut argv, command);
    argv
}

/// Closes a window.
pub fn kill_window(window_id: &str) -> Vec<String> {
    words(&["kill-window", "-t", window_id])
}

/// Resizes a window for viewers that are not clients of tmux. The size holds until a client attaches. `resize-window` sets
/// the option `window-size`, which would override the sizes of clients, so the same tmux client unsets it.
pub fn resize_window(window_id: &str, cols: u16, rows: u16) -> Vec<String> {
    let (cols, rows) = (cols.to_string(), rows.to_string());
    let mut argv = words(&["resize-window", "-t", window_id, "-x", &cols, "-y", &rows]);
    add_command(&mut argv, &["set-option", "-wu", "-t", window_id, "window-size"]);
    argv
}

/// Sets the mark of an existing session, which makes it a managed one. Options raise no hook, so the session is also
/// renamed to `name`, its current and checked name: the rename makes watchers read the mark.
pub fn mark_session(target: &Target, name: &str, mark: &str) -> Vec<String> {
    let mut argv = words(&["set-option", "-t", &target.pane(), SESSION_MARK, mark]);
    add_command(&mut argv, &["rename-session", "-t", &target.session(), name]);
    argv
}

/// Prints the mark of a session. Succeeds with empty output if the session does not exist.
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
    // `-n` is not expanded as a format.
    words(&["new-window", "-d", "-P", "-F", "#{window_id}", "-n", name, "-t", &pane])
}

/// Arranges the panes of a window by the layout string of another window.
pub fn select_layout(window: &str, layout: &str) -> Vec<String> {
    words(&["select-layout", "-t", window, layout])
}

/// Makes a window the current one of its session.
pub fn select_window(window: &str) -> Vec<String> {
    words(&["select-window", "-t", window])
}

/// Succeeds if the session exists.
pub fn has_session(target: &Target) -> Vec<String> {
    words(&["has-session", "-t", &target.session()])
}

/// Kills a session.
pub fn kill_session(target: &Target) -> Vec<String> {
    words(&["kill-session", "-t", &target.session()])
}

/// Renames a session. `name` is checked by the caller.
pub fn rename_session(target: &Target, name: &str) -> Vec<String> {
    words(&["rename-session", "-t", &target.session(), name])
}

/// Prints the directory of the foreground command in the session's active pane. Succeeds with empty output if the session
/// does not exist.
pub fn active_directory(target: &Target) -> Vec<String> {
    words(&["display-message", "-p", "-t", &target.pane(), "#{pane_current_path}"])
}

/// Prints the screen of the active pane, with up to `lines` lines of history above it; with `ansi`, including SGR colour
/// sequences.
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
    fn every_target_matches_exactly() {
        let name = Target::Name("foo".to_owned());
        let id = Target::Id(3);
        assert_eq!(joined(&kill_session(&name)), "tmux -u kill-session -t =foo");
        assert_eq!(joined(&kill_session(&id)), "tmux -u kill-session -t $3");
        assert_eq!(joined(&rename_session(&id, "bar")), "tmux -u rename-session -t $3 bar");
        assert!(joined(&capture(&name, Some(9), true)).ends_with("-t =foo: -e -S -9"));
    }

    #[test]
    fn attach_uses_the_command_of_each_way_to_join() {
        let name = Target::Name("foo".to_owned());
        let env = [("LANG".to_owned(), "C".to_owned())];
        let argv = |join, detach| {
            joined(&attach(&name, join, detach, false, &env)).replace(" -T clipboard", "")
        };
        let keep = "; set-option -oq -t =foo: destroy-unattached off";
        let create = format!("-A -s foo -e LANG=C {keep}");
        assert_eq!(argv(Join::CreateOrAttach, false), format!("tmux -u new-session {create}"));
        assert_eq!(argv(Join::CreateOrAttach, true), format!("tmux -u new-session -D {create}"));
        assert_eq!(argv(Join::Existing, true), "tmux -u attach-session -d -t =foo");
        assert_eq!(argv(Join::ReadOnly, false), "tmux -u attach-session -E -r -t =foo");
    }
}
