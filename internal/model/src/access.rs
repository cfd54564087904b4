//! SSH keys and API tokens as they are stored.

use std::ops::RangeInclusive;

use shed_api::access::{Key, Token};

/// The sizes of RSA keys that may log in, in bits. Shorter ones are weak; the SSH server cannot check longer ones.
pub const RSA_BITS: RangeInclusive<u32> = 2048..=8192;

/// A key as it is stored: what the API shows.
pub type KeyRow = Key;

/// A token as it is stored: what the API shows, and the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// What the API shows.
    pub token: Token,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
}
