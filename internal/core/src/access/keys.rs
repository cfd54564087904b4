//! Keys and tokens as text: what is accepted, and how a new secret is made.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use shed_api::ShedName;
use shed_model::Rejection;
use shed_model::access::RSA_BITS;

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
    RSA,
];
/// The type of RSA keys.
const RSA: &str = "ssh-rsa";
/// The longest line of a key. An RSA key of 16384 bits has about 2,800 characters.
const MAX_KEY_BYTES: usize = 8 << 10;
/// The longest name of a key or token.
const MAX_LABEL_CHARS: usize = 100;
/// The command that makes a key which is accepted.
const MAKE_KEY: &str = "ssh-keygen -t ed25519";

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
        return Err(invalid(&format!("type {kind:?} is not accepted; make another: {MAKE_KEY}")));
    }
    let blob = STANDARD.decode(body).map_err(|_| invalid("the second word is not base64"))?;
    let Some((own_kind, rest)) = split_string(&blob).filter(|(own, _)| *own == kind.as_bytes())
    else {
        return Err(invalid("its type and its content differ"));
    };
    if own_kind == RSA.as_bytes() {
        let n_bits = rsa_bits(rest).ok_or_else(|| invalid("the RSA key is not complete"))?;
        if !RSA_BITS.contains(&n_bits) {
            let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
            return Err(invalid(&format!(
                "an RSA key of {n_bits} bits cannot log in; expected {least} to {most} bits; make another: {MAKE_KEY}"
            )));
        }
    }
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&blob)));
    Ok((format!("{kind} {body}"), fingerprint))
}

/// Splits off the first string of a blob: a length of four bytes, and as many bytes.
fn split_string(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// The size of an RSA key, given its blob without the type: the exponent, and the modulus.
fn rsa_bits(blob: &[u8]) -> Option<u32> {
    let (modulus, _) = split_string(split_string(blob)?.1)?;
    let n_zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(n_zeros)?;
    let n_bytes = u32::try_from(modulus.len() - n_zeros).ok()?;
    Some(n_bytes * u8::BITS - first.leading_zeros())
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

    /// An RSA key with this modulus; its type is written once more in it.
    fn rsa_line(modulus: &[u8]) -> String {
        let string =
            |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let blob = [string(RSA.as_bytes()), string(&[1, 0, 1]), string(modulus)].concat();
        format!("{RSA} {}", STANDARD.encode(blob))
    }

    #[test]
    fn rsa_keys_that_cannot_log_in_are_refused_with_their_size_and_a_command() {
        let of_bits = |n_bits: usize| {
            // A leading zero keeps the number positive, as ssh-keygen writes it.
            let mut modulus = vec![0xff; n_bits.div_ceil(8)];
            modulus[0] >>= (8 - n_bits % 8) % 8;
            [&[0][..], &modulus].concat()
        };
        for (n_bits, passes) in
            [(1024, false), (2047, false), (2048, true), (4096, true), (8192, true), (8193, false)]
        {
            match read_key(&rsa_line(&of_bits(n_bits))) {
                Ok(_) => assert!(passes, "{n_bits}"),
                Err(error) => {
                    let detail = error.problem().detail;
                    let size = format!("an RSA key of {n_bits} bits");
                    assert!(detail.contains(&size) && detail.contains(MAKE_KEY), "{detail}");
                    assert!(!passes, "{detail}");
                }
            }
        }
        for modulus in [&[][..], &[0, 0]] {
            let error = read_key(&rsa_line(modulus)).unwrap_err().problem().detail;
            assert!(error.contains("not complete"), "{error}");
        }
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let (a, b) = (new_secret(), new_secret());
        assert_ne!(a, b);
        assert_eq!(a.len(), TOKEN_PREFIX.len() + 43);
    }
}
