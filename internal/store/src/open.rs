//! Opening: refuse what is not ours to read, migrate what is old, and only then write.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::StoreError;

/// One step per released schema, in order. A released step is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
];
/// Databases before this schema kept deleted values in pages that are not in use.
const ERASED_SINCE: i64 = 4;

/// Opens `path`, which is made when it is not there.
pub(crate) fn open(path: &Path) -> Result<Connection, StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    if path.exists() {
        check(path)?;
    } else {
        // Made here so that its mode is right from the first byte: rows hold what people gave their sheds.
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode_0600()
            .open(path)
            .map_err(|error| damaged(error.to_string()))?;
    }
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit is on the disk when the call returns: what was promised survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // Values of `--env` are deleted with their shed: they must not stay in free pages, which a backup would copy.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let before = version_of(&connection)?;
    migrate(&mut connection)?;
    if (1..ERASED_SINCE).contains(&before) {
        connection.execute_batch("VACUUM")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(connection)
}

/// A database in memory at the newest schema.
pub(crate) fn in_memory() -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory()?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Looks without writing: is it a database, is it whole, is it of a schema we know.
pub(crate) fn check(path: &Path) -> Result<(), StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    let verified = verify(path).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(error.to_string()),
        _ => StoreError::from(error),
    });
    let (verdict, version) = verified?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    let known = known_version();
    if version > known {
        return Err(StoreError::TooNew { path: path.to_owned(), found: version, known });
    }
    Ok(())
}

fn verify(path: &Path) -> rusqlite::Result<(String, i64)> {
    // Read-write, since a log left by a killed server has to be read in; nothing else is written.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((verdict, version_of(&connection)?))
}

fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn version_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let version = version_of(connection)?;
    let done = usize::try_from(version).unwrap_or_default();
    for (step, number) in MIGRATIONS.iter().zip(1_i64..).skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

/// A file only its owner can read.
pub(crate) trait OwnerOnly {
    fn mode_0600(&mut self) -> &mut Self;
}

impl OwnerOnly for std::fs::OpenOptions {
    fn mode_0600(&mut self) -> &mut Self {
        std::os::unix::fs::OpenOptionsExt::mode(self, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_database_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        drop(open(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(open(&path).unwrap());
    }

    #[test]
    fn a_damaged_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        for bytes in
            [b"this is no database, it is a letter to nobody".to_vec(), broken_pages(&path)]
        {
            std::fs::write(&path, &bytes).unwrap();
            let error = open(&path).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    fn broken_pages(path: &Path) -> Vec<u8> {
        std::fs::remove_file(path).ok();
        let connection = open(path).unwrap();
        connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
        connection.close().unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        for byte in &mut bytes[4096..8192] {
            *byte = 0xaa;
        }
        bytes
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        let connection = open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error}");
        let version: i64 = Connection::open(&path)
            .unwrap()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version, 99);
    }

    #[test]
    fn every_released_schema_is_brought_up_to_date() {
        for released in 0..MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("shed.db");
            let connection = Connection::open(&path).unwrap();
            for step in &MIGRATIONS[..released] {
                connection.execute_batch(step).unwrap();
            }
            connection
                .pragma_update(None, "user_version", i64::try_from(released).unwrap())
                .unwrap();
            drop(connection);
            let connection = open(&path).unwrap();
            connection.execute("INSERT INTO marks VALUES ('a', 'b')", []).unwrap();
        }
    }

    #[test]
    fn sheds_of_the_former_default_network_are_filtered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        let old = Connection::open(&path).unwrap();
        for step in &MIGRATIONS[..4] {
            old.execute_batch(step).unwrap();
        }
        old.pragma_update(None, "user_version", 4).unwrap();
        for network in ["open", "none"] {
            old.execute(
                "INSERT INTO sheds (name, status, wanted, created_at, status_since, spec) \
                 VALUES (?1, 'running', 1, 0, 0, json_object('image', 'i', 'network', ?1))",
                [network],
            )
            .unwrap();
        }
        drop(old);
        let connection = open(&path).unwrap();
        let mut rows = connection.prepare("SELECT spec FROM sheds ORDER BY name").unwrap();
        let specs =
            rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<Vec<String>, _>>();
        let expected =
            [r#"{"image":"i","network":"none"}"#, r#"{"image":"i","network":"filtered"}"#];
        assert_eq!(specs.unwrap(), expected);
    }

    /// The database's files, and a backup of it.
    fn bytes_of(path: &Path) -> Vec<u8> {
        let target = path.with_extension("copy");
        crate::copies::backup(path, &target).unwrap();
        let copy = std::fs::read(&target).unwrap();
        std::fs::remove_file(&target).unwrap();
        [std::fs::read(path).unwrap(), copy].concat()
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }

    #[test]
    fn a_deleted_value_is_erased_also_from_an_older_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        let old = Connection::open(&path).unwrap();
        for step in &MIGRATIONS[..2] {
            old.execute_batch(step).unwrap();
        }
        old.pragma_update(None, "user_version", 2).unwrap();
        old.pragma_update(None, "secure_delete", "OFF").unwrap();
        let secret = |n: u32| format!("secret-{n}-{}", "x".repeat(600));
        let fill = |connection: &Connection, n: u32| {
            connection.execute("INSERT INTO marks VALUES ('a', ?1)", [secret(n)]).unwrap();
            connection.execute("DELETE FROM marks", []).unwrap();
        };
        fill(&old, 1);
        drop(old);
        assert!(holds(&std::fs::read(&path).unwrap(), "secret-1"), "the test tests nothing");
        let connection = open(&path).unwrap();
        fill(&connection, 2);
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let bytes = bytes_of(&path);
        assert!(!holds(&bytes, "secret-1") && !holds(&bytes, "secret-2"));
    }
}
