//! The common format of the binary frames: one byte of kind, four bytes of length (big endian), then the payload. Pure.

/// Bytes of kind and length.
pub(crate) const HEADER_BYTES: usize = 5;

/// A frame whose payload is not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// The kind of the payload.
    pub(crate) kind: u8,
    /// The bytes after the header.
    pub(crate) payload: &'a [u8],
    /// The length of the frame, header included.
    pub(crate) n_bytes: usize,
}

/// The payload is over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Splits off the first frame of `bytes`; `None` when it is incomplete.
pub(crate) fn first(bytes: &[u8], max_payload: usize) -> Result<Option<Piece<'_>>, TooLong> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > max_payload {
        return Err(TooLong);
    }
    let payload = rest.get(..length);
    let n_bytes = HEADER_BYTES + length;
    Ok(payload.map(|payload| Piece { kind: head[0], payload, n_bytes }))
}
