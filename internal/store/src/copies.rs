//! Copies of the database: backups, and the way back. Both write beside the target and rename, so that a target is whole or
//! absent.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;
use crate::open::{self, OwnerOnly as _};

/// SQLite's files beside a database.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Copies page by page while others may write; the copy is whole.
pub(crate) fn backup(path: &Path, target: &Path) -> Result<(), StoreError> {
    if target.exists() {
        return Err(StoreError::Exists(target.display().to_string()));
    }
    open::check(path)?;
    let source = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    source.busy_timeout(Duration::from_secs(5))?;
    let beside = Beside::new(target)?;
    let mut copy = Connection::open(&beside.path)?;
    let run = rusqlite::backup::Backup::new(&source, &mut copy)?;
    run.run_to_completion(1000, Duration::ZERO, None)?;
    drop(run);
    copy.close().map_err(|(_, error)| error)?;
    beside.rename(target)
}

/// See [`crate::Store::restore`].
pub(crate) fn restore(path: &Path, file: &Path) -> Result<Option<PathBuf>, StoreError> {
    let beside = Beside::new(path)?;
    fs::copy(file, &beside.path).map_err(of(file))?;
    let log = companion(file, COMPANIONS[0]);
    if log.exists() {
        // A plain copy of a database in use has its newest transactions here.
        fs::copy(&log, companion(&beside.path, COMPANIONS[0])).map_err(of(&log))?;
    }
    check_copy(&beside.path, file)?;
    let moved = move_aside(path)?;
    beside.rename(path)?;
    Ok(moved)
}

/// Checks a copy, and leaves it in one file. Errors name the original.
fn check_copy(copy: &Path, original: &Path) -> Result<(), StoreError> {
    let named = |error| match error {
        StoreError::Damaged { why, .. } => StoreError::Damaged { path: original.to_owned(), why },
        StoreError::TooNew { found, known, .. } => {
            StoreError::TooNew { path: original.to_owned(), found, known }
        }
        other => other,
    };
    open::check(copy).map_err(named)?;
    let connection = Connection::open(copy)?;
    let tables =
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('sheds', 'marks')";
    let n_tables: i64 = connection.query_row(tables, [], |row| row.get(0))?;
    if n_tables != 2 {
        return Err(StoreError::Foreign(original.to_owned()));
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Moves a database away, with what belongs to it. One without content is only replaced.
fn move_aside(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let has_content = |file: &Path| fs::metadata(file).is_ok_and(|meta| meta.len() > 0);
    let there = has_content(path);
    let time = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
    let aside = companion(path, &format!(".before-{time}"));
    for name in COMPANIONS {
        let (from, to) = (companion(path, name), companion(&aside, name));
        let moved = if there { fs::rename(&from, &to) } else { fs::remove_file(&from) };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of(&from)(error)),
            _ => {}
        }
    }
    if !there {
        return Ok(None);
    }
    fs::rename(path, &aside).map_err(of(path))?;
    Ok(Some(aside))
}

/// A new file beside another one. Dropping it removes it, unless it was renamed.
struct Beside {
    path: PathBuf,
}

impl Beside {
    fn new(target: &Path) -> Result<Self, StoreError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}", std::process::id()));
        let beside = Self { path };
        // Left by a process with the same id that was killed.
        beside.remove();
        let mut options = fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode_0600().open(&beside.path);
        made.map_err(of(target))?;
        Ok(beside)
    }

    fn rename(self, target: &Path) -> Result<(), StoreError> {
        let rename = || {
            File::open(&self.path)?.sync_all()?;
            fs::rename(&self.path, target)?;
            let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        rename().map_err(of(target))
    }

    fn remove(&self) {
        for name in ["", COMPANIONS[0], COMPANIONS[1]] {
            fs::remove_file(companion(&self.path, name)).ok();
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.remove();
    }
}

fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn of(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull => StoreError::DiskFull,
        _ => StoreError::File { path, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(connection: &Connection, value: &str) {
        connection.execute("INSERT OR REPLACE INTO marks VALUES ('a', ?1)", [value]).unwrap();
    }

    fn value(path: &Path) -> String {
        let connection = open::open(path).unwrap();
        connection.query_row("SELECT value FROM marks", [], |row| row.get(0)).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_backup_is_whole_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        let connection = open::open(&path).unwrap();
        put(&connection, "b");
        let target = dir.path().join("copy.db");
        backup(&path, &target).unwrap();
        assert_eq!(value(&target), "b");
        assert!(matches!(backup(&path, &target), Err(StoreError::Exists(_))));
    }

    #[test]
    fn a_backup_that_fails_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        put(&open::open(&path).unwrap(), "b");
        let targets = dir.path().join("targets");
        fs::create_dir(&targets).unwrap();
        // The name is free while the copy is made and taken when it is done.
        let beside = Beside::new(&targets.join("copy.db")).unwrap();
        fs::create_dir_all(targets.join("copy.db/full")).unwrap();
        assert!(beside.rename(&targets.join("copy.db")).is_err());
        assert_eq!(names(&targets), ["copy.db"]);
    }

    #[test]
    fn a_restore_replaces_the_database_and_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("shed.db"), dir.path().join("copy.db"));
        let connection = open::open(&path).unwrap();
        put(&connection, "old");
        backup(&path, &copy).unwrap();
        put(&connection, "new");
        // As a killed server leaves it: the newest transaction is in the log.
        let killed = dir.path().join("killed");
        fs::create_dir(&killed).unwrap();
        for name in ["shed.db", "shed.db-wal"] {
            fs::copy(dir.path().join(name), killed.join(name)).unwrap();
        }
        let path = killed.join("shed.db");
        let aside = restore(&path, &copy).unwrap().unwrap();
        assert_eq!((value(&path), value(&aside)), ("old".to_owned(), "new".to_owned()));
        let left = names(&killed);
        assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
        // Missing and empty databases are replaced, too; so is the log of one that is gone.
        for content in [None, Some("")] {
            fs::remove_file(&path).unwrap();
            content.inspect(|content| fs::write(&path, content).unwrap());
            fs::copy(dir.path().join("shed.db-wal"), killed.join("shed.db-wal")).unwrap();
            assert_eq!(restore(&path, &copy).unwrap(), None);
            assert_eq!(value(&path), "old");
        }
        // A copy that somebody made with `cp`.
        let plain = dir.path().join("shed.db");
        restore(&path, &plain).unwrap();
        assert_eq!(value(&path), "new");
    }

    #[test]
    fn what_is_no_database_of_shed_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shed.db");
        put(&open::open(&path).unwrap(), "here");
        let file = dir.path().join("file");
        let refused = |what: &str| {
            let error = restore(&path, &file).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("/file"), "{error}");
            assert_eq!((value(&path).as_str(), names(dir.path()).len()), ("here", 2), "{error}");
        };
        for (content, what) in [("", "not a database of shed"), ("a letter", "damaged")] {
            fs::write(&file, content).unwrap();
            refused(what);
        }
        fs::remove_file(&file).unwrap();
        let foreign = Connection::open(&file).unwrap();
        foreign.execute_batch("CREATE TABLE sheds (a)").unwrap();
        foreign.close().unwrap();
        refused("not a database of shed");
        let newer = Connection::open(&file).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        newer.close().unwrap();
        refused("newer version");
    }
}
