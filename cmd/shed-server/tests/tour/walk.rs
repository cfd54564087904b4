//! The life of a shed: created, used through every interface, stopped, rebuilt, deleted.

use std::time::{Duration, Instant};

use shed_testing::{Terminal, docker};

use crate::support::{Home, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_is_used_through_every_interface() {
    let home = Home::new();
    let server = home.start();
    let key = home.key("laptop", "drive");
    assert_eq!(home.done(&["create", "web"]), "web\n");

    // Attaching creates a session; SSH shows the same session, and the API counts both clients.
    let mut here = Terminal::start(tokio_command(home.shed(&["attach", "web"])), 80, 24);
    here.keys("export MARK=mine; echo ma''rk-$MARK\r").await;
    here.until("mark-mine").await;
    let mut ssh = server.ssh(&key);
    ssh.args(["-t", "web+default@127.0.0.1"]);
    let mut there = Terminal::start(tokio_command(ssh), 80, 24);
    there.until("mark-mine").await;
    there.keys("echo from-$MARK-there\r").await;
    here.until("from-mine-there").await;
    crate::support::eventually("both are counted", || {
        let list = json(&home.done(&["--json", "sessions", "web"]));
        (list["sessions"][0]["attached_clients"] == 2).then_some(())
    });
    here.keys("\x02d").await;
    let (text, status) = here.end().await;
    assert!(status == Some(0) && text.contains("detached"), "{text}");
    there.keys("\x02d").await;
    there.end().await;

    // Commands over SSH, `exec` and `exec` in a session return exact exit statuses.
    let output = server.ssh(&key).args(["web@127.0.0.1", "id -un; pwd; exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "dev\n/workspace\n");
    let (status, text) =
        home.tried(&["exec", "web", "-S", "default", "--", "sh", "-c", "echo in; exit 3"]);
    assert_eq!(status, Some(3), "{text}");
    assert!(text.contains("in"), "{text}");

    // Volumes survive a new container; an idle shed stops quickly.
    home.done(&[
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "echo kept > ~/file; echo kept > /workspace/file",
    ]);
    let start = Instant::now();
    home.done(&["stop", "web"]);
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    home.done(&["rebuild", "web"]);
    home.done(&["start", "web"]);
    assert_eq!(
        home.done(&["exec", "web", "--", "cat", "/home/dev/file", "/workspace/file"]),
        "kept\nkept\n"
    );
    assert_eq!(home.done(&["exec", "web", "--root", "--", "id", "-u"]), "0\n");
    home.done(&["delete", "-f", "web"]);
    assert_eq!(json(&home.done(&["--json", "list"]))["sheds"], serde_json::json!([]));
    let (label, value) = home.run.label();
    let filter = format!("label={label}={value}");
    assert_eq!(docker(&["ps", "-aq", "--filter", &filter]), "");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &filter]), "");
    assert_eq!(server.end(), Some(0));
    assert!(!home.socket().exists());
}

#[test]
fn a_failed_clone_is_reported_without_its_password() {
    let home = Home::with("");
    let _server = home.start();
    // Sheds have no network here, so a clone cannot succeed.
    home.done(&["create", "seed"]);
    let make = "git init -q --bare ~/origin.git && git clone -q ~/origin.git ~/w 2>/dev/null && cd ~/w && \
                git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first && git push -q origin HEAD";
    home.done(&["exec", "seed", "--", "sh", "-c", make]);
    let (status, text) =
        home.tried(&["create", "bad", "--repo", "https://user:secret@127.0.0.1:1/x.git"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("shed create bad --retry") && !text.contains("secret"), "{text}");
    let shown = home.done(&["--json", "show", "bad"]);
    assert!(json(&shown)["status"] == "failed" && !shown.contains("secret"), "{shown}");
    let labels = docker(&["inspect", "--format", "{{json .Config}}", &home.container("bad")]);
    assert!(!labels.contains("secret"), "{labels}");
    assert!(!home.log().contains("secret"));
    // The shed is usable, and nothing of the clone is left.
    assert_eq!(home.done(&["exec", "bad", "--", "sh", "-c", "ls -A /workspace | wc -l"]), "0\n");
}

#[test]
fn only_the_first_start_authorizes_the_keys_of_its_user() {
    let home = Home::new();
    let dir = home.dir.path().join(".ssh");
    std::fs::create_dir(&dir).unwrap();
    let make = |name: &str| {
        let path = dir.join(name);
        let mut command = std::process::Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
        assert!(command.status().unwrap().success());
        path
    };
    let (own, other) = (make("id_ed25519"), make("deploy"));
    let server = home.start();
    assert_eq!(home.log().matches("authorized your own public key").count(), 1, "{}", home.log());
    home.done(&["create", "web"]);
    let may_enter = |server: &crate::support::Server, key: &std::path::Path| {
        let output = server.ssh(key).args(["web@127.0.0.1", "id -un"]).output().unwrap();
        output.stdout == b"dev\n"
    };
    assert!(may_enter(&server, &own) && !may_enter(&server, &other));
    assert_eq!(server.end(), Some(0));
    let later = make("id_later");
    let server = home.start();
    assert!(may_enter(&server, &own) && !may_enter(&server, &later));
}

#[test]
fn ssh_audit_finds_no_failure() {
    let home = Home::new();
    let server = home.start();
    let tools =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/ssh-audit");
    let program = tools.join("bin/ssh-audit");
    assert!(program.exists(), "`make test-tour` installs it");
    let (host, port) = server.ready.ssh.as_deref().unwrap().rsplit_once(':').unwrap();
    let output = std::process::Command::new(program)
        .env("PYTHONPATH", tools)
        .args(["--skip-rate-test", "-p", port, host])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ssh-ed25519") && !text.contains("[fail]"), "{text}");
    // The MACs of the plain text are for clients that know no others.
    for line in text.lines().filter(|line| line.contains("[warn]")) {
        assert!(line.contains("using encrypt-and-MAC mode"), "{text}");
    }
}

fn tokio_command(command: std::process::Command) -> tokio::process::Command {
    command.into()
}
