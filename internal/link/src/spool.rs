//! What a box's collector and the server say about the spools of the workers. Pure.
//!
//! A worker's runner keeps what its command prints in a spool in the box; one collector in each shed reads all spools
//! and sends their items to the server, which says from where it wants them and how much it has stored.
//!
//! ```text
//! collector                                     server
//!   Found {worker, epoch} …, Listed    ──────▶
//!                                      ◀──────  Follow {worker, epoch, from}
//!   Started, Resize, Output, Gap …     ──────▶
//!                                      ◀──────  Ack {worker, epoch, offset}
//!   Exit {offset, status}              ──────▶
//!                                      ◀──────  Ack {worker, epoch, offset, end: true}
//! ```
//!
//! An offset counts the bytes that a command printed since its epoch began, lost ones too. Items come in the order of
//! their offsets. What stands at an offset beside the bytes (`Started`, `Resize`, `Exit`) comes again when its offset is
//! followed again.
//!
//! A frame is one byte of kind, four bytes of length (big endian, as all numbers), then the payload: 16 bytes of worker
//! and 8 of epoch where the kind has them, then the fields in the order of their declaration.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::message::{Refusal, Status};
use crate::piece::{self, HEADER_BYTES, Piece};

/// The most bytes of output in one item.
pub const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// The largest payload: an item full of output.
pub const MAX_PAYLOAD_BYTES: usize = MAX_OUTPUT_BYTES + 64;
/// The longest text of a refusal, in bytes. It is cut to it before it is sent.
const MAX_REFUSAL_BYTES: usize = 16 << 10;

/// Which worker: 128 bits, written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct WorkerId([u8; 16]);

/// A text that names no worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no worker's id (32 lower-case hex digits)")]
pub struct BadWorkerId(String);

impl WorkerId {
    /// The worker of these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for WorkerId {
    type Err = BadWorkerId;

    fn from_str(text: &str) -> Result<Self, BadWorkerId> {
        let bad = || BadWorkerId(text.chars().take(40).collect());
        let digits = text.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if digits.len() != 32 {
            return Err(bad());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(bad());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({self})")
    }
}

impl From<WorkerId> for String {
    fn from(id: WorkerId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for WorkerId {
    type Error = BadWorkerId;

    fn try_from(text: String) -> Result<Self, BadWorkerId> {
        text.parse()
    }
}

/// One start of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The worker.
    pub worker: WorkerId,
    /// Which of its starts.
    pub epoch: u64,
}

/// What the server asks of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Send the items from this offset on. Replaces an earlier one. An epoch that is not there is answered by
    /// [`Item::Lost`].
    Follow {
        /// What to follow.
        of: Epoch,
        /// The first byte that is wanted.
        from: u64,
    },
    /// Everything before `offset` is stored: it may be deleted here. With `end` so is the item that ended the epoch
    /// (exit, refusal or loss), and the epoch is deleted.
    Ack {
        /// Whose output.
        of: Epoch,
        /// The first byte that is not stored.
        offset: u64,
        /// Whether the end is stored too.
        end: bool,
    },
    /// Delete all of a worker's epochs. A runner that still writes loses its spool, not its command.
    Forget {
        /// Whose.
        worker: WorkerId,
    },
}

/// What the collector sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An epoch is there: at the start, or since now.
    Found {
        /// Which.
        of: Epoch,
    },
    /// Every epoch that was there at the start has been named.
    Listed,
    /// The command runs.
    Started {
        /// Whose.
        of: Epoch,
        /// Where in the output it stands: 0.
        offset: u64,
        /// When, in milliseconds since 1970 by the box's clock.
        at_ms: u64,
        /// The command's process in the box, also its group and session.
        pid: u32,
    },
    /// Bytes of the command's terminal, at least one and at most [`MAX_OUTPUT_BYTES`].
    Output {
        /// Whose.
        of: Epoch,
        /// Where the first byte stands.
        offset: u64,
        /// When the first byte was printed.
        at_ms: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The terminal has this size from here on.
    Resize {
        /// Whose.
        of: Epoch,
        /// Where in the output.
        offset: u64,
        /// When.
        at_ms: u64,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// These bytes were printed and are lost.
    Gap {
        /// Whose.
        of: Epoch,
        /// Where the first of them stood.
        offset: u64,
        /// How many.
        n_bytes: u64,
    },
    /// The command ended; the last item of its epoch.
    Exit {
        /// Whose.
        of: Epoch,
        /// The length of its output.
        offset: u64,
        /// When.
        at_ms: u64,
        /// How.
        status: Status,
    },
    /// The command could not be started; the last item of its epoch.
    Refused {
        /// Whose.
        of: Epoch,
        /// When.
        at_ms: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The runner is gone and did not say how its command ended, or the epoch is not there; the last item of its epoch.
    Lost {
        /// Whose.
        of: Epoch,
        /// The length of the output that is known.
        offset: u64,
    },
}

/// A frame that breaks the rules. The stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the collector's stream has something in it that is no frame")]
pub struct SpoolError;

const FOLLOW: u8 = 1;
const ACK: u8 = 2;
const FORGET: u8 = 3;
const FOUND: u8 = 16;
const LISTED: u8 = 17;
const STARTED: u8 = 18;
const OUTPUT: u8 = 19;
const RESIZE: u8 = 20;
const GAP: u8 = 21;
const EXIT: u8 = 22;
const REFUSED: u8 = 23;
const LOST: u8 = 24;

/// A status as two bytes, as in the tap.
pub fn status_bytes(status: Status) -> [u8; 2] {
    match status {
        Status::Code(code) => [0, code],
        Status::Signal(signal) => [1, signal],
    }
}

/// The status of two bytes; `None` for bytes that are none.
pub fn status_of(bytes: [u8; 2]) -> Option<Status> {
    match bytes {
        [0, code] => Some(Status::Code(code)),
        [1, signal] => Some(Status::Signal(signal)),
        _ => None,
    }
}

/// Builds a frame in place.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut Vec<u8>, kind: u8) -> Self {
        let start = out.len();
        out.extend([kind, 0, 0, 0, 0]);
        Self { out, start }
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    fn long(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    fn of(self, of: Epoch) -> Self {
        self.bytes(of.worker.as_bytes()).long(of.epoch)
    }

    fn end(self) {
        let n_bytes = self.out.len() - self.start - HEADER_BYTES;
        assert!(n_bytes <= MAX_PAYLOAD_BYTES, "a payload is bounded by its kind");
        let length = u32::try_from(n_bytes).expect("bounded above");
        self.out[self.start + 1..self.start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    }
}

/// Takes fields off a payload. Every method fails when the payload is too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SpoolError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(SpoolError)?;
        self.0 = rest;
        Ok(*field)
    }

    fn long(&mut self) -> Result<u64, SpoolError> {
        self.take().map(u64::from_be_bytes)
    }

    fn short(&mut self) -> Result<u16, SpoolError> {
        self.take().map(u16::from_be_bytes)
    }

    fn of(&mut self) -> Result<Epoch, SpoolError> {
        Ok(Epoch { worker: WorkerId::from_bytes(self.take()?), epoch: self.long()? })
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

impl Ask {
    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Follow { of, from } => Writer::new(out, FOLLOW).of(of).long(from).end(),
            Self::Ack { of, offset, end } => {
                Writer::new(out, ACK).of(of).long(offset).bytes(&[u8::from(end)]).end();
            }
            Self::Forget { worker } => Writer::new(out, FORGET).bytes(worker.as_bytes()).end(),
        }
    }

    /// The first frame of `bytes` and how many bytes it took; `None` when more are needed.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, SpoolError> {
        let piece = piece::first(bytes, MAX_PAYLOAD_BYTES).map_err(|_| SpoolError)?;
        let Some(Piece { kind, payload, n_bytes }) = piece else {
            return Ok(None);
        };
        let mut fields = Reader(payload);
        let ask = match kind {
            FOLLOW => Self::Follow { of: fields.of()?, from: fields.long()? },
            ACK => Self::Ack {
                of: fields.of()?,
                offset: fields.long()?,
                end: match fields.take()? {
                    [0] => false,
                    [1] => true,
                    _ => return Err(SpoolError),
                },
            },
            FORGET => Self::Forget { worker: WorkerId::from_bytes(fields.take()?) },
            _ => return Err(SpoolError),
        };
        if fields.0.is_empty() { Ok(Some((ask, n_bytes))) } else { Err(SpoolError) }
    }
}

impl Item {
    /// Appends the frame's bytes. Panics on more than [`MAX_OUTPUT_BYTES`] of output.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Found { of } => Writer::new(out, FOUND).of(*of).end(),
            Self::Listed => Writer::new(out, LISTED).end(),
            Self::Started { of, offset, at_ms, pid } => Writer::new(out, STARTED)
                .of(*of)
                .long(*offset)
                .long(*at_ms)
                .bytes(&pid.to_be_bytes())
                .end(),
            Self::Output { of, offset, at_ms, bytes } => {
                encode_output(out, *of, *offset, *at_ms, bytes);
            }
            Self::Resize { of, offset, at_ms, cols, rows } => Writer::new(out, RESIZE)
                .of(*of)
                .long(*offset)
                .long(*at_ms)
                .bytes(&cols.to_be_bytes())
                .bytes(&rows.to_be_bytes())
                .end(),
            Self::Gap { of, offset, n_bytes } => {
                Writer::new(out, GAP).of(*of).long(*offset).long(*n_bytes).end();
            }
            Self::Exit { of, offset, at_ms, status } => Writer::new(out, EXIT)
                .of(*of)
                .long(*offset)
                .long(*at_ms)
                .bytes(&status_bytes(*status))
                .end(),
            Self::Refused { of, at_ms, refusal } => {
                Writer::new(out, REFUSED).of(*of).long(*at_ms).bytes(&refusal_bytes(refusal)).end();
            }
            Self::Lost { of, offset } => Writer::new(out, LOST).of(*of).long(*offset).end(),
        }
    }

    /// The first frame of `bytes` and how many bytes it took; `None` when more are needed.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, SpoolError> {
        let piece = piece::first(bytes, MAX_PAYLOAD_BYTES).map_err(|_| SpoolError)?;
        let Some(Piece { kind, payload, n_bytes }) = piece else {
            return Ok(None);
        };
        let mut fields = Reader(payload);
        if kind == LISTED {
            let whole = payload.is_empty().then_some((Self::Listed, n_bytes));
            return whole.map(Some).ok_or(SpoolError);
        }
        let of = fields.of()?;
        let item = match kind {
            FOUND => Self::Found { of },
            STARTED => Self::Started {
                of,
                offset: fields.long()?,
                at_ms: fields.long()?,
                pid: u32::from_be_bytes(fields.take()?),
            },
            OUTPUT => {
                let (offset, at_ms) = (fields.long()?, fields.long()?);
                let bytes = fields.rest();
                let end = offset.checked_add(bytes.len() as u64);
                if bytes.is_empty() || bytes.len() > MAX_OUTPUT_BYTES || end.is_none() {
                    return Err(SpoolError);
                }
                Self::Output { of, offset, at_ms, bytes: bytes.to_vec() }
            }
            RESIZE => Self::Resize {
                of,
                offset: fields.long()?,
                at_ms: fields.long()?,
                cols: fields.short()?,
                rows: fields.short()?,
            },
            GAP => {
                let (offset, n_bytes) = (fields.long()?, fields.long()?);
                if n_bytes == 0 || offset.checked_add(n_bytes).is_none() {
                    return Err(SpoolError);
                }
                Self::Gap { of, offset, n_bytes }
            }
            EXIT => Self::Exit {
                of,
                offset: fields.long()?,
                at_ms: fields.long()?,
                status: status_of(fields.take()?).ok_or(SpoolError)?,
            },
            REFUSED => Self::Refused {
                of,
                at_ms: fields.long()?,
                refusal: serde_json::from_slice(fields.rest()).map_err(|_| SpoolError)?,
            },
            LOST => Self::Lost { of, offset: fields.long()? },
            _ => return Err(SpoolError),
        };
        if fields.0.is_empty() { Ok(Some((item, n_bytes))) } else { Err(SpoolError) }
    }
}

/// Appends the frame of an [`Item::Output`] without a copy of its bytes. Panics on more than [`MAX_OUTPUT_BYTES`].
pub fn encode_output(out: &mut Vec<u8>, of: Epoch, offset: u64, at_ms: u64, bytes: &[u8]) {
    Writer::new(out, OUTPUT).of(of).long(offset).long(at_ms).bytes(bytes).end();
}

/// At most so many bytes of a text, whole characters.
pub(crate) fn beginning(text: &str, n_bytes: usize) -> &str {
    let mut end = text.len().min(n_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A refusal as JSON that fits into a frame and into a spool.
pub fn refusal_bytes(refusal: &Refusal) -> Vec<u8> {
    let bytes = serde_json::to_vec(refusal).expect("a refusal is plain data");
    if bytes.len() <= MAX_REFUSAL_BYTES {
        return bytes;
    }
    // Somebody's very long command: the words say enough.
    let why = refusal.to_string();
    let why = beginning(&why, MAX_REFUSAL_BYTES / 8).to_owned();
    serde_json::to_vec(&Refusal::Invalid(why)).expect("a refusal is plain data")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epochs() -> impl Strategy<Value = Epoch> + Clone {
        (any::<[u8; 16]>(), any::<u64>())
            .prop_map(|(id, epoch)| Epoch { worker: WorkerId::from_bytes(id), epoch })
    }

    fn asks() -> impl Strategy<Value = Ask> {
        prop_oneof![
            (epochs(), any::<u64>()).prop_map(|(of, from)| Ask::Follow { of, from }),
            (epochs(), any::<u64>(), any::<bool>()).prop_map(|(of, offset, end)| Ask::Ack {
                of,
                offset,
                end
            }),
            epochs().prop_map(|of| Ask::Forget { worker: of.worker }),
        ]
    }

    fn items() -> impl Strategy<Value = Item> {
        let at = (epochs(), 0..u64::MAX / 2, any::<u64>());
        let status =
            prop_oneof![any::<u8>().prop_map(Status::Code), any::<u8>().prop_map(Status::Signal)];
        let refusal = prop_oneof![
            ".*".prop_map(Refusal::CannotConfine),
            (".*", ".*").prop_map(|(directory, why)| Refusal::NoDirectory { directory, why })
        ];
        prop_oneof![
            epochs().prop_map(|of| Item::Found { of }),
            Just(Item::Listed),
            (at.clone(), any::<u32>()).prop_map(|((of, offset, at_ms), pid)| Item::Started {
                of,
                offset,
                at_ms,
                pid
            }),
            (at.clone(), prop::collection::vec(any::<u8>(), 1..200))
                .prop_map(|((of, offset, at_ms), bytes)| Item::Output { of, offset, at_ms, bytes }),
            (at.clone(), any::<u16>(), any::<u16>()).prop_map(
                |((of, offset, at_ms), cols, rows)| Item::Resize { of, offset, at_ms, cols, rows }
            ),
            (at.clone(), 1..u64::MAX / 2).prop_map(|((of, offset, _), n_bytes)| Item::Gap {
                of,
                offset,
                n_bytes
            }),
            (at.clone(), status).prop_map(|((of, offset, at_ms), status)| Item::Exit {
                of,
                offset,
                at_ms,
                status
            }),
            (at.clone(), refusal).prop_map(|((of, _, at_ms), refusal)| Item::Refused {
                of,
                at_ms,
                refusal
            }),
            at.prop_map(|(of, offset, _)| Item::Lost { of, offset }),
        ]
    }

    #[test]
    fn an_id_is_thirty_two_lower_case_digits_and_nothing_else() {
        let text = "00ff0123456789abcdef0123456789ab";
        assert_eq!(text.parse::<WorkerId>().unwrap().to_string(), text);
        for bad in ["", "00FF0123456789abcdef0123456789ab", "../../../../../../../../../../../x"] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad}");
        }
        assert!(format!("{text}0").parse::<WorkerId>().is_err());
        assert!(serde_json::from_str::<WorkerId>("\"x\"").is_err());
    }

    #[test]
    fn a_frame_over_its_limit_is_an_error_before_its_bytes_are_there() {
        let mut head = vec![OUTPUT];
        head.extend(u32::try_from(MAX_PAYLOAD_BYTES + 1).unwrap().to_be_bytes());
        assert_eq!(Item::decode(&head), Err(SpoolError));
        assert_eq!(Ask::decode(&head), Err(SpoolError));
    }

    #[test]
    fn a_refusal_of_any_length_fits() {
        let long = Refusal::NotExecutable {
            program: "\u{1}é".repeat(200_000),
            why: "no".to_owned(),
            missing: true,
        };
        let of = Epoch { worker: WorkerId::from_bytes([1; 16]), epoch: 1 };
        let mut out = Vec::new();
        Item::Refused { of, at_ms: 0, refusal: long }.encode(&mut out);
        assert!(matches!(Item::decode(&out), Ok(Some((Item::Refused { .. }, _)))));
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(items in prop::collection::vec(items(), 0..8), asks in prop::collection::vec(asks(), 0..8)) {
            let (mut out, mut questions) = (Vec::new(), Vec::new());
            for item in &items {
                item.encode(&mut out);
            }
            for ask in &asks {
                ask.encode(&mut questions);
            }
            let (mut at, mut asked_at) = (0, 0);
            for item in &items {
                let (got, n_bytes) = Item::decode(&out[at..]).unwrap().unwrap();
                prop_assert_eq!(&got, item);
                prop_assert_eq!(Item::decode(&out[at..at + n_bytes - 1]).unwrap(), None);
                at += n_bytes;
            }
            for ask in &asks {
                let (got, n_bytes) = Ask::decode(&questions[asked_at..]).unwrap().unwrap();
                prop_assert_eq!(&got, ask);
                asked_at += n_bytes;
            }
            prop_assert_eq!(Item::decode(&out[at..]), Ok(None));
        }

        #[test]
        fn any_bytes_are_a_frame_an_error_or_a_beginning(kind in 0_u8..26, bytes in prop::collection::vec(any::<u8>(), 0..96)) {
            let mut frame = vec![kind];
            frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            frame.extend(&bytes);
            for input in [&frame, &bytes] {
                if let Ok(Some((_, n_bytes))) = Item::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
                if let Ok(Some((_, n_bytes))) = Ask::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
            }
        }
    }
}
