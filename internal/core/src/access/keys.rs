//! Keys and tokens as text: what is accepted, and how a new secret is made.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use shed_api::ShedName;
use shed_model::Rejection;

use crate::Error;
use crate::access::TOKEN_PREFIX;

/// The accepted key types. RSA is for users' old keys only; the host key is never RSA.
const KEY_TYPES: &[&str] = &[
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];
/// The longest line of a key. An RSA key of 16384 bits has about 2,800 characters.
const MAX_KEY_BYTES: usize = 8 << 10;
/// The longest name of a key or token.
const MAX_LABEL_CHARS: usize = 100;
/// 256 random bits. A version 4 UUID has 122 of them.
pub(crate) fn new_secret() -> String {
    let parts = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
    }
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.finalize());
    format!("{TOKEN_PREFIX}{encoded}")
}

pub(crate) fn label(given: &str) -> Result<String, Error> {
    let label = given.trim();
    let good = !label.is_empty()
        && label.chars().count() <= MAX_LABEL_CHARS
        && !label.contains(char::is_control);
    if good {
        Ok(label.to_owned())
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!(
            "invalid name {given:?}; expected 1 to {MAX_LABEL_CHARS} characters, no control characters"
        ))))
    }
}

pub(crate) fn shed_names(given: &[String]) -> Result<Vec<String>, Error> {
    given.iter().map(|name| Ok(name.parse::<ShedName>()?.to_string())).collect()
}

/// Reads a line of an `id_*.pub`: type and key without comment, and the fingerprint.
pub(crate) fn read_key(line: &str) -> Result<(String, String), Error> {
    let invalid =
        |why: &str| Error::Rejected(Rejection::Invalid(format!("invalid public key: {why}")));
    if line.len() > MAX_KEY_BYTES {
        return Err(invalid("it is too long"));
    }
    if line.contains("PRIVATE KEY") {
        return Err(invalid("it is a private key; keep it secret and give the .pub file"));
    }
    let mut words = line.split_whitespace();
    let (Some(kind), Some(body)) = (words.next(), words.next()) else {
        return Err(invalid("expected a type and a base64 text, as in id_ed25519.pub"));
    };
    if !KEY_TYPES.contains(&kind) {
        return Err(invalid(&format!("type {kind:?} is not accepted; use ssh-ed25519")));
    }
    let blob = STANDARD.decode(body).map_err(|_| invalid("the second word is not base64"))?;
    // The blob begins with its own type: a length of four bytes and the word.
    let own_kind = blob
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.get(..u32::from_be_bytes(*length) as usize));
    if own_kind != Some(kind.as_bytes()) {
        return Err(invalid("its type and its content differ"));
    }
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&blob)));
    Ok((format!("{kind} {body}"), fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `ssh-keygen -t ed25519`; fingerprint by `ssh-keygen -lf`.
    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqyXfZSxQRzPoPYxmkOMjhBNZtCJfEDDlXnpfuqvQdE me@laptop";

    #[test]
    fn a_public_key_is_read_without_its_comment() {
        let (key, fingerprint) = read_key(LINE).unwrap();
        assert!(key.starts_with("ssh-ed25519 AAAA") && !key.contains("laptop"));
        assert!(fingerprint.starts_with("SHA256:") && fingerprint.len() == 50);
    }

    #[test]
    fn anything_but_a_public_key_is_refused_with_a_reason() {
        let swapped = LINE.replacen("ssh-ed25519", "ssh-rsa", 1);
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-dss AAAA",
            "ssh-ed25519 !!!",
            &swapped,
            "-----BEGIN OPENSSH PRIVATE KEY-----",
        ] {
            assert!(
                matches!(read_key(bad), Err(Error::Rejected(Rejection::Invalid(_)))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let (a, b) = (new_secret(), new_secret());
        assert_ne!(a, b);
        assert_eq!(a.len(), TOKEN_PREFIX.len() + 43);
    }
}
