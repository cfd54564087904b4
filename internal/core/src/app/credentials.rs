//! Keys and tokens: who is who, and who may change that.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use shed_api::access::{IssuedToken, Key, KeyList, NewKey, NewToken, Token, TokenList};
use shed_api::{Actor, EventKind, Scope, ShedName};
use shed_model::NewEvent;
use shed_model::Rejection;
use shed_model::access::TokenRow;
use shed_store::Store;

use super::App;
use crate::access::{TOKEN_PREFIX, hash};
use crate::settings::Clock;
use crate::{Error, Person};

/// The key types that are taken. RSA is for verification of users' own old keys only; the host key is never RSA.
const KEY_TYPES: &[&str] = &[
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];
/// A key's line. An RSA key of 16384 bits has about 2,800 characters.
const MAX_KEY_BYTES: usize = 8 << 10;
/// A name of a key or token.
const MAX_LABEL_CHARS: usize = 100;
/// The mark that says: the starting user's own keys were imported.
const IMPORTED: &str = "imported-own-keys";

/// Keys and tokens of a server, whether it runs or not.
#[derive(Debug, Clone)]
pub struct Credentials {
    store: Store,
    clock: Clock,
}

impl App {
    /// Keys and tokens.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(self.server.store.clone(), self.server.clock)
    }
}

impl Credentials {
    /// Those in this store.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Whoever holds this token.
    pub async fn token_holder(&self, secret: &str) -> Result<Person, Error> {
        const REFUSED: Error = Error::Unauthorized("the token is unknown or has expired");
        if !secret.starts_with(TOKEN_PREFIX) || secret.len() > 256 {
            return Err(REFUSED);
        }
        let now = self.clock.now();
        let token = self.store.use_token(hash(secret), now).await?.ok_or(REFUSED)?;
        if token.expires_at.is_some_and(|at| at <= now) {
            return Err(REFUSED);
        }
        Ok(Person::holder(Actor::Token(token.name), token.scope, token.sheds))
    }

    /// Whoever holds the key with this fingerprint (`SHA256:…`), proven by the caller.
    pub async fn key_holder(&self, fingerprint: &str) -> Result<Option<Person>, Error> {
        let now = self.clock.now();
        let key = self.store.use_key(fingerprint.to_owned(), now).await?;
        Ok(key.map(|key| Person::holder(Actor::Key(key.name), key.scope, key.sheds)))
    }

    /// Whether somebody holds the key with this fingerprint. Asked before the caller has proven anything; it does not
    /// count as a use of the key.
    pub async fn knows_key(&self, fingerprint: &str) -> Result<bool, Error> {
        Ok(self.store.keys().await?.iter().any(|key| key.fingerprint == fingerprint))
    }

    /// Every key.
    pub async fn keys(&self, person: &Person) -> Result<KeyList, Error> {
        person.may_server(Scope::Admin, "to see keys")?;
        Ok(KeyList { keys: self.store.keys().await? })
    }

    /// Adds a key.
    pub async fn add_key(&self, person: &Person, request: NewKey) -> Result<Key, Error> {
        person.may_server(Scope::Admin, "to add a key")?;
        let (public_key, fingerprint) = read_key(&request.public_key)?;
        let now = self.clock.now();
        let key = Key {
            id: uuid::Uuid::now_v7().to_string(),
            name: label(&request.name)?,
            fingerprint,
            public_key,
            scope: request.scope,
            sheds: shed_names(&request.sheds)?,
            created_at: now,
            last_used_at: None,
        };
        let note = format!("{} {} {}", key.name, key.scope, key.fingerprint);
        let event = NewEvent::new(now, EventKind::KeyAdded, person.actor.clone()).note(note);
        self.store.add_key(key.clone(), event).await?;
        Ok(key)
    }

    /// Removes a key by id. Connections it has open are not ended; new ones are refused.
    pub async fn remove_key(&self, person: &Person, id: &str) -> Result<(), Error> {
        person.may_server(Scope::Admin, "to remove a key")?;
        let now = self.clock.now();
        let event = NewEvent::new(now, EventKind::KeyRemoved, person.actor.clone()).note(id);
        if self.store.remove_key(id.to_owned(), event).await? {
            Ok(())
        } else {
            Err(Error::Rejected(Rejection::NotFound(format!("key with id {id:?}"))))
        }
    }

    /// Imports public keys once in the life of a data directory; returns the names of those that were added.
    pub async fn import_own_keys(
        &self,
        lines: Vec<(String, String)>,
    ) -> Result<Vec<String>, Error> {
        if self.store.mark(IMPORTED).await?.is_some() {
            return Ok(Vec::new());
        }
        let server =
            Person { actor: Actor::Server, scope: Scope::Admin, sheds: None, local_uid: None };
        let mut added = Vec::new();
        for (name, public_key) in lines {
            let request = NewKey { name, public_key, scope: Scope::Admin, sheds: Vec::new() };
            match self.add_key(&server, request).await {
                Ok(key) => added.push(format!("{} {}", key.name, key.fingerprint)),
                Err(error) => tracing::warn!(%error, "a public key was not imported"),
            }
        }
        self.store.set_mark(IMPORTED, self.clock.now().to_rfc3339()).await?;
        Ok(added)
    }

    /// Every token, without secrets.
    pub async fn tokens(&self, person: &Person) -> Result<TokenList, Error> {
        person.may_server(Scope::Admin, "to see tokens")?;
        Ok(TokenList { tokens: self.store.tokens().await? })
    }

    /// Makes a token and shows its secret, once.
    pub async fn add_token(
        &self,
        person: &Person,
        request: NewToken,
    ) -> Result<IssuedToken, Error> {
        person.may_server(Scope::Admin, "to make a token")?;
        let now = self.clock.now();
        let expires_at = request.expires_in_seconds.map(|seconds| {
            let seconds = i64::try_from(seconds).ok().and_then(chrono::Duration::try_seconds);
            seconds.and_then(|seconds| now.checked_add_signed(seconds))
        });
        let expires_at = match expires_at {
            Some(None) => {
                return Err(Error::Rejected(Rejection::Invalid(
                    "that is too far in the future".to_owned(),
                )));
            }
            Some(at) => at,
            None => None,
        };
        let secret = new_secret();
        let token = Token {
            id: uuid::Uuid::now_v7().to_string(),
            name: label(&request.name)?,
            scope: request.scope,
            sheds: shed_names(&request.sheds)?,
            created_at: now,
            expires_at,
            last_used_at: None,
        };
        let note = format!("{} {}", token.name, token.scope);
        let event = NewEvent::new(now, EventKind::TokenAdded, person.actor.clone()).note(note);
        let id = token.id.clone();
        self.store.add_token(TokenRow { token, hash: hash(&secret) }, event).await?;
        Ok(IssuedToken { id, token: secret, expires_at })
    }

    /// Revokes a token by id, from the next request on.
    pub async fn remove_token(&self, person: &Person, id: &str) -> Result<(), Error> {
        person.may_server(Scope::Admin, "to revoke a token")?;
        let now = self.clock.now();
        let event = NewEvent::new(now, EventKind::TokenRemoved, person.actor.clone()).note(id);
        if self.store.remove_token(id.to_owned(), event).await? {
            Ok(())
        } else {
            Err(Error::Rejected(Rejection::NotFound(format!("token with id {id:?}"))))
        }
    }
}

/// 256 random bits. A version 4 UUID has 122 of them.
fn new_secret() -> String {
    let parts = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
    }
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.finalize());
    format!("{TOKEN_PREFIX}{encoded}")
}

fn label(given: &str) -> Result<String, Error> {
    let label = given.trim();
    let good = !label.is_empty()
        && label.chars().count() <= MAX_LABEL_CHARS
        && !label.contains(char::is_control);
    if good {
        Ok(label.to_owned())
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!("{given:?} is no name for a key or token"))))
    }
}

fn shed_names(given: &[String]) -> Result<Vec<String>, Error> {
    given.iter().map(|name| Ok(name.parse::<ShedName>()?.to_string())).collect()
}

/// Reads a line of an `id_*.pub`: type and key without comment, and the fingerprint.
pub(crate) fn read_key(line: &str) -> Result<(String, String), Error> {
    let invalid =
        |why: &str| Error::Rejected(Rejection::Invalid(format!("that is no public key: {why}")));
    if line.len() > MAX_KEY_BYTES {
        return Err(invalid("it is too long"));
    }
    if line.contains("PRIVATE KEY") {
        return Err(invalid("it is a private key; keep it to yourself and give the .pub file"));
    }
    let mut words = line.split_whitespace();
    let (Some(kind), Some(body)) = (words.next(), words.next()) else {
        return Err(invalid("expected a type and a base64 text, as in id_ed25519.pub"));
    };
    if !KEY_TYPES.contains(&kind) {
        return Err(invalid(&format!("type {kind:?} is not taken; use ssh-ed25519")));
    }
    let blob = STANDARD.decode(body).map_err(|_| invalid("the second word is no base64"))?;
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
    fn what_is_no_public_key_is_refused_with_a_reason() {
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
