//! The protocol of a worker's control socket, `SPOOL/ID/EPOCH/ctl`, between the server and the worker's runner. Pure.
//!
//! A frame is one byte of kind, four bytes of length (big endian), then the payload. [`RunnerRequest::Input`] is not
//! answered: the socket's back-pressure paces it. All other requests are answered in order. [`RunnerRequest::Stop`] is
//! answered when all processes of the command have ended; until then the runner reads no further request of the connection.
//! The socket closes when the runner ends.

use serde::{Deserialize, Serialize};

use crate::message::Status;
use crate::piece::{self, Piece};
use crate::spool::beginning;

/// The largest payload, in bytes. Longer input is sent as several frames.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 10;
/// The largest frame, in bytes, header included.
pub const MAX_FRAME_BYTES: usize = piece::HEADER_BYTES + MAX_PAYLOAD_BYTES;
/// The socket's name in the epoch's directory.
pub const SOCKET: &str = "ctl";

/// A request to the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerRequest {
    /// Write these bytes to the command's terminal, unchanged.
    Input(Vec<u8>),
    /// Send a signal, by number, to the terminal's foreground process group.
    Signal(u8),
    /// Send SIGHUP, SIGTERM and SIGCONT to all processes of the command, and SIGKILL to those that remain after the grace
    /// period.
    Stop {
        /// The grace period, in milliseconds.
        grace_ms: u32,
    },
    /// Suspend all processes of the command with SIGSTOP.
    Freeze,
    /// Continue the processes that [`RunnerRequest::Freeze`] suspended.
    Thaw,
    /// Report the state of the command.
    Status,
}

/// An answer of the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// The request was not carried out, for this reason.
    Refused(String),
    /// The answer to [`RunnerRequest::Status`].
    Status(Report),
}

/// The state of a worker's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The command's process id, also its process group and session.
    pub pid: u32,
    /// Whether the command is still running.
    pub running: bool,
    /// Whether its processes are suspended.
    pub frozen: bool,
    /// The number of living processes, the command included.
    pub n_processes: u32,
    /// The command's exit status, if it has ended while other processes of it are still being stopped.
    pub exit: Option<Status>,
}

/// Bytes that are not a valid frame. The rest of the stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid frame on the control socket")]
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

impl RunnerRequest {
    /// Encodes the request. Input longer than [`MAX_PAYLOAD_BYTES`] becomes several frames.
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

    /// Decodes the first frame of `bytes` and returns it with its length in bytes; `None` when it is incomplete.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ControlError> {
        let piece = piece::first(bytes, MAX_PAYLOAD_BYTES).map_err(|_| ControlError)?;
        let Some(Piece { kind, payload, n_bytes }) = piece else {
            return Ok(None);
        };
        let request = match (kind, payload) {
            (INPUT, bytes) => Self::Input(bytes.to_vec()),
            (SIGNAL, [number]) => Self::Signal(*number),
            (STOP, &[a, b, c, d]) => Self::Stop { grace_ms: u32::from_be_bytes([a, b, c, d]) },
            (FREEZE, []) => Self::Freeze,
            (THAW, []) => Self::Thaw,
            (STATUS, []) => Self::Status,
            _ => return Err(ControlError),
        };
        Ok(Some((request, n_bytes)))
    }
}

impl Reply {
    /// Encodes the answer.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done => frame(DONE, &[]),
            Self::Refused(why) => frame(REFUSED, beginning(why, MAX_PAYLOAD_BYTES).as_bytes()),
            Self::Status(report) => {
                frame(REPORT, &serde_json::to_vec(report).expect("a report is plain data"))
            }
        }
    }

    /// Decodes the first frame of `bytes` and returns it with its length in bytes; `None` when it is incomplete.
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

    fn requests() -> impl Strategy<Value = RunnerRequest> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..100).prop_map(RunnerRequest::Input),
            any::<u8>().prop_map(RunnerRequest::Signal),
            any::<u32>().prop_map(|grace_ms| RunnerRequest::Stop { grace_ms }),
            Just(RunnerRequest::Freeze),
            Just(RunnerRequest::Thaw),
            Just(RunnerRequest::Status),
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
    fn long_input_becomes_several_frames_and_a_frame_over_the_limit_is_an_error() {
        let long = vec![7; MAX_PAYLOAD_BYTES + 1];
        let bytes = RunnerRequest::Input(long.clone()).encode();
        let (RunnerRequest::Input(mut first), at) = RunnerRequest::decode(&bytes).unwrap().unwrap()
        else {
            panic!()
        };
        let (RunnerRequest::Input(second), _) =
            RunnerRequest::decode(&bytes[at..]).unwrap().unwrap()
        else {
            panic!()
        };
        first.extend(second);
        assert_eq!(first, long);
        assert_eq!(RunnerRequest::decode(&[INPUT, 0, 1, 0, 1]), Err(ControlError));
        assert_eq!(Reply::decode(&[REFUSED, 255, 0, 0, 0]), Err(ControlError));
    }

    proptest! {
        #[test]
        fn encoded_frames_decode_to_the_same_values(sent in prop::collection::vec(requests(), 0..6), replies in prop::collection::vec(replies(), 0..6)) {
            let requests: Vec<u8> = sent.iter().flat_map(RunnerRequest::encode).collect();
            let answers: Vec<u8> = replies.iter().flat_map(Reply::encode).collect();
            let (mut at, mut answered_at) = (0, 0);
            for request in &sent {
                let (got, n_bytes) = RunnerRequest::decode(&requests[at..]).unwrap().unwrap();
                prop_assert_eq!(&got, request);
                at += n_bytes;
            }
            for reply in &replies {
                let (got, n_bytes) = Reply::decode(&answers[answered_at..]).unwrap().unwrap();
                prop_assert_eq!(&got, reply);
                answered_at += n_bytes;
            }
        }

        #[test]
        fn any_bytes_decode_to_a_frame_an_error_or_an_incomplete_frame(kind in 0_u8..20, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut frame = vec![kind];
            frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            frame.extend(&bytes);
            for input in [&frame, &bytes] {
                if let Ok(Some((_, n_bytes))) = RunnerRequest::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
                if let Ok(Some((_, n_bytes))) = Reply::decode(input) {
                    prop_assert!(n_bytes <= input.len());
                }
            }
        }
    }
}
