//! How a command ended or why it did not start, as bytes in frames and in spool files.

use crate::message::{Refusal, Status};

/// The longest encoded refusal, in bytes. A longer one is replaced by its message, cut to fit.
const MAX_REFUSAL_BYTES: usize = 16 << 10;

/// Encodes a status as two bytes: kind (0 exit code, 1 signal) and number.
pub fn status_bytes(status: Status) -> [u8; 2] {
    match status {
        Status::Code(code) => [0, code],
        Status::Signal(signal) => [1, signal],
    }
}

/// Decodes the two bytes of [`status_bytes`]; `None` for an unknown kind.
pub fn status_of(bytes: [u8; 2]) -> Option<Status> {
    match bytes {
        [0, code] => Some(Status::Code(code)),
        [1, signal] => Some(Status::Signal(signal)),
        _ => None,
    }
}

/// The longest prefix of a text with at most `n_bytes` bytes that does not split a character.
pub(crate) fn beginning(text: &str, n_bytes: usize) -> &str {
    let mut end = text.len().min(n_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Encodes a refusal as JSON that fits into a frame and into a spool record.
pub fn refusal_bytes(refusal: &Refusal) -> Vec<u8> {
    let bytes = serde_json::to_vec(refusal).expect("a refusal is plain data");
    if bytes.len() <= MAX_REFUSAL_BYTES {
        return bytes;
    }
    // The command's name is very long. The message alone is enough.
    let why = refusal.to_string();
    let why = beginning(&why, MAX_REFUSAL_BYTES / 8).to_owned();
    serde_json::to_vec(&Refusal::Invalid(why)).expect("a refusal is plain data")
}
