//! The records in a spool's files: `[kind u8][at_ms u64][length u32][payload]`, numbers big endian. Pure.
//!
//! A spool is a directory with **segment** files, each named by the offset (20 digits) at which it begins. The runner writes
//! complete records. If the last record of a file is incomplete, the runner was killed or is writing it now.

use shed_link::spool::{MAX_OUTPUT_BYTES, refusal_bytes, status_bytes, status_of};
use shed_link::{Refusal, Status};

/// Bytes of kind, time and length.
pub(crate) const HEADER_BYTES: usize = 13;
/// The most bytes of payload. A longer record is invalid.
pub(crate) const MAX_PAYLOAD_BYTES: usize = MAX_OUTPUT_BYTES;
/// The name of the file that the runner keeps locked as long as it lives.
pub(crate) const LOCK: &str = "lock";

const STARTED: u8 = 1;
const OUTPUT: u8 = 2;
const RESIZE: u8 = 3;
const GAP: u8 = 4;
const EXIT: u8 = 5;
const REFUSED: u8 = 6;

/// The decoded content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// The command runs with this process id.
    Started(u32),
    /// Output of the command, which is the payload.
    Output,
    /// The terminal has this many columns and rows from here on.
    Resize(u16, u16),
    /// This many bytes of output are lost here.
    Gap(u64),
    /// The command ended; the last record.
    Exit(Status),
    /// The command could not be started; the last record.
    Refused(Refusal),
    /// A kind of a newer version, which is skipped.
    Unknown,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    kind: u8,
    /// The time of the record, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// The length of the payload.
    pub(crate) n_bytes: usize,
}

/// Bytes that are not a valid record. The rest of the file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl Header {
    /// Decodes a header.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Broken> {
        let [kind, at @ .., a, b, c, d] = bytes;
        let n_bytes = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if *kind == 0 || n_bytes > MAX_PAYLOAD_BYTES {
            return Err(Broken);
        }
        Ok(Self { kind: *kind, at_ms: u64::from_be_bytes(*at), n_bytes })
    }

    /// Decodes the content of the record. The payload of output is not copied.
    pub(crate) fn body(self, payload: &[u8]) -> Result<Body, Broken> {
        Ok(match (self.kind, payload) {
            (STARTED, &[a, b, c, d]) => Body::Started(u32::from_be_bytes([a, b, c, d])),
            (OUTPUT, _) => Body::Output,
            (RESIZE, &[a, b, c, d]) => {
                Body::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            (GAP, payload) => {
                Body::Gap(payload.try_into().map(u64::from_be_bytes).map_err(|_| Broken)?)
            }
            (EXIT, &[kind, value]) => Body::Exit(status_of([kind, value]).ok_or(Broken)?),
            (REFUSED, payload) => {
                Body::Refused(serde_json::from_slice(payload).map_err(|_| Broken)?)
            }
            (STARTED | RESIZE | EXIT, _) => return Err(Broken),
            _ => Body::Unknown,
        })
    }
}

/// Encodes the header of an output record with `n_bytes` of payload, at most [`MAX_PAYLOAD_BYTES`].
pub(crate) fn output_header(at_ms: u64, n_bytes: usize) -> [u8; HEADER_BYTES] {
    header(OUTPUT, at_ms, n_bytes)
}

fn header(kind: u8, at_ms: u64, n_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = kind;
    header[1..9].copy_from_slice(&at_ms.to_be_bytes());
    let length = u32::try_from(n_bytes).expect("payloads are at most MAX_PAYLOAD_BYTES");
    header[9..].copy_from_slice(&length.to_be_bytes());
    header
}

/// Encodes a record of any kind but output.
pub(crate) fn encode(at_ms: u64, body: &Body) -> Vec<u8> {
    let (kind, payload) = match body {
        Body::Started(pid) => (STARTED, pid.to_be_bytes().to_vec()),
        Body::Resize(cols, rows) => (RESIZE, [cols.to_be_bytes(), rows.to_be_bytes()].concat()),
        Body::Gap(n_bytes) => (GAP, n_bytes.to_be_bytes().to_vec()),
        Body::Exit(status) => (EXIT, status_bytes(*status).to_vec()),
        Body::Refused(refusal) => (REFUSED, refusal_bytes(refusal)),
        Body::Output | Body::Unknown => (OUTPUT, Vec::new()),
    };
    let mut record = header(kind, at_ms, payload.len()).to_vec();
    record.extend(payload);
    record
}

/// The file name of the segment that begins at an offset.
pub(crate) fn segment_name(offset: u64) -> String {
    format!("{offset:020}")
}

/// The offset at which the segment with this file name begins; `None` for other files.
pub(crate) fn segment_start(name: &str) -> Option<u64> {
    let digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    if digits { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoded_records_decode_to_the_same_values() {
        let bodies = [
            Body::Started(7),
            Body::Resize(80, 24),
            Body::Gap(u64::MAX),
            Body::Exit(Status::Signal(9)),
            Body::Refused(Refusal::CannotConfine("no".to_owned())),
        ];
        for body in bodies {
            let record = encode(5, &body);
            let (head, payload) = record.split_first_chunk().unwrap();
            let header = Header::parse(head).unwrap();
            assert_eq!((header.at_ms, header.n_bytes), (5, payload.len()));
            assert_eq!(header.body(payload), Ok(body));
        }
        let header = Header::parse(&output_header(1, MAX_PAYLOAD_BYTES)).unwrap();
        assert_eq!(header.body(&[1]), Ok(Body::Output));
        // After a crash the kernel may leave zeros in a file.
        assert_eq!(Header::parse(&[0; HEADER_BYTES]), Err(Broken));
    }

    #[test]
    fn a_segment_name_is_twenty_digits() {
        assert_eq!(segment_start(&segment_name(u64::MAX)), Some(u64::MAX));
        for name in ["lock", "1", "+0000000000000000001", "99999999999999999999"] {
            assert_eq!(segment_start(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_a_record_or_an_error(head: [u8; HEADER_BYTES], payload in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(header) = Header::parse(&head) {
                prop_assert!(header.n_bytes <= MAX_PAYLOAD_BYTES);
                header.body(&payload).ok();
            }
        }
    }
}
