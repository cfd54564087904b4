//! Users and groups, from `/etc/passwd` and `/etc/group`. A static program cannot use the C library's lookups, which load
//! shared modules.

use std::collections::HashMap;
use std::io::Read as _;

/// The most bytes that are read from either file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Longer names are ignored, since they would not fit into a listing.
const MAX_NAME_BYTES: usize = 256;

/// Names by id, and the home directories of users.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    homes: HashMap<String, String>,
}

impl Accounts {
    /// Reads the files; a missing file counts as empty.
    pub(super) fn read() -> Self {
        Self::parse(&content("/etc/passwd"), &content("/etc/group"))
    }

    fn parse(passwd: &str, group: &str) -> Self {
        let mut accounts = Self::default();
        // The first line with a name or an id counts, as for the C library.
        for fields in lines(passwd) {
            let [name, _, uid, _, _, home, ..] = fields.as_slice() else {
                continue;
            };
            if let Ok(uid) = uid.parse() {
                accounts.users.entry(uid).or_insert_with(|| (*name).to_owned());
                accounts.homes.entry((*name).to_owned()).or_insert_with(|| (*home).to_owned());
            }
        }
        for fields in lines(group) {
            let [name, _, gid, ..] = fields.as_slice() else {
                continue;
            };
            if let Ok(gid) = gid.parse() {
                accounts.groups.entry(gid).or_insert_with(|| (*name).to_owned());
            }
        }
        accounts
    }

    pub(super) fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    pub(super) fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&gid).map(String::as_str)
    }

    pub(super) fn home(&self, user: &str) -> Option<&str> {
        self.homes.get(user).map(String::as_str)
    }
}

fn content(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // Names that could be read are used; other ids are shown as numbers.
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| {
        fields.first().is_some_and(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_an_id_counts_and_malformed_lines_are_ignored() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      toor:x:0:0:again:/toor:/bin/sh\n\
                      # comment\n+::::::\n:x:5:5::/:\nbad:x:five:5::/:\n\
                      dev:x:1000:1000::/home/dev:/bin/bash";
        let accounts = Accounts::parse(passwd, "root:x:0:\ndev:x:1000:dev\nshort\n");
        assert_eq!(accounts.user(0), Some("root"));
        assert_eq!(accounts.user(1000), Some("dev"));
        assert_eq!(accounts.user(5), None);
        assert_eq!(accounts.group(1000), Some("dev"));
        assert_eq!(accounts.group(7), None);
        assert_eq!(accounts.home("toor"), Some("/toor"));
        assert_eq!(accounts.home("bad"), None);
    }
}
