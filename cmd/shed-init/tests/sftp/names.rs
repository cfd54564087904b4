//! File names are bytes, and listings contain all entries of a directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use crate::raw::*;

/// Bytes that are not text in any common encoding.
const ODD: &[u8] = b"o\xff\xfe\n\\ '\"d\x01";

#[test]
fn a_name_that_is_not_text_works_in_every_request() {
    let mut client = Client::start();
    let odd = Field::String(ODD);
    let inside = [ODD, b"/", ODD].concat();
    assert_eq!(client.status(MKDIR, &[odd, NO_ATTRIBUTES]), OK);
    let handle = client.open(&inside, 0x1a);
    assert_eq!(client.write(&handle, 0, b"content"), OK);
    assert_eq!(client.attributes(STAT, &inside).size, 7);
    let there = [&client.remote("")[..], b"/", &inside].concat();
    assert_eq!(client.name(REALPATH, &inside), there);
    assert_eq!(client.status(SYMLINK, &[Field::String(&inside), text("link")]), OK);
    assert_eq!(client.name(READLINK, b"link"), inside);
    assert_eq!(client.name(REALPATH, b"link"), there);
    let names: Vec<_> = client.list(ODD).concat();
    let (_, line) = names.iter().find(|(name, _)| name == ODD).unwrap();
    assert!(line.ends_with(&[b" ", ODD].concat()));
    assert_eq!(client.status(RENAME, &[Field::String(&inside), text("plain")]), OK);
    assert_eq!(client.status(RMDIR, &[odd]), OK);
    assert_eq!(std::fs::read(client.path("plain")).unwrap(), b"content");
}

#[test]
fn a_path_with_a_nul_byte_is_a_bad_message() {
    let mut client = Client::start();
    for kind in [STAT, LSTAT, OPENDIR, REMOVE, RMDIR, REALPATH, READLINK] {
        assert_eq!(client.status(kind, &[text("a\0b")]), BAD_MESSAGE, "{kind}");
    }
}

#[test]
fn a_large_directory_is_split_into_replies_that_all_clients_accept() {
    let mut client = Client::start();
    std::fs::create_dir(client.path("many")).unwrap();
    let mut expected = BTreeSet::from([b".".to_vec(), b"..".to_vec()]);
    for number in 0..1_500 {
        let name = format!("{number:0>200}");
        std::fs::write(client.path("many").join(&name), "").unwrap();
        expected.insert(name.into_bytes());
    }
    let lists = client.list(b"many");
    for names in &lists {
        // Kind, number and count, then for each name two lengths and its attributes.
        let n_bytes: usize = names.iter().map(|(name, line)| name.len() + line.len() + 40).sum();
        assert!(n_bytes + 9 <= 34_000, "{n_bytes}");
    }
    assert!(lists.len() < 30, "{}", lists.len());
    let names: Vec<_> = lists.concat().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), expected.len());
    assert_eq!(BTreeSet::from_iter(names), expected);
}

#[test]
fn lines_have_the_format_of_ls() {
    let mut client = Client::start();
    std::fs::create_dir(client.path("sub")).unwrap();
    open_to_all(&client.path("sub"), 0o1777);
    symlink("nowhere", client.path("link")).unwrap();
    std::fs::write(client.path("file"), "12345").unwrap();
    open_to_all(&client.path("file"), 0o4750);
    let modified = [text("file"), Field::Number(8), Field::Number(0), Field::Number(951_782_400)];
    assert_eq!(client.status(SETSTAT, &modified), OK);
    let names = client.list(b".").concat();
    let line = |name: &str| {
        let found = names.iter().find(|(found, _)| found == name.as_bytes()).unwrap();
        String::from_utf8(found.1.clone()).unwrap()
    };
    assert!(line("sub").starts_with("drwxrwxrwt    2 "), "{}", line("sub"));
    assert!(line("link").starts_with("lrwxrwxrwx    1 "), "{}", line("link"));
    assert!(line("link").ends_with(" link"), "{}", line("link"));
    let file = line("file");
    assert!(file.starts_with("-rwsr-x---    1 "), "{file}");
    assert!(file.ends_with("        5 Feb 29  2000 file"), "{file}");
}

#[test]
fn paths_resolve_as_in_openssh() {
    let mut client = Client::start();
    std::fs::create_dir(client.path("dir")).unwrap();
    symlink("dir", client.path("link")).unwrap();
    symlink("dir/gone", client.path("dangling")).unwrap();
    for (path, leads_to) in [
        ("", ""),
        (".", ""),
        ("link/..", ""),
        ("link", "dir"),
        ("dir/new", "dir/new"),
        ("link/new", "dir/new"),
        ("dangling", "dir/gone"),
        // Only EXPAND_PATH expands it.
        ("~", "~"),
    ] {
        let expected = client.remote(leads_to);
        assert_eq!(client.name(REALPATH, path.as_bytes()), expected, "{path}");
    }
    assert_eq!(client.name(REALPATH, b"/../usr/.."), b"/");
    assert_eq!(client.status(REALPATH, &[text("new/new")]), NO_SUCH_FILE);
}

#[test]
fn a_tilde_expands_to_a_home_directory() {
    let mut client = Client::start();
    let mut expand = |path: &str| match client.extended("expand-path@openssh.com", &[text(path)]) {
        Reply::Names(names) => Ok(names[0].0.clone()),
        Reply::Status(status) => Err(status),
        reply => panic!("{reply:?}"),
    };
    let home = expand("~").unwrap();
    assert_eq!(expand("~/new"), Ok([&home[..], b"/new"].concat()));
    assert_eq!(expand("plain"), Ok([&home[..], b"/plain"].concat()));
    assert_eq!(expand("~nobody-of-this-name/x"), Err(NO_SUCH_FILE));
    // Every image has the user root.
    let roots = expand("~root").unwrap();
    assert_eq!(home, client.remote(""));
    let home_of = |client: &mut Client, user| client.extended("home-directory", &[text(user)]);
    let Reply::Names(names) = home_of(&mut client, "root") else {
        panic!("root has no home");
    };
    assert_eq!(
        std::fs::canonicalize(OsStr::from_bytes(&names[0].0)).unwrap().as_os_str().as_bytes(),
        roots
    );
    assert_eq!(home_of(&mut client, "nobody-of-this-name"), Reply::Status(FAILURE));
}

#[test]
fn ids_of_users_and_groups_are_resolved_to_names() {
    let mut client = Client::start();
    let ids: Vec<u8> = [0_u32, 4_000_000_000].iter().flat_map(|id| id.to_be_bytes()).collect();
    let ask = "users-groups-by-id@openssh.com";
    let Reply::Extended(body) =
        client.extended(ask, &[Field::String(&ids), Field::String(&ids[..4])])
    else {
        panic!("no names");
    };
    let mut rest = Rest(&body);
    let (mut users, mut groups) = (Rest(rest.string()), Rest(rest.string()));
    assert_eq!((users.string(), users.string(), users.0), (&b"root"[..], &b""[..], &b""[..]));
    assert_eq!((groups.string(), groups.0), (&b"root"[..], &b""[..]));
    let torn = client.extended(ask, &[Field::String(&ids[..5]), text("")]);
    assert_eq!(torn, Reply::Status(BAD_MESSAGE));
    // The names would not fit in a packet.
    let many = 0_u32.to_be_bytes().repeat(60_000);
    let many = client.extended(ask, &[Field::String(&many), text("")]);
    assert_eq!(many, Reply::Status(FAILURE));
}
