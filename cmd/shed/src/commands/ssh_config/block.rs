//! The managed block of an ssh configuration: read, changed and replaced without changing any other line. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::failure::Failure;

/// First line of the block.
const BEGIN: &str = "# --- BEGIN SHED MANAGED BLOCK --- (shed ssh-config --uninstall removes it)";
/// Prefix that identifies the first line.
const BEGIN_MARK: &str = "# --- BEGIN SHED MANAGED BLOCK ---";
/// Last line of the block.
const END: &str = "# --- END SHED MANAGED BLOCK ---";
/// Prefix of the comment before each entry; the server and the shed follow.
const ENTRY: &str = "# shed ";

/// The entry of a shed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Name of the server.
    pub(super) server: String,
    /// Name of the shed.
    pub(super) shed: String,
    /// Host of the SSH listener.
    pub(super) host: String,
    /// Port of the SSH listener.
    pub(super) port: u16,
    /// Path of the file with the pinned host key.
    pub(super) known_hosts: String,
    /// Whether the server is the default one: its shed gets the short name if several servers have one of that name.
    #[serde(skip)]
    pub(super) is_default: bool,
}

impl Entry {
    /// The lines below `Host`.
    fn options(&self) -> String {
        let Self { host, port, shed, known_hosts, .. } = self;
        format!(
            "    HostName {host}\n    Port {port}\n    User {shed}\n    UserKnownHostsFile \"{known_hosts}\"\n    \
             StrictHostKeyChecking yes\n"
        )
    }
}

/// A change of the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Replaces all entries of the named server.
    Replace(String, Vec<Entry>),
    /// Adds or updates entries.
    Add(Vec<Entry>),
}

impl Change {
    /// The entries to add or to replace others with.
    pub(super) fn entries(&self) -> &[Entry] {
        match self {
            Self::Replace(_, entries) | Self::Add(entries) => entries,
        }
    }
}

/// The entries of a block, by server and shed: whether the server is the default one, and the text below the `Host` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    entries: BTreeMap<(String, String), (bool, String)>,
}

impl Block {
    /// Reads the block of a configuration; empty if there is none.
    pub(super) fn find(text: &str) -> Result<Self, Failure> {
        let mut block = Self::default();
        let Some((begin, end)) = borders(text)? else {
            return Ok(block);
        };
        let lines: Vec<&str> = text.lines().collect();
        let mut current = None;
        for line in &lines[begin + 1..end] {
            if let Some(name) = line.strip_prefix(ENTRY) {
                let (name, short) =
                    name.strip_suffix(" (default)").map_or((name, false), |name| (name, true));
                current = name
                    .rsplit_once('/')
                    .map(|(server, shed)| (server.to_owned(), shed.to_owned()));
                if let Some(key) = &current {
                    block.entries.insert(key.clone(), (short, String::new()));
                }
            } else if line.starts_with("Host ") {
                if *line == "Host *" {
                    current = None;
                }
            } else if let Some((_, options)) =
                current.as_ref().and_then(|key| block.entries.get_mut(key))
            {
                options.push_str(line);
                options.push('\n');
            }
        }
        Ok(block)
    }

    /// Applies changes. Entries of other servers stay.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let entries = match change {
                Change::Replace(server, entries) => {
                    self.entries.retain(|(known, _), _| known != server);
                    entries
                }
                Change::Add(entries) => entries,
            };
            for entry in entries {
                let key = (entry.server.clone(), entry.shed.clone());
                self.entries.insert(key, (entry.is_default, entry.options()));
            }
        }
    }

    /// The entries in the format of ssh.
    pub(super) fn entries_text(&self) -> String {
        let mut text = String::new();
        for ((server, shed), (is_default, options)) in &self.entries {
            let mark = if *is_default { " (default)" } else { "" };
            let hosts = self.hosts(server, shed, *is_default).join(" ");
            text += &[ENTRY, server, "/", shed, mark, "\nHost ", &hosts, "\n", options].concat();
        }
        text
    }

    /// The host names of a shed: the short one if it has it, and the one with the server.
    pub(super) fn hosts(&self, server: &str, shed: &str, is_default: bool) -> Vec<String> {
        let short = self.has_short_name(server, shed, is_default).then(|| format!("shed-{shed}"));
        short.into_iter().chain([format!("shed-{shed}.{}", as_host(server))]).collect()
    }

    /// Of several sheds with the same name, the one of the default server gets the short name, else the one of the first
    /// server by name.
    fn has_short_name(&self, server: &str, shed: &str, is_default: bool) -> bool {
        let mut namesakes = self.entries.iter().filter(|((_, name), _)| name == shed);
        let default = namesakes.clone().find(|(_, (is_default, _))| *is_default);
        match default {
            Some(((owner, _), _)) => is_default && owner == server,
            None => namesakes.next().is_some_and(|((first, _), _)| first == server),
        }
    }

    /// The configuration with this block in its old place, or at the top, because ssh uses the first value it finds. The
    /// block ends with `Host *`, so that the lines after it apply to all hosts again.
    pub(super) fn put(&self, text: &str) -> Result<String, Failure> {
        if self.entries.is_empty() {
            return Self::remove(text);
        }
        let block = format!("{BEGIN}\n{}Host *\n{END}\n", self.entries_text());
        Ok(match borders(text)? {
            None if text.is_empty() => block,
            None => format!("{block}\n{text}"),
            Some((begin, end)) => {
                let lines: Vec<&str> = text.split_inclusive('\n').collect();
                [&lines[..begin].concat(), &block, &lines[end + 1..].concat()]
                    .map(String::as_str)
                    .concat()
            }
        })
    }

    /// The configuration without the block.
    pub(super) fn remove(text: &str) -> Result<String, Failure> {
        let Some((begin, end)) = borders(text)? else {
            return Ok(text.to_owned());
        };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let before = lines[..begin].concat();
        let after = lines[end + 1..].concat();
        // The empty line after the block was added with it.
        let after =
            if before.is_empty() { after.strip_prefix('\n').unwrap_or(&after) } else { &after };
        Ok(before + after)
    }

    /// The differences to `after`, one line each: `+` added, `~` changed, `-` removed.
    pub(super) fn differences(&self, after: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (key @ (server, shed), entry) in &after.entries {
            match self.entries.get(key) {
                None => lines.push(format!("+ shed-{shed} ({server})")),
                Some(before) if before != entry => lines.push(format!("~ shed-{shed} ({server})")),
                Some(_) => {}
            }
        }
        for (server, shed) in self.entries.keys().filter(|key| !after.entries.contains_key(*key)) {
            lines.push(format!("- shed-{shed} ({server})"));
        }
        lines
    }
}

/// A server's name as part of a host name: characters that ssh would read as a pattern are replaced.
fn as_host(server: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    server.chars().map(|c| if plain(c) { c } else { '-' }).collect()
}

/// The indexes of the block's first and last line. An incomplete block is an error, because guessing its end could lose
/// lines of the user.
fn borders(text: &str) -> Result<Option<(usize, usize)>, Failure> {
    let lines: Vec<&str> = text.lines().collect();
    let begins: Vec<usize> =
        (0..lines.len()).filter(|number| lines[*number].starts_with(BEGIN_MARK)).collect();
    let ends: Vec<usize> =
        (0..lines.len()).filter(|number| lines[*number].trim_end() == END).collect();
    match (begins.as_slice(), ends.as_slice()) {
        ([], []) => Ok(None),
        ([begin], [end]) if begin < end => Ok(Some((*begin, *end))),
        _ => Err(Failure::new(
            "the managed block in the ssh configuration is incomplete: its BEGIN and END lines do not match",
        )
        .hint("remove the lines of the block, then: shed ssh-config --install")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "ServerAliveInterval 5\n\nHost a\n  HostName 1.2.3.4\n# comment\n";

    fn entry(server: &str, shed: &str, port: u16) -> Entry {
        Entry {
            server: server.to_owned(),
            shed: shed.to_owned(),
            host: "h".to_owned(),
            port,
            known_hosts: "/k h".to_owned(),
            is_default: server == "home",
        }
    }

    fn install(text: &str, changes: &[Change]) -> String {
        let mut block = Block::find(text).unwrap();
        block.apply(changes);
        block.put(text).unwrap()
    }

    fn all(server: &str, sheds: &[&str]) -> Change {
        Change::Replace(
            server.to_owned(),
            sheds.iter().map(|shed| entry(server, shed, 2222)).collect(),
        )
    }

    #[test]
    fn lines_of_the_user_are_kept() {
        for users in ["", USERS, "Host a\n  Port 1", "\n\n# only a comment\n"] {
            let installed = install(users, &[all("home", &["web"])]);
            assert!(installed.ends_with(users), "{installed}");
            let again = install(&installed, &[all("home", &["web", "api"])]);
            assert!(again.ends_with(users));
            assert_eq!(Block::remove(&again).unwrap(), users);
            assert_eq!(install(&again, &[all("home", &[])]), users);
        }
    }

    #[test]
    fn installing_twice_changes_nothing() {
        let once = install(USERS, &[all("home", &["web", "api"])]);
        assert_eq!(install(&once, &[all("home", &["web", "api"])]), once);
    }

    #[test]
    fn a_changed_port_is_updated_and_other_entries_are_kept() {
        let text = install(USERS, &[all("home", &["web", "api"]), all("work", &["x"])]);
        let changed = install(&text, &[Change::Add(vec![entry("home", "web", 2200)])]);
        assert!(
            changed.contains("Port 2200")
                && changed.contains("shed-api ")
                && changed.contains("shed-x ")
        );
        let (before, after) = (Block::find(&text).unwrap(), Block::find(&changed).unwrap());
        assert_eq!(before.differences(&after), ["~ shed-web (home)"]);
        let fewer = install(&changed, &[all("home", &["api"])]);
        assert!(!fewer.contains("shed-web ") && fewer.contains("shed-x "));
    }

    #[test]
    fn sheds_of_the_same_name_get_different_host_names() {
        let text = install("", &[all("away", &["web"]), all("home", &["web"])]);
        assert!(text.contains("Host shed-web.away\n"), "{text}");
        assert!(text.contains("Host shed-web shed-web.home\n"), "{text}");
    }

    #[test]
    fn an_incomplete_block_is_not_changed() {
        let text = install(USERS, &[all("home", &["web"])]);
        let broken = text.replace(END, "");
        assert!(Block::find(&broken).is_err());
        assert!(Block::default().put(&broken).is_err());
    }
}
