//! The control socket: exact input, and all processes of a command stopped, suspended and continued.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use shed_link::Status;
use shed_link::control::{MAX_PAYLOAD_BYTES, Reply, RunnerRequest};
use shed_link::spool::Item;

use crate::support::{Shed, epoch, line, wait_for};

/// Starts an orphaned daemon in a session of its own that ignores signals, and a child that keeps forking.
const TREE: &str = "(trap '' HUP TERM INT; setsid sh -c 'trap \"\" HUP TERM; echo $$ > daemon; \
                    while :; do sleep 0.05; done' & ) ; \
                    (while :; do sleep 0.02; done) & \
                    while ! [ -s daemon ]; do :; done; echo up; while :; do echo tick; sleep 0.02; done";

fn read_pid(shed: &Shed, name: &str) -> Pid {
    let path = shed.work().join(name);
    wait_for(name, || {
        let text = std::fs::read_to_string(&path).ok()?;
        text.strip_suffix('\n')?.parse().ok().and_then(Pid::from_raw)
    })
}

fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn a_stop_kills_a_daemon_that_ignores_signals_after_the_grace_period() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let pane = shed.run(line(of, TREE));
    let daemon = read_pid(&shed, "daemon");
    let mut control = shed.control(of);
    let before = control.report();
    assert!(before.running && !before.frozen && before.n_processes >= 3, "{before:?}");
    let start = Instant::now();
    assert_eq!(control.ask(&RunnerRequest::Stop { grace_ms: 300 }), Reply::Done);
    assert!(start.elapsed() >= Duration::from_millis(300), "the grace period was too short");
    assert!(test_kill_process(daemon).is_err(), "the daemon is still running");
    shed.dead(&pane);
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (_, items) = collector.read_all(of, 0);
    assert!(
        matches!(items.last(), Some(Item::Exit { status: Status::Signal(1 | 15), .. })),
        "{items:?}"
    );
}

#[test]
fn a_stop_returns_as_soon_as_all_processes_have_ended() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    shed.run(line(
        of,
        "trap 'exit 9' TERM; trap '' HUP; echo up > up; while :; do sleep 0.01; done",
    ));
    wait_for("the command", || shed.work().join("up").exists().then_some(()));
    let start = Instant::now();
    assert_eq!(shed.control(of).ask(&RunnerRequest::Stop { grace_ms: 30_000 }), Reply::Done);
    assert!(start.elapsed() < Duration::from_secs(15));
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (_, items) = collector.read_all(of, 0);
    assert!(matches!(items.last(), Some(Item::Exit { status: Status::Code(9), .. })), "{items:?}");
}

#[test]
fn a_frozen_command_stays_frozen_whatever_tmux_does_until_it_is_thawed() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let pane = shed.run(line(of, TREE));
    let daemon = read_pid(&shed, "daemon");
    let mut control = shed.control(of);
    let command = Pid::from_raw(control.report().pid.cast_signed()).unwrap();
    assert_eq!(control.ask(&RunnerRequest::Freeze), Reply::Done);
    // A shell that waits for a child that it created by vfork is stopped in the kernel.
    let is_still = |pid| matches!(state(pid), Some('T' | 'D'));
    assert!(is_still(command) && is_still(daemon));
    assert!(control.report().frozen);
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    // What tmux or a person may do to a window.
    let runner = Pid::from_raw(shed.runner_pid(&pane)).unwrap();
    kill_process(runner, Signal::STOP).unwrap();
    wait_for("tmux to continue the runner", || {
        (state(runner).is_some_and(|state| state != 'T')).then_some(())
    });
    for (cols, rows) in [("90", "20"), ("70", "30")] {
        shed.tmux(&["resize-window", "-t", &pane, "-x", cols, "-y", rows]);
        collector
            .until(|item| matches!(item, Item::Resize { cols: is, .. } if is.to_string() == cols));
    }
    shed.tmux(&["send-keys", "-t", &pane, "x"]);
    assert!(is_still(command) && is_still(daemon));
    assert_eq!(control.ask(&RunnerRequest::Thaw), Reply::Done);
    assert!(!control.report().frozen);
    wait_for("the daemon", || (!is_still(daemon)).then_some(()));
    collector.until(|item| matches!(item, Item::Output { .. }));
    // A frozen command can be stopped.
    assert_eq!(control.ask(&RunnerRequest::Freeze), Reply::Done);
    assert_eq!(control.ask(&RunnerRequest::Stop { grace_ms: 100 }), Reply::Done);
    assert!(test_kill_process(daemon).is_err());
}

#[test]
fn a_thaw_does_not_continue_processes_that_were_stopped_before_the_freeze() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    shed.run(line(of, "sleep 1000 & echo $! > job; kill -STOP $!; wait"));
    let job = read_pid(&shed, "job");
    wait_for("the job to stop", || (state(job) == Some('T')).then_some(()));
    let mut control = shed.control(of);
    assert_eq!(control.ask(&RunnerRequest::Freeze), Reply::Done);
    assert_eq!(control.ask(&RunnerRequest::Thaw), Reply::Done);
    assert_eq!(state(job), Some('T'));
    assert_eq!(control.ask(&RunnerRequest::Stop { grace_ms: 1000 }), Reply::Done);
}

#[test]
fn input_arrives_unchanged_even_if_the_command_reads_late() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let every: Vec<u8> = (0..=255).cycle().take(3 * MAX_PAYLOAD_BYTES + 17).collect();
    let n_bytes = every.len();
    let script = format!(
        "stty raw -echo; touch raw; while ! [ -e go ]; do sleep 0.01; done; head -c {n_bytes} > typed"
    );
    let pane = shed.run(line(of, &script));
    wait_for("raw mode", || shed.work().join("raw").exists().then_some(()));
    let mut control = shed.control(of);
    let mut other = shed.control(of);
    let writer = std::thread::spawn(move || {
        control.send(&RunnerRequest::Input(every.clone()));
        (control, every)
    });
    // Input that is not read does not block other clients.
    assert!(other.report().running);
    std::fs::write(shed.work().join("go"), "").unwrap();
    let (_control, every) = writer.join().unwrap();
    shed.dead(&pane);
    assert!(std::fs::read(shed.work().join("typed")).unwrap() == every);
}

#[test]
fn a_signal_goes_to_the_foreground_group() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    // A shell with job control: its job is the foreground group, and it survives.
    shed.run(line(
        of,
        "exec bash --norc -ic 'sh -c \"trap \\\"exit 44\\\" INT; echo up > up; while :; do sleep 0.01; done\"; \
         echo ended $? > ended; exit 0'",
    ));
    wait_for("the job", || shed.work().join("up").exists().then_some(()));
    let mut control = shed.control(of);
    assert_eq!(control.ask(&RunnerRequest::Signal(2)), Reply::Done);
    assert!(matches!(control.ask(&RunnerRequest::Signal(200)), Reply::Refused(_)));
    wait_for("the job's end", || {
        (std::fs::read_to_string(shed.work().join("ended")).ok()? == "ended 44\n").then_some(())
    });
}

#[test]
fn only_the_client_that_violates_the_protocol_is_disconnected() {
    use std::io::{Read as _, Write as _};
    let shed = Shed::new();
    let of = epoch(1, 1);
    shed.run(line(of, "exec cat"));
    let mut good = shed.control(of);
    let path = shed.epoch_dir(of).join("ctl");
    for bad in [&[1, 255, 255, 255, 255][..], &[99, 0, 0, 0, 0]] {
        let mut socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
        socket.write_all(bad).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(good.report().running);
    assert_eq!(good.ask(&RunnerRequest::Stop { grace_ms: 1000 }), Reply::Done);
}

#[test]
fn the_control_socket_works_at_a_path_longer_than_a_socket_address() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let deep = "d".repeat(120);
    let mut plan = line(of, "exec cat");
    plan.spool = Some(shed.spool().join(&deep));
    shed.run(plan);
    let path = format!("{deep}/{}/1/ctl", of.worker);
    let mut control = Shed::control_at(&shed.spool().join(path));
    assert!(control.report().running);
    assert_eq!(control.ask(&RunnerRequest::Stop { grace_ms: 1000 }), Reply::Done);
}
