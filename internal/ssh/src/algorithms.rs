//! The algorithms that the server offers, and the keys that it accepts. Pure.

use std::borrow::Cow;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use russh::{Preferred, cipher, compression, kex, mac};
use shed_model::access::RSA_BITS;

/// No SHA-1, CBC or NIST curves. The `ext` and `strict` names are extensions, not algorithms:
/// they enable `rsa-sha2` for clients' keys and the countermeasure against the Terrapin attack.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// The last two compute the MAC of the plain text. They are for clients with a libssh2 before 1.11 (curl, PHP, Perl), which know
/// no others; a client that knows both kinds chooses by its own preference.
const MACS: &[mac::Name] =
    &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// Signature algorithms that clients' keys may use. As a host key only the first exists.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// The algorithms that the server offers. No compression: it costs more than it gains on today's data.
pub(crate) fn offered() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// Whether a key is accepted, used with this signature algorithm.
pub(crate) fn is_acceptable(key: &PublicKey, algorithm: &Algorithm) -> bool {
    let has_good_size = match key.key_data() {
        KeyData::Rsa(rsa) => RSA_BITS.contains(&rsa.key_size()),
        _ => true,
    };
    has_good_size && KEYS.contains(algorithm)
}

/// A key's SHA-256 fingerprint, which identifies it in the store.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
