//! The client's configuration: servers and pinned host keys. Files are replaced as a whole and under a lock, so that
//! concurrent clients lose no change.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use shed_client::{Address, SshOptions};
use shed_toml::FileError;

use crate::failure::Failure;

/// Environment variable with the directory of the client's files.
pub(crate) const DIR_VARIABLE: &str = "SHED_CONFIG_DIR";
/// Name of the server on this machine. It needs no configuration.
pub(crate) const LOCAL: &str = "local";

/// Content of `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Name of the server to use when none is selected; the local one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_server: Option<String>,
    /// Addresses and tokens by the name that the user gave the server.
    #[serde(default)]
    pub(crate) servers: BTreeMap<String, Server>,
}

/// A configured server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// As `shed_client::Address` reads it.
    pub(crate) address: String,
    /// Token for an https or http address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Time it was added, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) added_at: Option<String>,
}

/// The directory of the client's files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    /// `$SHED_CONFIG_DIR`, else `$XDG_CONFIG_HOME/shed`, else `~/.config/shed`.
    pub(crate) fn find() -> Result<Self, Failure> {
        if let Some(dir) = std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
            return Ok(Self { dir: dir.into() });
        }
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let none = || {
            Failure::new("cannot find the configuration directory: HOME is not set")
                .hint(format!("export {DIR_VARIABLE}=\"$PWD/shed-config\""))
        };
        Ok(Self { dir: base.ok_or_else(none)?.join("shed") })
    }

    fn path(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// File with the pinned host keys of servers.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// Options for calling ssh. Host keys are checked against the pinned ones if there are any.
    pub(crate) fn ssh_options(&self) -> SshOptions {
        let known_hosts = Some(self.known_hosts()).filter(|path| path.exists());
        SshOptions { known_hosts, control_dir: self.control_dir(), more: Vec::new() }
    }

    /// Directory for ssh's control sockets. `None` if the path is too long: a socket path has at most 108 bytes, and ssh
    /// appends about 60.
    fn control_dir(&self) -> Option<PathBuf> {
        let dir = self.dir.join("ssh");
        if dir.as_os_str().len() > 40 {
            return None;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
        Some(dir)
    }

    /// Reads the configuration; empty when there is no file.
    pub(crate) fn read(&self) -> Result<Config, Failure> {
        let path = self.path();
        match shed_toml::read(&path) {
            Err(error) if error.is_not_found() => Ok(Config::default()),
            Err(FileError::Read { source, .. }) => Err(Failure::io(path.display())(source)),
            Err(error @ FileError::Invalid { .. }) => Err(Failure::usage(error.to_string())
                .hint(format!("fix it, or move it away: mv {0} {0}.broken", path.display()))),
            Ok(config) => Ok(config),
        }
    }

    /// Changes the configuration under the lock.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Config) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _lock = self.lock()?;
        let mut config = self.read()?;
        let result = change(&mut config)?;
        let text = shed_toml::write(&config).map_err(|error| Failure::new(error.to_string()))?;
        write_whole(&self.path(), text.as_bytes())?;
        Ok(result)
    }

    /// Changes the pinned host keys under the lock.
    pub(crate) fn change_known_hosts(
        &self,
        change: impl FnOnce(String) -> String,
    ) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let path = self.known_hosts();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(Failure::io(path.display()))?,
        };
        write_whole(&path, change(text).as_bytes())
    }

    fn lock(&self) -> Result<fs::File, Failure> {
        let failed = || Failure::io(self.dir.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed())?;
        let mut options = fs::OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.dir.join("lock"));
        let file = file.map_err(failed())?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| failed()(error.into()))?;
        Ok(file)
    }
}

/// Replaces a file atomically: a reader sees the old content or the new one. Keeps the mode of an existing file.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = || Failure::io(path.display());
    // A symbolic link stays; the file it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&path).map_or(0o600, |metadata| {
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    });
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|error| {
        fs::remove_file(&new).ok();
        failed()(error)
    })
}

/// Unix socket of the server on this machine: the user's own if it exists, else the system's.
pub(crate) fn local_socket() -> Address {
    let own =
        std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("shed/shed.sock"));
    let system = PathBuf::from("/run/shed/shed.sock");
    Address::Unix(own.filter(|path| path.exists()).unwrap_or(system))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { dir: dir.path().join("config") };
        (dir, files)
    }

    fn server(address: &str) -> Server {
        Server { address: address.to_owned(), token: None, added_at: None }
    }

    #[test]
    fn concurrent_changes_are_all_kept() {
        let (_dir, files) = files();
        std::thread::scope(|scope| {
            for n in 0..20 {
                let files = files.clone();
                scope.spawn(move || {
                    files
                        .change(|config| {
                            config.servers.insert(format!("s{n}"), server("ssh://h"));
                            Ok(())
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(files.read().unwrap().servers.len(), 20);
    }

    #[test]
    fn an_invalid_file_is_reported_and_not_overwritten() {
        let (_dir, files) = files();
        files.change(|_| Ok(())).unwrap();
        fs::write(files.path(), "[servers.a]\nadress = \"x\"\n").unwrap();
        let failure = files.read().unwrap_err();
        assert!(failure.text.contains("adress"), "{}", failure.text);
        assert!(files.change(|_| Ok(())).is_err());
        assert!(fs::read_to_string(files.path()).unwrap().contains("adress"));
    }
}
