//! The data directory: files that this server must not lose, and the lock that keeps a second server out.
//!
//! `shed.db`, `host_key`, `server_id` and `output/` are permanent. `init/` (shed-init by version), `links/` (sockets of
//! running sheds), `lock` and `run.json` are created again when they are missing.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use shed_api::server::Ready;
use shed_store::{DATABASE, Store};

use crate::paths::User;

/// The shed-init that was built with this server.
const SHED_INIT: &[u8] = include_bytes!(env!("SHED_INIT_PATH"));
/// Hash of [`SHED_INIT`]; names its directory under `init/`.
const SHED_INIT_HASH: &str = env!("SHED_INIT_HASH");

/// The path of a data directory. The directory need not exist.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    dir: PathBuf,
}

/// The lock of a data directory. Only its holder may change the directory; dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Another program holds the lock of the data directory.
#[derive(Debug, thiserror::Error)]
#[error("the data directory {} is in use by the shed-server with pid {pid}", .dir.display())]
pub(crate) struct InUse {
    dir: PathBuf,
    pid: String,
}

/// A file is missing that a start would replace by a new one. The server would not know its sheds any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Incomplete {
    #[error(
        "the database {} is missing or empty, but the data directory has a server id; restore a backup: {}; \
         or begin with an empty database and import the containers of the sheds: {}; or begin as a new server: rm {}",
        .dir.join(DATABASE).display(), paste("restore FILE", .dir),
        paste(&format!("adopt --server-id {id}"), .dir), quoted(&.dir.join("server_id"))
    )]
    Database { dir: PathBuf, id: String },
    #[error(
        "{} is missing, but the database has {n_sheds} sheds; restore the file from a backup; or set the label \
         `shed.server` of the containers (docker ps -a --filter label=shed=true --format '{{{{.Label \"shed.server\"}}}}'): {}",
        .dir.join("server_id").display(), paste("adopt --server-id ID", .dir)
    )]
    ServerId { dir: PathBuf, n_sheds: usize },
}

fn paste(command: &str, dir: &Path) -> String {
    format!("{} {command} --data-dir {}", crate::paste::program(), quoted(dir))
}

fn quoted(path: &Path) -> String {
    crate::paste::quote(&path.to_string_lossy())
}

impl DataDir {
    /// The directory of the command line, else that of the configuration, else the default of this user.
    pub(crate) fn find(option: Option<&Path>, configured: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(dir) = option.or(configured) {
            return Ok(Self { dir: std::path::absolute(dir)? });
        }
        let dir = User::current().data_dir().context(
            "no default data directory: neither XDG_DATA_HOME nor HOME is an absolute path; \
             choose one: --data-dir DIR",
        )?;
        Ok(Self { dir })
    }

    /// Absolute path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Creates the directory with mode 0700.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.and_then(|()| fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot use the data directory {}", self.dir.display()))
    }

    /// Takes the lock without waiting. Fails with [`InUse`] if another program holds it.
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
                // The pid is only for the message.
                file.read_to_string(&mut pid).ok();
                return Err(InUse { dir: self.dir.clone(), pid: pid.trim().to_owned() }.into());
            }
            Err(error) => bail!("cannot lock {}: {error}", path.display()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file })
    }

    /// Path of the SSH host key.
    pub(crate) fn host_key(&self) -> PathBuf {
        self.dir.join("host_key")
    }

    /// Fails with [`Incomplete`] if there is a server id without a database. To open the store would create an empty one.
    pub(crate) fn check_database(&self) -> anyhow::Result<()> {
        let Some(id) = self.known_server_id()? else {
            return Ok(());
        };
        let path = self.dir.join(DATABASE);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > 0) {
            return Ok(());
        }
        Err(Incomplete::Database { dir: self.dir.clone(), id }.into())
    }

    /// Opens the database; creates it before the first start. The caller holds the lock.
    pub(crate) fn open_store(&self, _: &Lock) -> anyhow::Result<Store> {
        self.check_database()?;
        Ok(Store::open(&self.dir)?)
    }

    /// The id with which the server labels its containers and volumes. Created if there is none, as the last file of a
    /// first start: a database with sheds without an id is a loss, and fails with [`Incomplete`].
    pub(crate) async fn server_id(&self, store: &Store) -> anyhow::Result<String> {
        if let Some(id) = self.known_server_id()? {
            return Ok(id);
        }
        let n_sheds = store.sheds().await?.len();
        if n_sheds > 0 {
            return Err(Incomplete::ServerId { dir: self.dir.clone(), n_sheds }.into());
        }
        let id = new_server_id();
        self.set_server_id(&id)?;
        Ok(id)
    }

    /// The server id; absent before the first start.
    pub(crate) fn known_server_id(&self) -> anyhow::Result<Option<String>> {
        let path = self.dir.join("server_id");
        match fs::read_to_string(&path) {
            Ok(text) if is_server_id(text.trim()) => Ok(Some(text.trim().to_owned())),
            Ok(_) => bail!(
                "invalid server id in {}; restore the file from a backup, or set the id in the containers' label \
                 `shed.server`: shed-server adopt --server-id ID",
                path.display()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    /// Replaces the server id.
    pub(crate) fn set_server_id(&self, id: &str) -> anyhow::Result<()> {
        write_whole(&self.dir.join("server_id"), format!("{id}\n").as_bytes(), 0o600)
    }

    /// The directory with each shed's link directory; created if missing. Mode 0700 is enough: shed-init reaches its own
    /// link directory through a mount.
    pub(crate) fn links(&self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join("links");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(dir)
    }

    /// The directory with each worker's output log; created if missing.
    pub(crate) fn output(&self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join("output");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(dir)
    }

    /// Writes shed-init into a directory of its version and returns a symbolic link to it. A container resolves the link
    /// when it starts, so running containers keep their version.
    pub(crate) fn program_dir(&self) -> anyhow::Result<PathBuf> {
        let all = self.dir.join("init");
        let dir = all.join(SHED_INIT_HASH);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let path = dir.join("shed-init");
        if !fs::read(&path).is_ok_and(|there| there == SHED_INIT) {
            write_whole(&path, SHED_INIT, 0o755).context("cannot write shed-init")?;
        }
        let (link, new) = (all.join("current"), all.join(".current"));
        fs::remove_file(&new).ok(); // left by a server that died between the next two lines
        std::os::unix::fs::symlink(SHED_INIT_HASH, &new)?;
        fs::rename(&new, &link)?;
        Ok(link)
    }

    /// Addresses and pid of the server that holds the lock.
    pub(crate) fn running(&self) -> anyhow::Result<Ready> {
        let path = self.dir.join("run.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Records addresses and pid of this server.
    pub(crate) fn set_running(&self, ready: &Ready) -> anyhow::Result<()> {
        write_whole(&self.dir.join("run.json"), &serde_json::to_vec(ready)?, 0o600)
    }
}

/// Replaces a file atomically: readers, and the disk after a power failure, have either the old or the new content.
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

/// Whether a text is a valid server id. Ids are used as label values.
pub(crate) fn is_server_id(id: &str) -> bool {
    (8..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn new_server_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests;
