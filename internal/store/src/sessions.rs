//! The sessions that shed made, and their workers. What runs of them, the shed knows.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use shed_model::NewEvent;
use shed_model::session::{LayoutRow, SessionIds, SessionRow, StoredSessions, Unreadable};
use shed_model::worker::WorkerRow;

use crate::{Store, StoreError, events, from_json, millis, parse, time, to_json};

impl Store {
    /// A shed's sessions and workers. A row that cannot be read hides no other.
    pub async fn stored_sessions(&self, shed: String) -> Result<StoredSessions, StoreError> {
        self.transact(move |transaction| {
            let mut stored = StoredSessions::default();
            let mut statement = transaction.prepare_cached(
                "SELECT id, shed, name, status, reason, created_at, status_since, spec \
                 FROM sessions WHERE shed = ?1 ORDER BY created_at, id",
            )?;
            let mut rows = statement.query([&shed])?;
            while let Some(row) = rows.next()? {
                match read_session(row) {
                    Ok(session) => stored.sessions.push(session),
                    Err(error) => stored.unreadable.push(unreadable(row, 0, &error)?),
                }
            }
            let mut statement = transaction.prepare_cached(
                "SELECT w.id, w.session, w.name, w.status, w.epoch, w.exit, w.reason, w.created_at, \
                 w.started_at, w.ended_at, w.spec FROM workers w JOIN sessions s ON s.id = w.session \
                 WHERE s.shed = ?1 ORDER BY w.created_at, w.rowid",
            )?;
            let mut rows = statement.query([&shed])?;
            while let Some(row) = rows.next()? {
                match read_worker(row) {
                    Ok(worker) => stored.workers.push(worker),
                    Err(error) => stored.unreadable.push(unreadable(row, 1, &error)?),
                }
            }
            Ok(stored)
        })
        .await
    }

    /// Adds a session with its first workers.
    pub async fn add_session(
        &self,
        session: SessionRow,
        workers: Vec<WorkerRow>,
        happened: Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            put_session(transaction, &session, true)?;
            workers.iter().try_for_each(|worker| put_worker(transaction, worker))?;
            happened.iter().try_for_each(|event| events::add(transaction, event))
        })
        .await
    }

    /// Writes what changed of one session: its row, some of its workers, and what happened.
    pub async fn write_session(
        &self,
        session: Option<SessionRow>,
        workers: Vec<WorkerRow>,
        happened: Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            if let Some(session) = &session {
                put_session(transaction, session, false)?;
            }
            workers.iter().try_for_each(|worker| put_worker(transaction, worker))?;
            happened.iter().try_for_each(|event| events::add(transaction, event))
        })
        .await
    }

    /// Forgets a session and its workers.
    pub async fn remove_session(&self, id: String, event: NewEvent) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            keep_repository(transaction, &id)?;
            transaction.execute("DELETE FROM workers WHERE session = ?1", [&id])?;
            transaction.execute("DELETE FROM sessions WHERE id = ?1", [&id])?;
            events::add(transaction, &event)
        })
        .await
    }

    /// Forgets a worker.
    pub async fn remove_worker(&self, id: String, event: NewEvent) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            transaction.execute("DELETE FROM workers WHERE id = ?1", [&id])?;
            events::add(transaction, &event)
        })
        .await
    }

    /// Which sessions and workers of a shed have rows, also such as cannot be read.
    pub async fn session_ids(&self, shed: String) -> Result<SessionIds, StoreError> {
        self.transact(move |transaction| {
            let ids = |text: &str| {
                let mut statement = transaction.prepare_cached(text)?;
                let ids = statement.query_map([&shed], |row| row.get(0))?;
                ids.collect::<Result<BTreeSet<String>, _>>()
            };
            Ok(SessionIds {
                sessions: ids("SELECT id FROM sessions WHERE shed = ?1")?,
                workers: ids("SELECT w.id FROM workers w JOIN sessions s ON s.id = w.session \
                              WHERE s.shed = ?1")?,
            })
        })
        .await
    }

    /// Forgets a row that cannot be read: a session's, with its workers, or a worker's. Whether it can be read is the
    /// caller's to know.
    pub async fn drop_record(&self, id: String, event: NewEvent) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            keep_repository(transaction, &id)?;
            transaction.execute("DELETE FROM workers WHERE id = ?1 OR session = ?1", [&id])?;
            transaction.execute("DELETE FROM sessions WHERE id = ?1", [&id])?;
            events::add(transaction, &event)
        })
        .await
    }

    /// The directories of the repositories that deleted sessions of a shed had worktrees of.
    pub async fn repositories(&self, shed: String) -> Result<BTreeSet<String>, StoreError> {
        self.transact(move |transaction| {
            let text = "SELECT directory FROM repositories WHERE shed = ?1";
            let mut statement = transaction.prepare_cached(text)?;
            let directories = statement.query_map([&shed], |row| row.get(0))?;
            Ok(directories.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Forgets everything of a shed's sessions: its volumes are gone.
    pub async fn forget_sessions(&self, shed: String) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            transaction.execute(
                "DELETE FROM workers WHERE session IN (SELECT id FROM sessions WHERE shed = ?1)",
                [&shed],
            )?;
            transaction.execute("DELETE FROM sessions WHERE shed = ?1", [&shed])?;
            transaction.execute("DELETE FROM layouts WHERE shed = ?1", [&shed])?;
            transaction.execute("DELETE FROM repositories WHERE shed = ?1", [&shed])?;
            Ok(())
        })
        .await
    }

    /// What a shed's tmux last looked like.
    pub async fn layout(&self, shed: String) -> Result<Option<LayoutRow>, StoreError> {
        self.transact(move |transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT at, orderly, boot, body FROM layouts WHERE shed = ?1")?;
            let found: Option<(i64, bool, String, String)> = statement
                .query_row([&shed], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()?;
            found
                .map(|(at, orderly, boot, body)| {
                    Ok(LayoutRow { at: time(at)?, orderly, boot, body })
                })
                .transpose()
        })
        .await
    }

    /// Stores the layout of a shed's tmux.
    pub async fn set_layout(&self, shed: String, layout: LayoutRow) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO layouts (shed, at, orderly, boot, body) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (shed) DO UPDATE SET at = ?2, orderly = ?3, boot = ?4, body = ?5",
                )?
                .execute(params![
                    shed,
                    millis(layout.at),
                    layout.orderly,
                    layout.boot,
                    layout.body
                ])?;
            Ok(())
        })
        .await
    }
}

/// Records the repository of a session that is deleted: its trash and its checkpoints are there. A row that cannot be read
/// names none.
fn keep_repository(transaction: &Transaction<'_>, session: &str) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT OR IGNORE INTO repositories (shed, directory) SELECT shed, repo FROM \
         (SELECT shed, CASE WHEN json_valid(spec) THEN json_extract(spec, '$.repo') END AS repo \
          FROM sessions WHERE id = ?1) WHERE typeof(repo) = 'text'",
        [session],
    )?;
    Ok(())
}

fn put_session(
    transaction: &Transaction<'_>,
    row: &SessionRow,
    new: bool,
) -> Result<(), StoreError> {
    let text = if new {
        "INSERT INTO sessions (id, shed, name, status, reason, created_at, status_since, spec) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    } else {
        "UPDATE sessions SET shed = ?2, name = ?3, status = ?4, reason = ?5, created_at = ?6, \
         status_since = ?7, spec = ?8 WHERE id = ?1"
    };
    let put = transaction.prepare_cached(text)?.execute(params![
        row.id,
        row.shed,
        row.name,
        row.status.as_str(),
        row.reason,
        millis(row.created_at),
        millis(row.status_since),
        to_json(&row.spec)?,
    ]);
    taken(put, || format!("session {:?} in shed {:?}", row.name, row.shed))
}

fn put_worker(transaction: &Transaction<'_>, row: &WorkerRow) -> Result<(), StoreError> {
    let exit = row.exit.as_ref().map(to_json).transpose()?;
    let put = transaction
        .prepare_cached(
            "INSERT INTO workers (id, session, name, status, epoch, exit, reason, created_at, started_at, \
             ended_at, spec) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (id) DO UPDATE SET name = ?3, status = ?4, epoch = ?5, exit = ?6, reason = ?7, \
             started_at = ?9, ended_at = ?10, spec = ?11",
        )?
        .execute(params![
            row.id,
            row.session,
            row.name,
            row.status.as_str(),
            i64::try_from(row.epoch).unwrap_or(i64::MAX),
            exit,
            row.reason,
            millis(row.created_at),
            row.started_at.map(millis),
            row.ended_at.map(millis),
            to_json(&row.spec)?,
        ]);
    taken(put, || format!("worker {:?}", row.name))
}

fn taken(
    put: Result<usize, rusqlite::Error>,
    what: impl FnOnce() -> String,
) -> Result<(), StoreError> {
    put.map(drop).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Exists(what()),
        _ => error.into(),
    })
}

/// Ids come first and names third in both tables.
fn unreadable(row: &Row<'_>, session: usize, error: &StoreError) -> Result<Unreadable, StoreError> {
    let (id, session, name) = (row.get(0)?, row.get(session)?, row.get(2)?);
    Ok(Unreadable { id, session, name, why: error.to_string() })
}

fn read_session(row: &Row<'_>) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: row.get(0)?,
        shed: row.get(1)?,
        name: row.get(2)?,
        status: parse(&row.get::<_, String>(3)?)?,
        reason: row.get(4)?,
        created_at: time(row.get(5)?)?,
        status_since: time(row.get(6)?)?,
        spec: from_json(&row.get::<_, String>(7)?)?,
    })
}

fn read_worker(row: &Row<'_>) -> Result<WorkerRow, StoreError> {
    let exit: Option<String> = row.get(5)?;
    let at = |column: usize| -> Result<Option<DateTime<Utc>>, StoreError> {
        row.get::<_, Option<i64>>(column)?.map(time).transpose()
    };
    Ok(WorkerRow {
        id: row.get(0)?,
        session: row.get(1)?,
        name: row.get(2)?,
        status: parse(&row.get::<_, String>(3)?)?,
        epoch: u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default(),
        exit: exit.as_deref().map(from_json).transpose()?,
        reason: row.get(6)?,
        created_at: time(row.get(7)?)?,
        started_at: at(8)?,
        ended_at: at(9)?,
        spec: from_json(&row.get::<_, String>(10)?)?,
    })
}

#[cfg(test)]
mod tests {
    use shed_api::session::SessionStatus;
    use shed_api::stream::Exit;
    use shed_api::worker::WorkerStatus;
    use shed_api::{Actor, EventKind};

    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    fn session(id: &str, name: &str) -> SessionRow {
        SessionRow {
            id: id.to_owned(),
            shed: "a".to_owned(),
            name: name.to_owned(),
            status: SessionStatus::Creating,
            reason: None,
            created_at: at(1),
            status_since: at(2),
            spec: from_json(r#"{"kind":"quick","directory":"/workspace"}"#).unwrap(),
        }
    }

    fn worker(id: &str, of: &str, name: &str) -> WorkerRow {
        WorkerRow {
            id: id.to_owned(),
            session: of.to_owned(),
            name: name.to_owned(),
            status: WorkerStatus::Starting,
            epoch: 1,
            exit: None,
            reason: None,
            created_at: at(1),
            started_at: None,
            ended_at: None,
            spec: from_json(r#"{"kind":"terminal"}"#).unwrap(),
        }
    }

    fn event(kind: EventKind) -> NewEvent {
        NewEvent::new(at(3), kind, Actor::Server).shed("a")
    }

    #[tokio::test]
    async fn sessions_and_workers_are_written_read_and_forgotten() {
        let store = Store::in_memory().unwrap();
        let (one, shell) = (session("1", "one"), worker("w1", "1", "shell"));
        let made = vec![event(EventKind::SessionStatus)];
        store.add_session(one.clone(), vec![shell.clone()], made.clone()).await.unwrap();
        let again = store.add_session(session("2", "one"), Vec::new(), made.clone()).await;
        assert!(matches!(again, Err(StoreError::Exists(_))));
        let twin = store.write_session(None, vec![worker("w2", "1", "shell")], Vec::new()).await;
        assert!(matches!(twin, Err(StoreError::Exists(_))));
        let ended = WorkerRow {
            status: WorkerStatus::Exited,
            exit: Some(Exit::Signal("KILL".to_owned())),
            ended_at: Some(at(9)),
            ..shell
        };
        let renamed = SessionRow { name: "uno".to_owned(), ..one };
        let told = vec![event(EventKind::WorkerExited)];
        store.write_session(Some(renamed.clone()), vec![ended.clone()], told).await.unwrap();
        let read = store.stored_sessions("a".to_owned()).await.unwrap();
        assert_eq!((read.sessions, read.workers), (vec![renamed], vec![ended]));
        store.remove_session("1".to_owned(), event(EventKind::SessionRemoved)).await.unwrap();
        assert_eq!(store.stored_sessions("a".to_owned()).await.unwrap(), StoredSessions::default());
        assert_eq!(store.events(0, None).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn one_bad_row_hides_no_other() {
        let store = Store::in_memory().unwrap();
        for (id, name) in [("1", "one"), ("2", "two")] {
            let shell = worker(&format!("w{id}"), id, "shell");
            let made = vec![event(EventKind::SessionStatus)];
            store.add_session(session(id, name), vec![shell], made).await.unwrap();
        }
        store
            .transact(|transaction| {
                transaction.execute("UPDATE sessions SET spec = '{' WHERE id = '1'", [])?;
                transaction.execute("UPDATE workers SET status = '?' WHERE id = 'w2'", [])?;
                Ok(())
            })
            .await
            .unwrap();
        let read = store.stored_sessions("a".to_owned()).await.unwrap();
        assert_eq!(read.sessions, [session("2", "two")]);
        assert_eq!(read.workers, [worker("w1", "1", "shell")]);
        let set_aside: Vec<_> =
            read.unreadable.iter().map(|row| (row.session.as_str(), row.name.as_str())).collect();
        assert_eq!(set_aside, [("1", "one"), ("2", "shell")]);
        let ids = store.session_ids("a".to_owned()).await.unwrap();
        assert_eq!(ids.sessions, ["1", "2"].map(str::to_owned).into());
        assert_eq!(ids.workers, ["w1", "w2"].map(str::to_owned).into());
        assert_eq!(store.session_ids("b".to_owned()).await.unwrap(), SessionIds::default());
        for record in read.unreadable {
            store.drop_record(record.id, event(EventKind::SessionRemoved)).await.unwrap();
        }
        let left = store.stored_sessions("a".to_owned()).await.unwrap();
        assert_eq!((left.sessions, left.workers), (vec![session("2", "two")], Vec::new()));
        assert_eq!(left.unreadable, []);
    }

    #[tokio::test]
    async fn repositories_of_deleted_sessions_are_known_until_their_shed_is_forgotten() {
        let store = Store::in_memory().unwrap();
        let specs = [
            r#"{"kind":"worktree","directory":"/w/1","repo":"/x"}"#,
            r#"{"kind":"worktree","directory":"/w/2","repo":"/x"}"#,
            r#"{"kind":"quick","directory":"/workspace"}"#,
        ];
        for (n, spec) in specs.into_iter().enumerate() {
            let (id, name) = (n.to_string(), format!("s{n}"));
            let row = SessionRow { spec: from_json(spec).unwrap(), ..session(&id, &name) };
            store.add_session(row, Vec::new(), Vec::new()).await.unwrap();
            assert!(n > 0 || store.repositories("a".to_owned()).await.unwrap().is_empty());
            store.remove_session(id, event(EventKind::SessionRemoved)).await.unwrap();
        }
        let known = store.repositories("a".to_owned()).await.unwrap();
        assert_eq!(known, ["/x".to_owned()].into());
        assert!(store.repositories("b".to_owned()).await.unwrap().is_empty());
        store.forget_sessions("a".to_owned()).await.unwrap();
        assert!(store.repositories("a".to_owned()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_layout_is_replaced() {
        let store = Store::in_memory().unwrap();
        assert_eq!(store.layout("a".to_owned()).await.unwrap(), None);
        for orderly in [false, true] {
            let layout =
                LayoutRow { at: at(5), orderly, boot: "7".to_owned(), body: "E\n".to_owned() };
            store.set_layout("a".to_owned(), layout.clone()).await.unwrap();
            assert_eq!(store.layout("a".to_owned()).await.unwrap(), Some(layout));
        }
    }
}
