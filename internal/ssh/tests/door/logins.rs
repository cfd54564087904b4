//! Authentication, and the targets of user names.

use shed_api::Scope;
use shed_model::shed::life::Request;
use tokio::process::Command;

use crate::support::{Door, Said, line_with, said, started};

async fn as_user(door: &Door, user: &str) -> Said {
    said(door.ssh(user, &["-T", "door", "echo in"]), b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_refused() {
    let door = Door::open().await;
    door.keygen("unknown").await;
    door.configure("unknown");
    for user in ["a", "a+work", "nothing", "_api"] {
        let refused = as_user(&door, user).await;
        assert_eq!((refused.status, refused.text()), (Some(255), ""));
        assert!(refused.errors.contains("Permission denied (publickey)."), "{}", refused.errors);
    }
    // No other authentication method is offered.
    let mut password =
        door.ssh("a", &["-o", "PreferredAuthentications=password,keyboard-interactive"]);
    password.args(["-o", "BatchMode=no", "door"]);
    let refused = said(password, b"").await;
    assert!(refused.errors.contains("Permission denied (publickey)."), "{}", refused.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_is_refused() {
    let door = Door::open().await;
    door.key("drive", Scope::Drive, &[]).await;
    door.configure("drive");
    assert_eq!(as_user(&door, "a").await.text(), "in\n");
    let (app, admin) = (&door.test.app, &door.test.admin);
    let keys = app.access().keys(admin).await.unwrap();
    let key = keys.keys.iter().find(|key| key.name == "drive").unwrap();
    assert!(key.last_used_at.is_some());
    app.access().remove_key(admin, &key.id).await.unwrap();
    assert_eq!(as_user(&door, "a").await.status, Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_key_types_are_accepted_and_weak_keys_are_not() {
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
        let added = door.test.app.access().add_key(&door.test.admin, key).await;
        door.configure(&name);
        let mut ssh = door.ssh("a", &["-T"]);
        // Without this, the client itself refuses the key.
        ssh.args(["-o", "RequiredRSASize=1024", "door", "echo in"]);
        let ran = said(ssh, b"").await;
        assert_eq!(ran.status == Some(0), passes, "{name} {added:?} {ran:?}");
        assert_eq!(added.is_ok(), passes, "a key is stored if and only if it can log in: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_target_is_reported_on_the_channel() {
    let door = Door::open().await;
    for (user, said) in [
        ("nope", "shed: no shed \"nope\""),
        ("nope+work", "log in as nope to run one"),
        ("A", "shed: "),
        ("a..", "shed: "),
        ("a+", "shed: "),
        ("a+#", "shed: "),
        ("a+b+c", "shed: "),
        ("_x", "invalid user \"_x\"; expected SHED, SHED+SESSION or _api"),
        ("_api", "this server does not offer its API over SSH"),
        ("a+work", "takes no command; log in as a to run one"),
    ] {
        let ran = as_user(&door, user).await;
        assert_eq!((ran.status, ran.text()), (Some(255), ""), "{user}");
        assert!(ran.errors.starts_with("shed: ") && ran.errors.contains(said), "{user}: {ran:?}");
    }
    let no_terminal = super::support::said(door.ssh("a+work", &["-T", "door"]), b"").await;
    assert!(no_terminal.errors.contains("needs a terminal; use ssh -t"), "{no_terminal:?}");
    assert_eq!(no_terminal.status, Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_copy_id_is_refused_with_a_reason() {
    let door = Door::open().await;
    door.keygen("new").await;
    let home = door.path("people");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    let mut copy_id = door.client("ssh-copy-id");
    // Not filtered: every login works here, with the key of the configuration.
    copy_id.env("HOME", home).args(["-f", "-i"]).arg(door.path("new")).arg("a@door");
    let ran = said(copy_id, b"").await;
    assert!(ran.errors.contains("hint: on the server: shed-server key add"), "{ran:?}");
    assert_ne!(ran.status, Some(0));
    assert!(!door.home().join(".ssh/authorized_keys").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_forwards_is_told_that_its_shed_does_not_exist() {
    let door = Door::open().await;
    for (user, told) in [("nope", "no shed \"nope\""), ("_x", "invalid user \"_x\"")] {
        let ran = said(door.ssh(user, &["-o", "LogLevel=INFO", "-N", "door"]), b"").await;
        assert_eq!(ran.status, Some(255));
        assert!(ran.errors.contains(told), "{user}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_are_for_people_without_the_client_of_shed() {
    let door = Door::open().await;
    let ran = as_user(&door, "nope").await;
    assert!(ran.errors.contains("hint: log in as one of: a\n"), "{ran:?}");
    let (app, admin) = (&door.test.app, &door.test.admin);
    app.sheds().request(admin, &"a".parse().unwrap(), Request::Pause).await.unwrap();
    let ran = as_user(&door, "a").await;
    assert!(ran.errors.contains("hint: with the client of shed: shed unpause a\n"), "{ran:?}");
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
async fn a_login_starts_a_stopped_shed() {
    let door = Door::open().await;
    let (app, admin) = (&door.test.app, &door.test.admin);
    app.sheds().request(admin, &"a".parse().unwrap(), Request::Stop).await.unwrap();
    assert_eq!(as_user(&door, "a").await.text(), "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shuts_down_says_so() {
    let door = Door::open().await;
    let mut ssh =
        started(door.ssh("a", &["-o", "LogLevel=INFO", "door", "echo $$; exec sleep 1000"]));
    line_with(ssh.stdout.take().unwrap(), "").await;
    door.test.app.close().await;
    let told = line_with(ssh.stderr.take().unwrap(), "disconnect").await;
    assert!(told.contains("the server is shutting down"), "{told}");
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
        let macs = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512";
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
