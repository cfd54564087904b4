//! The server's database: SQLite on one thread. A method is a transaction; what happened is written with what changed.
//!
//! Nothing here knows what a container or a session *is*; the rules are in `shed-model`. There is no other writer: the
//! `shed-server` commands either talk to the running server or hold its lock.

mod copies;
mod events;
mod keys;
mod open;
mod sessions;
mod sheds;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot, watch};

/// The name of the database file in the data directory.
pub const DATABASE: &str = "shed.db";

/// A file that only takes space, until there is no other.
const RESERVE: &str = "reserve";
/// Enough to write some thousand deletions; less where there is no more.
const RESERVE_BYTES: [usize; 4] = [1 << 20, 512 << 10, 256 << 10, 128 << 10];

/// Transactions that wait for the thread. Callers wait beyond that.
const QUEUE: usize = 256;

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer version of shed has written the database. It was not changed.
    #[error(
        "{path} has schema {found}, this shed-server knows up to {known}: it was written by a newer version; \
         install that version, or restore a backup"
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// The schema version in the file (`PRAGMA user_version`).
        found: i64,
        /// The newest schema version that this program can read.
        known: i64,
    },
    /// The file is not an SQLite database, or SQLite found an error in it. It was not changed.
    #[error(
        "{path} is damaged ({why}); it was left as it is; restore a backup made with `shed-server backup`"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// The first error that SQLite reported.
        why: String,
    },
    /// A database, but not one of shed.
    #[error("{0} is not a database of shed; expected a file that `shed-server backup` wrote")]
    Foreign(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A row with this name or fingerprint exists; the text names it with its kind.
    #[error("{0} exists")]
    Exists(String),
    /// The file system of the database has no space. The transaction was rolled back.
    #[error("the disk with the server's database is full")]
    DiskFull,
    /// The disk cannot be written to.
    #[error("the disk with the server's database is read-only")]
    ReadOnly,
    /// A row that this version cannot read.
    #[error("database: {0}")]
    Unreadable(String),
    /// Any other error of SQLite. The transaction was rolled back.
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
    /// The store's thread has ended, so that no transaction can run.
    #[error("the database is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            Some(rusqlite::ErrorCode::ReadOnly) => Self::ReadOnly,
            _ => Self::Sqlite(error),
        }
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store. Clones share the thread; it ends, after everything queued, when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    /// The newest event's id. Signals that there are new rows, carries nothing else.
    bell: Arc<watch::Sender<i64>>,
    /// See [`Self::give_back`].
    reserve: Option<PathBuf>,
}

impl Store {
    /// Opens (or makes) the database of a data directory and brings it to the current schema. A database that is damaged
    /// or newer is refused and left as it is.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join(DATABASE);
        let reserve = data_dir.join(RESERVE);
        let opened = match open::open(&path) {
            Err(StoreError::DiskFull) if std::fs::remove_file(&reserve).is_ok() => {
                open::open(&path)
            }
            opened => opened,
        };
        let store = Self { reserve: Some(reserve.clone()), ..Self::serve(opened?)? };
        store.keep_reserve();
        Ok(store)
    }

    /// A database that is gone with the store, for tests.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::serve(open::in_memory()?)
    }

    /// Copies the database of a data directory to a new file, also while a server writes to it.
    pub fn backup(data_dir: &Path, target: &Path) -> Result<(), StoreError> {
        copies::backup(&data_dir.join(DATABASE), target)
    }

    /// Replaces the database of a data directory by a copy of `file`, which must be a whole database of shed in a schema we
    /// know. No server may run. Returns where the database was moved that was there before.
    pub fn restore(data_dir: &Path, file: &Path) -> Result<Option<PathBuf>, StoreError> {
        copies::restore(&data_dir.join(DATABASE), file)
    }

    /// Gives back the space that is kept for the day the disk is full, so that what frees space can be written. False if it
    /// was given back before.
    pub fn give_back(&self) -> bool {
        self.reserve.as_deref().is_some_and(|file| std::fs::remove_file(file).is_ok())
    }

    /// Keeps space for that day, if there is any.
    pub fn keep_reserve(&self) {
        let Some(file) = self.reserve.as_deref().filter(|file| !file.exists()) else {
            return;
        };
        for size in RESERVE_BYTES {
            if std::fs::write(file, vec![0; size]).is_ok() {
                return;
            }
            std::fs::remove_file(file).ok();
        }
    }

    /// Whether there is a database, and that it is whole and of a schema we know.
    pub fn check(data_dir: &Path) -> Result<bool, StoreError> {
        let path = data_dir.join(DATABASE);
        if !path.exists() {
            return Ok(false);
        }
        open::check(&path).map(|()| true)
    }

    fn serve(mut connection: Connection) -> Result<Self, StoreError> {
        let newest =
            connection
                .query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| row.get(0))?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        // Owned by the senders: ends when they are gone. Holds the only connection.
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|error| StoreError::Unreadable(format!("no thread: {error}")))?;
        Ok(Self { jobs, bell: Arc::new(watch::Sender::new(newest)), reserve: None })
    }

    /// Rings when there are new events; the value is the newest id.
    pub fn bell(&self) -> watch::Receiver<i64> {
        self.bell.subscribe()
    }

    /// Writes everything into the database's one file, so that it may be copied once the server has ended.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let written = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            answer.send(written).ok();
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        Ok(answered.await.map_err(|_| StoreError::Closed)??)
    }

    /// Runs `work` as one transaction on the store's thread.
    async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let bell = Arc::clone(&self.bell);
        let job: Job = Box::new(move |connection| {
            let result = in_transaction(connection, work);
            if let Ok((_, Some(newest))) = &result {
                bell.send_replace(*newest);
            }
            // A caller that went away does not undo what was committed.
            answer.send(result.map(|(value, _)| value)).ok();
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// The value, and the newest event's id if the transaction wrote one.
fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<(T, Option<i64>), StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let before = events::newest(&transaction)?;
    let value = work(&transaction)?;
    let after = events::newest(&transaction)?;
    transaction.commit()?;
    Ok((value, (after != before).then_some(after)))
}

/// Milliseconds since 1970, the form of every time in the database.
fn millis(at: chrono::DateTime<chrono::Utc>) -> i64 {
    at.timestamp_millis()
}

fn time(millis: i64) -> Result<chrono::DateTime<chrono::Utc>, StoreError> {
    chrono::DateTime::from_timestamp_millis(millis)
        .ok_or_else(|| StoreError::Unreadable(format!("invalid time {millis}")))
}

fn parse<T: std::str::FromStr<Err = String>>(word: &str) -> Result<T, StoreError> {
    word.parse().map_err(StoreError::Unreadable)
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable(error.to_string()))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unreadable(error.to_string()))
}
