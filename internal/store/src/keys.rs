//! SSH keys, API tokens and marks.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};
use shed_api::Scope;
use shed_api::access::{Key, Token};
use shed_model::access::{KeyRow, TokenRow};

use shed_model::NewEvent;

use crate::{Store, StoreError, events, from_json, millis, parse, time, to_json};

/// How stale `last_used_at` may be, so that not every request is a write.
const USED_GRAIN_MS: i64 = 60_000;

const KEY_COLUMNS: &str =
    "SELECT id, name, fingerprint, public_key, scope, sheds, created_at, last_used_at FROM keys";
const TOKEN_COLUMNS: &str =
    "SELECT id, name, scope, sheds, created_at, expires_at, last_used_at FROM tokens";

impl Store {
    /// Every key, by name.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        self.transact(|transaction| {
            let mut statement =
                transaction.prepare_cached(&format!("{KEY_COLUMNS} ORDER BY name"))?;
            let mut rows = statement.query([])?;
            let mut keys = Vec::new();
            while let Some(row) = rows.next()? {
                keys.push(read_key(row)?);
            }
            Ok(keys)
        })
        .await
    }

    /// The key with a fingerprint. The use is noted.
    pub async fn use_key(
        &self,
        fingerprint: String,
        now: DateTime<Utc>,
    ) -> Result<Option<KeyRow>, StoreError> {
        self.transact(move |transaction| {
            let sql = format!("{KEY_COLUMNS} WHERE fingerprint = ?1");
            let mut statement = transaction.prepare_cached(&sql)?;
            let key = statement
                .query_row([&fingerprint], |row| Ok(read_key(row)))
                .optional()?
                .transpose()?;
            if let Some(key) = &key
                && is_stale(key.last_used_at, now)
            {
                transaction.execute(
                    "UPDATE keys SET last_used_at = ?2 WHERE id = ?1",
                    params![key.id, millis(now)],
                )?;
            }
            Ok(key)
        })
        .await
    }

    /// Adds a key.
    pub async fn add_key(&self, key: KeyRow, event: NewEvent) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            let inserted = transaction.execute(
                "INSERT INTO keys (id, name, fingerprint, public_key, scope, sheds, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    key.id,
                    key.name,
                    key.fingerprint,
                    key.public_key,
                    key.scope.as_str(),
                    to_json(&key.sheds)?,
                    millis(key.created_at),
                ],
            );
            inserted.map_err(|error| {
                taken(error, &format!("a key named {:?} or with this fingerprint", key.name))
            })?;
            events::add(transaction, &event)
        })
        .await
    }

    /// Removes a key by id; false if there is none.
    pub async fn remove_key(&self, id: String, event: NewEvent) -> Result<bool, StoreError> {
        self.transact(move |transaction| {
            let n_gone = transaction.execute("DELETE FROM keys WHERE id = ?1", [&id])?;
            if n_gone > 0 {
                events::add(transaction, &event)?;
            }
            Ok(n_gone > 0)
        })
        .await
    }

    /// Every token, by name.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.transact(|transaction| {
            let mut statement =
                transaction.prepare_cached(&format!("{TOKEN_COLUMNS} ORDER BY name"))?;
            let mut rows = statement.query([])?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                tokens.push(read_token(row)?);
            }
            Ok(tokens)
        })
        .await
    }

    /// The token whose secret has this hash, expired or not. The use is noted.
    pub async fn use_token(
        &self,
        hash: [u8; 32],
        now: DateTime<Utc>,
    ) -> Result<Option<Token>, StoreError> {
        self.transact(move |transaction| {
            let sql = format!("{TOKEN_COLUMNS} WHERE hash = ?1");
            let mut statement = transaction.prepare_cached(&sql)?;
            let token = statement
                .query_row([&hash[..]], |row| Ok(read_token(row)))
                .optional()?
                .transpose()?;
            if let Some(token) = &token
                && is_stale(token.last_used_at, now)
            {
                transaction.execute(
                    "UPDATE tokens SET last_used_at = ?2 WHERE id = ?1",
                    params![token.id, millis(now)],
                )?;
            }
            Ok(token)
        })
        .await
    }

    /// Adds a token.
    pub async fn add_token(&self, row: TokenRow, event: NewEvent) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            let TokenRow { token, hash } = &row;
            let inserted = transaction.execute(
                "INSERT INTO tokens (id, name, hash, scope, sheds, created_at, expires_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    token.id,
                    token.name,
                    &hash[..],
                    token.scope.as_str(),
                    to_json(&token.sheds)?,
                    millis(token.created_at),
                    token.expires_at.map(millis),
                ],
            );
            inserted.map_err(|error| taken(error, &format!("a token named {:?}", token.name)))?;
            events::add(transaction, &event)
        })
        .await
    }

    /// Revokes a token by id; false if there is none.
    pub async fn remove_token(&self, id: String, event: NewEvent) -> Result<bool, StoreError> {
        self.transact(move |transaction| {
            let n_gone = transaction.execute("DELETE FROM tokens WHERE id = ?1", [&id])?;
            if n_gone > 0 {
                events::add(transaction, &event)?;
            }
            Ok(n_gone > 0)
        })
        .await
    }

    /// A mark's value.
    pub async fn mark(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        self.transact(move |transaction| {
            let sql = "SELECT value FROM marks WHERE name = ?1";
            Ok(transaction.query_row(sql, [name], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Sets a mark.
    pub async fn set_mark(&self, name: &'static str, value: String) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            transaction
                .execute("INSERT OR REPLACE INTO marks VALUES (?1, ?2)", params![name, value])?;
            Ok(())
        })
        .await
    }
}

fn is_stale(last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    last.is_none_or(|last| millis(now) - millis(last) > USED_GRAIN_MS)
}

fn taken(error: rusqlite::Error, what: &str) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Exists(what.to_owned()),
        _ => error.into(),
    }
}

fn scope(word: &str) -> Result<Scope, StoreError> {
    parse(word)
}

fn read_key(row: &Row<'_>) -> Result<KeyRow, StoreError> {
    Ok(Key {
        id: row.get(0)?,
        name: row.get(1)?,
        fingerprint: row.get(2)?,
        public_key: row.get(3)?,
        scope: scope(&row.get::<_, String>(4)?)?,
        sheds: from_json(&row.get::<_, String>(5)?)?,
        created_at: time(row.get(6)?)?,
        last_used_at: row.get::<_, Option<i64>>(7)?.map(time).transpose()?,
    })
}

fn read_token(row: &Row<'_>) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.get(0)?,
        name: row.get(1)?,
        scope: scope(&row.get::<_, String>(2)?)?,
        sheds: from_json(&row.get::<_, String>(3)?)?,
        created_at: time(row.get(4)?)?,
        expires_at: row.get::<_, Option<i64>>(5)?.map(time).transpose()?,
        last_used_at: row.get::<_, Option<i64>>(6)?.map(time).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use shed_api::{Actor, EventKind};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000).unwrap()
    }

    fn event(kind: EventKind) -> NewEvent {
        NewEvent::new(now(), kind, Actor::Server)
    }

    fn key(name: &str) -> KeyRow {
        Key {
            id: format!("id-{name}"),
            name: name.to_owned(),
            fingerprint: format!("SHA256:{name}"),
            public_key: "ssh-ed25519 AAAA".to_owned(),
            scope: Scope::Drive,
            sheds: vec!["a".to_owned()],
            created_at: now(),
            last_used_at: None,
        }
    }

    #[tokio::test]
    async fn a_key_is_found_by_its_fingerprint_and_its_use_is_noted() {
        let store = Store::in_memory().unwrap();
        store.add_key(key("laptop"), event(EventKind::KeyAdded)).await.unwrap();
        let found = store.use_key("SHA256:laptop".to_owned(), now()).await.unwrap();
        assert_eq!(found, Some(key("laptop")));
        assert_eq!(store.keys().await.unwrap()[0].last_used_at, Some(now()));
        assert_eq!(store.use_key("SHA256:other".to_owned(), now()).await.unwrap(), None);
        let twice = store.add_key(key("laptop"), event(EventKind::KeyAdded)).await;
        assert!(matches!(twice, Err(StoreError::Exists(_))));
        assert!(
            store.remove_key("id-laptop".to_owned(), event(EventKind::KeyRemoved)).await.unwrap()
        );
        assert!(
            !store.remove_key("id-laptop".to_owned(), event(EventKind::KeyRemoved)).await.unwrap()
        );
        assert_eq!(store.events(0, None).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_token_is_found_by_its_hash_alone() {
        let store = Store::in_memory().unwrap();
        let token = Token {
            id: "t1".to_owned(),
            name: "ci".to_owned(),
            scope: Scope::Read,
            sheds: Vec::new(),
            created_at: now(),
            expires_at: Some(now()),
            last_used_at: None,
        };
        let row = TokenRow { token: token.clone(), hash: [7; 32] };
        store.add_token(row, event(EventKind::TokenAdded)).await.unwrap();
        assert_eq!(store.use_token([7; 32], now()).await.unwrap(), Some(token));
        assert_eq!(store.use_token([8; 32], now()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn marks_are_kept() {
        let store = Store::in_memory().unwrap();
        assert_eq!(store.mark("a").await.unwrap(), None);
        store.set_mark("a", "1".to_owned()).await.unwrap();
        assert_eq!(store.mark("a").await.unwrap().as_deref(), Some("1"));
    }
}
