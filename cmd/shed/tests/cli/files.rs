//! Output for other programs: ssh configuration, completions, manual pages, `doctor` and `--version`.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use crate::support::{TestEnv, ended, started};

const USER_CONFIG: &str =
    "# mine\nServerAliveInterval 5\n\nHost web\n  HostName 192.0.2.1\n\tPort 7";

#[tokio::test(flavor = "multi_thread")]
async fn ssh_config_adds_sheds_and_keeps_the_users_lines() {
    let env = TestEnv::new().await;
    env.test.shed("b").await;
    let file = env.path("home/.ssh/config");
    let text = || std::fs::read_to_string(&file).unwrap();
    let install = ["ssh-config", "--install"];

    // Without a file: a dry run creates none.
    let dry = env.run(&["ssh-config", "--install", "--dry-run"]).await;
    dry.ok();
    assert!(
        dry.stderr.contains("+ shed-a (local)") && dry.stderr.contains("nothing was written"),
        "{dry:?}"
    );
    assert!(!file.exists());
    env.run(&install).await.ok();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    env.run(&["ssh-config", "--uninstall"]).await.ok();
    assert_eq!(text(), "");

    // The file is a symbolic link, and its last line has no line end.
    let kept = env.path("dotfiles");
    std::fs::write(&kept, USER_CONFIG).unwrap();
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&kept, &file).unwrap();
    env.run(&["ssh-config", "--install", "--dry-run"]).await.ok();
    assert_eq!(text(), USER_CONFIG);
    env.run(&install).await.ok();
    let once = text();
    assert!(once.ends_with(USER_CONFIG), "{once}");
    assert!(std::fs::symlink_metadata(&file).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o640);
    let again = env.run(&install).await;
    again.ok();
    assert!(again.stderr.contains("is up to date"), "{again:?}");
    assert_eq!(text(), once);

    // Selecting the server by address, twice, adds no duplicate entries for ssh.
    for _ in 0..2 {
        env.run(&["-s", &env.address(), "ssh-config", "--install"]).await.ok();
    }
    assert_eq!(text().matches("User a\n").count(), 2, "{}", text());

    // OpenSSH reads the entries, and the user's lines after them.
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
        let output = ended(started(ssh)).await;
        let settings: Vec<&str> = output.ok().lines().collect();
        for line in lines {
            assert!(settings.contains(line), "{host}: {line} is not in {settings:?}");
        }
    }
    let hosts = std::fs::read_to_string(env.path("config/known_hosts")).unwrap();
    assert_eq!(hosts, format!("[127.0.0.1]:2200 {}\n", crate::support::HOST_KEY));

    env.run(&["delete", "-f", "b"]).await.ok();
    let fewer = env.run(&install).await;
    fewer.ok();
    assert!(fewer.stderr.contains("- shed-b (local)"), "{fewer:?}");
    let one = env.run(&["ssh-config", "a"]).await;
    assert!(
        one.ok().contains("Host shed-a shed-a.local\n") && !one.ok().contains("User b"),
        "{one:?}"
    );
    let entries = env.run(&["--json", "ssh-config", "a"]).await.json();
    assert_eq!(entries[0]["hosts"], serde_json::json!(["shed-a", "shed-a.local"]), "{entries}");
    assert_eq!(
        (&entries[0]["shed"], &entries[0]["port"]),
        (&"a".into(), &2200.into()),
        "{entries}"
    );
    env.run(&["ssh-config", "none"]).await.fails(3);
    env.run(&["ssh-config", "--uninstall"]).await.ok();
    assert_eq!(text(), USER_CONFIG);
    env.run(&["ssh-config", "--uninstall"]).await.ok();
    assert_eq!(text(), USER_CONFIG);
    env.run(&["ssh-config", "--install", "--uninstall"]).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_block_is_not_changed() {
    let env = TestEnv::new().await;
    let file = env.path("other");
    let words = ["ssh-config", "--install", "--file", "other"];
    std::fs::write(&file, USER_CONFIG).unwrap();
    env.run(&words).await.ok();
    let text = std::fs::read_to_string(&file).unwrap();
    let (broken, _) = text.split_once("# --- END SHED").unwrap();
    std::fs::write(&file, broken).unwrap();
    env.run(&words).await.fails(1);
    env.run(&["ssh-config", "--uninstall", "--file", "other"]).await.fails(1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), broken);
    assert!(!env.path("home/.ssh").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_come_from_the_server() {
    let env = TestEnv::new().await;
    env.test.shed("away").await;
    env.run(&["sessions", "new", "a", "work"]).await.ok();
    env.run(&["sessions", "new", "away", "rest"]).await.ok();
    let address = env.address();
    env.run(&["server", "add", &address, "-n", "box"]).await.ok();
    for shell in ["bash", "zsh", "fish"] {
        assert!(env.run(&["completions", shell]).await.ok().contains("COMPLETE"), "{shell}");
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
        // An unreachable server gives no candidates and no message.
        (&["-s", "unix:/nowhere.sock", "attach", ""], &[], &["a", "away"]),
    ] {
        let index = words.len().to_string();
        let mut complete = env.shed(&["--", "shed"]);
        complete.args(words).env("COMPLETE", "bash");
        complete
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_COMP_TYPE", "9");
        if words.iter().any(|word| word.contains("unix:")) {
            complete.env("XDG_RUNTIME_DIR", "/nowhere");
        }
        let output = ended(started(complete)).await;
        let candidates: Vec<&str> = output.ok().lines().map(str::trim).collect();
        assert!(wanted.iter().all(|word| candidates.contains(word)), "{words:?}: {candidates:?}");
        assert!(
            !unwanted.iter().any(|word| candidates.contains(word)),
            "{words:?}: {candidates:?}"
        );
        assert_eq!(output.stderr, "", "{words:?}");
    }
    // bash can parse what is printed for it.
    let mut bash = tokio::process::Command::new("bash");
    bash.arg("-n");
    let mut bash = started(bash);
    let code = env.run(&["completions", "bash"]).await;
    let mut stdin = bash.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, &code.stdout).await.unwrap();
    drop(stdin);
    ended(bash).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_pages_are_written() {
    let env = TestEnv::empty().await;
    env.run(&["man", "pages/man1"]).await.ok();
    for page in ["shed.1", "shed-attach.1", "shed-exec.1", "shed-sessions.1"] {
        let text = std::fs::read_to_string(env.path("pages/man1").join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(!env.path("pages/man1/shed-man.1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reports_passes_warnings_and_failures() {
    let mut env = TestEnv::new().await;
    let well = env.run(&["doctor"]).await;
    assert!(
        well.ok().contains("pass  server local") && well.ok().contains("pass  ssh"),
        "{well:?}"
    );
    assert!(well.ok().contains("pass  orphans local"), "{well:?}");
    let unmanaged = "tmux new-session -d -s unmanaged";
    env.run(&["exec", "a", "sh", "-c", unmanaged]).await.ok();
    reports(&env, "pass  orphans local session 1; shed orphans list a").await;
    let left = "SHED_SESSION_ID=0123 setsid sleep 1000 > /dev/null 2>&1 &";
    env.run(&["exec", "a", "sh", "-c", left]).await.ok();
    reports(&env, "warn  orphans local process 1, session 1; shed orphans list a").await;
    let listed = env.run(&["orphans", "list", "a", "--json"]).await.json();
    let pid = listed["orphans"].as_array().unwrap().iter().find(|it| it["kind"] == "process");
    env.run(&["orphans", "clean", "a", pid.unwrap()["name"].as_str().unwrap()]).await.ok();
    env.test.engine.set_down(true);
    shed_testing::eventually("a fault", async || {
        let report = env.run(&["doctor", "--json"]).await;
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["what"] == "server local").unwrap();
        let detail = check["detail"].as_str().unwrap();
        (check["verdict"] == "fail" && detail.contains("engine")).then_some(())
    })
    .await;
    env.test.engine.set_down(false);
    env.close().await;
    let gone = env.run(&["doctor"]).await;
    gone.fails(1);
    let report = str::from_utf8(&gone.stdout).unwrap();
    assert!(
        report.contains("FAIL  server local")
            && report.contains("on the server: shed-server service start"),
        "{report}"
    );
}

/// Waits until `shed doctor` prints this line.
async fn reports(env: &TestEnv, line: &str) {
    shed_testing::eventually(line, async || {
        let report = env.run(&["doctor"]).await;
        report.ok().lines().any(|it| squeeze(it) == squeeze(line)).then_some(())
    })
    .await;
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_needs_no_server_and_no_home_directory() {
    let mut version = tokio::process::Command::new(env!("CARGO_BIN_EXE_shed"));
    version.arg("--version").env_clear().stdin(Stdio::null());
    let output = ended(started(version)).await;
    assert_eq!(output.ok(), format!("shed {}\n", env!("CARGO_PKG_VERSION")));
    // The fastest of several runs: the machine may be busy.
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
    assert!(
        ended(started(list)).await.fails(1).contains("export SHED_CONFIG_DIR=\"$PWD/shed-config\"")
    );
}
