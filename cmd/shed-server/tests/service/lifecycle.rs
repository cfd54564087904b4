//! Start, stop, status, and what dies in between.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Home, is_alive, signal, until};

#[test]
fn a_server_is_started_once_reported_and_stopped() {
    let home = Home::new();
    let stopped = home.tried(&["status"]);
    assert_eq!(stopped.status, Some(1), "{stopped:?}");
    let hint = format!("service start --run-dir {}\n", home.path("").display());
    let hint = hint.replace("/\n", "\n");
    assert!(stopped.stdout.starts_with("the server does not run; start it: "), "{stopped:?}");
    assert!(stopped.stdout.ends_with(&hint), "{stopped:?}");

    let started = home.done(&["start"]);
    assert!(started.stderr.starts_with("the server runs (pid "), "{started:?}");
    assert_eq!(started.stdout, "");
    let report = home.report();
    assert_eq!(report["running"], true);
    let again = home.done(&["start"]);
    assert_eq!(again.stderr, format!("the server runs (pid {})\n", report["pid"]));
    assert_eq!(home.report(), report);

    let status = home.done(&["status"]);
    let http = report["http"].as_str().unwrap();
    assert!(status.stdout.contains(http) && status.stdout.lines().count() == 1, "{status:?}");
    assert_eq!(home.done(&["status", "--field", "http"]).stdout, format!("{http}\n"));
    assert_eq!(report["socket"], home.path("shed.sock").to_str().unwrap());

    // The pid file names the supervisor in the form that scripts have always read.
    let text = std::fs::read_to_string(home.path("state/pid")).unwrap();
    let (pid, _) = text.trim().split_once(' ').unwrap();
    assert_eq!(report["supervisor_pid"].to_string(), pid);

    let json = home.done(&["stop", "--json"]);
    assert_eq!(json.stderr, "stopped the server\n");
    let report_after: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&report_after["running"], &report_after["pid"]), (&json!(false), &json!(null)));
    for name in ["pid", "supervisor_pid"] {
        assert!(!is_alive(report[name].as_u64().unwrap()), "{name}: {report}");
    }
    let nothing = home.done(&["stop"]);
    assert!(nothing.stderr.starts_with("no server is running"), "{nothing:?}");
}

#[test]
fn a_server_that_is_killed_is_started_again_at_the_same_addresses() {
    let home = Home::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let addresses = format!("--http {free} --ssh 127.0.0.1:0\n");
    std::fs::write(home.path("state/address"), &addresses).unwrap();
    home.done(&["start"]);
    let before = home.report();
    let pid = before["pid"].as_u64().unwrap();
    signal(pid, Signal::KILL);
    let new = until("a new server", &home, || home.ready_pid().filter(|new| *new != pid));
    until("an answer", &home, || (home.report()["running"] == true).then_some(()));
    let after = home.report();
    assert_eq!(after["pid"], new);
    assert_eq!(after["supervisor_pid"], before["supervisor_pid"]);
    assert_eq!(after["http"], free.to_string());
    assert!(home.log().contains("the server was killed by signal 9; restarting it in 1 s"));
    assert_eq!(std::fs::read_to_string(home.path("state/address")).unwrap(), addresses);

    // Stopped during the pause, the supervisor ends without another server.
    signal(new, Signal::KILL);
    home.done(&["stop"]);
    assert!(!is_alive(before["supervisor_pid"].as_u64().unwrap()));
    assert_eq!(home.report()["pid"], json!(null));
}

#[test]
fn of_two_starts_at_once_the_second_finds_the_server_of_the_first() {
    let home = Home::new();
    let start = || {
        let mut command = home.command(&["start"]);
        command.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let said = [start(), start()].map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", home.log());
        String::from_utf8(output.stderr).unwrap()
    });
    let pid = home.report()["pid"].to_string();
    let started =
        said.iter().filter(|text| text.starts_with(&format!("the server runs (pid {pid}, ")));
    let found = said.iter().filter(|text| **text == format!("the server runs (pid {pid})\n"));
    assert_eq!((started.count(), found.count()), (1, 1), "{said:?}");
}

#[test]
fn a_pid_file_of_another_process_is_not_believed() {
    let home = Home::new();
    // This process, with a start time that is not its own; and what is no pid file at all.
    for text in [format!("{} 1\n", std::process::id()), "nonsense".to_owned()] {
        std::fs::write(home.path("state/pid"), text).unwrap();
        assert!(home.done(&["stop"]).stderr.starts_with("no server is running"));
        assert_eq!(home.report()["supervisor_pid"], json!(null));
    }
    // A ready file that names a living process, which is no server.
    let ready = json!({ "http": null, "ssh": null, "socket": "/none", "pid": std::process::id(), "server_id": "x" });
    std::fs::write(home.path("state/ready"), ready.to_string()).unwrap();
    assert_eq!(home.report()["pid"], json!(null));
    assert!(home.done(&["stop"]).stderr.starts_with("no server is running"));
    home.done(&["start"]);
    assert_eq!(home.report()["running"], true);
}

#[test]
fn a_server_without_its_supervisor_is_found_kept_and_stopped() {
    let home = Home::new();
    home.done(&["start"]);
    let report = home.report();
    let (pid, supervisor) =
        (report["pid"].as_u64().unwrap(), report["supervisor_pid"].as_u64().unwrap());
    signal(supervisor, Signal::KILL);
    until("the end of the supervisor", &home, || (!is_alive(supervisor)).then_some(()));
    let orphan = home.report();
    assert_eq!((&orphan["pid"], &orphan["supervisor_pid"]), (&report["pid"], &json!(null)));
    assert_eq!(home.done(&["start"]).stderr, format!("the server runs (pid {pid})\n"));
    assert_eq!(home.done(&["stop"]).stderr, "stopped the server\n");
    assert!(!is_alive(pid));
}

#[test]
fn a_supervisor_whose_server_does_not_answer_is_replaced() {
    let home = Home::new();
    home.done(&["start"]);
    let report = home.report();
    // Nobody can connect any more; the server does not notice.
    std::fs::remove_file(home.path("shed.sock")).unwrap();
    let status = home.tried(&["status"]);
    assert_eq!(status.status, Some(1));
    assert!(status.stdout.starts_with("the server does not answer (pid "), "{status:?}");
    home.done(&["start"]);
    let new = home.report();
    assert_eq!(new["running"], true);
    assert_ne!(new["pid"], report["pid"]);
    for name in ["pid", "supervisor_pid"] {
        assert!(!is_alive(report[name].as_u64().unwrap()), "the old {name} is left");
    }
    // The log of the first server is kept.
    assert!(std::fs::read_to_string(home.path("state/log.1")).unwrap().contains("serving"));
}

#[test]
fn another_build_replaces_the_server() {
    let home = Home::new();
    let other = home.path("shed-server");
    let this = std::path::Path::new(env!("CARGO_BIN_EXE_shed-server")).canonicalize().unwrap();
    // By another process: while this one has the copy open for writing, a child of a parallel test could keep it open.
    let copied = std::process::Command::new("cp").args([&this, &other]).status().unwrap();
    assert!(copied.success());
    let mut command = std::process::Command::new(&other);
    command.args(["service", "start", "--run-dir"]).arg(home.path(""));
    command.env("DOCKER_HOST", "unix:///nonexistent/docker.sock").env("HOME", home.path(""));
    command.env_remove("SHED_SERVER_CONFIG").env_remove("SHED_SERVER_DATA");
    assert!(command.output().unwrap().status.success(), "{}", home.log());
    let old = home.report();
    let text = home.done(&["start"]).stderr;
    assert!(text.starts_with("the running server is another build: "), "{text}");
    let new = home.report();
    assert_ne!(new["pid"], old["pid"]);
    assert_eq!(new["server_id"], old["server_id"]);
    let program = std::fs::read_link(format!("/proc/{}/exe", new["pid"])).unwrap();
    assert_eq!(program, this);
}

#[test]
fn the_supervisor_leaves_the_session_and_the_files_of_its_caller() {
    let home = Home::new();
    let held = home.path("held");
    let mut command = std::process::Command::new("bash");
    // A descriptor that the caller forgot to mark close-on-exec.
    command.args(["-c", r#"exec 7>"$1"; shift; exec "$@""#, "bash"]).arg(&held);
    let start = home.command(&["start"]);
    command.arg(start.get_program()).args(start.get_args());
    for (name, value) in start.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    assert!(command.output().unwrap().status.success(), "{}", home.log());
    let report = home.report();
    let pid_of = |name: &str| {
        let pid = i32::try_from(report[name].as_u64().unwrap()).unwrap();
        rustix::process::Pid::from_raw(pid).unwrap()
    };
    let supervisor = pid_of("supervisor_pid");
    for name in ["supervisor_pid", "pid"] {
        let pid = pid_of(name);
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let files = files.map(|file| std::fs::read_link(file.unwrap().path()).unwrap());
        assert!(files.into_iter().all(|file| file != held), "{name} holds the file");
        // The session of the test itself is no measure: in a container it can belong to a process outside, and is then 0.
        assert_eq!(rustix::process::getsid(Some(pid)), Ok(supervisor), "session of {name}");
    }
}
