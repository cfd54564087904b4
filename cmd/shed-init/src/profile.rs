//! `/etc/profile` of the image. Many distributions assign a fixed `PATH` there, so that a login shell loses the `PATH` of the
//! image (`ENV PATH`) and of the shed's `--env`, which every other process has. shed-init changes such assignments so that they
//! hold only where `PATH` is not set. bash, sh and, where it reads the file, zsh then find the same programs in a login shell
//! as anywhere else.

use std::io;

/// The file that all login shells read first.
const FILE: &str = "/etc/profile";

/// Changes the file if it assigns a fixed `PATH`. An image without the file is fine.
pub(crate) fn keep_path() -> io::Result<()> {
    let text = match std::fs::read(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let kept = with_path_kept(&text);
    if kept == text { Ok(()) } else { std::fs::write(FILE, kept) }
}

/// The text with `PATH=VALUE` replaced by `PATH=${PATH:-VALUE}` where the value is fixed.
fn with_path_kept(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| line_with_path_kept(line).unwrap_or_else(|| line.to_vec())).collect()
}

/// `None` if the line stays as it is.
fn line_with_path_kept(line: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"PATH=";
    if line.trim_ascii_start().starts_with(b"#") {
        return None;
    }
    let is_boundary = |before: &[u8]| before.last().is_none_or(|byte| b" \t;".contains(byte));
    let at = line.windows(NAME.len()).position(|part| part == NAME)?;
    let (before, value) = (&line[..at], &line[at + NAME.len()..]);
    let length = fixed_value(value)?;
    let (value, after) = value.split_at(length);
    // A command may follow, for which alone the variable is set.
    let next = after.trim_ascii_start().first();
    let ends = next.is_none_or(|byte| b";#&".contains(byte));
    (is_boundary(before) && ends).then(|| [before, NAME, b"${PATH:-", value, b"}", after].concat())
}

/// The length of a shell word at the start of `text`, quoted or not, that contains no expansion. `None` if there is none.
fn fixed_value(text: &[u8]) -> Option<usize> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/:._+-@%,".contains(byte);
    let quote = text.first().copied().filter(|byte| b"\"'".contains(byte));
    let (from, end) = match quote {
        Some(quote) => (1, text.iter().skip(1).position(|byte| *byte == quote)? + 1),
        None => (0, text.iter().position(|byte| !is_plain(byte)).unwrap_or(text.len())),
    };
    let value = text.get(from..end).filter(|value| !value.is_empty())?;
    let length = end + from;
    // A longer word, such as `/bin:$PATH`, is not a fixed value.
    let is_whole = text.get(length).is_none_or(|byte| b" \t\r\n;&#".contains(byte));
    (is_whole && value.iter().all(|byte| is_plain(byte) || *byte == b' ')).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_assignments_hold_only_where_path_is_not_set() {
        for (line, kept) in [
            // Debian and Ubuntu.
            (
                "  PATH=\"/usr/local/bin:/usr/bin:/bin\"\n",
                "  PATH=${PATH:-\"/usr/local/bin:/usr/bin:/bin\"}\n",
            ),
            // Alpine.
            ("export PATH=/usr/bin:/bin\n", "export PATH=${PATH:-/usr/bin:/bin}\n"),
            ("PATH='/bin'; export PATH", "PATH=${PATH:-'/bin'}; export PATH"),
            ("if x; then PATH=/bin # for x\n", "if x; then PATH=${PATH:-/bin} # for x\n"),
        ] {
            let changed = with_path_kept(line.as_bytes());
            assert_eq!(String::from_utf8(changed.clone()).unwrap(), kept);
            // A second start changes nothing.
            assert_eq!(with_path_kept(&changed), changed, "{line:?}");
        }
        for line in [
            "PATH=/opt/bin:$PATH\n",
            "PATH=\"$PATH:/opt/bin\"\n",
            "PATH=\"${PATH:+$PATH:}$1\"\n",
            "PATH=`cat /etc/path`\n",
            "PATH=\n",
            "MANPATH=/usr/share/man\n",
            "PATH=/bin id -u\n",
            "# PATH=/bin\n",
            "export PATH\n",
        ] {
            assert_eq!(with_path_kept(line.as_bytes()), line.as_bytes(), "{line:?}");
        }
    }

    #[test]
    fn a_login_shell_keeps_its_path() {
        let profile = "if [ 1 = 0 ]; then\n  PATH=\"/usr/sbin\"\nelse\n  PATH=\"/usr/bin:/bin\"\nfi\nexport PATH\n";
        let kept = String::from_utf8(with_path_kept(profile.as_bytes())).unwrap();
        for (path, expected) in [("/opt/go/bin:/bin", "/opt/go/bin:/bin"), ("", "/usr/bin:/bin")] {
            let script = format!("PATH={path}\n{kept}echo \"$PATH\"\n");
            let shell = std::process::Command::new("/bin/sh").args(["-c", &script]).output();
            assert_eq!(String::from_utf8(shell.unwrap().stdout).unwrap().trim(), expected);
        }
    }
}
