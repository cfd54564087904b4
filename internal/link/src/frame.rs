//! The frames of the link: four bytes of length (big endian), one byte with the number of descriptors, then JSON. Pure.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conn::LinkError;

/// Bytes of length and descriptor count.
pub const HEADER_BYTES: usize = 5;

/// The largest JSON body of a frame, in bytes. A tmux snapshot of a thousand panes with long titles is about 1 MiB.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// The most descriptors in one frame: stdin, stdout, stderr and one in reserve.
pub const MAX_FDS: usize = 4;

/// The decoded header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The length of the JSON body.
    pub n_bytes: usize,
    /// The number of descriptors sent with the frame.
    pub n_fds: usize,
}

impl Header {
    /// Decodes a header. A header over a limit is an error, since the rest of the stream could not be read.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, LinkError> {
        let n_bytes = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let n_fds = usize::from(bytes[4]);
        if n_bytes > MAX_FRAME_BYTES || n_fds > MAX_FDS {
            return Err(LinkError::TooLarge { n_bytes, n_fds });
        }
        Ok(Self { n_bytes, n_fds })
    }
}

/// Encodes a message as a frame.
pub fn encode<T: Serialize>(message: &T, n_fds: usize) -> Result<Vec<u8>, LinkError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message).map_err(LinkError::Json)?;
    let n_bytes = frame.len() - HEADER_BYTES;
    let (Ok(length), Ok(count)) = (u32::try_from(n_bytes), u8::try_from(n_fds)) else {
        return Err(LinkError::TooLarge { n_bytes, n_fds });
    };
    if n_bytes > MAX_FRAME_BYTES || n_fds > MAX_FDS {
        return Err(LinkError::TooLarge { n_bytes, n_fds });
    }
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[4] = count;
    Ok(frame)
}

/// Decodes the message in a frame's body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, LinkError> {
    serde_json::from_slice(body).map_err(LinkError::Json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header() {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(Header::parse(header), Err(LinkError::TooLarge { .. })));
        assert!(matches!(Header::parse([0, 0, 0, 1, 9]), Err(LinkError::TooLarge { .. })));
        let long = "x".repeat(MAX_FRAME_BYTES);
        assert!(matches!(encode(&long, 0), Err(LinkError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn encoded_messages_decode_to_the_same_values(text in ".*", n_fds in 0_usize..=MAX_FDS) {
            let frame = encode(&text, n_fds).unwrap();
            let header = Header::parse(frame[..HEADER_BYTES].try_into().unwrap()).unwrap();
            prop_assert_eq!(header, Header { n_bytes: frame.len() - HEADER_BYTES, n_fds });
            prop_assert_eq!(decode::<String>(&frame[HEADER_BYTES..]).unwrap(), text);
        }
    }
}
