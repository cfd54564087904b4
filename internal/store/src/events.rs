//! The log. Ids only grow, also across restarts; readers ask for what comes after the last one they saw.

use rusqlite::{Row, Transaction, params};
use shed_api::{Event, ShedStatus};
use shed_model::NewEvent;

use crate::{Store, StoreError, millis, parse, time};

/// How many events are kept. At a busy thousand a day that is three months.
const MAX_EVENTS: i64 = 100_000;

/// The most events one read returns.
const MAX_PAGE: i64 = 1_000;

impl Store {
    /// Writes events that go with no other change.
    pub async fn add_events(&self, events: Vec<NewEvent>) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            events.iter().try_for_each(|event| add(transaction, event))
        })
        .await
    }

    /// Events after `after`, oldest first, at most a thousand; of one shed if named.
    pub async fn events(&self, after: i64, shed: Option<String>) -> Result<Vec<Event>, StoreError> {
        self.transact(move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT id, at, kind, actor, shed, session, status, note FROM events \
                 WHERE id > ?1 AND (?2 IS NULL OR shed = ?2) ORDER BY id LIMIT ?3",
            )?;
            let mut rows = statement.query(params![after, shed, MAX_PAGE])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                events.push(read(row)?);
            }
            Ok(events)
        })
        .await
    }
}

pub(crate) fn newest(transaction: &Transaction<'_>) -> Result<i64, StoreError> {
    let mut statement = transaction.prepare_cached("SELECT coalesce(max(id), 0) FROM events")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Writes one event in the caller's transaction.
pub(crate) fn add(transaction: &Transaction<'_>, event: &NewEvent) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO events (at, kind, actor, shed, session, status, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            millis(event.at),
            event.kind.as_str(),
            event.actor.to_string(),
            event.shed,
            event.session,
            event.status.map(ShedStatus::as_str),
            event.note,
        ])?;
    let id = transaction.last_insert_rowid();
    if id % 1_000 == 0 {
        transaction.execute("DELETE FROM events WHERE id <= ?1", [id - MAX_EVENTS])?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Event, StoreError> {
    let status: Option<String> = row.get(6)?;
    Ok(Event {
        id: row.get(0)?,
        at: time(row.get(1)?)?,
        kind: parse(&row.get::<_, String>(2)?)?,
        actor: row.get(3)?,
        shed: row.get(4)?,
        session: row.get(5)?,
        status: status.as_deref().map(parse).transpose()?,
        note: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use shed_api::{Actor, EventKind};

    use super::*;

    #[tokio::test]
    async fn readers_get_what_comes_after_and_the_bell_rings() {
        let store = Store::in_memory().unwrap();
        let mut bell = store.bell();
        let event =
            |shed: &str| NewEvent::new(Utc::now(), EventKind::LinkUp, Actor::Server).shed(shed);
        store.add_events(vec![event("a"), event("b")]).await.unwrap();
        bell.changed().await.unwrap();
        assert_eq!(*bell.borrow(), 2);
        store.add_events(vec![event("a").note("again")]).await.unwrap();
        let all = store.events(0, None).await.unwrap();
        assert_eq!(all.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2, 3]);
        let later = store.events(1, Some("a".to_owned())).await.unwrap();
        assert_eq!(later.len(), 1);
        assert_eq!(later[0].note.as_deref(), Some("again"));
    }
}
