//! The log. Ids only grow, also across restarts; readers ask for what comes after the last one they saw.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use shed_api::{Actor, Event, EventKind, ShedStatus};
use shed_model::NewEvent;

use crate::{Store, StoreError, millis, parse, time};

/// How many events about the server, its keys and its tokens are kept.
const MAX_SERVER_EVENTS: i64 = 100_000;
/// How many events about all sheds are kept. At a busy thousand a day that is three months.
const MAX_SHED_EVENTS: i64 = 100_000;
/// How many events of one shed are kept that people caused.
const MAX_BY_PEOPLE: i64 = 10_000;
/// How many events of one shed are kept that its container may have caused.
const MAX_BY_CONTAINER: i64 = 5_000;
/// How many events of one shed are written in a minute that its container may have caused. Further ones are only counted.
const MAX_PER_MINUTE: i64 = 120;
/// A minute, in the unit of [`millis`].
const MINUTE: i64 = 60_000;

/// The most events one read returns.
const MAX_PAGE: i64 = 1_000;

/// Who can cause an event. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    /// It is about the server.
    Server = 0,
    /// A person did something with a shed.
    People = 1,
    /// The container of a shed may have caused it.
    Container = 2,
}

impl Share {
    fn of(event: &NewEvent) -> Self {
        match (&event.shed, &event.actor) {
            (None, _) => Self::Server,
            (Some(_), Actor::Shed(_) | Actor::Server) => Self::Container,
            (Some(_), _) => Self::People,
        }
    }
}

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

/// Writes one event in the caller's transaction, or counts it if the container of its shed causes too many.
pub(crate) fn add(transaction: &Transaction<'_>, event: &NewEvent) -> Result<(), StoreError> {
    let share = Share::of(event);
    if let (Share::Container, Some(shed)) = (share, &event.shed)
        && is_limited(event.kind)
        && is_full(transaction, shed, millis(event.at))?
    {
        return skip(transaction, shed, event);
    }
    insert(transaction, event, share)
}

/// Whether a container can cause events of this kind as often as it likes. Those of the engine are not limited.
fn is_limited(kind: EventKind) -> bool {
    !matches!(kind, EventKind::ShedStatus | EventKind::ShedAdopted | EventKind::ShedRemoved)
}

fn minute_of(at: i64) -> i64 {
    at - at.rem_euclid(MINUTE)
}

/// Whether the container of a shed has caused as many events in this minute as are written.
fn is_full(transaction: &Transaction<'_>, shed: &str, now: i64) -> Result<bool, StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT at FROM events WHERE shed = ?1 AND share = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3",
    )?;
    let at = statement
        .query_row(params![shed, Share::Container as i64, MAX_PER_MINUTE - 1], |row| {
            row.get::<_, i64>(0)
        });
    Ok(at.optional()?.is_some_and(|at| minute_of(at) == minute_of(now)))
}

/// Counts an event that is not written, in the one row that says so for this minute.
fn skip(transaction: &Transaction<'_>, shed: &str, event: &NewEvent) -> Result<(), StoreError> {
    let newest = transaction
        .prepare_cached(
            "SELECT id, at, note FROM events WHERE shed = ?1 AND share = ?2 AND kind = ?3 \
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row(
            params![shed, Share::Container as i64, EventKind::EventsSkipped.as_str()],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)),
        )
        .optional()?;
    let this_minute = newest.filter(|(_, at, _)| minute_of(*at) == minute_of(millis(event.at)));
    let Some((id, _, note)) = this_minute else {
        let row = NewEvent::new(event.at, EventKind::EventsSkipped, Actor::Server);
        return insert(transaction, &row.shed(shed).note("1"), Share::Container);
    };
    let n_skipped = note.parse::<i64>().unwrap_or_default() + 1;
    transaction
        .prepare_cached("UPDATE events SET note = ?1 WHERE id = ?2")?
        .execute(params![n_skipped.to_string(), id])?;
    Ok(())
}

fn insert(transaction: &Transaction<'_>, event: &NewEvent, share: Share) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO events (at, kind, actor, shed, session, status, note, share) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            millis(event.at),
            event.kind.as_str(),
            event.actor.to_string(),
            event.shed,
            event.session,
            event.status.map(ShedStatus::as_str),
            event.note,
            share as i64,
        ])?;
    let id = transaction.last_insert_rowid();
    if id % 16 == 0
        && let Some(shed) = &event.shed
    {
        prune_shed(transaction, shed, Share::People, MAX_BY_PEOPLE)?;
        prune_shed(transaction, shed, Share::Container, MAX_BY_CONTAINER)?;
    }
    if id % 1_000 == 0 {
        prune(transaction)?;
    }
    Ok(())
}

/// Deletes the oldest events of a shed's share.
fn prune_shed(
    transaction: &Transaction<'_>,
    shed: &str,
    share: Share,
    max: i64,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "DELETE FROM events WHERE shed = ?1 AND share = ?2 AND id <= \
             (SELECT id FROM events WHERE shed = ?1 AND share = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute(params![shed, share as i64, max])?;
    Ok(())
}

/// Deletes the oldest events about sheds, and the oldest about the server.
fn prune(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    for (whose, max) in [("share > 0", MAX_SHED_EVENTS), ("share = 0", MAX_SERVER_EVENTS)] {
        let oldest =
            format!("SELECT id FROM events WHERE {whose} ORDER BY id DESC LIMIT 1 OFFSET ?1");
        let delete = format!("DELETE FROM events WHERE {whose} AND id <= ({oldest})");
        transaction.prepare_cached(&delete)?.execute([max])?;
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

    fn at(seconds: i64) -> chrono::DateTime<Utc> {
        chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    async fn all(store: &Store) -> Vec<Event> {
        let (mut events, mut after) = (Vec::new(), 0);
        loop {
            let page = store.events(after, None).await.unwrap();
            let Some(last) = page.last() else {
                return events;
            };
            after = last.id;
            events.extend(page);
        }
    }

    #[tokio::test]
    async fn a_container_that_causes_many_events_in_a_minute_gets_one_row_for_the_rest() {
        let store = Store::in_memory().unwrap();
        let actor = Actor::Shed("a".parse().unwrap());
        let event =
            |second| NewEvent::new(at(second), EventKind::SessionCreated, actor.clone()).shed("a");
        let n_skipped = 30;
        let limit = usize::try_from(MAX_PER_MINUTE).unwrap();
        store.add_events((0..limit + n_skipped).map(|_| event(0)).collect()).await.unwrap();
        // Others, people, and what the engine reports are not limited by it.
        let removed = |kind, actor| NewEvent::new(at(1), kind, actor).shed("a");
        store
            .add_events(vec![
                removed(EventKind::SessionRemoved, Actor::Local("me".to_owned())),
                removed(EventKind::ShedStatus, Actor::Server),
                NewEvent::new(at(1), EventKind::LinkUp, Actor::Server).shed("b"),
            ])
            .await
            .unwrap();
        store.add_events(vec![event(60)]).await.unwrap();
        let events = all(&store).await;
        let kinds: Vec<_> = events[limit..].iter().map(|event| event.kind).collect();
        assert_eq!(
            kinds,
            [
                EventKind::EventsSkipped,
                EventKind::SessionRemoved,
                EventKind::ShedStatus,
                EventKind::LinkUp,
                EventKind::SessionCreated
            ]
        );
        assert_eq!(events[limit].note, Some(n_skipped.to_string()));
        assert_eq!(events[limit].shed.as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn a_shed_pushes_out_only_its_own_events() {
        let store = Store::in_memory().unwrap();
        let me = Actor::Local("me".to_owned());
        let first = [
            NewEvent::new(at(0), EventKind::TokenAdded, me.clone()),
            NewEvent::new(at(0), EventKind::LinkUp, Actor::Server).shed("b"),
            NewEvent::new(at(0), EventKind::ShedChanged, me).shed("a"),
        ];
        store.add_events(first.to_vec()).await.unwrap();
        let actor = Actor::Shed("a".parse().unwrap());
        let many = 3 * MAX_BY_CONTAINER;
        let flood = (0..many).map(|n| {
            // A minute apart, so that none is skipped.
            NewEvent::new(at(60 * n), EventKind::SessionCreated, actor.clone()).shed("a")
        });
        store.add_events(flood.collect()).await.unwrap();
        let events = all(&store).await;
        let kinds: Vec<_> = events.iter().take(4).map(|event| event.kind).collect();
        assert_eq!(
            kinds,
            [
                EventKind::TokenAdded,
                EventKind::LinkUp,
                EventKind::ShedChanged,
                EventKind::SessionCreated
            ]
        );
        let n_flood = events.iter().filter(|event| event.actor == "shed:a").count();
        let max = usize::try_from(MAX_BY_CONTAINER).unwrap();
        assert!((max..max + 16).contains(&n_flood), "{n_flood}");
        assert_eq!(events.last().unwrap().id, 3 + many);
    }

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
