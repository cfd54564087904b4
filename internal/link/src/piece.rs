//! The outline of the binary frames: one byte of kind, four bytes of length (big endian), then the payload. Pure.

/// Kind and length.
pub(crate) const HEADER_BYTES: usize = 5;

/// A frame of which only the outline is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// What the payload is.
    pub(crate) kind: u8,
    /// The payload.
    pub(crate) payload: &'a [u8],
    /// The whole frame's length.
    pub(crate) n_bytes: usize,
}

/// A payload over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The first frame of `bytes`; `None` when more are needed.
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
