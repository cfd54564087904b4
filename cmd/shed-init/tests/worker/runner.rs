//! A spool holds the exact output and exit status of a command.

use shed_link::spool::Item;
use shed_link::{Program, Refusal, Status};

use crate::support::{Shed, epoch, line, wait_for};

/// Pseudo-random bytes, the same in each run.
fn noise(n_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(n_bytes + 8);
    while bytes.len() < n_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(n_bytes);
    bytes
}

fn exit_of(items: &[Item]) -> Status {
    match items.last() {
        Some(Item::Exit { status, .. }) => *status,
        other => panic!("no exit but {other:?}"),
    }
}

#[test]
fn fifty_megabytes_of_random_bytes_arrive_unchanged() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let printed = noise(50 << 20);
    std::fs::write(shed.work().join("noise"), &printed).unwrap();
    let terminal = shed.run_on_terminal(line(of, "stty raw -echo; cat noise; exit 7"));
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (bytes, items) = collector.read_all(of, 0);
    assert_eq!(bytes.len(), printed.len());
    assert!(bytes == printed, "the spool has other bytes");
    let items: Vec<Item> = items.into_iter().filter(|item| *item != Item::Listed).collect();
    assert!(matches!(items[0], Item::Started { offset: 0, pid, .. } if pid > 1), "{items:?}");
    assert!(matches!(items[1], Item::Resize { offset: 0, cols: 80, rows: 24, .. }), "{items:?}");
    assert!(!items.iter().any(|item| matches!(item, Item::Gap { .. })), "{items:?}");
    assert_eq!(exit_of(&items), Status::Code(7));
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(7));
    assert!(shown == printed, "the window shows other bytes");
}

#[test]
fn an_exit_is_exact() {
    let shed = Shed::new();
    let mut collector = shed.collector();
    for (number, script, status) in [
        (1, "exit 0", Status::Code(0)),
        (2, "exit 255", Status::Code(255)),
        (3, "kill -SEGV $$", Status::Signal(11)),
        (4, "kill -KILL $$", Status::Signal(9)),
        // A process that it leaves running does not delay the exit and is not stopped.
        (
            5,
            "setsid sh -c 'echo $$ > left; exec sleep 1000' & while ! [ -s left ]; do :; done; exit 3",
            Status::Code(3),
        ),
    ] {
        let of = epoch(number, 1);
        shed.run(line(of, script));
        collector.found(of);
        collector.follow(of, 0);
        let (_, items) = collector.read_all(of, 0);
        assert_eq!(exit_of(&items), status, "{script}");
    }
    let left = std::fs::read_to_string(shed.work().join("left")).unwrap();
    let left = rustix::process::Pid::from_raw(left.trim().parse().unwrap()).unwrap();
    rustix::process::test_kill_process(left).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_command_that_cannot_be_started_is_reported_with_the_reason() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let mut plan = line(of, "");
    plan.program = Program::Argv(vec!["no-such-program".to_owned()]);
    let pane = shed.run(plan);
    shed.dead(&pane);
    let why = "cannot run \"no-such-program\"";
    wait_for("the reason", || shed.screen(&pane).contains(why).then_some(()));
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (_, items) = collector.read_all(of, 0);
    let Some(Item::Refused { refusal: Refusal::NotExecutable { missing, .. }, .. }) = items.last()
    else {
        panic!("{items:?}");
    };
    assert!(missing);
}

#[test]
fn an_epoch_can_only_be_used_once() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let first = shed.run(line(of, "echo first"));
    shed.dead(&first);
    let second = shed.run(line(of, "touch second"));
    shed.dead(&second);
    let why = "cannot create the spool";
    wait_for("the reason", || shed.screen(&second).contains(why).then_some(()));
    assert!(!shed.work().join("second").exists());
}

#[test]
fn the_prelude_is_shown_before_the_command_but_is_not_in_the_spool() {
    let shed = Shed::new();
    let of = epoch(1, 2);
    let mut plan = line(of, "echo new");
    plan.prelude = b"old one\r\nold \x1b[1mtwo\x1b[0m\r\n".to_vec();
    let pane = shed.run(plan);
    shed.dead(&pane);
    // tmux's message about the ended command may follow.
    let shown = "old one\nold two\nnew";
    wait_for("the screen", || shed.screen(&pane).starts_with(shown).then_some(()));
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    assert_eq!(collector.read_all(of, 0).0, b"new\r\n");
}

#[test]
fn a_worker_without_a_command_shows_its_prelude_and_ends() {
    let shed = Shed::new();
    let of = epoch(1, 3);
    let mut plan = line(of, "");
    plan.program = Program::Nothing;
    plan.prelude = (0..10_000).flat_map(|n| format!("line {n}\r\n").into_bytes()).collect();
    let pane = shed.run(plan);
    shed.dead(&pane);
    // tmux notices the end before it has read all output.
    wait_for("the last line", || shed.screen(&pane).contains("line 9999\n").then_some(()));
    assert!(!shed.epoch_dir(of).exists());
}

#[test]
fn closing_the_window_stops_all_processes_and_the_exit_is_reported() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let pane = shed.run(line(of, "echo up; exec sleep 1000"));
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    collector.until(|item| matches!(item, Item::Output { .. }));
    shed.tmux(&["kill-pane", "-t", &pane]);
    let end = collector.until(|item| matches!(item, Item::Exit { .. }));
    let Item::Exit { status: Status::Signal(1 | 15), offset: 4, .. } = end else {
        panic!("{end:?}");
    };
}

#[test]
fn a_new_size_reaches_the_command_and_the_spool() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let pane =
        shed.run(line(of, "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.05; done"));
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    collector.until(|item| matches!(item, Item::Output { .. }));
    shed.tmux(&["resize-window", "-t", &pane, "-x", "101", "-y", "33"]);
    collector.until(|item| matches!(item, Item::Resize { cols: 101, rows: 33, offset: 4, .. }));
    wait_for("the command's output", || shed.screen(&pane).contains("33 101").then_some(()));
}
