//! Files: sftp, scp, rsync.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use shed_testing::{Transport, over_each_transport};

use crate::support::{Door, noise, said};

over_each_transport! {
    sftp_starts_at_home
    files_are_unchanged_after_a_round_trip
}

async fn sftp_starts_at_home(transport: Transport) {
    let door = Door::open_on(transport).await;
    let mut sftp = door.client("sftp");
    sftp.args(["-q", "-b", "-", "a@door"]);
    let ran = said(sftp, b"pwd\nmkdir new\n").await;
    let home = door.home();
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.text().contains(&format!("directory: {}\n", home.display())), "{ran:?}");
    assert!(home.join("new").is_dir());
    // OpenSSH's scp takes the directory in which sftp starts for `~`.
    let file = door.path("file");
    fs::write(&file, "x").unwrap();
    let mut scp = door.client("scp");
    scp.arg("-q").arg(&file).arg("a@door:~/new/by-scp");
    assert_eq!(said(scp, b"").await.status, Some(0));
    assert!(home.join("new/by-scp").exists());
}

async fn files_are_unchanged_after_a_round_trip(transport: Transport) {
    let door = Door::open_on(transport).await;
    let (sent, got) = (door.path("sent"), door.path("got"));
    fs::create_dir_all(sent.join("below")).unwrap();
    fs::write(sent.join("below/data"), noise(3 << 20)).unwrap();
    fs::write(sent.join("run"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(sent.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(sent.join("a name: with things"), "").unwrap();
    let shell = format!("ssh -F {}", door.path("config").display());
    for (program, options, there) in [
        ("scp", vec!["-r", "-p"], "by-scp"),
        ("scp", vec!["-O", "-r", "-p"], "by-old-scp"),
        ("rsync", vec!["-a", "-e", &shell], "by-rsync"),
    ] {
        let copy = || {
            let mut copy = match program {
                "rsync" => tokio::process::Command::new(program),
                _ => door.client(program),
            };
            copy.args(&options);
            copy
        };
        let (mut up, mut down) = (copy(), copy());
        // rsync makes a directory in one that is there.
        fs::remove_dir_all(&got).ok();
        let there = format!("a@door:{}/{there}", door.home().display());
        if program == "rsync" {
            up.arg(format!("{}/", sent.display())).arg(format!("{there}/"));
            down.arg(format!("{there}/")).arg(format!("{}/", got.display()));
        } else {
            up.arg(&sent).arg(&there);
            down.arg(&there).arg(&got);
        }
        for one in [up, down] {
            let ran = said(one, b"").await;
            assert_eq!((ran.status, ran.errors.as_str()), (Some(0), ""), "{program} {options:?}");
        }
        for name in ["below/data", "run", "a name: with things"] {
            let same = fs::read(sent.join(name)).unwrap() == fs::read(got.join(name)).unwrap();
            assert!(same, "{program} {options:?} {name}");
        }
        let mode = fs::metadata(got.join("run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
    assert_eq!(door.run("~/by-scp/run").await.text(), "ran\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_pushes() {
    let door = Door::open().await;
    let made = door.run("git init -q --bare ~/repo.git").await;
    assert_eq!(made.status, Some(0), "{made:?}");
    let remote = format!("a@door:{}/repo.git", door.home().display());
    let copy = door.path("copy");
    let lines = format!(
        "git clone -q '{remote}' '{copy}' && cd '{copy}' && echo text > file && git add file && \
         git -c user.name=n -c user.email=e commit -qm one && git push -q origin HEAD && git ls-remote -q",
        copy = copy.display()
    );
    let mut git = tokio::process::Command::new("sh");
    git.args(["-c", &lines]);
    git.env("GIT_SSH_COMMAND", format!("ssh -F {}", door.path("config").display()));
    let ran = said(git, b"").await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.text().contains("HEAD"), "{ran:?}");
}
