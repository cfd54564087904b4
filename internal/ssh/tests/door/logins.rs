//! Who gets in, and where a user name leads.

use shed_api::Scope;
use shed_model::shed::life::Wish;
use tokio::process::Command;

use crate::support::{Door, Said, line_with, said, started};

async fn as_user(door: &Door, user: &str) -> Said {
    said(door.ssh(user, &["-T", "door", "echo in"]), b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_nobody_knows_is_refused() {
    let door = Door::open().await;
    door.keygen("stranger").await;
    door.configure("stranger");
    for user in ["a", "a+work", "nothing", "_api"] {
        let refused = as_user(&door, user).await;
        assert_eq!((refused.status, refused.text()), (Some(255), ""));
        assert!(refused.errors.contains("Permission denied (publickey)."), "{}", refused.errors);
    }
    // Nothing but keys is offered, not even to ask.
    let mut password =
        door.ssh("a", &["-o", "PreferredAuthentications=password,keyboard-interactive"]);
    password.args(["-o", "BatchMode=no", "door"]);
    let refused = said(password, b"").await;
    assert!(refused.errors.contains("Permission denied (publickey)."), "{}", refused.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_back_is_refused() {
    let door = Door::open().await;
    door.key("drive", Scope::Drive, &[]).await;
    door.configure("drive");
    assert_eq!(as_user(&door, "a").await.text(), "in\n");
    let (app, admin) = (&door.test.app, &door.test.admin);
    let keys = app.credentials().keys(admin).await.unwrap();
    let key = keys.keys.iter().find(|key| key.name == "drive").unwrap();
    assert!(key.last_used_at.is_some());
    app.credentials().remove_key(admin, &key.id).await.unwrap();
    assert_eq!(as_user(&door, "a").await.status, Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_kinds_are_taken_and_weak_ones_are_not() {
    let door = Door::open().await;
    for (kind, bits, passes) in [
        ("rsa", "3072", true),
        ("ecdsa", "256", true),
        ("ecdsa", "521", true),
        ("rsa", "1024", false),
    ] {
        let name = format!("{kind}-{bits}");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"]).arg(door.path(&name));
        assert_eq!(said(keygen, b"").await.status, Some(0));
        let public_key = std::fs::read_to_string(door.path(&format!("{name}.pub"))).unwrap();
        let key = shed_api::access::NewKey {
            name: name.clone(),
            public_key,
            scope: Scope::Drive,
            sheds: Vec::new(),
        };
        let added = door.test.app.credentials().add_key(&door.test.admin, key).await;
        door.configure(&name);
        let mut ssh = door.ssh("a", &["-T"]);
        // Or the client itself would not use it.
        ssh.args(["-o", "RequiredRSASize=1024", "door", "echo in"]);
        let ran = said(ssh, b"").await;
        assert_eq!(ran.status == Some(0), passes, "{name} {added:?} {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_nowhere_is_told_as_such() {
    let door = Door::open().await;
    for (user, said) in [
        ("nope", "shed: no shed \"nope\""),
        ("nope+work", "log in as nope alone"),
        ("A", "shed: "),
        ("a..", "shed: "),
        ("a+", "shed: "),
        ("a+#", "shed: "),
        ("a+b+c", "shed: "),
        ("_x", "names that begin with '_' are the server's own"),
        ("_api", "this server has no API over SSH"),
        ("a+work", "takes no command: log in as a alone"),
    ] {
        let ran = as_user(&door, user).await;
        assert_eq!((ran.status, ran.text()), (Some(255), ""), "{user}");
        assert!(ran.errors.starts_with("shed: ") && ran.errors.contains(said), "{user}: {ran:?}");
    }
    let no_terminal = super::support::said(door.ssh("a+work", &["-T", "door"]), b"").await;
    assert!(no_terminal.errors.contains("needs a terminal: use ssh -t"), "{no_terminal:?}");
    assert_eq!(no_terminal.status, Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_other_sheds_sees_none() {
    let door = Door::open().await;
    door.key("elsewhere", Scope::Admin, &["b"]).await;
    door.configure("elsewhere");
    let ran = as_user(&door, "a").await;
    assert_eq!(ran.status, Some(255));
    assert!(ran.errors.contains("no shed \"a\""), "{}", ran.errors);
    let forward = said(door.ssh("a", &["-W", "127.0.0.1:1", "door"]), b"").await;
    assert!(forward.errors.contains("no shed"), "{}", forward.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_shed_is_started_by_who_comes() {
    let door = Door::open().await;
    let (app, admin) = (&door.test.app, &door.test.admin);
    app.wish(admin, &"a".parse().unwrap(), Wish::Stop).await.unwrap();
    assert_eq!(as_user(&door, "a").await.text(), "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_says_so() {
    let door = Door::open().await;
    let mut ssh =
        started(door.ssh("a", &["-o", "LogLevel=INFO", "door", "echo $$; exec sleep 1000"]));
    line_with(ssh.stdout.take().unwrap(), "").await;
    door.test.app.close().await;
    let told = line_with(ssh.stderr.take().unwrap(), "disconnect").await;
    assert!(told.contains("the server is going away"), "{told}");
    assert_eq!(ssh.wait().await.unwrap().code(), Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_these_algorithms_are_offered() {
    let door = Door::open().await;
    let ran = said(door.ssh("a", &["-vv", "door", "true"]), b"").await;
    let told = ran.errors.split_once("peer server KEXINIT proposal").unwrap().1;
    let list = |name: &str| {
        let line = told.lines().find_map(|line| line.split_once(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {told}")).1.trim().to_owned()
    };
    assert_eq!(
        list("KEX algorithms"),
        "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ext-info-s,\
         kex-strict-s-v00@openssh.com"
    );
    assert_eq!(list("host key algorithms"), "ssh-ed25519");
    for way in ["ctos", "stoc"] {
        assert_eq!(
            list(&format!("ciphers {way}")),
            "aes256-gcm@openssh.com,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,\
             aes256-ctr,aes192-ctr,aes128-ctr"
        );
        let macs = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com";
        assert_eq!(list(&format!("MACs {way}")), macs);
        assert_eq!(list(&format!("compression {way}")), "none");
    }
    let sigs = ran.errors.split_once("server-sig-algs=<").unwrap().1.split('>').next().unwrap();
    assert!(!sigs.split(',').any(|one| one == "ssh-rsa" || one == "ssh-dss"), "{sigs}");
    assert!(sigs.contains("rsa-sha2-512") && sigs.contains("sk-ssh-ed25519"), "{sigs}");
    // Each of them works.
    for cipher in list("ciphers stoc").split(',') {
        let ran = said(door.ssh("a", &["-c", cipher, "door", "cat"]), b"through").await;
        assert_eq!(ran.text(), "through", "{cipher}");
    }
    for mac in list("MACs stoc").split(',') {
        let ssh = door.ssh("a", &["-c", "aes128-ctr", "-m", mac, "door", "cat"]);
        assert_eq!(said(ssh, b"through").await.text(), "through", "{mac}");
    }
}
