//! The server's host key: generated once and then kept.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Algorithm, PrivateKey};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::algorithms;

/// Permission bits that give others than the owner access to the file.
const OTHERS: u32 = 0o077;
/// Comment in the key file.
const COMMENT: &str = "shed";

/// Why the host key could not be loaded or created.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// Others than the owner can read the file, so they may have copied the key.
    #[error("host key {path}: others can read it (mode {mode:03o}); run: chmod 600 {path}")]
    Exposed {
        /// Path of the key file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// The file holds no usable key.
    #[error("host key {path}: {why}")]
    Unusable {
        /// Path of the key file.
        path: PathBuf,
        /// What is wrong with it, for people.
        why: String,
    },
    /// A system call failed.
    #[error("host key {path}: {error}")]
    Io {
        /// Path of the key file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

/// An ed25519 host key.
#[derive(Debug, Clone)]
pub struct HostKey {
    key: PrivateKey,
    public_line: String,
}

impl HostKey {
    /// Loads the key at `path`; generates one if there is no file.
    pub fn load_or_create(path: &Path) -> Result<Self, HostKeyError> {
        match Self::load(path) {
            Err(HostKeyError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                create(path)?;
                Self::load(path)
            }
            loaded => loaded,
        }
    }

    fn load(path: &Path) -> Result<Self, HostKeyError> {
        let io = |error| HostKeyError::Io { path: path.to_owned(), error };
        let unusable = |why: String| HostKeyError::Unusable { path: path.to_owned(), why };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(HostKeyError::Exposed { path: path.to_owned(), mode });
        }
        let text = std::io::read_to_string(file).map_err(io)?;
        if text.trim().is_empty() {
            return Err(unusable(format!(
                "the file is empty; restore it from a backup, or remove it to get a new key, which clients must pin \
                 again: rm {}",
                path.display()
            )));
        }
        let key = PrivateKey::from_openssh(text).map_err(|error| unusable(error.to_string()))?;
        if key.is_encrypted() {
            return Err(unusable("the key has a passphrase; expected one without".to_owned()));
        }
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(unusable(format!(
                "invalid key type {}; expected ssh-ed25519",
                key.algorithm()
            )));
        }
        let line = key.public_key().to_openssh().map_err(|error| unusable(error.to_string()))?;
        // Without the comment.
        let public_line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        Ok(Self { key, public_line })
    }

    /// `ssh-ed25519 AAAA…`: the form in a client's `known_hosts`, after the host's name.
    pub fn public_line(&self) -> &str {
        &self.public_line
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        algorithms::fingerprint(self.key.public_key())
    }

    pub(crate) fn private(&self) -> PrivateKey {
        self.key.clone()
    }
}

/// Writes a new key to a temporary file and links it to `path`, so that the file is complete or absent and never replaced.
fn create(path: &Path) -> Result<(), HostKeyError> {
    let io = |error| HostKeyError::Io { path: path.to_owned(), error };
    let mut seed = [0; 32];
    getrandom(&mut seed, GetRandomFlags::empty()).map_err(|error| io(error.into()))?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let text = PrivateKey::new(pair, COMMENT).and_then(|key| key.to_openssh(LineEnding::LF));
    let text = text.map_err(|error| io(std::io::Error::other(error)))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = write_private(&beside, text.as_bytes()).and_then(|()| {
        match fs::hard_link(&beside, path) {
            // Another process was first; its key is used.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    // Fails if the file was never created.
    fs::remove_file(&beside).ok();
    written.and_then(|()| sync_parent(path)).map_err(io)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_generated_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host_key");
        let made = HostKey::load_or_create(&path).unwrap();
        assert!(made.public_line().starts_with("ssh-ed25519 AAAA"));
        assert_eq!(made.public_line().split(' ').count(), 2);
        assert!(made.fingerprint().starts_with("SHA256:") && made.fingerprint().len() == 50);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let again = HostKey::load_or_create(&path).unwrap();
        assert_eq!(again.public_line(), made.public_line());
    }

    #[test]
    fn a_key_others_can_read_is_refused_with_a_fix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host_key");
        HostKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = HostKey::load_or_create(&path).unwrap_err().to_string();
        let fix = format!("others can read it (mode 640); run: chmod 600 {}", path.display());
        assert!(error.ends_with(&fix), "{error}");
    }

    #[test]
    fn an_invalid_key_file_is_refused_and_left_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host_key");
        write_private(&path, b"").unwrap();
        let error = HostKey::load_or_create(&path).unwrap_err();
        assert!(matches!(error, HostKeyError::Unusable { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"");
        let nowhere = HostKey::load_or_create(&dir.path().join("no/host_key")).unwrap_err();
        assert!(matches!(nowhere, HostKeyError::Io { .. }), "{nowhere}");
    }
}
