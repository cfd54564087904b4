//! The collector: what it sends, what it deletes, and what a kill of anyone costs.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shed_link::Status;
use shed_link::spool::{Ask, Item};

use crate::support::{Collector, Shed, epoch, line, wait_for};

fn segments(shed: &Shed, of: shed_link::spool::Epoch) -> Vec<u64> {
    let names = std::fs::read_dir(shed.epoch_dir(of)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut starts: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
    starts.sort_unstable();
    starts
}

/// A file with so many megabytes of known lines, a command that prints it, and what a terminal makes of it.
fn lines(shed: &Shed, megabytes: usize) -> (String, Vec<u8>) {
    let n_lines = (megabytes << 20) / 8;
    let printed: Vec<u8> =
        (0..n_lines).flat_map(|n| format!("{:06}\r\n", n % 1_000_000).into_bytes()).collect();
    let file: Vec<u8> = printed.iter().copied().filter(|byte| *byte != b'\r').collect();
    std::fs::write(shed.work().join("lines"), file).unwrap();
    ("cat lines".to_owned(), printed)
}

#[test]
fn reading_goes_on_where_it_stopped_and_what_is_stored_is_deleted() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, printed) = lines(&shed, 10);
    let pane = shed.run(line(of, &script));
    shed.dead(&pane);
    assert_eq!(segments(&shed, of).len(), 3);

    let mut collector = shed.collector();
    collector.found(of);
    assert_eq!(collector.next(), Item::Listed);
    let from = 5_000_001;
    collector.follow(of, from);
    let (bytes, items) = collector.read_all(of, from);
    assert!(bytes == printed[usize::try_from(from).unwrap()..], "other bytes than were printed");
    assert!(!items.iter().any(|item| matches!(item, Item::Started { .. })), "{items:?}");

    // Killed at any point, a new one does the same.
    collector.kill();
    let mut collector = shed.collector();
    collector.ask(Ask::Ack { of, offset: from, end: false });
    wait_for("the first segment to go", || (segments(&shed, of).len() == 2).then_some(()));
    let first = segments(&shed, of)[0];
    assert!(first <= from);
    collector.follow(of, first);
    let rest = &printed[usize::try_from(first).unwrap()..];
    assert!(collector.read_all(of, first).0 == rest);
    // What was stored and is asked for again all the same is a gap.
    collector.follow(of, 0);
    let (bytes, items) = collector.read_all(of, 0);
    assert!(bytes == rest);
    assert_eq!(
        items.iter().find(|item| matches!(item, Item::Gap { .. })),
        Some(&Item::Gap { of, offset: 0, n_bytes: first })
    );

    let offset = printed.len() as u64;
    collector.ask(Ask::Ack { of, offset, end: false });
    wait_for("all but the last to go", || (segments(&shed, of).len() == 1).then_some(()));
    collector.ask(Ask::Ack { of, offset, end: true });
    wait_for("the epoch to go", || (!shed.epoch_dir(of).exists()).then_some(()));
    collector.follow(of, offset);
    assert_eq!(collector.next(), Item::Lost { of, offset });
}

#[test]
fn a_runner_that_is_killed_is_lost_after_all_it_wrote() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let pane = shed.run(line(of, "echo last words; exec sleep 1000"));
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    collector
        .until(|item| matches!(item, Item::Output { bytes, .. } if bytes == b"last words\r\n"));
    let runner = Pid::from_raw(shed.runner_pid(&pane)).unwrap();
    kill_process(runner, Signal::KILL).unwrap();
    assert_eq!(collector.next(), Item::Lost { of, offset: 12 });
    // Somebody who comes later hears the same.
    let mut later = shed.collector();
    later.found(of);
    later.follow(of, 3);
    let (bytes, items) = later.read_all(of, 3);
    assert_eq!(bytes, b"t words\r\n");
    assert_eq!(items.last(), Some(&Item::Lost { of, offset: 12 }));
}

#[test]
fn past_the_limit_the_oldest_output_goes_and_a_gap_says_how_much() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, printed) = lines(&shed, 80);
    let pane = shed.run(line(of, &script));
    shed.dead(&pane);
    let kept: u64 = segments(&shed, of)
        .iter()
        .map(|start| shed.epoch_dir(of).join(format!("{start:020}")).metadata().unwrap().len())
        .sum();
    assert!(kept <= 65 << 20, "{kept} bytes are kept");
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (bytes, items) = collector.read_all(of, 0);
    let Some(Item::Gap { offset: 0, n_bytes, .. }) =
        items.iter().find(|item| matches!(item, Item::Gap { .. }))
    else {
        panic!("{items:?}");
    };
    let n_lost = usize::try_from(*n_bytes).unwrap();
    assert!((15 << 20..24 << 20).contains(&n_lost), "{n_lost} bytes are lost");
    assert!(bytes == printed[n_lost..]);
}

#[test]
fn a_quiet_worker_does_not_wait_for_a_loud_one() {
    let shed = Shed::new();
    let (loud, quiet) = (epoch(1, 1), epoch(2, 1));
    let (script, _) = lines(&shed, 20);
    let pane = shed.run(line(loud, &script));
    shed.dead(&pane);
    shed.run(line(quiet, "echo here; exec sleep 1000"));
    wait_for("the quiet one", || {
        (shed.epoch_dir(quiet).join(format!("{:020}", 0)).metadata().ok()?.len() > 50).then_some(())
    });
    let mut collector = shed.collector();
    collector.until(|item| *item == Item::Listed);
    collector.follow(loud, 0);
    collector.follow(quiet, 0);
    let mut n_loud = 0;
    loop {
        match collector.next() {
            Item::Output { of, bytes, .. } if of == loud => n_loud += bytes.len(),
            Item::Output { of, .. } if of == quiet => break,
            _ => {}
        }
    }
    assert!(n_loud <= 256 << 10, "{n_loud} bytes came before");
}

#[test]
fn nothing_is_read_ahead_of_a_server_that_does_not_read() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, _) = lines(&shed, 30);
    let pane = shed.run(line(of, &script));
    shed.dead(&pane);
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    // Its socket is full when it sleeps in poll and has stopped taking time.
    let stat = format!("/proc/{}/stat", collector.pid());
    let mut before = String::new();
    wait_for("the collector to wait", || {
        let now = std::fs::read_to_string(&stat).unwrap();
        let is_same = now == before && now.contains(") S ");
        before = now;
        is_same.then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", collector.pid())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 4096, "{kilobytes} kB");
}

#[test]
fn a_worker_is_forgotten_whole() {
    let shed = Shed::new();
    let (one, two, other) = (epoch(1, 1), epoch(1, 2), epoch(2, 1));
    for of in [one, two, other] {
        let pane = shed.run(line(of, "echo hi"));
        shed.dead(&pane);
    }
    let mut collector = shed.collector();
    collector.until(|item| *item == Item::Listed);
    collector.ask(Ask::Forget { worker: one.worker });
    wait_for("the worker to go", || {
        (!shed.spool().join(one.worker.to_string()).exists()).then_some(())
    });
    collector.follow(other, 0);
    assert_eq!(collector.read_all(other, 0).0, b"hi\r\n");
}

#[test]
fn what_somebody_wrote_over_a_spool_is_a_gap_or_a_loss_and_never_an_end_of_the_collector() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, printed) = lines(&shed, 9);
    let pane = shed.run(line(of, &script));
    shed.dead(&pane);
    // The middle of the first segment, and all of the last one.
    let starts = segments(&shed, of);
    let path = |start: u64| shed.epoch_dir(of).join(format!("{start:020}"));
    let mut first = std::fs::OpenOptions::new().write(true).open(path(starts[0])).unwrap();
    std::io::Seek::seek(&mut first, std::io::SeekFrom::Start(1 << 20)).unwrap();
    first.write_all(&vec![0xff; 300 << 10]).unwrap();
    std::fs::write(path(starts[2]), [0; 64]).unwrap();
    for odd in ["00000000000000000007", "x", "99999999999999999999"] {
        std::fs::create_dir(shed.epoch_dir(of).join(odd)).unwrap();
    }
    std::fs::create_dir(shed.spool().join("..x")).unwrap();
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (mut offset, mut n_good) = (0, 0);
    loop {
        match collector.next() {
            Item::Output { offset: at, bytes, .. } => {
                let at = usize::try_from(at).unwrap();
                // What was overwritten inside a record cannot be told from output.
                if bytes == printed[at..at + bytes.len()] {
                    n_good += bytes.len();
                }
                offset = at + bytes.len();
            }
            Item::Gap { offset: at, n_bytes, .. } => {
                assert_eq!(usize::try_from(at).unwrap(), offset);
                offset += usize::try_from(n_bytes).unwrap();
            }
            Item::Lost { offset: at, .. } => {
                assert_eq!(usize::try_from(at).unwrap(), offset);
                break;
            }
            _ => {}
        }
    }
    assert!(n_good >= 4 << 20, "{n_good} bytes came through");
}

#[test]
fn a_server_that_says_nonsense_ends_the_collector() {
    let shed = Shed::new();
    let mut collector = shed.collector();
    collector.socket.write_all(&[77; 64]).unwrap();
    collector.until_hung_up();
}

#[test]
fn what_is_printed_is_sent_at_once() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    shed.run(line(of, "stty raw -echo; echo up; exec cat"));
    let mut collector: Collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    collector.until(|item| matches!(item, Item::Output { .. }));
    let mut control = shed.control(of);
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            control.send(&shed_link::control::Ask::Input(b"x".to_vec()));
            collector.until(|item| matches!(item, Item::Output { .. }));
            start.elapsed()
        })
        .collect();
    times.sort();
    // From a key through the command, the runner, the file and the collector. Generous: other tests run beside it.
    assert!(times[100] < Duration::from_millis(20), "{:?}", times[100]);
    eprintln!("p50 {:?} p99 {:?}", times[100], times[198]);
}

#[test]
fn a_full_disk_costs_output_in_the_spool_and_nothing_in_the_pane() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let disk = shed.work().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m,mode=0777", "none"])
        .arg(&disk)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        // Only root may make a small disk.
        return;
    }
    let _unmount = Unmount(disk.clone());
    let (script, printed) = lines(&shed, 12);
    let mut plan = line(of, &format!("{script}; exit 5"));
    plan.spool = Some(disk.join("spool"));
    let pane = shed.run(plan);
    shed.dead(&pane);
    wait_for("the last line in the pane", || {
        let last = String::from_utf8_lossy(&printed[printed.len() - 8..printed.len() - 2]);
        shed.screen(&pane).contains(&*last).then_some(())
    });
    let mut collector = Collector::start(&disk.join("spool"));
    collector.found(of);
    collector.follow(of, 0);
    let (bytes, items) = collector.read_all(of, 0);
    assert!(bytes.len() > 2 << 20, "{} bytes are kept", bytes.len());
    assert!(items.iter().any(|item| matches!(item, Item::Gap { .. })), "{items:?}");
    let offset = printed.len() as u64;
    assert!(
        matches!(items.last(), Some(Item::Exit { status: Status::Code(5), offset: at, .. }) if *at == offset),
        "{items:?}"
    );
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}
