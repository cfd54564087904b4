//! A log survives the death of its writer at any instant, torn files, and a full disk.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use shed_output::{Error, Exit, Limits, Log, Reader};

use crate::support::{
    SMALL, byte_at, compress_all, log_dir, names, printed, read_all, read_bytes, read_bytes_by,
    small,
};

/// Tells the child of the killing test which directory is its.
const CHILD_DIR: &str = "SHED_OUTPUT_TEST_DIR";

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A log with an epoch, a gap, sizes and compressed chunks, of 1000 bytes.
fn varied(dir: &Path) {
    let mut log = small(dir);
    log.begin_epoch(1, 10).unwrap();
    log.resize(1, 10, 80, 24).unwrap();
    log.append(1, 0, 100, &printed(0, 250)).unwrap();
    log.append(1, 300, 200, &printed(300, 520)).unwrap();
    log.exit(1, 300, Exit::Signal(9)).unwrap();
    log.begin_epoch(2, 400).unwrap();
    for part in 0..24 {
        let (from, to) = (520 + part * 20, 540 + part * 20);
        log.append(2, from - 520, 500 + part * 60, &printed(from, to)).unwrap();
    }
    compress_all(&log);
}

#[test]
fn a_torn_file_loses_only_its_missing_bytes() {
    let whole = log_dir();
    varied(whole.path());
    let all = names(whole.path(), "");
    assert!(names(whole.path(), ".gz").len() >= 2, "{all:?}");
    let last = names(whole.path(), ".log").pop().unwrap();
    for name in all.iter().filter(|name| *name != "lock") {
        let length = fs::metadata(whole.path().join(name)).unwrap().len();
        // Chunks that are closed are all alike, and longer than what is interesting of them.
        let is_closed = *name != last && !name.ends_with("marks");
        for cut in (0..length).step_by(if is_closed { 13 } else { 1 }) {
            let dir = log_dir();
            copy(whole.path(), dir.path());
            fs::File::options()
                .write(true)
                .open(dir.path().join(name))
                .unwrap()
                .set_len(cut)
                .unwrap();
            let mut log = small(dir.path());
            let epoch = log.epoch().unwrap();
            let n_before = read_all(&log.reader()).len();
            if *name == last {
                assert_eq!(log.end(), 1000 - (length - cut), "{name} {cut}");
            } else {
                assert_eq!(log.end(), 1000, "{name} {cut}");
            }
            // The collector comes again with what it still has.
            assert_eq!(epoch, 2, "{name} {cut}");
            let at = log.epoch_end(2).unwrap();
            log.append(2, at, 9000, &printed(520 + at, 1100)).unwrap();
            drop(log);
            let read = read_all(&Reader::open(dir.path()).unwrap());
            for (offset, _, byte) in &read {
                assert_eq!(*byte, byte_at(*offset), "{name} {cut} {offset}");
            }
            assert_eq!(read.last().unwrap().0, 1099);
            let lost = if is_closed { 110 } else { 0 };
            assert!(read.len() >= 1050 - lost, "{name} {cut}: {} after {n_before}", read.len());
        }
    }
}

/// States that a kill leaves between two steps of compressing or of beginning a chunk.
#[test]
fn every_state_between_two_steps_reads_the_same() {
    let whole = log_dir();
    {
        let mut log = small(whole.path());
        log.begin_epoch(1, 0).unwrap();
        log.append(1, 0, 0, &printed(0, 1500)).unwrap();
    }
    let squeezed = log_dir();
    copy(whole.path(), squeezed.path());
    compress_all(&small(squeezed.path()));
    let gz = names(squeezed.path(), ".gz");
    let first = gz.first().unwrap();
    let compressed = fs::read(squeezed.path().join(first)).unwrap();

    let check = |what: &str, act: &dyn Fn(&Path)| {
        let dir = log_dir();
        copy(whole.path(), dir.path());
        act(dir.path());
        let read = |reader: &Reader| assert_eq!(read_bytes(reader), printed(0, 1500), "{what}");
        read(&Reader::open(dir.path()).unwrap());
        let log = small(dir.path());
        read(&log.reader());
        assert_eq!((log.start(), log.epoch_end(1)), (0, Some(1500)), "{what}");
        compress_all(&log);
        read(&log.reader());
        assert!(names(dir.path(), ".tmp").is_empty(), "{what}");
        let compressed = names(dir.path(), ".gz").len();
        assert_eq!(names(dir.path(), ".marks").len(), compressed + names(dir.path(), ".log").len());
    };
    let raw = "0000000000000000.log";
    check("nothing", &|_| {});
    for part in [0, 1, compressed.len() / 2, compressed.len()] {
        check("compressing", &|dir| {
            fs::write(dir.join("0000000000000000.tmp"), &compressed[..part]).unwrap();
        });
    }
    check("compressed", &|dir| fs::write(dir.join(first), &compressed).unwrap());
    check("the raw one removed", &|dir| {
        fs::write(dir.join(first), &compressed).unwrap();
        fs::remove_file(dir.join(raw)).unwrap();
    });
    check("a chunk's marks begun", &|dir| {
        fs::write(dir.join("0000000000001500.marks"), b"\x01\x02").unwrap();
    });
    check("a chunk begun", &|dir| {
        fs::write(dir.join("0000000000001500.marks"), b"").unwrap();
        fs::write(dir.join("0000000000001500.log"), b"").unwrap();
    });
    check("a mark half written", &|dir| {
        let marks = names(dir, ".marks").pop().unwrap();
        let mut bytes = fs::read(dir.join(&marks)).unwrap();
        bytes.extend(b"\x02\x64");
        fs::write(dir.join(&marks), bytes).unwrap();
    });
}

/// The child of the test below; as a test of its own it does nothing.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let limits = Limits { chunk_bytes: 4096, live_bytes: 16 << 10, kept_bytes: 1 << 30 };
    let mut log = Log::open(Path::new(&dir), limits).unwrap();
    log.begin_epoch(1, 0).unwrap();
    let compressor = log.compressor();
    let (appended, more) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for () in more {
            while compressor.compress_one().unwrap() {}
        }
    });
    loop {
        let at = log.epoch_end(1).unwrap();
        log.append(1, at, at, &printed(at, at + 700)).unwrap();
        println!("end {}", log.end());
        appended.send(()).unwrap();
    }
}

#[test]
fn a_killed_writer_loses_and_repeats_nothing() {
    let dir = log_dir();
    let mut end = 0;
    for round in 1..=20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_appends_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let goal = end + 5000 + round * 3777;
        let mut told = end;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(number) = line.strip_prefix("end ") {
                told = number.parse().unwrap();
            }
            if told >= goal {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told >= goal, "the child ended by itself");
        // As it lies there, before anybody tidies up.
        let reader = Reader::open(dir.path()).unwrap();
        let read = read_bytes_by(&reader, 4_099);
        end = read.len() as u64;
        assert!(end >= told, "{told} were there, {end} are");
        assert_eq!(read, printed(0, end));
    }
    assert!(!names(dir.path(), ".gz").is_empty());
}

#[test]
fn readers_see_whole_output_while_it_is_written_and_compressed() {
    const GOAL: u64 = 400_000;
    let dir = log_dir();
    let limits = Limits { chunk_bytes: 1000, live_bytes: 4000, kept_bytes: 1 << 30 };
    let mut log = Log::open(dir.path(), limits).unwrap();
    log.begin_epoch(1, 0).unwrap();
    let done = AtomicBool::new(false);
    let compressor = log.compressor();
    std::thread::scope(|scope| {
        for max_bytes in [700, 5000] {
            let (dir, done) = (dir.path(), &done);
            scope.spawn(move || {
                let reader = Reader::open(dir).unwrap();
                let mut at = 0;
                loop {
                    let last = done.load(Ordering::Acquire);
                    let page = reader.range(at, max_bytes).unwrap();
                    assert_eq!((page.start, page.gap_before), (at, 0));
                    assert_eq!(page.bytes, printed(page.start, page.end));
                    if page.bytes.is_empty() && last {
                        break;
                    }
                    at = page.end;
                    let first = reader.range(0, 10).unwrap();
                    assert!(first.start == 0 && (at == 0 || first.epoch == Some(1)));
                }
                assert_eq!(at, GOAL);
            });
        }
        scope.spawn(|| {
            loop {
                let last = done.load(Ordering::Acquire);
                if !compressor.compress_one().unwrap() && last {
                    break;
                }
            }
        });
        while log.end() < GOAL {
            let at = log.end();
            log.append(1, at, at, &printed(at, at + 400)).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(log.pending(), 0);
    assert!(names(dir.path(), ".gz").len() > 300);
}

#[test]
fn a_full_disk_is_its_own_error_and_leaves_the_log_intact() {
    let dir = log_dir();
    drop({
        let mut log = small(dir.path());
        log.begin_epoch(1, 0).unwrap();
        log
    });
    let data = dir.path().join("0000000000000000.log");
    fs::remove_file(&data).unwrap();
    symlink("/dev/full", &data).unwrap();
    let mut log = small(dir.path());
    let error = log.append(1, 0, 100, b"lost?").unwrap_err();
    assert!(matches!(&error, Error::Full { dir: at } if at == dir.path()), "{error:?}");
    assert_eq!(log.epoch_end(1), Some(0));
    drop(log);
    fs::remove_file(&data).unwrap();
    fs::write(&data, b"").unwrap();
    let mut log = small(dir.path());
    log.append(1, 0, 100, b"no").unwrap();
    assert_eq!(read_bytes(&log.reader()), b"no");
}

#[test]
fn log_files_are_readable_by_their_owner_only() {
    let parent = log_dir();
    let dir = parent.path().join("a/b");
    varied(&dir);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for name in names(&dir, "") {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_compressor_may_outlive_its_log() {
    let dir = log_dir();
    let mut log = Log::open(dir.path(), SMALL).unwrap();
    log.begin_epoch(1, 0).unwrap();
    log.append(1, 0, 0, &printed(0, 3000)).unwrap();
    assert!(log.pending() > 0);
    let compressor = log.compressor();
    drop(log);
    assert!(!compressor.compress_one().unwrap());
    assert!(names(dir.path(), ".gz").is_empty());
}
