//! The systemd unit, where systemd is process 1 and the user is root.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::data_dir::write_whole;
use crate::paths::User;

use super::addresses::Addresses;
use super::decide::{STOP_LIMIT, Unit};
use super::layout::Layout;

/// Name of the unit.
pub(crate) const NAME: &str = "shed-server.service";
/// Its file.
const FILE: &str = "/etc/systemd/system/shed-server.service";
/// Exists where systemd is process 1.
const SYSTEMD: &str = "/run/systemd/system";

/// Whether the service of this layout is the unit. A run directory has a supervisor everywhere: there is only one unit.
pub(crate) fn is_used(layout: &Layout) -> bool {
    layout.run_dir.is_none() && User::current().is_root && Path::new(SYSTEMD).is_dir()
}

/// State of the unit.
pub(crate) fn state(layout: &Layout) -> Unit {
    if !is_used(layout) || !Path::new(FILE).exists() {
        return Unit::Absent;
    }
    let output = Command::new("systemctl").args(["is-active", NAME]).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    state_of(&String::from_utf8_lossy(&output))
}

/// Writes the unit, enables it and starts it. Returns before the server serves.
pub(crate) fn start(layout: &Layout, addresses: &Addresses) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let home = User::current().home().map(ToOwned::to_owned);
    let text = text(&program, home.as_deref(), layout, addresses);
    write_whole(Path::new(FILE), text.as_bytes(), 0o644)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--quiet", NAME])?;
    systemctl(&["restart", NAME])
}

/// Stops the server and waits until it has ended.
pub(crate) fn stop() -> anyhow::Result<()> {
    systemctl(&["stop", NAME])
}

fn systemctl(words: &[&str]) -> anyhow::Result<()> {
    let line = format!("systemctl {}", words.join(" "));
    let output = Command::new("systemctl").args(words).output();
    let output = output.with_context(|| format!("cannot run {line}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{line} failed ({}): {}", output.status, errors.trim());
    }
    Ok(())
}

/// The state that `systemctl is-active` prints.
fn state_of(text: &str) -> Unit {
    match text.trim() {
        "active" | "activating" | "reloading" | "deactivating" => Unit::Active,
        "failed" => Unit::Failed,
        _ => Unit::Inactive,
    }
}

/// The unit file.
fn text(program: &Path, home: Option<&Path>, layout: &Layout, addresses: &Addresses) -> String {
    let words = [program.as_os_str().to_owned()].into_iter().chain(layout.serve_arguments());
    let words = words.chain(addresses.arguments().iter().map(OsString::from));
    let words: Vec<String> = words.map(|word| quote(&word.to_string_lossy())).collect();
    let mut text = format!(
        "\
[Unit]
Description=shed: persistent, isolated sessions for coding agents
Wants=docker.service network-online.target
After=docker.service network-online.target

[Service]
ExecStart={}
",
        words.join(" ")
    );
    if let Some(home) = home {
        let setting = quote(&format!("HOME={}", home.display()));
        writeln!(text, "Environment={setting}").ok(); // writing to a String does not fail
    }
    text + &format!(
        "\
Restart=always
RestartSec=1
KillMode=process
TimeoutStopSec={}
LimitNOFILE=524288

[Install]
WantedBy=multi-user.target
",
        STOP_LIMIT.as_secs()
    )
}

/// A word of a unit file's command line: quoted if systemd would split or expand it.
fn quote(word: &str) -> String {
    let escaped =
        word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    if word.is_empty()
        || word.contains(|letter: char| letter.is_whitespace() || "\"'\\;".contains(letter))
    {
        format!("\"{escaped}\"")
    } else {
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_unit_starts_the_server_with_its_addresses() {
        let layout = Layout {
            run_dir: None,
            config: None,
            data_dir: PathBuf::from("/var/lib/shed"),
            state_dir: PathBuf::from("/var/lib/shed-run"),
            socket: PathBuf::from("/run/shed/shed.sock"),
        };
        let addresses = Addresses::parse("--http 127.0.0.1:8080 --ssh 0.0.0.0:2222").unwrap();
        let program = Path::new("/opt/my shed/shed-server");
        let text = text(program, Some(Path::new("/root")), &layout, &addresses);
        insta::assert_snapshot!(text, @r#"
        [Unit]
        Description=shed: persistent, isolated sessions for coding agents
        Wants=docker.service network-online.target
        After=docker.service network-online.target

        [Service]
        ExecStart="/opt/my shed/shed-server" serve --data-dir /var/lib/shed --socket /run/shed/shed.sock --ready-file /var/lib/shed-run/ready --http 127.0.0.1:8080 --ssh 0.0.0.0:2222
        Environment=HOME=/root
        Restart=always
        RestartSec=1
        KillMode=process
        TimeoutStopSec=30
        LimitNOFILE=524288

        [Install]
        WantedBy=multi-user.target
        "#);
    }

    #[test]
    fn only_words_that_systemd_would_change_are_quoted() {
        for (word, quoted) in [
            ("/a-b_c", "/a-b_c"),
            ("a b", "\"a b\""),
            ("", "\"\""),
            ("50%$x", "50%%$$x"),
            ("say \"hi\\", "\"say \\\"hi\\\\\""),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn what_systemctl_prints_is_a_state() {
        for (text, state) in [
            ("active\n", Unit::Active),
            ("activating\n", Unit::Active),
            ("inactive\n", Unit::Inactive),
            ("failed\n", Unit::Failed),
            ("", Unit::Inactive),
        ] {
            assert_eq!(state_of(text), state);
        }
    }
}
