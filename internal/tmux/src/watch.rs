//! Watching a tmux server from inside without anyone noticing (measured on tmux 3.3a).
//!
//! An unattached control client that waits for a channel (`tmux -C wait-for NAME`) reports by itself when sessions come,
//! go or are renamed; global hooks that signal the channel end it on everything else. A user's `set-hook -g X` without
//! index replaces ours, so they are set again with each listing. A waiter that was killed stays in its channel and eats
//! the next signal, so each waiter has a fresh name.

use crate::listing::{PANE_FIELDS, SESSION_FIELDS};

/// The index of our entry in each hook's array: out of the way of people's own.
const HOOK_INDEX: u32 = 99;

/// What a session list does not get by itself from the waiting client.
const HOOKS: &[&str] = &[
    "client-attached",
    "client-detached",
    "client-session-changed",
    "session-created",
    "session-closed",
    "session-renamed",
    "window-linked",
    "window-unlinked",
    "window-renamed",
    "session-window-changed",
    "window-pane-changed",
    "after-split-window",
    "after-kill-pane",
    "window-layout-changed",
    "pane-exited",
    "pane-title-changed",
];

/// Starts a server that stays when its last session ends. With one running it changes nothing else.
pub fn start_argv() -> Vec<String> {
    to_words(&["tmux", "-u", "start-server", ";", "set-option", "-s", "exit-empty", "off"])
}

/// Waits for news; ends or prints at the next change.
pub fn wait_argv(channel: &str) -> Vec<String> {
    to_words(&["tmux", "-u", "-C", "wait-for", channel])
}

/// Sets the hooks to `channel` and prints the whole state for [`crate::parse_listing`]. One process.
pub fn list_argv(channel: &str) -> Vec<String> {
    let mut argv = to_words(&["tmux", "-u"]);
    for hook in HOOKS {
        let slot = format!("{hook}[{HOOK_INDEX}]");
        let action = format!("wait-for -S {channel}");
        argv.extend(to_words(&["set-hook", "-g", &slot, &action, ";"]));
    }
    argv.extend(to_words(&["list-sessions", "-F", &line_format('S', SESSION_FIELDS), ";"]));
    // Without any session `list-panes -a` fails for want of a target. `#{S:1}` is empty then.
    let panes = format!("list-panes -a -F '{}'", line_format('P', PANE_FIELDS));
    argv.extend(to_words(&["if-shell", "-F", "#{S:1}", &panes]));
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
