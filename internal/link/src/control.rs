//! What the server asks of a worker's runner on its control socket, `SPOOL/ID/EPOCH/ctl`, and what it hears. Pure.
//!
//! A frame is one byte of kind, four bytes of length (big endian), then the payload. [`Ask::Input`] is not answered; the
//! socket's own back-pressure is the answer. Every other request is, in order; [`Ask::Stop`] only when the whole tree is
//! gone, and until then the connection is not read. The socket closes when the runner has ended.

use serde::{Deserialize, Serialize};

use crate::message::Status;
use crate::piece::{self, Piece};
use crate::spool::beginning;

/// The largest payload. Longer input is sent as several frames.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 10;
/// The largest frame.
pub const MAX_FRAME_BYTES: usize = piece::HEADER_BYTES + MAX_PAYLOAD_BYTES;
/// The socket's name in the epoch's directory.
pub const SOCKET: &str = "ctl";

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// These bytes are typed in the command's terminal, exactly.
    Input(Vec<u8>),
    /// Signals the terminal's foreground process group.
    Signal(u8),
    /// HUP, TERM and CONT to the whole tree; KILL to what is left after so many milliseconds.
    Stop {
        /// Milliseconds.
        grace_ms: u32,
    },
    /// Stops every process of the tree where it is.
    Freeze,
    /// Continues what [`Ask::Freeze`] stopped.
    Thaw,
    /// How is it?
    Status,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// It is not; why.
    Refused(String),
    /// The answer to [`Ask::Status`].
    Status(Report),
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The command's process, also its group and session.
    pub pid: u32,
    /// Whether the command has not ended.
    pub running: bool,
    /// Whether the tree is frozen.
    pub frozen: bool,
    /// Processes of the tree, the command included, without those that have ended.
    pub n_processes: u32,
    /// How the command ended, while its tree is still being stopped.
    pub exit: Option<Status>,
}

/// A frame that breaks the rules. The stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("something on the control socket is no frame")]
pub struct ControlError;

const INPUT: u8 = 1;
const SIGNAL: u8 = 2;
const STOP: u8 = 3;
const FREEZE: u8 = 4;
const THAW: u8 = 5;
const STATUS: u8 = 6;
const DONE: u8 = 16;
const REFUSED: u8 = 17;
const REPORT: u8 = 18;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().min(MAX_PAYLOAD_BYTES);
    let mut frame = vec![kind];
    frame.extend(u32::try_from(length).expect("bounded above").to_be_bytes());
    frame.extend(&payload[..length]);
    frame
}

impl Ask {
    /// The bytes of the request. Input longer than [`MAX_PAYLOAD_BYTES`] becomes several frames.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Input(bytes) => {
                bytes.chunks(MAX_PAYLOAD_BYTES).flat_map(|chunk| frame(INPUT, chunk)).collect()
            }
            Self::Signal(number) => frame(SIGNAL, &[*number]),
            Self::Stop { grace_ms } => frame(STOP, &grace_ms.to_be_bytes()),
            Self::Freeze => frame(FREEZE, &[]),
            Self::Thaw => frame(THAW, &[]),
            Self::Status => frame(STATUS, &[]),
        }
    }

    /// The first frame of `bytes` and how many bytes it took; `None` when more are needed.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ControlError> {
        let piece = piece::first(bytes, MAX_PAYLOAD_BYTES).map_err(|_| ControlError)?;
        let Some(Piece { kind, payload, n_bytes }) = piece else {
            return Ok(None);
        };
        let ask = match (kind, payload) {
            (INPUT, bytes) => Self::Input(bytes.to_vec()),
            (SIGNAL, [number]) => Self::Signal(*number),
            (STOP, &[a, b, c, d]) => Self::Stop { grace_ms: u32::from_be_bytes([a, b, c, d]) },
            (FREEZE, []) => Self::Freeze,
            (THAW, []) => Self::Thaw,
            (STATUS, []) => Self::Status,
            _ => return Err(ControlError),
        };
        Ok(Some((ask, n_bytes)))
    }
}

impl Reply {
    /// The bytes of the answer.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done => frame(DONE, &[]),
            Self::Refused(why) => frame(REFUSED, beginning(why, MAX_PAYLOAD_BYTES).as_bytes()),
            Self::Status(report) => {
                frame(REPORT, &serde_json::to_vec(report).expect("a report is plain data"))
            }
        }
    }

    /// The first frame of `bytes` and how many bytes it took; `None` when more are needed.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ControlError> {
        let piece = piece::first(bytes, MAX_PAYLOAD_BYTES).map_err(|_| ControlError)?;
        let Some(Piece { kind, payload, n_bytes }) = piece else {
            return Ok(None);
        };
        let reply = match (kind, payload) {
            (DONE, []) => Self::Done,
            (REFUSED, why) => {
                Self::Refused(String::from_utf8(why.to_vec()).map_err(|_| ControlError)?)
            }
            (REPORT, report) => {
                Self::Status(serde_json::from_slice(report).map_err(|_| ControlError)?)
            }
            _ => return Err(ControlError),
        };
        Ok(Some((reply, n_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asks() -> impl Strategy<Value = Ask> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..100).prop_map(Ask::Input),
            any::<u8>().prop_map(Ask::Signal),
            any::<u32>().prop_map(|grace_ms| Ask::Stop { grace_ms }),
            Just(Ask::Freeze),
            Just(Ask::Thaw),
            Just(Ask::Status),
        ]
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let report = (any::<u32>(), any::<bool>(), any::<u32>(), prop::option::of(any::<u8>()));
        prop_oneof![
            Just(Reply::Done),
            ".*".prop_map(Reply::Refused),
            report.prop_map(|(pid, frozen, n_processes, code)| {
                let exit = code.map(Status::Code);
                Reply::Status(Report { pid, running: exit.is_none(), frozen, n_processes, exit })
            }),
        ]
    }

    #[test]
    fn long_input_is_several_frames_and_a_longer_frame_an_error() {
        let long = vec![7; MAX_PAYLOAD_BYTES + 1];
        let bytes = Ask::Input(long.clone()).encode();
        let (Ask::Input(mut first), at) = Ask::decode(&bytes).unwrap().unwrap() else { panic!() };
        let (Ask::Input(second), _) = Ask::decode(&bytes[at..]).unwrap().unwrap() else { panic!() };
        first.extend(second);
        assert_eq!(first, long);
        assert_eq!(Ask::decode(&[INPUT, 0, 1, 0, 1]), Err(ControlError));
        assert_eq!(Reply::decode(&[REFUSED, 255, 0, 0, 0]), Err(ControlError));
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(asks in prop::collection::vec(asks(), 0..6), replies in prop::collection::vec(replies(), 0..6)) {
            let said: Vec<u8> = asks.iter().flat_map(Ask::encode).collect();
            let answered: Vec<u8> = replies.iter().flat_map(Reply::encode).collect();
            let (mut at, mut answered_at) = (0, 0);
            for ask in &asks {
                let (got, n_bytes) = Ask::decode(&said[at..]).unwrap().unwrap();
                prop_assert_eq!(&got, ask);
                at += n_bytes;
            }
            for reply in &replies {
                let (got, n_bytes) = Reply::decode(&answered[answered_at..]).unwrap().unwrap();
                prop_assert_eq!(&got, reply);
                answered_at += n_bytes;
            }
        }

        #[test]
        fn any_bytes_are_a_frame_an_error_or_a_beginning(kind in 0_u8..20, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut frame = vec![kind];
            frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            frame.extend(&bytes);
            for input in [&frame, &bytes] {
                if let Ok(Some((_, n_bytes))) = Ask::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
                if let Ok(Some((_, n_bytes))) = Reply::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
            }
        }
    }
}
