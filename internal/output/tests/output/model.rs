//! Property test: after any steps in any order, the log reads like a vector in memory.

use proptest::prelude::*;
use shed_output::{Error, Exit, Limits, Log};

use crate::support::{SMALL, log_dir, read_all, small};

#[derive(Debug, Clone)]
enum Step {
    /// So many bytes, so far before (negative) or beyond the end.
    Append {
        shift: i64,
        bytes: Vec<u8>,
    },
    Epoch {
        skipped: u64,
    },
    Resize {
        cols: u16,
    },
    Exit,
    Compress,
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..180);
    prop_oneof![
        8 => bytes().prop_map(|bytes| Step::Append { shift: 0, bytes }),
        2 => (-250_i64..250, bytes()).prop_map(|(shift, bytes)| Step::Append { shift, bytes }),
        1 => (0..3_u64).prop_map(|skipped| Step::Epoch { skipped }),
        1 => (0..4_u16).prop_map(|cols| Step::Resize { cols }),
        1 => Just(Step::Exit),
        3 => Just(Step::Compress),
        1 => Just(Step::Sync),
        2 => Just(Step::Reopen),
    ]
}

/// What the log should hold.
#[derive(Default)]
struct Model {
    /// By absolute offset; `None` is missing.
    bytes: Vec<Option<(u64, u8)>>,
    epoch: u64,
    base: usize,
}

impl Model {
    fn append(&mut self, offset: usize, bytes: &[u8]) {
        let start = self.base + offset;
        if start > self.bytes.len() {
            self.bytes.resize(start, None);
        }
        for (index, byte) in bytes.iter().enumerate() {
            if start + index >= self.bytes.len() {
                self.bytes.push(Some((self.epoch, *byte)));
            }
        }
    }

    fn kept(&self) -> Vec<(u64, Option<u64>, u8)> {
        let all = (0..).zip(&self.bytes);
        all.filter_map(|(offset, it)| it.map(|(epoch, byte)| (offset, Some(epoch), byte))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_what_was_appended(steps in prop::collection::vec(step(), 1..60)) {
        let dir = log_dir();
        let mut log = Some(small(dir.path()));
        let reader = log.as_ref().unwrap().reader();
        let mut model = Model { epoch: 1, ..Model::default() };
        log.as_mut().unwrap().begin_epoch(1, 0).unwrap();
        for (now, step) in (1_u64..).zip(steps) {
            let (epoch, at_ms) = (model.epoch, now * 20);
            let it = log.as_mut().unwrap();
            match step {
                Step::Append { shift, bytes } => {
                    let end = i64::try_from(model.bytes.len() - model.base).unwrap();
                    let offset = u64::try_from((end + shift).max(0)).unwrap();
                    let before = model.bytes.len() as u64;
                    let appended = it.append(epoch, offset, at_ms, &bytes).unwrap();
                    model.append(usize::try_from(offset).unwrap(), &bytes);
                    let new = (bytes.len() - appended.skipped) as u64;
                    prop_assert_eq!(appended.start + new, model.bytes.len() as u64);
                    prop_assert_eq!(appended.start - appended.gap, before);
                }
                Step::Epoch { skipped } => {
                    model.epoch += 1 + skipped;
                    model.base = model.bytes.len();
                    prop_assert_eq!(it.begin_epoch(model.epoch, at_ms).unwrap(), model.base as u64);
                }
                Step::Resize { cols } => it.resize(epoch, at_ms, cols, 24).unwrap(),
                Step::Exit => it.exit(epoch, at_ms, Exit::Code(3)).unwrap(),
                Step::Compress => {
                    it.compressor().compress_one().unwrap();
                }
                Step::Sync => it.sync().unwrap(),
                Step::Reopen => {
                    drop(log.take());
                    log = Some(small(dir.path()));
                }
            }
            let it = log.as_ref().unwrap();
            prop_assert_eq!(it.end(), model.bytes.len() as u64);
            prop_assert_eq!(it.epoch(), Some(model.epoch));
            prop_assert_eq!(it.epoch_end(model.epoch), Some((model.bytes.len() - model.base) as u64));
        }
        prop_assert_eq!(read_all(&reader), model.kept());
        let status = reader.status().unwrap();
        prop_assert_eq!(status.end, model.bytes.len() as u64);
        prop_assert_eq!((status.epoch, status.base), (Some(model.epoch), model.base as u64));
        // The last bytes end at the end.
        let tail: Vec<u8> = reader.tail(120).unwrap().into_iter().flat_map(|page| page.bytes).collect();
        let kept: Vec<u8> = model.kept().into_iter().map(|(_, _, byte)| byte).collect();
        prop_assert!(kept.ends_with(&tail));
    }

    #[test]
    fn lines_are_counted_from_the_end(
        text in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'x')], 0..400),
        n in 0..30_usize,
    ) {
        let dir = log_dir();
        let mut log = small(dir.path());
        log.begin_epoch(1, 0).unwrap();
        log.append(1, 0, 0, &text).unwrap();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let rest: usize = lines.iter().rev().take(n).map(|line| line.len()).sum();
        prop_assert_eq!(log.reader().tail_lines(n).unwrap(), (text.len() - rest) as u64);
    }
}

#[test]
fn an_epoch_accepts_only_its_own_steps() {
    let dir = log_dir();
    let mut log = small(dir.path());
    assert_eq!((log.epoch(), log.epoch_end(4)), (None, Some(0)));
    assert!(matches!(log.append(4, 0, 0, b"x"), Err(Error::UnknownEpoch { epoch: 4 })));
    assert_eq!(log.begin_epoch(4, 0).unwrap(), 0);
    log.append(4, 0, 0, b"four").unwrap();
    assert_eq!(log.begin_epoch(4, 9).unwrap(), 0);
    assert_eq!(log.begin_epoch(6, 9).unwrap(), 4);
    assert!(matches!(log.append(4, 4, 9, b"x"), Err(Error::OldEpoch { epoch: 4, current: 6 })));
    assert!(matches!(log.exit(7, 9, Exit::Code(0)), Err(Error::UnknownEpoch { epoch: 7 })));
    assert_eq!((log.epoch_end(4), log.epoch_end(6), log.epoch_end(7)), (None, Some(0), Some(0)));
    // A number from a shed that no file could be named by.
    for offset in [u64::MAX, 1 << 60] {
        assert!(matches!(log.append(6, offset, 9, b"x"), Err(Error::TooLarge { .. })));
    }
    assert!(matches!(log.begin_epoch(u64::MAX, 9), Err(Error::TooLarge { .. })));
    assert_eq!(log.end(), 4);
}

#[test]
fn log_types_can_be_sent_to_threads() {
    fn moved<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    moved::<Log>();
    moved::<shed_output::Screen>();
    shared::<shed_output::Reader>();
    shared::<shed_output::Compressor>();
}

#[test]
fn one_writer_at_a_time() {
    let dir = log_dir();
    let log = small(dir.path());
    assert!(matches!(Log::open(dir.path(), SMALL), Err(Error::Busy { .. })));
    drop(log);
    small(dir.path());
}

#[test]
fn the_oldest_goes_when_there_is_too_much() {
    let dir = log_dir();
    let limits = Limits { kept_bytes: 2000, ..SMALL };
    let mut log = Log::open(dir.path(), limits).unwrap();
    log.begin_epoch(1, 0).unwrap();
    for round in 0..200_u64 {
        let bytes = crate::support::printed(round * 50, round * 50 + 50);
        log.append(1, round * 50, round, &bytes).unwrap();
        if round % 7 == 0 {
            crate::support::compress_all(&log);
        }
    }
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let on_disk: u64 = entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk <= limits.kept_bytes + limits.live_bytes, "{on_disk}");
    assert!(log.start() > 5000 && log.start() < log.end() - limits.live_bytes / 2);
    let reader = log.reader();
    assert_eq!(crate::support::read_bytes(&reader), crate::support::printed(log.start(), 10_000));
    let page = reader.range(0, 10).unwrap();
    assert_eq!((page.start, page.gap_before), (log.start(), log.start()));
    // What was dropped stays so.
    let start = log.start();
    drop(log);
    assert_eq!(Log::open(dir.path(), limits).unwrap().start(), start);
}

#[test]
fn a_flood_of_resizes_takes_no_space() {
    let dir = log_dir();
    let mut log = small(dir.path());
    log.begin_epoch(1, 0).unwrap();
    for round in 0..100_000_u64 {
        log.resize(1, round, 80 + u16::try_from(round % 2).unwrap(), 24).unwrap();
    }
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let on_disk: u64 = entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk < 300 << 10, "{on_disk}");
    log.append(1, 0, 0, b"x").unwrap();
    drop(log);
    let log = small(dir.path());
    assert_eq!(log.epoch_end(1), Some(1));
    assert_eq!(log.reader().status().unwrap().size.unwrap().cols, 81);
}
