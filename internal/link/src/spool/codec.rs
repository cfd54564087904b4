//! The frames of the collector's connection as bytes.

use super::{
    CollectorRequest, Epoch, Item, MAX_OUTPUT_BYTES, MAX_PAYLOAD_BYTES, SpoolError, WorkerId,
};
use super::{refusal_bytes, status_bytes, status_of};
use crate::piece::{self, HEADER_BYTES, Piece};

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

/// Appends one frame to a buffer; [`Writer::end`] fills in its length.
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

/// Reads the fields of a payload in order. Every method fails when the payload is too short.
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

impl CollectorRequest {
    /// Appends the encoded frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Follow { of, from } => Writer::new(out, FOLLOW).of(of).long(from).end(),
            Self::Ack { of, offset, end } => {
                Writer::new(out, ACK).of(of).long(offset).bytes(&[u8::from(end)]).end();
            }
            Self::Forget { worker } => Writer::new(out, FORGET).bytes(worker.as_bytes()).end(),
        }
    }

    /// Decodes the first frame of `bytes` and returns it with its length in bytes; `None` when it is incomplete.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, SpoolError> {
        let piece = piece::first(bytes, MAX_PAYLOAD_BYTES).map_err(|_| SpoolError)?;
        let Some(Piece { kind, payload, n_bytes }) = piece else {
            return Ok(None);
        };
        let mut fields = Reader(payload);
        let request = match kind {
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
        if fields.0.is_empty() { Ok(Some((request, n_bytes))) } else { Err(SpoolError) }
    }
}

impl Item {
    /// Appends the encoded frame. Panics on more than [`MAX_OUTPUT_BYTES`] of output.
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

    /// Decodes the first frame of `bytes` and returns it with its length in bytes; `None` when it is incomplete.
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

/// Appends the encoded frame of an [`Item::Output`] without copying its bytes first. Panics on more than [`MAX_OUTPUT_BYTES`].
pub fn encode_output(out: &mut Vec<u8>, of: Epoch, offset: u64, at_ms: u64, bytes: &[u8]) {
    Writer::new(out, OUTPUT).of(of).long(offset).long(at_ms).bytes(bytes).end();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Refusal, Status};

    fn epochs() -> impl Strategy<Value = Epoch> + Clone {
        (any::<[u8; 16]>(), any::<u64>())
            .prop_map(|(id, epoch)| Epoch { worker: WorkerId::from_bytes(id), epoch })
    }

    fn requests() -> impl Strategy<Value = CollectorRequest> {
        prop_oneof![
            (epochs(), any::<u64>()).prop_map(|(of, from)| CollectorRequest::Follow { of, from }),
            (epochs(), any::<u64>(), any::<bool>())
                .prop_map(|(of, offset, end)| CollectorRequest::Ack { of, offset, end }),
            epochs().prop_map(|of| CollectorRequest::Forget { worker: of.worker }),
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
    fn a_frame_over_the_limit_is_an_error_before_its_payload_arrives() {
        let mut head = vec![OUTPUT];
        head.extend(u32::try_from(MAX_PAYLOAD_BYTES + 1).unwrap().to_be_bytes());
        assert_eq!(Item::decode(&head), Err(SpoolError));
        assert_eq!(CollectorRequest::decode(&head), Err(SpoolError));
    }

    #[test]
    fn a_refusal_of_any_length_fits_into_a_frame() {
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
        fn encoded_frames_decode_to_the_same_values(items in prop::collection::vec(items(), 0..8), sent in prop::collection::vec(requests(), 0..8)) {
            let (mut out, mut requests) = (Vec::new(), Vec::new());
            for item in &items {
                item.encode(&mut out);
            }
            for request in &sent {
                request.encode(&mut requests);
            }
            let (mut at, mut asked_at) = (0, 0);
            for item in &items {
                let (got, n_bytes) = Item::decode(&out[at..]).unwrap().unwrap();
                prop_assert_eq!(&got, item);
                prop_assert_eq!(Item::decode(&out[at..at + n_bytes - 1]).unwrap(), None);
                at += n_bytes;
            }
            for request in &sent {
                let (got, n_bytes) = CollectorRequest::decode(&requests[asked_at..]).unwrap().unwrap();
                prop_assert_eq!(&got, request);
                asked_at += n_bytes;
            }
            prop_assert_eq!(Item::decode(&out[at..]), Ok(None));
        }

        #[test]
        fn any_bytes_decode_to_a_frame_an_error_or_an_incomplete_frame(kind in 0_u8..26, bytes in prop::collection::vec(any::<u8>(), 0..96)) {
            let mut frame = vec![kind];
            frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            frame.extend(&bytes);
            for input in [&frame, &bytes] {
                if let Ok(Some((_, n_bytes))) = Item::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
                if let Ok(Some((_, n_bytes))) = CollectorRequest::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
            }
        }
    }
}
