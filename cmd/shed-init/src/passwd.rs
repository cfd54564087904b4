//! The session user: who it is in `/etc/passwd` and `/etc/group`, and what these files must say so that other programs agree.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use shed_api::{DEFAULT_HOME, ShedName, can_be_home};

/// The uid of the session user in a container.
const DEV_UID: u32 = 1000;
/// The name of the session user if the image has none for [`DEV_UID`].
const DEV_NAME: &str = "dev";
/// The path of the file of users.
const PASSWD: &str = "/etc/passwd";
/// The variable of the container with the shed's name.
const SHED_NAME: &str = "SHED_NAME";
/// The entry of root in an image without users.
const ROOT_ENTRY: &str = "root:x:0:0:root:/root:/bin/sh\n";

/// A user, from `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

fn default_shell() -> String {
    let shells = ["/bin/bash", "/usr/bin/bash"];
    let found = shells.iter().find(|shell| Path::new(shell).exists());
    (*found.unwrap_or(&"/bin/sh")).to_owned()
}

/// Who runs shed-init, in a test.
pub(crate) fn current_user(home: &Path) -> User {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    let found = find_passwd(&passwd, |_, known| known == uid);
    User {
        name: found.map_or_else(|| uid.to_string(), |user| user.name),
        uid,
        gid: rustix::process::getegid().as_raw(),
        groups: Vec::new(),
        home: home.to_string_lossy().into_owned(),
        shell: default_shell(),
    }
}

/// The user with the uid [`DEV_UID`], or who is added if the image has none. With `only_own_group` the user is in one group,
/// with the number of its uid, whatever the image says: numbers of groups are the same in mounted directories of the host.
pub(crate) fn container_user(only_own_group: bool) -> User {
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let mut user = find_passwd(&passwd, |_, uid| uid == DEV_UID).unwrap_or_else(|| User {
        name: free_name(&passwd),
        uid: DEV_UID,
        gid: DEV_UID,
        groups: Vec::new(),
        home: DEFAULT_HOME.to_owned(),
        shell: default_shell(),
    });
    user.shell = usable_shell(user.shell);
    // The server mounts no volume at such a home.
    if !can_be_home(&user.home) {
        DEFAULT_HOME.clone_into(&mut user.home);
    }
    if only_own_group {
        user.gid = DEV_UID;
        user.groups = vec![DEV_UID];
    } else {
        user.groups = groups_of(&group, &user);
    }
    user
}

/// Root, with the shell that the image has for it.
pub(crate) fn root() -> User {
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    let shell = find_passwd(&passwd, |_, uid| uid == 0).map_or_else(default_shell, |u| u.shell);
    User {
        name: "root".to_owned(),
        uid: 0,
        gid: 0,
        groups: vec![0],
        home: "/root".to_owned(),
        shell: usable_shell(shell),
    }
}

/// The shell of an entry, or another one if people cannot work with it or the image does not have it.
fn usable_shell(shell: String) -> String {
    let refuses = shell.ends_with("/nologin") || shell.ends_with("/false");
    let is_usable = !refuses && Path::new(&shell).is_file();
    if is_usable { shell } else { default_shell() }
}

/// A name for the session user: `dev`, unless the image has a user of that name with another uid.
fn free_name(passwd: &str) -> String {
    let is_free = |name: &String| find_passwd(passwd, |known, _| known == name).is_none();
    let numbered = (2..).map(|n| format!("{DEV_NAME}{n}"));
    let mut names = std::iter::once(DEV_NAME.to_owned()).chain(numbered);
    // A file has an end, so a name is free.
    names.find(is_free).unwrap_or_else(|| DEV_NAME.to_owned())
}

/// The first user in a passwd file for whom `matches(name, uid)` holds.
fn find_passwd(passwd: &str, matches: impl Fn(&str, u32) -> bool) -> Option<User> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields.as_slice() else {
            return None;
        };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        matches(name, uid).then(|| User {
            name: (*name).to_owned(),
            uid,
            gid,
            groups: Vec::new(),
            home: if home.is_empty() { "/".to_owned() } else { (*home).to_owned() },
            shell: (*shell).to_owned(),
        })
    })
}

/// The ids of the user's primary group and of the groups that list the user.
fn groups_of(group: &str, user: &User) -> Vec<u32> {
    let named = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields.as_slice() else {
            return None;
        };
        members.split(',').any(|member| member == user.name).then(|| gid.parse().ok())?
    });
    let mut groups: Vec<u32> = std::iter::once(user.gid).chain(named).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Writes into `/etc/passwd` and `/etc/group` what the image's lack.
pub(crate) fn prepare(user: &User) -> std::io::Result<()> {
    fs::create_dir_all("/etc")?;
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    let shed = std::env::var(SHED_NAME).ok().filter(|name| name.parse::<ShedName>().is_ok());
    let completed = completed(&passwd, user, shed.as_deref());
    if completed != passwd {
        fs::write(PASSWD, completed)?;
    }
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let has_group = group.lines().any(|line| line.split(':').nth(2) == Some(&user.gid.to_string()));
    if has_group {
        return Ok(());
    }
    let newline = newline_after(&group);
    let mut file = fs::OpenOptions::new().create(true).append(true).open("/etc/group")?;
    file.write_all(format!("{newline}{}:x:{}:\n", user.name, user.gid).as_bytes())
}

/// A passwd file with an entry of the user, whose home and shell are those that shed uses, so that `~` and programs that look
/// them up agree with it. The name of the shed is a second name of the user, which some programs take from the SSH user:
/// Ansible looks for `~SHED`. The user's own entry is before it, so that the uid has the user's own name.
fn completed(passwd: &str, user: &User, shed: Option<&str>) -> String {
    let User { name, uid, gid, home, shell, .. } = user;
    let entry = |name: &str| format!("{name}:x:{uid}:{gid}::{home}:{shell}\n");
    let mut text = if passwd.is_empty() { ROOT_ENTRY.to_owned() } else { with_entry(passwd, user) };
    text.push_str(newline_after(passwd));
    if find_passwd(&text, |_, known| known == *uid).is_none() {
        text.push_str(&entry(name));
    }
    if let Some(shed) = shed
        && find_passwd(&text, |known, _| known == shed).is_none()
    {
        text.push_str(&entry(shed));
    }
    text
}

/// A passwd file with the user's home and shell in the first entry of the user's uid.
fn with_entry(passwd: &str, user: &User) -> String {
    let mut is_done = false;
    let lines = passwd.split_inclusive('\n').map(|line| {
        let mut fields: Vec<&str> = line.trim_end_matches('\n').split(':').collect();
        let is_user = fields.len() == 7 && fields[2].parse() == Ok(user.uid);
        if is_done || !is_user {
            return line.to_owned();
        }
        is_done = true;
        fields[5] = &user.home;
        fields[6] = &user.shell;
        fields.join(":") + if line.ends_with('\n') { "\n" } else { "" }
    });
    lines.collect()
}

/// What is missing before another line.
fn newline_after(text: &str) -> &'static str {
    if text.is_empty() || text.ends_with('\n') { "" } else { "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str =
        "root:x:0:0:root:/root:/bin/bash\n# odd\nnode:x:1000:1000::/home/node:/bin/sh\n";

    #[test]
    fn the_images_name_for_uid_1000_is_used() {
        let user = find_passwd(IMAGE, |_, uid| uid == DEV_UID).unwrap();
        assert_eq!((user.name.as_str(), user.home.as_str()), ("node", "/home/node"));
        assert_eq!(find_passwd("broken:x\n", |_, _| true), None);
    }

    #[test]
    fn a_home_and_a_shell_that_are_not_accepted_are_replaced_in_the_entry() {
        let mut user = find_passwd(IMAGE, |_, uid| uid == DEV_UID).unwrap();
        assert_eq!(completed(IMAGE, &user, None), IMAGE);
        let bad = IMAGE.replace("/home/node:/bin/sh", "/run:/bin/fish")
            + "twin:x:1000:1000::/twin:/bin/sh";
        DEFAULT_HOME.clone_into(&mut user.home);
        let good = format!("::{DEFAULT_HOME}:/bin/sh\n");
        assert_eq!(completed(&bad, &user, None), bad.replace("::/run:/bin/fish\n", &good) + "\n");
    }

    #[test]
    fn the_shed_is_a_second_name_of_the_user_after_the_own_one() {
        let user = find_passwd(IMAGE, |_, uid| uid == DEV_UID).unwrap();
        let named = completed(IMAGE, &user, Some("web"));
        assert_eq!(named, format!("{IMAGE}web:x:1000:1000::/home/node:/bin/sh\n"));
        assert_eq!(completed(&named, &user, Some("web")), named, "a second start changes nothing");
        // Users of the image keep their names.
        assert_eq!(completed(IMAGE, &user, Some("root")), IMAGE);
    }

    #[test]
    fn an_image_without_the_user_gets_one_with_a_name_of_its_own() {
        let other = "root:x:0:0:root:/root:/bin/sh\ndev:x:1001:1001::/home/dev:/bin/sh\n";
        assert_eq!(free_name(other), "dev2");
        assert_eq!(free_name(IMAGE), "dev");
        let user =
            User { name: free_name(other), ..find_passwd(IMAGE, |_, uid| uid == DEV_UID).unwrap() };
        assert_eq!(
            completed(other, &user, None),
            format!("{other}dev2:x:1000:1000::/home/node:/bin/sh\n")
        );
        let named = completed("", &user, None);
        assert_eq!(named, format!("{ROOT_ENTRY}dev2:x:1000:1000::/home/node:/bin/sh\n"));
    }

    #[test]
    fn a_shell_that_the_image_lacks_is_replaced() {
        assert_eq!(usable_shell("/bin/sh".to_owned()), "/bin/sh");
        for bad in ["", "/bin/no-such-shell", "/usr/sbin/nologin", "/bin/false"] {
            assert_eq!(usable_shell(bad.to_owned()), default_shell(), "{bad}");
        }
    }

    #[test]
    fn groups_are_the_primary_one_and_those_that_list_the_user() {
        let user = find_passwd(IMAGE, |_, uid| uid == DEV_UID).unwrap();
        let group = "root:x:0:\naudio:x:29:pulse,node\nvideo:x:44:nodeling\nnode:x:1000:\n";
        assert_eq!(groups_of(group, &user), [29, 1000]);
    }
}
