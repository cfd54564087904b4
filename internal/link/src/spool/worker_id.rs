//! The id of a worker.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of a worker: 128 bits, written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct WorkerId([u8; 16]);

/// A text that is not a worker id; only its first 40 characters are kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid worker id {0:?}; expected 32 lower-case hex digits")]
pub struct BadWorkerId(String);

impl WorkerId {
    /// Makes an id from its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id as 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for WorkerId {
    type Err = BadWorkerId;

    fn from_str(text: &str) -> Result<Self, BadWorkerId> {
        let bad = || BadWorkerId(text.chars().take(40).collect());
        let digits = text.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if digits.len() != 32 {
            return Err(bad());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(bad());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({self})")
    }
}

impl From<WorkerId> for String {
    fn from(id: WorkerId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for WorkerId {
    type Error = BadWorkerId;

    fn try_from(text: String) -> Result<Self, BadWorkerId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_thirty_two_lower_case_hex_digits_parse_as_an_id() {
        let text = "00ff0123456789abcdef0123456789ab";
        assert_eq!(text.parse::<WorkerId>().unwrap().to_string(), text);
        for bad in ["", "00FF0123456789abcdef0123456789ab", "../../../../../../../../../../../x"] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad}");
        }
        assert!(format!("{text}0").parse::<WorkerId>().is_err());
        assert!(serde_json::from_str::<WorkerId>("\"x\"").is_err());
    }
}
