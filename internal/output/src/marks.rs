//! Marks: metadata of a chunk's bytes, such as their time, their epoch and the terminal's size. Pure.
//!
//! A record is a kind, the time since the previous record (ms, zigzag), the bytes since the previous record, its values, and
//! a two-byte checksum over the whole file so far. Numbers are LEB128. So a record has 5 to 8 bytes, and an incomplete or
//! foreign tail is detected. The first record of a file is the state at the beginning of the chunk.

use serde::{Deserialize, Serialize};

use crate::MAX_OFFSET;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this status.
    Code(u8),
    /// The signal with this number ended it.
    Signal(u8),
}

/// A terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Number of columns.
    pub cols: u16,
    /// Number of rows.
    pub rows: u16,
}

/// The state at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) epoch: Option<u64>,
    /// The absolute offset at which the epoch began.
    pub(crate) base: u64,
    pub(crate) size: Option<Size>,
    pub(crate) exit: Option<Exit>,
}

/// The value of a mark. Every mark also has the time at which the bytes after it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The first mark of a chunk.
    State(State),
    /// Only the time.
    Time,
    Epoch(u64),
    Resize(Size),
    Exit(Exit),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    /// Milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) what: What,
}

impl State {
    pub(crate) fn apply(&mut self, mark: &Mark) {
        match mark.what {
            What::State(state) => *self = state,
            What::Time => {}
            What::Epoch(epoch) => {
                (self.epoch, self.base, self.exit) = (Some(epoch), mark.offset, None);
            }
            What::Resize(size) => self.size = Some(size),
            What::Exit(exit) => self.exit = Some(exit),
        }
    }
}

const STATE: u8 = 1;
const TIME: u8 = 2;
const EPOCH: u8 = 3;
const RESIZE: u8 = 4;
const EXIT: u8 = 5;

/// Bytes of the checksum after each record.
const SUM_BYTES: usize = 2;

/// Encodes and decodes a sequence of records. A copy can be used to return to an earlier position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec {
    offset: u64,
    at_ms: u64,
    /// FNV-1a over all bytes of the file.
    sum: u32,
    first: bool,
}

impl Codec {
    /// A codec at the beginning of the marks of the chunk at `start`.
    pub(crate) fn new(start: u64) -> Self {
        Self { offset: start, at_ms: 0, sum: 0x811c_9dc5, first: true }
    }

    /// Encodes `mark`, whose offset must not be before the previous one's.
    pub(crate) fn encode(&mut self, mark: &Mark) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        out.push(match mark.what {
            What::State(_) => STATE,
            What::Time => TIME,
            What::Epoch(_) => EPOCH,
            What::Resize(_) => RESIZE,
            What::Exit(_) => EXIT,
        });
        let passed = mark.at_ms.wrapping_sub(self.at_ms).cast_signed();
        put(&mut out, (passed.wrapping_shl(1) ^ (passed >> 63)).cast_unsigned());
        put(&mut out, mark.offset.saturating_sub(self.offset));
        match mark.what {
            What::Time => {}
            What::Epoch(epoch) => put(&mut out, epoch),
            What::Resize(size) => put_size(&mut out, Some(size)),
            What::Exit(exit) => put(&mut out, exit_number(Some(exit))),
            What::State(state) => {
                put(&mut out, state.epoch.map_or(0, |epoch| epoch + 1));
                put(&mut out, state.base);
                put_size(&mut out, state.size);
                put(&mut out, exit_number(state.exit));
            }
        }
        self.advance(mark, &out);
        out.extend(self.check());
        self.add(&self.check());
        out
    }

    fn advance(&mut self, mark: &Mark, body: &[u8]) {
        (self.offset, self.at_ms, self.first) = (mark.offset, mark.at_ms, false);
        self.add(body);
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.sum = (self.sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn check(&self) -> [u8; SUM_BYTES] {
        let [a, b, c, d] = self.sum.to_le_bytes();
        [a ^ c, b ^ d]
    }

    /// Decodes the next mark and its length; `None` if no complete record follows.
    fn decode(&mut self, bytes: &[u8]) -> Option<(Mark, usize)> {
        let mut rest = bytes;
        let kind = take_byte(&mut rest)?;
        let passed = take(&mut rest)?;
        let passed = (passed >> 1).cast_signed() ^ -((passed & 1).cast_signed());
        let at_ms = self.at_ms.wrapping_add_signed(passed);
        let offset = self.offset.checked_add(take(&mut rest)?).filter(|it| *it <= MAX_OFFSET)?;
        let what = match kind {
            TIME => What::Time,
            EPOCH => What::Epoch(take(&mut rest).filter(|epoch| *epoch <= MAX_OFFSET)?),
            RESIZE => What::Resize(take_size(&mut rest)??),
            EXIT => What::Exit(exit_of(take(&mut rest)?)??),
            STATE => {
                let epoch = take(&mut rest)?.checked_sub(1);
                let base = take(&mut rest).filter(|base| *base <= offset)?;
                let size = take_size(&mut rest)?;
                What::State(State { epoch, base, size, exit: exit_of(take(&mut rest)?)? })
            }
            _ => return None,
        };
        if self.first != matches!(what, What::State(_)) {
            return None;
        }
        let mark = Mark { offset, at_ms, what };
        let body = bytes.len() - rest.len();
        let mut after = *self;
        after.advance(&mark, &bytes[..body]);
        let check = after.check();
        if rest.get(..SUM_BYTES)? != check {
            return None;
        }
        after.add(&check);
        *self = after;
        Some((mark, body + SUM_BYTES))
    }
}

/// The marks of one chunk.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    pub(crate) list: Vec<Mark>,
    /// Length of the complete records, in bytes.
    pub(crate) n_bytes: usize,
    /// Codec at the end of these records.
    pub(crate) codec: Codec,
}

impl Marks {
    /// Decodes the marks of the chunk at `start`, up to the first invalid record or the first mark beyond `end`.
    pub(crate) fn decode(start: u64, end: u64, bytes: &[u8]) -> Self {
        let mut codec = Codec::new(start);
        let mut list = Vec::new();
        let mut at = 0;
        loop {
            let before = codec;
            match codec.decode(&bytes[at..]) {
                Some((mark, n_bytes)) if mark.offset <= end => {
                    list.push(mark);
                    at += n_bytes;
                }
                _ => return Self { list, n_bytes: at, codec: before },
            }
        }
    }

    /// The state for the byte at `offset` and the time at which it arrived; `None` if the marks are lost.
    pub(crate) fn at(&self, offset: u64) -> Option<(State, u64)> {
        let mut found = None;
        for mark in self.list.iter().take_while(|mark| mark.offset <= offset) {
            let (state, at_ms) = found.get_or_insert((State::default(), 0));
            state.apply(mark);
            *at_ms = mark.at_ms;
        }
        found
    }

    /// The state after the last mark.
    pub(crate) fn last(&self) -> Option<(State, u64)> {
        self.at(u64::MAX)
    }
}

fn exit_number(exit: Option<Exit>) -> u64 {
    match exit {
        None => 0,
        Some(Exit::Code(code)) => 1 + u64::from(code),
        Some(Exit::Signal(signal)) => 257 + u64::from(signal),
    }
}

/// Outside `None`: no such number.
#[expect(clippy::option_option, reason = "no number, and the number that says none")]
fn exit_of(number: u64) -> Option<Option<Exit>> {
    let low = |number: u64| u8::try_from(number).ok();
    match number {
        0 => Some(None),
        1..=256 => Some(low(number - 1).map(Exit::Code)),
        257..=512 => Some(low(number - 257).map(Exit::Signal)),
        _ => None,
    }
}

fn put_size(out: &mut Vec<u8>, size: Option<Size>) {
    let size = size.unwrap_or(Size { cols: 0, rows: 0 });
    put(out, u64::from(size.cols));
    put(out, u64::from(size.rows));
}

/// Outside `None`: no such size.
#[expect(clippy::option_option, reason = "no numbers, and the numbers that say none")]
fn take_size(rest: &mut &[u8]) -> Option<Option<Size>> {
    let cols = u16::try_from(take(rest)?).ok()?;
    let rows = u16::try_from(take(rest)?).ok()?;
    Some((cols > 0 && rows > 0).then_some(Size { cols, rows }))
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, others) = rest.split_first()?;
    *rest = others;
    Some(*byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn what() -> impl Strategy<Value = What> {
        prop_oneof![
            Just(What::Time),
            (0..=MAX_OFFSET).prop_map(What::Epoch),
            (1..u16::MAX, 1..u16::MAX).prop_map(|(cols, rows)| What::Resize(Size { cols, rows })),
            any::<u8>().prop_map(|code| What::Exit(Exit::Code(code))),
            any::<u8>().prop_map(|signal| What::Exit(Exit::Signal(signal))),
        ]
    }

    fn written(start: u64, steps: &[(What, u32, u64)]) -> (Vec<Mark>, Vec<u8>) {
        let mut codec = Codec::new(start);
        let state = State { epoch: Some(3), base: start, ..State::default() };
        let mut marks = vec![Mark { offset: start, at_ms: 9, what: What::State(state) }];
        let mut offset = start;
        for (what, passed, at_ms) in steps {
            offset += u64::from(*passed);
            marks.push(Mark { offset, at_ms: *at_ms, what: *what });
        }
        let bytes = marks.iter().flat_map(|mark| codec.encode(mark)).collect();
        (marks, bytes)
    }

    proptest! {
        #[test]
        fn marks_read_back_and_a_torn_tail_keeps_what_is_whole(
            start in 0..1_u64 << 40,
            steps in prop::collection::vec((what(), any::<u32>(), any::<u64>()), 0..12),
            cut in any::<prop::sample::Index>(),
            garbage in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let (marks, bytes) = written(start, &steps);
            let read = Marks::decode(start, u64::MAX, &bytes);
            prop_assert_eq!(&read.list, &marks);
            prop_assert_eq!(read.n_bytes, bytes.len());

            let cut = cut.index(bytes.len());
            let torn = Marks::decode(start, u64::MAX, &bytes[..cut]);
            prop_assert!(torn.n_bytes <= cut);
            prop_assert_eq!(&torn.list[..], &marks[..torn.list.len()]);
            // Written on behind the whole part, all is well again.
            let mut repaired = bytes[..torn.n_bytes].to_vec();
            let mut codec = torn.codec;
            for mark in &marks[torn.list.len()..] {
                repaired.extend(codec.encode(mark));
            }
            prop_assert_eq!(repaired, bytes.clone());

            // A foreign tail is refused, but for the chance of a sum of two bytes.
            let mut foreign = bytes;
            foreign.extend(&garbage);
            prop_assert!(Marks::decode(start, u64::MAX, &foreign).list.starts_with(&marks));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Marks::decode(7, u64::MAX, &bytes).n_bytes <= bytes.len());
        }
    }

    #[test]
    fn a_time_mark_is_small() {
        let (_, one) = written(0, &[]);
        let (_, two) = written(0, &[(What::Time, 4000, 59)]);
        assert_eq!(two.len() - one.len(), 6);
    }
}
