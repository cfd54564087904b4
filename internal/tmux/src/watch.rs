//! Watching the state of a tmux server (observed with tmux 3.3a).
//!
//! A watch is one unattached client: it makes global hooks signal a channel, prints the whole state, and waits for the
//! channel. The next change that raises a hook ends the client, and the next watch is started. tmux runs the three commands
//! of a client without interruption, so no change is missed. The client appears in no list, and nothing runs while nothing
//! changes.
//!
//! Control mode (`-C`) is not used: a control client that is still identifying itself when a session is created, renamed or
//! closed crashes the server of tmux 3.3a, and all sessions with it.

use crate::listing::{PANE_FIELDS, SESSION_FIELDS};

/// The index of our entry in each hook's array. It does not collide with the entries of users.
const HOOK_INDEX: u32 = 99;

/// The hooks that are raised when listed state changes. A user's `set-hook -g X` without index removes our entry of X, so
/// each watch sets all entries again. Most changes raise more than one of these hooks.
const HOOKS: &[&str] = &[
    "client-attached",
    "client-detached",
    "client-session-changed",
    "session-created",
    "session-closed",
    "session-renamed",
    "session-window-changed",
    "window-linked",
    "window-unlinked",
    "window-renamed",
    "window-pane-changed",
    "window-layout-changed",
    "after-split-window",
    "after-kill-pane",
    "after-rename-session",
    "pane-exited",
    "pane-title-changed",
];

/// The last line of a listing. After printing it, a watch waits.
pub const END: &str = "E\n";

/// Starts a server that does not exit with its last session, and prints its process id. If a server is running, only that
/// option is set.
pub fn start_argv() -> Vec<String> {
    let mut argv = to_words(&["tmux", "-u", "start-server", ";"]);
    argv.extend(to_words(&["set-option", "-s", "exit-empty", "off", ";"]));
    argv.extend(to_words(&["display-message", "-p", "#{pid}"]));
    argv
}

/// Prints the whole state in the form of [`crate::parse_listing`], then [`END`].
pub fn list_argv() -> Vec<String> {
    let mut argv =
        to_words(&["tmux", "-u", "list-sessions", "-F", &line_format('S', SESSION_FIELDS), ";"]);
    // Without any session `list-panes -a` fails because it has no target; `#{S:1}` is empty then.
    let panes = format!("list-panes -a -F '{}'", line_format('P', PANE_FIELDS));
    argv.extend(to_words(&["if-shell", "-F", "#{S:1}", &panes, ";"]));
    argv.extend(to_words(&["display-message", "-p", END.trim_end()]));
    argv
}

/// Makes the hooks signal `channel`, prints the state as [`list_argv`] does, and ends at the next change.
pub fn watch_argv(channel: &str) -> Vec<String> {
    let mut argv = to_words(&["tmux", "-u"]);
    for hook in HOOKS {
        let slot = format!("{hook}[{HOOK_INDEX}]");
        let action = format!("wait-for -S {channel}");
        argv.extend(to_words(&["set-hook", "-g", &slot, &action, ";"]));
    }
    argv.extend(list_argv().into_iter().skip(2));
    argv.extend(to_words(&[";", "wait-for", channel]));
    argv
}

fn line_format(kind: char, fields: &[&str]) -> String {
    let mut text = String::from(kind);
    for field in fields {
        text += "#{n:";
        text += field;
        text += "}:#{";
        text += field;
        text += "},";
    }
    text
}

fn to_words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}
