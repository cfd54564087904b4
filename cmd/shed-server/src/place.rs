//! The data directory: what this server must not lose, and the lock that says whose it is.
//!
//! `shed.db`, `host_key` and `server_id` are for ever; `init/` (shed-init by version), `links/` (sockets of running sheds),
//! `lock` and `run.json` are made again.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use shed_api::server::Ready;

/// shed-init, as it was built with this server.
const SHED_INIT: &[u8] = include_bytes!(env!("SHED_INIT_PATH"));
/// Its version in a path.
const SHED_INIT_HASH: &str = env!("SHED_INIT_HASH");

/// A data directory. Nothing is made by naming it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: PathBuf,
}

/// Held by the one program that may change a data directory; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Another program holds the lock.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by the shed-server with pid {pid}", .dir.display())]
pub(crate) struct InUse {
    dir: PathBuf,
    pid: String,
}

impl Place {
    /// The one that was named, else the usual one of this user.
    pub(crate) fn find(option: Option<&Path>, configured: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(dir) = option.or(configured) {
            return Ok(Self { dir: std::path::absolute(dir)? });
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self { dir: PathBuf::from("/var/lib/shed") });
        }
        let base = absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        let base = base.context("no place for the data; name one: --data-dir DIR")?;
        Ok(Self { dir: base.join("shed") })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory, for its owner only.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.and_then(|()| fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("{} cannot be used", self.dir.display()))
    }

    /// Takes the lock, without waiting.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.dir.join("lock");
        let mut options = File::options();
        let opened =
            options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let mut file = opened.with_context(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only for the words.
                file.read_to_string(&mut pid).ok();
                return Err(InUse { dir: self.dir.clone(), pid: pid.trim().to_owned() }.into());
            }
            Err(error) => bail!("{} cannot be locked: {error}", path.display()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file })
    }

    /// Where the host key is.
    pub(crate) fn host_key(&self) -> PathBuf {
        self.dir.join("host_key")
    }

    /// The id this server's containers and volumes carry; made at the first call.
    pub(crate) fn server_id(&self) -> anyhow::Result<String> {
        if let Some(id) = self.known_server_id()? {
            return Ok(id);
        }
        let id = new_server_id();
        self.set_server_id(&id)?;
        Ok(id)
    }

    /// The id, if there is one.
    pub(crate) fn known_server_id(&self) -> anyhow::Result<Option<String>> {
        let path = self.dir.join("server_id");
        match fs::read_to_string(&path) {
            Ok(text) if is_server_id(text.trim()) => Ok(Some(text.trim().to_owned())),
            Ok(_) => bail!(
                "{} holds no server id; put it back from a backup, or: shed-server adopt --server-id ID",
                path.display()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    /// Says which server this is from now on.
    pub(crate) fn set_server_id(&self, id: &str) -> anyhow::Result<()> {
        write_whole(&self.dir.join("server_id"), format!("{id}\n").as_bytes(), 0o600)
    }

    /// Under which each shed has its link directory. Passable, because shed-init reaches its own through the mount only.
    pub(crate) fn links(&self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join("links");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(dir)
    }

    /// Under which each worker has the log of its output.
    pub(crate) fn output(&self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join("output");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(dir)
    }

    /// Writes shed-init under its version, and points at it. Boxes mount where the pointer leads when they start: those
    /// that run keep the version they have.
    pub(crate) fn program_dir(&self) -> anyhow::Result<PathBuf> {
        let all = self.dir.join("init");
        let dir = all.join(SHED_INIT_HASH);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let path = dir.join("shed-init");
        if !fs::read(&path).is_ok_and(|there| there == SHED_INIT) {
            write_whole(&path, SHED_INIT, 0o755).context("shed-init cannot be written")?;
        }
        let (pointer, new) = (all.join("current"), all.join(".current"));
        fs::remove_file(&new).ok(); // left by a server that died between these lines
        std::os::unix::fs::symlink(SHED_INIT_HASH, &new)?;
        fs::rename(&new, &pointer)?;
        Ok(pointer)
    }

    /// How the running server is reached.
    pub(crate) fn running(&self) -> anyhow::Result<Ready> {
        let path = self.dir.join("run.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Says how this server is reached.
    pub(crate) fn set_running(&self, ready: &Ready) -> anyhow::Result<()> {
        write_whole(&self.dir.join("run.json"), &serde_json::to_vec(ready)?, 0o600)
    }
}

/// An absolute path in the environment; a relative one says nothing.
pub(crate) fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Writes a file so that a reader sees the old or the new one, and a power cut leaves one of them.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = parent.join(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = File::options().create(true).truncate(true).write(true).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, path)?;
        File::open(parent)?.sync_all()
    };
    write()
        .inspect_err(|_| {
            fs::remove_file(&new).ok();
        })
        .with_context(|| path.display().to_string())
}

/// Whether a text can be an id: it goes into labels.
pub(crate) fn is_server_id(id: &str) -> bool {
    (8..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn new_server_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { dir: dir.path().join("data") };
        place.make().unwrap();
        (dir, place)
    }

    #[test]
    fn a_data_directory_has_one_server_and_one_id() {
        let (_dir, place) = place();
        let id = place.server_id().unwrap();
        assert_eq!(place.server_id().unwrap(), id);
        let lock = place.lock().unwrap();
        let refused = place.lock().unwrap_err();
        let pid = std::process::id().to_string();
        assert!(refused.downcast_ref::<InUse>().is_some_and(|in_use| in_use.pid == pid));
        drop(lock);
        place.lock().unwrap();
    }

    #[test]
    fn a_damaged_id_is_refused_and_left_alone() {
        let (_dir, place) = place();
        fs::write(place.dir().join("server_id"), "").unwrap();
        assert!(place.server_id().is_err());
        assert_eq!(fs::read(place.dir().join("server_id")).unwrap(), b"");
    }

    #[test]
    fn shed_init_is_written_once_and_mended() {
        let (_dir, place) = place();
        let path = place.program_dir().unwrap().join("shed-init");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o755);
        fs::write(&path, "broken").unwrap();
        place.program_dir().unwrap();
        assert_eq!(fs::read(&path).unwrap(), SHED_INIT);
        assert!(SHED_INIT.len() <= 3 << 20, "shed-init has {} bytes", SHED_INIT.len());
    }

    #[test]
    fn only_plain_words_are_ids() {
        assert!(is_server_id(&new_server_id()));
        for bad in ["", "short", "with space in it", "a,b=c-d-e-f"] {
            assert!(!is_server_id(bad), "{bad:?}");
        }
    }
}
