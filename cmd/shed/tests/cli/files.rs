//! What the client writes for other programs: ssh's configuration, completions, manual pages. And what it says of itself.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use crate::support::{Desk, ended, started};

const USERS: &str = "# mine\nServerAliveInterval 5\n\nHost web\n  HostName 192.0.2.1\n\tPort 7";

#[tokio::test(flavor = "multi_thread")]
async fn ssh_knows_sheds_and_the_users_lines_stay() {
    let desk = Desk::new().await;
    desk.test.shed("b").await;
    let file = desk.path("home/.ssh/config");
    let text = || std::fs::read_to_string(&file).unwrap();
    let install = ["ssh-config", "--install"];

    // Without a file there is nothing to lose, and a dry run makes none.
    let dry = desk.run(&["ssh-config", "--install", "--dry-run"]).await;
    dry.ok();
    assert!(
        dry.errors.contains("+ shed-a (local)") && dry.errors.contains("nothing was done"),
        "{dry:?}"
    );
    assert!(!file.exists());
    desk.run(&install).await.ok();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    desk.run(&["ssh-config", "--uninstall"]).await.ok();
    assert_eq!(text(), "");

    // A file that is kept elsewhere, without a last line end.
    let kept = desk.path("dotfiles");
    std::fs::write(&kept, USERS).unwrap();
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&kept, &file).unwrap();
    desk.run(&["ssh-config", "--install", "--dry-run"]).await.ok();
    assert_eq!(text(), USERS);
    desk.run(&install).await.ok();
    let once = text();
    assert!(once.ends_with(USERS), "{once}");
    assert!(std::fs::symlink_metadata(&file).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o640);
    let again = desk.run(&install).await;
    again.ok();
    assert!(again.errors.contains("is up to date"), "{again:?}");
    assert_eq!(text(), once);

    // By an address instead of a name it is the same to ssh, and no second entry comes of doing it again.
    for _ in 0..2 {
        desk.run(&["-s", &desk.address(), "ssh-config", "--install"]).await.ok();
    }
    assert_eq!(text().matches("User a\n").count(), 2, "{}", text());

    // OpenSSH reads it as it is meant: ours, and the user's own after it.
    for (host, lines) in [
        (
            "shed-a",
            &[
                "user a",
                "hostname 127.0.0.1",
                "port 2200",
                "stricthostkeychecking true",
                "serveraliveinterval 5",
            ][..],
        ),
        ("shed-b.local", &["user b", "port 2200"]),
        ("web", &["hostname 192.0.2.1", "port 7", "serveraliveinterval 5"]),
    ] {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.arg("-G").arg("-F").arg(&file).arg(host);
        let said = ended(started(ssh)).await;
        let settings: Vec<&str> = said.ok().lines().collect();
        for line in lines {
            assert!(settings.contains(line), "{host}: {line} is not in {settings:?}");
        }
    }
    let hosts = std::fs::read_to_string(desk.path("config/known_hosts")).unwrap();
    assert_eq!(hosts, format!("[127.0.0.1]:2200 {}\n", crate::support::HOST_KEY));

    desk.run(&["delete", "-f", "b"]).await.ok();
    let fewer = desk.run(&install).await;
    fewer.ok();
    assert!(fewer.errors.contains("- shed-b (local)"), "{fewer:?}");
    let one = desk.run(&["ssh-config", "a"]).await;
    assert!(
        one.ok().contains("Host shed-a shed-a.local\n") && !one.ok().contains("User b"),
        "{one:?}"
    );
    let entries = desk.run(&["--json", "ssh-config", "a"]).await.json();
    assert_eq!(entries[0]["hosts"], serde_json::json!(["shed-a", "shed-a.local"]), "{entries}");
    assert_eq!(
        (&entries[0]["shed"], &entries[0]["port"]),
        (&"a".into(), &2200.into()),
        "{entries}"
    );
    desk.run(&["ssh-config", "none"]).await.fails(3);
    desk.run(&["ssh-config", "--uninstall"]).await.ok();
    assert_eq!(text(), USERS);
    desk.run(&["ssh-config", "--uninstall"]).await.ok();
    assert_eq!(text(), USERS);
    desk.run(&["ssh-config", "--install", "--uninstall"]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_block_is_not_guessed_at() {
    let desk = Desk::new().await;
    let file = desk.path("other");
    let words = ["ssh-config", "--install", "--file", "other"];
    std::fs::write(&file, USERS).unwrap();
    desk.run(&words).await.ok();
    let text = std::fs::read_to_string(&file).unwrap();
    let (broken, _) = text.split_once("# --- END SHED").unwrap();
    std::fs::write(&file, broken).unwrap();
    desk.run(&words).await.fails(1);
    desk.run(&["ssh-config", "--uninstall", "--file", "other"]).await.fails(1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), broken);
    assert!(!desk.path("home/.ssh").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_complete_what_is_there_now() {
    let desk = Desk::new().await;
    desk.test.shed("away").await;
    desk.run(&["sessions", "new", "a", "work"]).await.ok();
    desk.run(&["sessions", "new", "away", "rest"]).await.ok();
    let address = desk.address();
    desk.run(&["server", "add", &address, "-n", "box"]).await.ok();
    for shell in ["bash", "zsh", "fish"] {
        assert!(desk.run(&["completions", shell]).await.ok().contains("COMPLETE"), "{shell}");
    }
    for (words, wanted, unwanted) in [
        (&["at"][..], &["attach"][..], &["list"][..]),
        (&["attach", ""], &["a", "away"], &["work"]),
        (&["attach", "aw"], &["away"], &["a"]),
        (&["stop", "a", ""], &["away"], &["work"]),
        (&["cp", "aw"], &["away:"], &["a:"]),
        (&["cp", "a:file", "./"], &[], &["a:", "away:"]),
        (&["attach", "a", "-S", ""], &["work"], &["rest"]),
        (&["sessions", "kill", "away", ""], &["rest"], &["work"]),
        (&["-s", ""], &["box", "local"], &["a"]),
        (&["server", "ping", ""], &["box", "local"], &["a"]),
        (&["-s", &address, "exec", ""], &["a", "away"], &[]),
        (&[&format!("--server={address}"), "exec", ""], &["a", "away"], &[]),
        // A server that is not there is no reason to wait or to say something.
        (&["-s", "unix:/nowhere.sock", "attach", ""], &[], &["a", "away"]),
    ] {
        let index = words.len().to_string();
        let mut complete = desk.shed(&["--", "shed"]);
        complete.args(words).env("COMPLETE", "bash");
        complete
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_COMP_TYPE", "9");
        if words.iter().any(|word| word.contains("unix:")) {
            complete.env("XDG_RUNTIME_DIR", "/nowhere");
        }
        let said = ended(started(complete)).await;
        let candidates: Vec<&str> = said.ok().lines().map(str::trim).collect();
        assert!(wanted.iter().all(|word| candidates.contains(word)), "{words:?}: {candidates:?}");
        assert!(
            !unwanted.iter().any(|word| candidates.contains(word)),
            "{words:?}: {candidates:?}"
        );
        assert_eq!(said.errors, "", "{words:?}");
    }
    // What is printed for bash is bash.
    let mut bash = tokio::process::Command::new("bash");
    bash.arg("-n");
    let mut bash = started(bash);
    let code = desk.run(&["completions", "bash"]).await;
    let mut stdin = bash.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, &code.out).await.unwrap();
    drop(stdin);
    ended(bash).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_pages_are_written() {
    let desk = Desk::empty().await;
    desk.run(&["man", "pages/man1"]).await.ok();
    for page in ["shed.1", "shed-attach.1", "shed-exec.1", "shed-sessions.1"] {
        let text = std::fs::read_to_string(desk.path("pages/man1").join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(!desk.path("pages/man1/shed-man.1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_what_is_right_and_wrong() {
    let mut desk = Desk::new().await;
    let well = desk.run(&["doctor"]).await;
    assert!(
        well.ok().contains("pass  server local") && well.ok().contains("pass  ssh"),
        "{well:?}"
    );
    assert!(well.ok().contains("pass  orphans local"), "{well:?}");
    let by_hand = "tmux new-session -d -s hand";
    desk.run(&["exec", "a", "sh", "-c", by_hand]).await.ok();
    reports(&desk, "pass  orphans local session 1; shed orphans list a").await;
    let left = "SHED_SESSION_ID=0123 setsid sleep 1000 > /dev/null 2>&1 &";
    desk.run(&["exec", "a", "sh", "-c", left]).await.ok();
    reports(&desk, "warn  orphans local process 1, session 1; shed orphans list a").await;
    let listed = desk.run(&["orphans", "list", "a", "--json"]).await.json();
    let pid = listed["orphans"].as_array().unwrap().iter().find(|it| it["kind"] == "process");
    desk.run(&["orphans", "clean", "a", pid.unwrap()["name"].as_str().unwrap()]).await.ok();
    desk.test.engine.set_down(true);
    shed_testing::eventually("a fault", async || {
        let report = desk.run(&["doctor", "--json"]).await;
        let report: serde_json::Value = serde_json::from_slice(&report.out).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["what"] == "server local").unwrap();
        let detail = check["detail"].as_str().unwrap();
        (check["verdict"] == "fail" && detail.contains("engine")).then_some(())
    })
    .await;
    desk.test.engine.set_down(false);
    desk.close().await;
    let gone = desk.run(&["doctor"]).await;
    gone.fails(1);
    let report = str::from_utf8(&gone.out).unwrap();
    assert!(report.contains("FAIL  server local") && report.contains("make run"), "{report}");
}

/// Waits until the doctor says this in a line.
async fn reports(desk: &Desk, line: &str) {
    shed_testing::eventually(line, async || {
        let report = desk.run(&["doctor"]).await;
        report.ok().lines().any(|it| squeeze(it) == squeeze(line)).then_some(())
    })
    .await;
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn its_version_needs_no_server_and_no_home() {
    let mut version = tokio::process::Command::new(env!("CARGO_BIN_EXE_shed"));
    version.arg("--version").env_clear().stdin(Stdio::null());
    let said = ended(started(version)).await;
    assert_eq!(said.ok(), format!("shed {}\n", env!("CARGO_PKG_VERSION")));
    // The fastest of a few: somebody else may be at work.
    let fastest = (0..20).map(|_| {
        let start = std::time::Instant::now();
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_shed")).arg("--version").output();
        assert!(output.unwrap().status.success());
        start.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < std::time::Duration::from_millis(50), "{fastest:?}");
    let mut list = tokio::process::Command::new(env!("CARGO_BIN_EXE_shed"));
    list.arg("list").env_clear();
    assert!(ended(started(list)).await.fails(1).contains("export SHED_CONFIG_DIR=DIR"));
}
