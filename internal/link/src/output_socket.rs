//! The protocol of the output socket between the server and the runner of a command in a session. Pure.
//!
//! The runner sends the bytes of the command's terminal and the exit status. A frame is one byte of kind, four bytes of
//! length (big endian), then the payload. The server sends single bytes: each is the number of a signal for the command's
//! process group.

use crate::message::{Refusal, Status};
use crate::piece::{self, Piece};
use crate::spool::{status_bytes, status_of};

/// Bytes of kind and length.
pub const HEADER_BYTES: usize = piece::HEADER_BYTES;
/// The largest payload, in bytes. Longer output is sent as several frames.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 10;

const STARTED: u8 = 1;
const OUTPUT: u8 = 2;
const EXIT: u8 = 3;
const REFUSED: u8 = 4;

/// A frame from the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The command was started.
    Started,
    /// Bytes that the command printed to its terminal.
    Output(Vec<u8>),
    /// The command ended; the last frame.
    Exit(Status),
    /// The command could not be started; the last frame.
    Refused(Refusal),
}

/// Bytes that are not a valid frame. The rest of the stream cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid frame from the runner in the shed")]
pub struct OutputSocketError;

/// Encodes the header of an output frame with `n_bytes` of payload, at most [`MAX_PAYLOAD_BYTES`].
pub fn output_header(n_bytes: usize) -> [u8; HEADER_BYTES] {
    header(OUTPUT, n_bytes)
}

fn header(kind: u8, n_bytes: usize) -> [u8; HEADER_BYTES] {
    let length =
        u32::try_from(n_bytes).expect("payloads are at most MAX_PAYLOAD_BYTES").to_be_bytes();
    [kind, length[0], length[1], length[2], length[3]]
}

impl Frame {
    /// Encodes the frame.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Started => (STARTED, Vec::new()),
            Self::Output(bytes) => (OUTPUT, bytes.clone()),
            Self::Exit(status) => (EXIT, status_bytes(*status).to_vec()),
            Self::Refused(refusal) => {
                (REFUSED, serde_json::to_vec(refusal).expect("a refusal is plain data"))
            }
        };
        let mut frame = header(kind, payload.len()).to_vec();
        frame.extend(payload);
        frame
    }

    /// Decodes the first frame of `bytes` and returns it with its length in bytes; `None` when it is incomplete.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, OutputSocketError> {
        let piece = piece::first(bytes, MAX_PAYLOAD_BYTES).map_err(|_| OutputSocketError)?;
        let Some(Piece { kind, payload, n_bytes }) = piece else {
            return Ok(None);
        };
        let frame = match (kind, payload) {
            (STARTED, []) => Self::Started,
            (OUTPUT, output) => Self::Output(output.to_vec()),
            (EXIT, &[kind, value]) => {
                Self::Exit(status_of([kind, value]).ok_or(OutputSocketError)?)
            }
            (REFUSED, json) => {
                Self::Refused(serde_json::from_slice(json).map_err(|_| OutputSocketError)?)
            }
            _ => return Err(OutputSocketError),
        };
        Ok(Some((frame, n_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoded_frames_decode_one_by_one() {
        let refusal = Refusal::Invalid("no".to_owned());
        let frames = [
            Frame::Started,
            Frame::Output(b"hello".to_vec()),
            Frame::Exit(Status::Code(7)),
            Frame::Exit(Status::Signal(9)),
            Frame::Refused(refusal),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut at = 0;
        for frame in frames {
            let (got, n_bytes) = Frame::decode(&bytes[at..]).unwrap().unwrap();
            assert_eq!(got, frame);
            at += n_bytes;
        }
        assert_eq!(Frame::decode(&bytes[at..]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_a_frame_an_error_or_an_incomplete_frame(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, n_bytes))) = Frame::decode(&bytes) {
                prop_assert!(n_bytes <= bytes.len());
            }
        }
    }
}
