//! Tests of the data directory.

use super::*;

fn data_dir() -> (tempfile::TempDir, DataDir) {
    let temporary = tempfile::tempdir().unwrap();
    let data_dir = DataDir { dir: temporary.path().join("data") };
    data_dir.create().unwrap();
    (temporary, data_dir)
}

fn server_id(data_dir: &DataDir, store: &Store) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(data_dir.server_id(store))
}

#[test]
fn a_data_directory_has_one_lock_and_one_server_id() {
    let (_temporary, data_dir) = data_dir();
    let lock = data_dir.lock().unwrap();
    let store = data_dir.open_store(&lock).unwrap();
    let id = server_id(&data_dir, &store).unwrap();
    assert_eq!(server_id(&data_dir, &store).unwrap(), id);
    let refused = data_dir.lock().unwrap_err();
    let pid = std::process::id().to_string();
    assert!(refused.downcast_ref::<InUse>().is_some_and(|in_use| in_use.pid == pid));
    drop(lock);
    data_dir.lock().unwrap();
}

#[test]
fn an_invalid_server_id_is_refused_and_not_overwritten() {
    let (_temporary, data_dir) = data_dir();
    fs::write(data_dir.path().join("server_id"), "").unwrap();
    let lock = data_dir.lock().unwrap();
    assert!(data_dir.open_store(&lock).is_err());
    assert!(server_id(&data_dir, &Store::in_memory().unwrap()).is_err());
    assert_eq!(fs::read(data_dir.path().join("server_id")).unwrap(), b"");
}

#[test]
fn a_server_id_without_a_database_is_refused() {
    let (_temporary, data_dir) = data_dir();
    let lock = data_dir.lock().unwrap();
    // A first start that was killed before its last file.
    drop(data_dir.open_store(&lock).unwrap());
    let store = data_dir.open_store(&lock).unwrap();
    server_id(&data_dir, &store).unwrap();
    drop(store);
    let database = data_dir.path().join(DATABASE);
    for empty in [true, false] {
        if empty {
            fs::write(&database, "").unwrap();
        } else {
            fs::remove_file(&database).unwrap();
        }
        let refused = data_dir.open_store(&lock).unwrap_err();
        assert!(refused.is::<Incomplete>(), "{refused}");
        let text = refused.to_string();
        for way in [" restore FILE --data-dir /", " adopt --server-id ", ": rm /"] {
            assert!(text.contains(way), "{way}: {text}");
        }
        assert_eq!(database.exists(), empty, "it was created");
    }
}

#[test]
fn a_damaged_shed_init_is_written_again() {
    let (_temporary, data_dir) = data_dir();
    let path = data_dir.program_dir().unwrap().join("shed-init");
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o755);
    fs::write(&path, "broken").unwrap();
    data_dir.program_dir().unwrap();
    assert_eq!(fs::read(&path).unwrap(), SHED_INIT);
    assert!(SHED_INIT.len() <= 3 << 20, "shed-init has {} bytes", SHED_INIT.len());
}

#[test]
fn server_ids_are_letters_digits_and_hyphens() {
    assert!(is_server_id(&new_server_id()));
    for bad in ["", "short", "with space in it", "a,b=c-d-e-f"] {
        assert!(!is_server_id(bad), "{bad:?}");
    }
}
