//! Watching a tmux server from inside without anyone noticing (measured on tmux 3.3a).
//!
//! One unattached client does it all: it points global hooks at a channel, prints the whole state, and waits for the
//! channel. The next change of anything a hook tells of ends it, and the next one is started. tmux runs the three parts
//! without a gap, so nothing is lost in between; nothing shows in any list; nothing runs while nothing happens.
//!
//! Not with `-C`: a control client that is still saying who it is when a session is made, renamed or ended crashes the
//! server of tmux 3.3a, and every session with it.

use crate::listing::{PANE_FIELDS, SESSION_FIELDS};

/// The index of our entry in each hook's array: out of the way of people's own.
const HOOK_INDEX: u32 = 99;

/// Everything that changes what is listed. A user's `set-hook -g X` without index replaces our entry of X, so all are set
/// again with each listing, and most changes are told by more than one of them.
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

/// The last line of a listing, after which the client waits.
pub const END: &str = "E\n";

/// Starts a server that stays when its last session ends. With one running it changes nothing else.
pub fn start_argv() -> Vec<String> {
    to_words(&["tmux", "-u", "start-server", ";", "set-option", "-s", "exit-empty", "off"])
}

/// Prints the whole state for [`crate::parse_listing`], then [`END`].
pub fn list_argv() -> Vec<String> {
    let mut argv =
        to_words(&["tmux", "-u", "list-sessions", "-F", &line_format('S', SESSION_FIELDS), ";"]);
    // Without any session `list-panes -a` fails for want of a target. `#{S:1}` is empty then.
    let panes = format!("list-panes -a -F '{}'", line_format('P', PANE_FIELDS));
    argv.extend(to_words(&["if-shell", "-F", "#{S:1}", &panes, ";"]));
    argv.extend(to_words(&["display-message", "-p", END.trim_end()]));
    argv
}

/// Points the hooks at `channel`, prints as [`list_argv`], and ends at the next change.
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

fn line_format(mark: char, fields: &[&str]) -> String {
    let mut text = String::from(mark);
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
