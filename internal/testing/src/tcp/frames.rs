//! What server and bridge send on a link: JSON with its length in front.

use std::collections::HashMap;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shed_guest::{TerminalMode, WindowSize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest frame, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// What is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Far ends of streams, by the tokens under which the bridge dials.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) enum FarEnds {
    #[default]
    None,
    /// Input, output and errors.
    Pipes([String; 3]),
    Terminal(String),
    Connection(String),
    Helper(String),
}

/// From the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToBridge {
    /// A message for shed-init, and where its streams lead.
    Message { message: Value, ends: FarEnds },
    /// The new size of a terminal.
    Resize { token: String, size: WindowSize },
    /// New modes of a terminal.
    Modes { token: String, modes: Vec<TerminalMode> },
}

/// A message from shed-init. With the end of a process: how many bytes it has written on each of its streams.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FromBridge {
    pub(super) message: Value,
    pub(super) written: HashMap<String, u64>,
}

/// A message of a helper, and whether a connection comes with it. The server answers that with the token for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FromHelper {
    pub(super) message: Value,
    pub(super) connection: bool,
}

/// A frame, ready to be sent.
pub(super) fn frame(message: &impl Serialize) -> Vec<u8> {
    let body = serde_json::to_vec(message).expect("JSON");
    let length = u32::try_from(body.len()).expect("a frame of moderate length");
    [&length.to_be_bytes()[..], &body].concat()
}

/// Frames as they arrive.
#[derive(Debug)]
pub(super) struct Frames<R> {
    pub(super) reader: R,
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, bytes: Vec::new() }
    }

    /// The next frame; `None` at the end. Safe to drop and call again.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            self.bytes.reserve(READ_BYTES);
            if self.reader.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }
}
