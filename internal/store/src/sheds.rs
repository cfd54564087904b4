//! What was asked for each shed, and where it stands. Whether a container exists, the engine knows.

use rusqlite::{Row, Transaction, params};
use shed_api::{Code, EventKind};

use shed_model::NewEvent;
use shed_model::shed::{ShedRow, ShedSpec, StatusChange};

use crate::{Store, StoreError, events, from_json, millis, parse, time, to_json};

impl Store {
    /// Every shed, by name.
    pub async fn sheds(&self) -> Result<Vec<ShedRow>, StoreError> {
        self.transact(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT name, status, reason, reason_code, wanted, created_at, status_since, spec \
                 FROM sheds ORDER BY name",
            )?;
            let mut rows = statement.query([])?;
            let mut sheds = Vec::new();
            while let Some(row) = rows.next()? {
                sheds.push(read(row)?);
            }
            Ok(sheds)
        })
        .await
    }

    /// Adds a shed that was not there.
    pub async fn add_shed(&self, row: ShedRow, event: NewEvent) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            insert(transaction, &row)?;
            events::add(transaction, &event)
        })
        .await
    }

    /// Writes a shed's new status, with its event.
    pub async fn set_status(
        &self,
        name: String,
        change: StatusChange,
        event: NewEvent,
    ) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            let (code, reason) = change.reason.unzip();
            transaction
                .prepare_cached(
                    "UPDATE sheds SET status = ?2, reason = ?3, reason_code = ?4, status_since = ?5, \
                     wanted = coalesce(?6, wanted) WHERE name = ?1",
                )?
                .execute(params![
                    name,
                    change.status.as_str(),
                    reason,
                    code.map(Code::as_str),
                    millis(event.at),
                    change.wanted,
                ])?;
            events::add(transaction, &event)
        })
        .await
    }

    /// Writes what is asked for from now on.
    pub async fn set_spec(
        &self,
        name: String,
        spec: ShedSpec,
        event: Option<NewEvent>,
    ) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            transaction
                .prepare_cached("UPDATE sheds SET spec = ?2 WHERE name = ?1")?
                .execute(params![name, to_json(&spec)?])?;
            event.map_or(Ok(()), |event| events::add(transaction, &event))
        })
        .await
    }

    /// Forgets a shed, with its event.
    pub async fn remove_shed(&self, name: String, event: NewEvent) -> Result<(), StoreError> {
        debug_assert_eq!(event.kind, EventKind::ShedRemoved);
        self.transact(move |transaction| {
            transaction.execute("DELETE FROM sheds WHERE name = ?1", [&name])?;
            events::add(transaction, &event)
        })
        .await?;
        // The write-ahead log has the row too. It is emptied; a failure means that it is emptied later.
        self.settle().await.ok();
        Ok(())
    }
}

fn insert(transaction: &Transaction<'_>, row: &ShedRow) -> Result<(), StoreError> {
    let inserted = transaction.execute(
        "INSERT INTO sheds (name, status, reason, reason_code, wanted, created_at, status_since, spec) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            row.name,
            row.status.as_str(),
            row.reason,
            row.reason_code.map(Code::as_str),
            row.wanted,
            millis(row.created_at),
            millis(row.status_since),
            to_json(&row.spec)?,
        ],
    );
    inserted.map(drop).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            StoreError::Exists(format!("shed {:?}", row.name))
        }
        _ => error.into(),
    })
}

fn read(row: &Row<'_>) -> Result<ShedRow, StoreError> {
    let code: Option<String> = row.get(3)?;
    // A code of a newer version is shown as our own fault rather than refused: the reason's text is what people read.
    let code = code.map(|word| Code::ALL.iter().copied().find(|code| code.as_str() == word));
    Ok(ShedRow {
        name: row.get(0)?,
        status: parse(&row.get::<_, String>(1)?)?,
        reason: row.get(2)?,
        reason_code: code.map(|code| code.unwrap_or(Code::Internal)),
        wanted: row.get(4)?,
        created_at: time(row.get(5)?)?,
        status_since: time(row.get(6)?)?,
        spec: from_json(&row.get::<_, String>(7)?)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};
    use shed_api::shed::{Limits, Network};
    use shed_api::{Actor, ShedStatus};

    use super::*;

    fn row(name: &str) -> ShedRow {
        let now = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        ShedRow {
            name: name.to_owned(),
            status: ShedStatus::Creating,
            reason: None,
            reason_code: None,
            wanted: true,
            created_at: now,
            status_since: now,
            spec: ShedSpec {
                image: "i".to_owned(),
                repo: None,
                branch: None,
                limits: Limits { cpus: 1.5, memory_bytes: 1 << 30, pids: 9 },
                network: Network::Open,
                mounts: Vec::new(),
                env: BTreeMap::new(),
                allow_agent_forwarding: false,
                git_identity: None,
                cloned: true,
                notes: Vec::new(),
                made_volumes: true,
                removal_keeps_volumes: false,
            },
        }
    }

    fn event(kind: EventKind, name: &str) -> NewEvent {
        NewEvent::new(Utc::now(), kind, Actor::Server).shed(name)
    }

    #[tokio::test]
    async fn a_change_and_its_event_are_one() {
        let store = Store::in_memory().unwrap();
        store.add_shed(row("a"), event(EventKind::ShedStatus, "a")).await.unwrap();
        assert_eq!(store.sheds().await.unwrap(), [row("a")]);
        let again = store.add_shed(row("a"), event(EventKind::ShedStatus, "a")).await;
        assert!(matches!(again, Err(StoreError::Exists(_))));
        assert_eq!(store.events(0, None).await.unwrap().len(), 1);
        let change = StatusChange {
            status: ShedStatus::Failed,
            reason: Some((Code::CloneFailed, "no".to_owned())),
            wanted: Some(false),
        };
        store.set_status("a".to_owned(), change, event(EventKind::ShedStatus, "a")).await.unwrap();
        let failed = store.sheds().await.unwrap().remove(0);
        assert_eq!((failed.status, failed.wanted), (ShedStatus::Failed, false));
        assert_eq!(failed.reason_code, Some(Code::CloneFailed));
        store.remove_shed("a".to_owned(), event(EventKind::ShedRemoved, "a")).await.unwrap();
        assert!(store.sheds().await.unwrap().is_empty());
        assert_eq!(store.events(0, None).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn the_environment_of_a_removed_shed_is_in_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut secret = row("a");
        secret.spec.env.insert("TOKEN".to_owned(), "a-secret-value".to_owned());
        store.add_shed(secret, event(EventKind::ShedStatus, "a")).await.unwrap();
        let holds_it = || {
            let files = std::fs::read_dir(dir.path()).unwrap().flatten();
            let mut contents = files.map(|file| std::fs::read(file.path()).unwrap());
            contents.any(|bytes| bytes.windows(14).any(|part| part == b"a-secret-value"))
        };
        assert!(holds_it(), "the test tests nothing");
        store.remove_shed("a".to_owned(), event(EventKind::ShedRemoved, "a")).await.unwrap();
        assert!(!holds_it());
    }

    #[tokio::test]
    async fn a_row_of_the_first_version_is_read() {
        let spec: ShedSpec =
            from_json(r#"{"image":"i","limits":{"cpus":1.0,"memory_bytes":1,"pids":1}}"#).unwrap();
        assert_eq!(spec.network, Network::Open);
    }
}
