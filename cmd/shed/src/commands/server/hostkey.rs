//! Host keys: fetched by ssh itself, so that aliases, ports and jump hosts of the user's configuration apply.

use std::process::{Command, Stdio};

use shed_client::SshAddress;

use crate::failure::Failure;

/// A host key as ssh would look it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostKey {
    /// The lines of a `known_hosts`.
    pub(super) lines: String,
    /// `SHA256:…`
    pub(super) fingerprint: String,
}

/// Asks the host for its key, without logging in.
pub(super) fn fetch(address: &SshAddress) -> Result<HostKey, Failure> {
    let failed = || Failure::io("host key");
    let dir = std::env::temp_dir().join(format!("shed-host-key-{}", std::process::id()));
    std::fs::create_dir(&dir).map_err(failed())?;
    let file = dir.join("known_hosts");
    let asked = Command::new("ssh")
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
    let asked = asked.map_err(Failure::io("cannot run ssh"))?;
    let none = || {
        let words = String::from_utf8_lossy(&asked.stderr).trim().to_owned();
        let last = words.lines().last().unwrap_or("ssh ended without a word").to_owned();
        let failure = Failure::new(format!("no host key of {}: {last}", address.host));
        Failure { status: shed_api::problem::exit::UNREACHABLE, ..failure }
    };
    match (lines.trim().is_empty(), fingerprint) {
        (false, Some(fingerprint)) => Ok(HostKey { lines, fingerprint }),
        _ => Err(none()),
    }
}

/// By `ssh-keygen -lf`: `256 SHA256:… host (ED25519)`.
fn fingerprint(file: &std::path::Path) -> Option<String> {
    let output = Command::new("ssh-keygen").arg("-lf").arg(file).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let word = text.lines().next()?.split_whitespace().nth(1)?;
    word.starts_with("SHA256:").then(|| word.to_owned())
}

/// `known_hosts` with this key in place of older ones of the same host.
pub(super) fn replace(text: &str, key: &HostKey) -> String {
    let names: Vec<&str> =
        key.lines.lines().filter_map(|line| line.split_whitespace().next()).collect();
    without(text, &names) + key.lines.trim_end() + "\n"
}

/// `known_hosts` without the keys of a host.
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
    fn a_new_key_takes_the_old_ones_place_and_no_other() {
        let text = "[a]:2222 ssh-ed25519 OLD\nb ssh-ed25519 B\n";
        let key =
            HostKey { lines: "[a]:2222 ssh-ed25519 NEW\n".to_owned(), fingerprint: String::new() };
        let replaced = replace(text, &key);
        assert_eq!(replaced, "b ssh-ed25519 B\n[a]:2222 ssh-ed25519 NEW\n");
        let address = SshAddress { user: None, host: "a".to_owned(), port: 2222 };
        assert_eq!(forget(&replaced, &address), "b ssh-ed25519 B\n");
    }
}
