//! `docker/run.sh` (`make run`, `make stop`, `make uninstall`) in a directory of its own. `tests/service` has the cases that
//! need no engine.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use shed_testing::docker;

use crate::firewall::has_rules;
use crate::support::{Home, said};

/// The script, with this home as its run directory.
fn script(home: &Home, word: &str) -> Command {
    let mut command = Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/run.sh").canonicalize().unwrap(),
    );
    command
        .arg(word)
        .env("SHED_RUN_DIR", home.dir.path())
        .env("SHED_PROGRAMS", Path::new(env!("CARGO_BIN_EXE_shed-server")).parent().unwrap())
        .env("HOME", home.dir.path())
        .env("SHED_CONFIG_DIR", home.dir.path().join("client"))
        .env_remove("SHED_SERVER")
        .env_remove("SHED_SERVER_CONFIG")
        .env_remove("SHED_SERVER_DATA")
        .stdin(Stdio::null());
    command
}

/// Runs the script, which must succeed; returns its output.
fn done(home: &Home, word: &str) -> String {
    let (status, text) = said(&mut script(home, word));
    assert_eq!(status, Some(0), "run.sh {word}: {text}\n{}", log(home));
    text
}

fn log(home: &Home) -> String {
    std::fs::read_to_string(state(home, "log")).unwrap_or_default()
}

fn state(home: &Home, name: &str) -> std::path::PathBuf {
    home.dir.path().join("state").join(name)
}

/// A value of the server's ready file.
fn ready(home: &Home, key: &str) -> String {
    let text = std::fs::read_to_string(state(home, "ready")).unwrap();
    let value = &crate::support::json(&text)[key];
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How many containers and volumes the home's server has.
fn left(home: &Home) -> (usize, usize) {
    let (name, value) = home.run.label();
    let filter = format!("label={name}={value}");
    let count = |words: &[&str]| docker(&[words, &["--filter", &filter]].concat()).lines().count();
    (count(&["ps", "-aq"]), count(&["volume", "ls", "-q"]))
}

/// Stops the server when dropped, also after a failure.
struct Stopped<'a>(&'a Home);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // After a test that passed none is running.
        script(self.0, "stop").output().ok();
    }
}

#[test]
fn a_server_is_started_kept_stopped_and_removed() {
    let home = Home::new();
    let _stopped = Stopped(&home);
    // `demo` has a network, so that there are firewall rules to remove.
    let config = std::fs::read_to_string(home.config()).unwrap();
    std::fs::write(home.config(), config.replace("network = \"none\"", "")).unwrap();

    let text = done(&home, "run");
    assert!(text.contains("hello from") && text.contains("attach demo"), "{text}");
    let (pid, http) = (ready(&home, "pid"), ready(&home, "http"));
    assert_eq!(left(&home).0, 1);
    let (name, value) = home.run.label();
    let filter = format!("label={name}={value}");
    let network = docker(&["network", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
    assert!(has_rules(&network), "{}", log(&home));

    // A running server is kept.
    let text = done(&home, "run");
    assert!(text.contains(&format!("the server runs (pid {pid})")), "{text}");
    assert_eq!(ready(&home, "pid"), pid);
    assert!(done(&home, "status").contains(&http));

    // Sheds keep running without the server; stopping again is no error. The engine keeps running, because others use it.
    assert!(done(&home, "stop").contains("stopped the server"));
    assert_eq!(said(&mut script(&home, "status")).0, Some(1));
    assert!(done(&home, "stop").contains("no server"));
    assert_eq!(left(&home).0, 1);

    // A pid file that names another process is ignored; a port that is in use is replaced.
    std::fs::write(state(&home, "pid"), format!("{} 1\n", std::process::id())).unwrap();
    assert!(done(&home, "stop").contains("no server"));
    let port: u16 = http.rsplit(':').next().unwrap().parse().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let text = done(&home, "run");
    assert!(text.contains("is in use; HTTP listens at"), "{text}");
    assert_ne!(ready(&home, "http"), http);
    drop(taken);

    // Without an engine the containers and volumes are unknown, so nothing is removed.
    let (pid, before) = (ready(&home, "pid"), left(&home));
    let mut command = script(&home, "uninstall");
    command.env("YES", "1").env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let (status, text) = said(&mut command);
    assert!(status == Some(3) && text.contains("nothing was removed"), "{status:?} {text}");
    assert!(home.data().join("server_id").exists());
    assert_eq!((ready(&home, "pid"), left(&home)), (pid, before));
    assert!(done(&home, "status").contains("the server runs"));

    // Without a confirmation the volumes stay, and with them the server id that they are labelled with.
    let text = done(&home, "uninstall");
    assert!(text.contains("kept"), "{text}");
    assert_eq!(left(&home), (0, before.1));
    assert!(!has_rules(&network), "{text}");
    assert!(home.data().join("server_id").exists());

    let (status, text) = said(script(&home, "uninstall").env("YES", "1"));
    assert_eq!(status, Some(0), "{text}");
    assert_eq!(left(&home), (0, 0));
    for gone in ["data", "state", "shed.sock"] {
        assert!(!home.dir.path().join(gone).exists(), "{gone} is left");
    }
    assert!(done(&home, "uninstall").contains("removed"));
}
