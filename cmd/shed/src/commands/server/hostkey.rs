//! Host keys, fetched by calling ssh, so that aliases, ports and jump hosts of the user's configuration apply.

use std::process::{Command, Stdio};

use shed_client::SshAddress;

use crate::failure::Failure;

/// An ed25519 host key, as ssh fetched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostKey {
    /// Its lines in `known_hosts` format.
    pub(super) lines: String,
    /// Fingerprint: `SHA256:…`.
    pub(super) fingerprint: String,
}

/// Fetches the key of a host without logging in.
pub(super) fn fetch(address: &SshAddress) -> Result<HostKey, Failure> {
    let failed = || Failure::io("host key");
    let dir = std::env::temp_dir().join(format!("shed-host-key-{}", std::process::id()));
    std::fs::create_dir(&dir).map_err(failed())?;
    let file = dir.join("known_hosts");
    let result = Command::new("ssh")
        .args([
            "-T",
            "-p",
            &address.port.to_string(),
            "-l",
            address.user.as_deref().unwrap_or("_api"),
        ])
        .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ControlPath=none"])
        .args([
            "-o",
            "HostKeyAlgorithms=ssh-ed25519",
            "-o",
            "HashKnownHosts=no",
            "-o",
            "CheckHostIP=no",
        ])
        .args(["-o", "StrictHostKeyChecking=accept-new", "-o", "PreferredAuthentications=none"])
        .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o"])
        .arg(format!("UserKnownHostsFile={}", file.display()))
        .args(["--", &address.host])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let lines = std::fs::read_to_string(&file).unwrap_or_default();
    let fingerprint = fingerprint(&file);
    std::fs::remove_dir_all(&dir).ok();
    let output = result.map_err(Failure::io("cannot run ssh"))?;
    if let (false, Some(fingerprint)) = (lines.trim().is_empty(), fingerprint) {
        return Ok(HostKey { lines, fingerprint });
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.trim().lines().last().unwrap_or("ssh exited without a message");
    let text = format!("cannot fetch the host key of {}: {last}", address.host);
    Err(Failure::new(text).with_status(shed_api::problem::exit::UNREACHABLE))
}

/// The fingerprint in the output of `ssh-keygen -lf`: `256 SHA256:… host (ED25519)`.
fn fingerprint(file: &std::path::Path) -> Option<String> {
    let output = Command::new("ssh-keygen").arg("-lf").arg(file).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let word = text.lines().next()?.split_whitespace().nth(1)?;
    word.starts_with("SHA256:").then(|| word.to_owned())
}

/// The text of `known_hosts` with this key instead of other keys of its host.
pub(super) fn replace(text: &str, key: &HostKey) -> String {
    let names: Vec<&str> =
        key.lines.lines().filter_map(|line| line.split_whitespace().next()).collect();
    without(text, &names) + key.lines.trim_end() + "\n"
}

/// The text of `known_hosts` without the keys of a host.
pub(super) fn forget(text: &str, address: &SshAddress) -> String {
    let with_port = format!("[{}]:{}", address.host, address.port);
    without(text, &[&address.host, &with_port])
}

fn without(text: &str, names: &[&str]) -> String {
    let kept = text.lines().filter(|line| {
        let first = line.split_whitespace().next().unwrap_or_default();
        !names.contains(&first)
    });
    kept.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_replaces_only_keys_of_the_same_host() {
        let text = "[a]:2222 ssh-ed25519 OLD\nb ssh-ed25519 B\n";
        let key =
            HostKey { lines: "[a]:2222 ssh-ed25519 NEW\n".to_owned(), fingerprint: String::new() };
        let replaced = replace(text, &key);
        assert_eq!(replaced, "b ssh-ed25519 B\n[a]:2222 ssh-ed25519 NEW\n");
        let address = SshAddress { user: None, host: "a".to_owned(), port: 2222 };
        assert_eq!(forget(&replaced, &address), "b ssh-ed25519 B\n");
    }
}
