//! What a runner writes to the server on the descriptor it was offered: the terminal's bytes and the exact exit.
//!
//! A frame is one byte of kind, four bytes of length, then the payload. The server writes one byte, a signal's number,
//! to have the command's process group signalled. Pure.

use crate::message::{Refusal, Status};

/// Kind and length.
pub const HEADER_BYTES: usize = 5;
/// The largest payload. Longer output is sent as several frames.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 10;

const STARTED: u8 = 1;
const OUTPUT: u8 = 2;
const EXIT: u8 = 3;
const REFUSED: u8 = 4;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The command runs.
    Started,
    /// Bytes of its terminal.
    Output(Vec<u8>),
    /// It ended; the last frame.
    Exit(Status),
    /// It could not be started; the last frame.
    Refused(Refusal),
}

/// A frame that breaks the rules. The stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the runner in the shed sent something that is no frame")]
pub struct TapError;

/// The header of an output frame of `n_bytes`, at most [`MAX_PAYLOAD_BYTES`].
pub fn output_header(n_bytes: usize) -> [u8; HEADER_BYTES] {
    header(OUTPUT, n_bytes)
}

fn header(kind: u8, n_bytes: usize) -> [u8; HEADER_BYTES] {
    let length =
        u32::try_from(n_bytes).expect("payloads are at most MAX_PAYLOAD_BYTES").to_be_bytes();
    [kind, length[0], length[1], length[2], length[3]]
}

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Started => (STARTED, Vec::new()),
            Self::Output(bytes) => (OUTPUT, bytes.clone()),
            Self::Exit(Status::Code(code)) => (EXIT, vec![0, *code]),
            Self::Exit(Status::Signal(signal)) => (EXIT, vec![1, *signal]),
            Self::Refused(refusal) => {
                (REFUSED, serde_json::to_vec(refusal).expect("a refusal is plain data"))
            }
        };
        let mut frame = header(kind, payload.len()).to_vec();
        frame.extend(payload);
        frame
    }

    /// The first frame of `bytes` and how many bytes it took; `None` when more are needed.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, TapError> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(TapError);
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = match (head[0], payload) {
            (STARTED, []) => Self::Started,
            (OUTPUT, output) => Self::Output(output.to_vec()),
            (EXIT, [0, code]) => Self::Exit(Status::Code(*code)),
            (EXIT, [1, signal]) => Self::Exit(Status::Signal(*signal)),
            (REFUSED, json) => Self::Refused(serde_json::from_slice(json).map_err(|_| TapError)?),
            _ => return Err(TapError),
        };
        Ok(Some((frame, HEADER_BYTES + length)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_read_back_one_by_one() {
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
        fn any_bytes_are_a_frame_an_error_or_a_beginning(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, n_bytes))) = Frame::decode(&bytes) {
                prop_assert!(n_bytes <= bytes.len());
            }
        }
    }
}
