//! The files of the service.
//!
//! | file in the state directory | content |
//! |---|---|
//! | `lock` | held while a start or stop is under way; they take turns |
//! | `pid` | `PID STARTTIME` of the supervisor; valid only while a process with both numbers exists |
//! | `address` | addresses as arguments of `serve`: `--http ADDR:PORT --ssh ADDR:PORT`; people may edit it |
//! | `ready` | what `serve --ready-file` writes; valid only while its process serves this state directory |
//! | `log`, `log.1` | output of the supervisor and the server since the last start, and before it |

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use shed_api::server::Ready;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::globals::Globals;
use crate::paste::quote;
use crate::paths::User;

/// Where a server's service has its files.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Absolute path given with `--run-dir`.
    pub(crate) run_dir: Option<PathBuf>,
    /// Configuration file to name to the server; absent for the default one.
    pub(crate) config: Option<PathBuf>,
    pub(crate) data_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) socket: PathBuf,
}

/// The lock of the state directory; dropping it releases the lock.
pub(crate) struct StateLock {
    _file: File,
}

impl Layout {
    /// The layout that the options select. A configuration with mistakes counts as empty, so that a server can still be
    /// stopped; `start` reports the mistakes.
    pub(crate) fn find(run_dir: Option<&Path>, globals: &Globals) -> anyhow::Result<Self> {
        if let Some(dir) = run_dir {
            let dir = std::path::absolute(dir)?;
            let own_config = Some(dir.join("server.toml")).filter(|path| path.exists());
            return Ok(Self {
                config: own_config.or(absolute(globals.config.as_deref())?),
                data_dir: dir.join("data"),
                state_dir: dir.join("state"),
                socket: dir.join("shed.sock"),
                run_dir: Some(dir),
            });
        }
        let config = globals.config().unwrap_or_default();
        let user = User::current();
        let data_dir = DataDir::find(globals.data_dir.as_deref(), config.data_dir.as_deref())?;
        let state_dir = user.state_dir().context(
            "no state directory: neither XDG_STATE_HOME nor HOME is an absolute path; \
             choose a directory for everything: --run-dir DIR",
        )?;
        let socket = config.http.socket.unwrap_or_else(|| user.socket(data_dir.path()));
        Ok(Self {
            run_dir: None,
            config: absolute(globals.config.as_deref())?,
            data_dir: data_dir.path().to_owned(),
            state_dir,
            socket: std::path::absolute(socket)?,
        })
    }

    /// Reads the configuration that the server will read, and reports its mistakes.
    pub(crate) fn check_config(&self) -> anyhow::Result<()> {
        Ok(Config::load(self.config.as_deref()).map(drop)?)
    }

    /// The pid file.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.state_dir.join("pid")
    }

    /// The file with the addresses.
    pub(crate) fn address_file(&self) -> PathBuf {
        self.state_dir.join("address")
    }

    /// The ready file.
    pub(crate) fn ready_file(&self) -> PathBuf {
        self.state_dir.join("ready")
    }

    /// The log of the supervisor and its server.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.state_dir.join("log")
    }

    /// Content of the ready file, valid or not. None while a server starts.
    pub(crate) fn ready(&self) -> Option<Ready> {
        serde_json::from_slice(&std::fs::read(self.ready_file()).ok()?).ok()
    }

    /// Arguments of the server, without addresses.
    pub(crate) fn serve_arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(config) = &self.config {
            words.extend(["--config".into(), config.into()]);
        }
        words.push("serve".into());
        for (option, path) in [
            ("--data-dir", &self.data_dir),
            ("--socket", &self.socket),
            ("--ready-file", &self.ready_file()),
        ] {
            words.extend([option.into(), path.into()]);
        }
        words
    }

    /// A command line to paste: `command` for this service.
    pub(crate) fn paste(&self, command: &str, globals: &Globals) -> String {
        let run_dir = self.run_dir.as_ref().map(|dir| quote(&dir.to_string_lossy()));
        let run_dir = run_dir.map(|dir| format!(" --run-dir {dir}")).unwrap_or_default();
        globals.paste(&format!("service {command}{run_dir}"))
    }

    /// Waits for the lock of the state directory, which must exist.
    pub(crate) fn lock(&self) -> anyhow::Result<StateLock> {
        let path = self.state_dir.join("lock");
        let cannot = || format!("cannot lock {}", path.display());
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(cannot)?;
        flock(&file, FlockOperation::LockExclusive).with_context(cannot)?;
        Ok(StateLock { _file: file })
    }
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_exists(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn absolute(path: Option<&Path>) -> std::io::Result<Option<PathBuf>> {
    path.map(std::path::absolute).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_holds_everything() {
        let dir = tempfile::tempdir().unwrap();
        let globals =
            Globals { config: Some(PathBuf::from("/etc/other.toml")), ..Globals::default() };
        let find = || Layout::find(Some(dir.path()), &globals).unwrap();
        let words = |layout: &Layout| {
            let words = layout.serve_arguments();
            let words = words.iter().map(|word| word.to_str().unwrap().to_owned());
            words.collect::<Vec<_>>().join(" ").replace(dir.path().to_str().unwrap(), "DIR")
        };
        let rest = "serve --data-dir DIR/data --socket DIR/shed.sock --ready-file DIR/state/ready";
        assert_eq!(words(&find()), format!("--config /etc/other.toml {rest}"));
        std::fs::write(dir.path().join("server.toml"), "").unwrap();
        assert_eq!(words(&find()), format!("--config DIR/server.toml {rest}"));
        let line = find().paste("stop", &Globals::default());
        let expected = format!(" service stop --run-dir {}", dir.path().display());
        assert!(line.ends_with(&expected), "{line}");
    }

    #[test]
    fn a_configuration_with_mistakes_hinders_start_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("server.toml"), "nmae = 'x'").unwrap();
        let layout = Layout::find(Some(dir.path()), &Globals::default()).unwrap();
        let error = layout.check_config().unwrap_err().to_string();
        assert!(error.contains("did you mean `name`?"), "{error}");
    }
}
