//! The collector: what it sends and deletes, and what is lost when a process is killed.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shed_link::Status;
use shed_link::spool::{CollectorRequest, Item};

use crate::support::{Collector, Shed, epoch, line, wait_for};

fn segments(shed: &Shed, of: shed_link::spool::Epoch) -> Vec<u64> {
    let names = std::fs::read_dir(shed.epoch_dir(of)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut starts: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
    starts.sort_unstable();
    starts
}

/// The length of a line of [`lines`] on the terminal.
const LINE_BYTES: usize = 128;

/// Writes a file with megabytes of numbered lines. Returns a command that prints it, and what appears on its terminal.
fn lines(shed: &Shed, megabytes: usize) -> (String, Vec<u8>) {
    let (mut file, mut printed) = (Vec::new(), Vec::with_capacity(megabytes << 20));
    for n in 0..(megabytes << 20) / LINE_BYTES {
        let line = format!("{n:0width$}", width = LINE_BYTES - "\r\n".len());
        for (bytes, end) in [(&mut file, "\n"), (&mut printed, "\r\n")] {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(end.as_bytes());
        }
    }
    std::fs::write(shed.work().join("lines"), file).unwrap();
    ("cat lines".to_owned(), printed)
}

#[test]
fn without_inotify_new_output_and_a_deleted_directory_are_found() {
    let shed = Shed::new();
    let mut collector = shed.collector_without_inotify();
    assert_eq!(collector.next(), Item::Listed);
    for n in 1..=2 {
        let of = epoch(n, 1);
        let terminal = shed.run_on_terminal(line(of, &format!("mkfifo {n}; echo one; cat {n}")));
        collector.found(of);
        collector.follow(of, 0);
        collector.until(|item| matches!(item, Item::Output { of: whose, .. } if *whose == of));
        std::fs::write(shed.work().join(n.to_string()), "two").unwrap();
        collector.until(|item| matches!(item, Item::Exit { of: whose, .. } if *whose == of));
        terminal.end();
        std::fs::remove_dir_all(shed.spool()).unwrap();
        wait_for("the directory of all spools", || shed.spool().is_dir().then_some(()));
    }
}

#[test]
fn reading_resumes_at_any_offset_and_stored_output_is_deleted() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, printed) = lines(&shed, 10);
    shed.run_on_terminal(line(of, &script)).end();
    assert_eq!(segments(&shed, of).len(), 3);

    let mut collector = shed.collector();
    collector.found(of);
    assert_eq!(collector.next(), Item::Listed);
    let from = 5_000_001;
    collector.follow(of, from);
    let (bytes, items) = collector.read_all(of, from);
    assert!(
        bytes == printed[usize::try_from(from).unwrap()..],
        "the bytes differ from the printed ones"
    );
    assert!(!items.iter().any(|item| matches!(item, Item::Started { .. })), "{items:?}");

    // A new collector resumes after the first one was killed.
    collector.kill();
    let mut collector = shed.collector();
    collector.ask(CollectorRequest::Ack { of, offset: from, end: false });
    wait_for("the deletion of the first segment", || {
        (segments(&shed, of).len() == 2).then_some(())
    });
    let first = segments(&shed, of)[0];
    assert!(first <= from);
    collector.follow(of, first);
    let rest = &printed[usize::try_from(first).unwrap()..];
    assert!(collector.read_all(of, first).0 == rest);
    // Following deleted output yields a gap.
    collector.follow(of, 0);
    let (bytes, items) = collector.read_all(of, 0);
    assert!(bytes == rest);
    assert_eq!(
        items.iter().find(|item| matches!(item, Item::Gap { .. })),
        Some(&Item::Gap { of, offset: 0, n_bytes: first })
    );

    let offset = printed.len() as u64;
    collector.ask(CollectorRequest::Ack { of, offset, end: false });
    wait_for("the deletion of all segments but the last", || {
        (segments(&shed, of).len() == 1).then_some(())
    });
    collector.ask(CollectorRequest::Ack { of, offset, end: true });
    wait_for("the deletion of the epoch", || (!shed.epoch_dir(of).exists()).then_some(()));
    collector.follow(of, offset);
    assert_eq!(collector.next(), Item::Lost { of, offset });
}

#[test]
fn a_killed_runner_is_reported_as_lost_after_its_output() {
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
    // A later follower gets the same result.
    let mut later = shed.collector();
    later.found(of);
    later.follow(of, 3);
    let (bytes, items) = later.read_all(of, 3);
    assert_eq!(bytes, b"t words\r\n");
    assert_eq!(items.last(), Some(&Item::Lost { of, offset: 12 }));
}

#[test]
fn above_the_limit_the_oldest_output_is_deleted_and_a_gap_counts_it() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, printed) = lines(&shed, 80);
    shed.run_on_terminal(line(of, &script)).end();
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
fn a_worker_with_much_output_does_not_delay_another_one() {
    let shed = Shed::new();
    let (loud, quiet) = (epoch(1, 1), epoch(2, 1));
    let (script, _) = lines(&shed, 20);
    shed.run_on_terminal(line(loud, &script)).end();
    shed.run(line(quiet, "echo here; exec sleep 1000"));
    wait_for("the output of the quiet worker", || {
        (shed.epoch_dir(quiet).join(format!("{:020}", 0)).metadata().ok()?.len() > 50).then_some(())
    });
    let mut collector = shed.collector();
    collector.until(|item| *item == Item::Listed);
    // In one write, so that the collector cannot begin with the first before it knows of the second.
    collector.ask_all(&[loud, quiet].map(|of| CollectorRequest::Follow { of, from: 0 }));
    let mut n_loud = 0;
    loop {
        match collector.next() {
            Item::Output { of, bytes, .. } if of == loud => n_loud += bytes.len(),
            Item::Output { of, .. } if of == quiet => break,
            _ => {}
        }
    }
    assert!(n_loud <= 128 << 10, "{n_loud} bytes came before");
}

#[test]
fn the_collector_does_not_read_ahead_of_a_server_that_does_not_read() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, _) = lines(&shed, 30);
    shed.run_on_terminal(line(of, &script)).end();
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    // The socket is full when the collector sleeps and no longer uses CPU time.
    let stat = format!("/proc/{}/stat", collector.pid());
    let mut before = String::new();
    wait_for("the collector to sleep", || {
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
fn forgetting_a_worker_deletes_all_its_epochs() {
    let shed = Shed::new();
    let (one, two, other) = (epoch(1, 1), epoch(1, 2), epoch(2, 1));
    for of in [one, two, other] {
        let pane = shed.run(line(of, "echo hi"));
        shed.dead(&pane);
    }
    let mut collector = shed.collector();
    collector.until(|item| *item == Item::Listed);
    collector.ask(CollectorRequest::Forget { worker: one.worker });
    wait_for("the deletion of the worker", || {
        (!shed.spool().join(one.worker.to_string()).exists()).then_some(())
    });
    collector.follow(other, 0);
    assert_eq!(collector.read_all(other, 0).0, b"hi\r\n");
}

#[test]
fn a_corrupted_spool_yields_gaps_and_a_loss_but_does_not_end_the_collector() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (script, printed) = lines(&shed, 9);
    shed.run_on_terminal(line(of, &script)).end();
    // Overwrite the middle of the first segment and all of the last one.
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
                // Overwritten bytes inside a record cannot be distinguished from output.
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
    assert!(n_good >= 4 << 20, "{n_good} bytes are intact");
}

#[test]
fn an_invalid_request_ends_the_collector() {
    let shed = Shed::new();
    let mut collector = shed.collector();
    collector.socket.write_all(&[77; 64]).unwrap();
    collector.until_failed();
}

#[test]
fn output_is_sent_immediately() {
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
            control.send(&shed_link::control::RunnerRequest::Input(b"x".to_vec()));
            collector.until(|item| matches!(item, Item::Output { .. }));
            start.elapsed()
        })
        .collect();
    times.sort();
    // The way of a key through the command, the runner, the file and the collector. Generous, since other tests run too.
    assert!(times[100] < Duration::from_millis(20), "{:?}", times[100]);
    eprintln!("p50 {:?} p99 {:?}", times[100], times[198]);
}

#[test]
fn on_a_full_disk_output_is_lost_in_the_spool_but_not_in_the_window() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let Some(mount) = small_disk(&shed) else { return };
    let disk = mount.0.clone();
    let (script, printed) = lines(&shed, 12);
    let mut plan = line(of, &format!("{script}; exit 5"));
    plan.spool = Some(disk.join("spool"));
    let (status, shown) = shed.run_on_terminal(plan).end();
    assert_eq!(status.code(), Some(5));
    assert!(shown == printed, "{} of {} bytes are shown", shown.len(), printed.len());
    let mut collector = Shed::collector_at(&disk.join("spool"));
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

#[test]
fn on_a_full_disk_output_reaches_a_server_that_stores_it() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let Some(mount) = small_disk(&shed) else { return };
    let spool = mount.0.join("spool");
    let mut plan = line(of, "stty raw -echo; printf up; exec cat");
    plan.spool = Some(spool.clone());
    shed.run(plan);
    let mut collector = Shed::collector_at(&spool);
    collector.found(of);
    collector.follow(of, 0);
    let mut stored = 0;
    let mut store = |collector: &mut Collector, wanted: u64| {
        while stored < wanted {
            let item = collector.until(|item| !matches!(item, Item::Started { .. }));
            if let Item::Output { offset, bytes, .. } = &item {
                assert_eq!(*offset, stored);
                stored += bytes.len() as u64;
                collector.ask(CollectorRequest::Ack { of, offset: stored, end: false });
            }
            assert!(!matches!(item, Item::Gap { .. }), "{item:?}");
        }
    };
    store(&mut collector, 2);
    let mut filler = std::fs::File::create(mount.0.join("filler")).unwrap();
    for size in [64 << 10, 4 << 10, 512, 1] {
        while filler.write_all(&vec![0; size]).is_ok() {}
    }
    let epoch_dir = spool.join(of.worker.to_string()).join(of.epoch.to_string());
    let mut control = Shed::control_at(&epoch_dir.join(shed_link::control::SOCKET));
    let text = vec![b'x'; 4 << 10];
    for n in 1..=60_u64 {
        control.send(&shed_link::control::RunnerRequest::Input(text.clone()));
        store(&mut collector, 2 + n * text.len() as u64);
    }
}

/// A file system of 3 MiB; `None` if this user may not mount one.
fn small_disk(shed: &Shed) -> Option<Unmount> {
    let disk = shed.work().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=3m,mode=0777", "none"]).arg(&disk);
    // Only root may mount a small disk.
    mount.status().is_ok_and(|status| status.success()).then(|| Unmount(disk))
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn spools_are_found_after_their_directory_was_deleted() {
    let shed = Shed::new();
    let mut collector = shed.collector();
    assert_eq!(collector.next(), Item::Listed);
    let stays = epoch(9, 1);
    let fifo = shed.work().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let terminal = shed.run_on_terminal(line(stays, "echo here; read x < fifo"));
    collector.found(stays);
    collector.follow(stays, 0);
    collector.until(|item| matches!(item, Item::Started { of, .. } if *of == stays));
    for n in 1..=2 {
        // The runner has its directory open.
        std::fs::remove_dir_all(shed.spool()).unwrap();
        let of = epoch(n, 1);
        shed.run_on_terminal(line(of, "echo again")).end();
        collector.found(of);
        collector.follow(of, 0);
        assert_eq!(collector.read_all(of, 0).0, b"again\r\n");
    }
    std::fs::write(fifo, "end\n").unwrap();
    assert!(terminal.end().0.success());
}
