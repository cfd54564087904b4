//! Whether the volume with a shed's worktrees and spools is full.

use shed_guest::Link;
use shed_link::Run;

/// How long the answer may take.
const LIMIT_MS: u64 = 5_000;
/// A spool begins with a directory and a file.
const NEEDED_BYTES: u64 = 64 << 10;

/// Whether nothing new can be created on the volume. False if that cannot be found out.
pub(crate) async fn is_full(link: &Link) -> bool {
    let format = "%a %S %c %d";
    let argv = ["stat", "-f", "-c", format, "--", &link.hello().worktrees].map(str::to_owned);
    let run = Run { argv: argv.to_vec(), env: Vec::new(), directory: None, timeout_ms: LIMIT_MS };
    link.run(run).await.is_ok_and(|done| parse(&done.stdout) == Some(true))
}

/// Reads free blocks, their size, inodes and free inodes.
fn parse(line: &str) -> Option<bool> {
    let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
    let [n_free, block_bytes, n_inodes, n_free_inodes] = numbers.ok()?.try_into().ok()?;
    // Some file systems have no fixed number of inodes and report 0.
    let has_inodes = n_inodes == 0 || n_free_inodes > 0;
    Some(n_free.saturating_mul(block_bytes) < NEEDED_BYTES || !has_inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_without_space_or_inodes_is_full() {
        for (line, expected) in [
            ("16 4096 9 1\n", Some(false)),
            ("15 4096 9 1\n", Some(true)),
            ("99 4096 9 0\n", Some(true)),
            ("99 4096 0 0\n", Some(false)),
            ("", None),
            ("99 4096 ? ?\n", None),
        ] {
            assert_eq!(parse(line), expected, "{line:?}");
        }
    }
}
