//! The managed block of an ssh configuration: found, changed and put back without touching a line of the user's. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::failure::Failure;

/// The block's first line.
const BEGIN: &str = "# --- BEGIN SHED MANAGED BLOCK --- (shed ssh-config --uninstall removes it)";
/// How the first line begins, whatever follows.
const BEGIN_MARK: &str = "# --- BEGIN SHED MANAGED BLOCK ---";
/// The block's last line.
const END: &str = "# --- END SHED MANAGED BLOCK ---";
/// Before each entry.
const ENTRY: &str = "# shed ";

/// A shed's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Its server.
    pub(super) server: String,
    /// Its name.
    pub(super) shed: String,
    /// Where ssh goes.
    pub(super) host: String,
    /// And there.
    pub(super) port: u16,
    /// The file with the pinned host key.
    pub(super) known_hosts: String,
    /// Whether it is the default server's: of two of one name it has the short one.
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

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// These are all its sheds.
    Replace(String, Vec<Entry>),
    /// These are some of its sheds.
    Add(Vec<Entry>),
}

impl Change {
    /// The sheds it names.
    pub(super) fn entries(&self) -> &[Entry] {
        match self {
            Self::Replace(_, entries) | Self::Add(entries) => entries,
        }
    }
}

/// The entries of a block, by server and shed. The text is what is written below the `Host` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    entries: BTreeMap<(String, String), (bool, String)>,
}

impl Block {
    /// Reads the block of a configuration; an empty one if there is none.
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

    /// Takes in what servers said. Sheds of servers that said nothing stay.
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

    /// The entries as ssh reads them.
    pub(super) fn entries_text(&self) -> String {
        let mut text = String::new();
        for ((server, shed), (is_default, options)) in &self.entries {
            let mark = if *is_default { " (default)" } else { "" };
            let hosts = self.hosts(server, shed, *is_default).join(" ");
            text += &[ENTRY, server, "/", shed, mark, "\nHost ", &hosts, "\n", options].concat();
        }
        text
    }

    /// The names that ssh knows a shed by.
    pub(super) fn hosts(&self, server: &str, shed: &str, is_default: bool) -> Vec<String> {
        let short = self.has_short_name(server, shed, is_default).then(|| format!("shed-{shed}"));
        short.into_iter().chain([format!("shed-{shed}.{}", as_host(server))]).collect()
    }

    /// Of sheds of one name the default server's has the short name, else the first's by name.
    fn has_short_name(&self, server: &str, shed: &str, is_default: bool) -> bool {
        let mut namesakes = self.entries.iter().filter(|((_, name), _)| name == shed);
        let default = namesakes.clone().find(|(_, (is_default, _))| *is_default);
        match default {
            Some(((owner, _), _)) => is_default && owner == server,
            None => namesakes.next().is_some_and(|((first, _), _)| first == server),
        }
    }

    /// The configuration with this block: where it was, or at the top, since ssh takes the first value it finds. `Host *`
    /// at its end lets what follows mean all hosts again.
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
        // The empty line that came with the block goes with it.
        let after =
            if before.is_empty() { after.strip_prefix('\n').unwrap_or(&after) } else { &after };
        Ok(before + after)
    }

    /// What is different in `after`, a line each.
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

/// A server's name as a part of a host's: of one that has only an address, the address without what ssh would take for
/// a pattern.
fn as_host(server: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    server.chars().map(|c| if plain(c) { c } else { '-' }).collect()
}

/// The numbers of the block's first and last line. A block without an end is the user's to mend: guessing could lose
/// lines.
fn borders(text: &str) -> Result<Option<(usize, usize)>, Failure> {
    let lines: Vec<&str> = text.lines().collect();
    let begins: Vec<usize> =
        (0..lines.len()).filter(|number| lines[*number].starts_with(BEGIN_MARK)).collect();
    let ends: Vec<usize> =
        (0..lines.len()).filter(|number| lines[*number].trim_end() == END).collect();
    match (begins.as_slice(), ends.as_slice()) {
        ([], []) => Ok(None),
        ([begin], [end]) if begin < end => Ok(Some((*begin, *end))),
        _ => Err(Failure::new("the managed block in the ssh configuration is broken: its first and last line do not match")
            .hint("remove what is left of it by hand, then: shed ssh-config --install")),
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
    fn the_users_lines_survive_everything() {
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
    fn a_changed_port_is_updated_and_other_sheds_stay() {
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
    fn one_name_on_two_servers_does_not_collide() {
        let text = install("", &[all("away", &["web"]), all("home", &["web"])]);
        assert!(text.contains("Host shed-web.away\n"), "{text}");
        assert!(text.contains("Host shed-web shed-web.home\n"), "{text}");
    }

    #[test]
    fn a_broken_block_is_left_alone() {
        let text = install(USERS, &[all("home", &["web"])]);
        let broken = text.replace(END, "");
        assert!(Block::find(&broken).is_err());
        assert!(Block::default().put(&broken).is_err());
    }
}
