//! Keys and tokens.

use shed_api::access::{IssuedToken, Key, KeyList, NewKey, NewToken, Token, TokenList};
use shed_api::{Actor, EventKind, Scope};
use shed_model::NewEvent;
use shed_model::Rejection;
use shed_model::access::TokenRow;
use shed_store::Store;

use crate::access::keys::{label, new_secret, read_key, shed_names};
use crate::access::{TOKEN_PREFIX, hash};
use crate::settings::Clock;
use crate::{Error, Person};

/// The mark in the database that the starting user's own keys were imported.
const IMPORTED: &str = "imported-own-keys";

/// Keys and tokens of a server, whether it runs or not.
#[derive(Debug, Clone)]
pub struct Credentials {
    store: Store,
    clock: Clock,
}

impl Credentials {
    /// The keys and tokens in this store.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// The holder of this token.
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

    /// The holder of the key with this fingerprint (`SHA256:…`), which the caller has proven to hold.
    pub async fn key_holder(&self, fingerprint: &str) -> Result<Option<Person>, Error> {
        let now = self.clock.now();
        let key = self.store.use_key(fingerprint.to_owned(), now).await?;
        Ok(key.map(|key| Person::holder(Actor::Key(key.name), key.scope, key.sheds)))
    }

    /// Whether a key with this fingerprint exists. Asked before the caller has proven anything, so it does not count as a
    /// use of the key.
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

    /// Creates a token and returns its secret, which is not stored.
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
                    "the expiry is too far in the future".to_owned(),
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
