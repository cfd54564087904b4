//! Stops, kills and starts of the engine. The test has an engine of its own, because others use the machine's.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shed_testing::docker;

use crate::support::{Home, SMALL_IMAGE, eventually, eventually_or, json, terminate};

/// How long an engine may take to answer. After a kill it first looks for its containers' processes.
const ENGINE_LIMIT: Duration = Duration::from_secs(45);

/// A second dockerd, separate from the machine's. Dropping it stops it.
struct Engine {
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Engine {
    fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("sock").display())
    }

    fn start(&mut self) {
        let at = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::options().create(true).append(true).open(at("log")).unwrap();
        // In a network namespace: with `--bridge none` it would remove the bridge of the machine's engine.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd"]);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg("--host").arg(self.host());
        for (option, name) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(at(name));
        }
        command.args(["--bridge", "none", "--iptables=false"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let host = self.host();
        let log = || std::fs::read_to_string(at("log")).unwrap_or_default();
        eventually_or(ENGINE_LIMIT, log, || asked(&host, &["version"]));
    }

    /// Stops it (`orderly`) or kills it.
    fn end(&mut self, orderly: bool) {
        if let Some(mut child) = self.child.take() {
            if orderly {
                terminate(&child);
            } else {
                child.kill().unwrap();
                // Its containerd as well: one that outlives its dockerd here may not answer the next dockerd.
                let file = self.dir.path().join("exec/containerd/containerd.pid");
                let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                // If nobody reaps it, the next dockerd would take its pid for a living process.
                std::fs::remove_file(file).unwrap();
            }
            child.wait().unwrap();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let host = self.host();
        if let Some(ids) = asked(&host, &["ps", "-q"]) {
            for id in ids.split_whitespace() {
                asked(&host, &["rm", "-f", id]);
            }
        }
        self.end(true);
        unmount_below(self.dir.path());
    }
}

fn asked(host: &str, words: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(["--host", host]).args(words).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Unmounts what a killed engine left mounted, so that its directory can be removed.
fn unmount_below(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(place).starts_with(dir) {
            Command::new("umount").args(["-l", place]).status().ok();
        }
    }
}

fn status(home: &Home, shed: &str) -> Option<String> {
    let (code, text) = home.tried(&["--json", "show", shed]);
    (code == Some(0)).then(|| json(&text)["status"].as_str().unwrap().to_owned())
}

#[test]
fn sheds_that_ran_are_started_again_when_their_engine_is_back() {
    let mut engine = Engine { child: None, dir: tempfile::tempdir().unwrap() };
    engine.start();
    // The other engine gets the smallest image as a file.
    let image = engine.dir.path().join("image.tar");
    docker(&["save", "-o", image.to_str().unwrap(), SMALL_IMAGE]);
    asked(&engine.host(), &["load", "-i", image.to_str().unwrap()]).unwrap();
    let home = Home::new();
    let config = std::fs::read_to_string(home.config()).unwrap();
    let config = config.replace("[engine]\n", &format!("[engine]\nhost = {:?}\n", engine.host()));
    std::fs::write(home.config(), config).unwrap();
    let _server = home.start();
    home.done(&["create", "on", "--image", SMALL_IMAGE]);
    home.done(&["create", "off", "--image", SMALL_IMAGE, "--no-start"]);
    for orderly in [true, false] {
        engine.end(orderly);
        let (code, text) = home.tried(&["create", "later", "--image", SMALL_IMAGE]);
        if code != Some(5) {
            // The server had not noticed yet and queued the request.
            assert!(code.is_some(), "{text}");
        }
        engine.start();
        eventually("it runs again", || {
            let runs = status(&home, "on").as_deref() == Some("running");
            (runs && home.tried(&["exec", "on", "--", "true"]).0 == Some(0)).then_some(())
        });
        assert_eq!(status(&home, "off").as_deref(), Some("stopped"), "it was not running before");
    }
    let events = home.done(&["--json", "events", "--after", "0", "--no-follow"]);
    assert!(events.matches("\"starting\"").count() >= 2, "each start is an event: {events}");
    home.tried(&["delete", "-f", "on", "off", "later"]);
}
