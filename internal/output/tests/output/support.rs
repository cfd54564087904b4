//! Helpers that the tests share.

use std::path::Path;

use shed_output::{Limits, Log, Reader};

/// Chunks of a hundred bytes, of which three stay as they came.
pub(crate) const SMALL: Limits = Limits { chunk_bytes: 100, live_bytes: 600, kept_bytes: 1 << 20 };

/// A directory for a log. In memory where the system has such a place: every new chunk is synced, which takes most of the time
/// of these tests on a disk and proves nothing in them.
pub(crate) fn log_dir() -> tempfile::TempDir {
    let in_memory = Path::new("/dev/shm");
    let parent = if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(&parent).or_else(|_| tempfile::tempdir()).unwrap()
}

/// Opens the log in `dir` with small chunks.
pub(crate) fn small(dir: &Path) -> Log {
    Log::open(dir, SMALL).unwrap()
}

/// The byte that the tests' command prints at `offset`: lines of different lengths.
pub(crate) fn byte_at(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    if mixed < 8 { b'\n' } else { b'a' + u8::try_from(mixed % 26).unwrap() }
}

/// What the tests' command prints from `from` to `to`.
pub(crate) fn printed(from: u64, to: u64) -> Vec<u8> {
    (from..to).map(byte_at).collect()
}

/// Compresses whatever waits.
pub(crate) fn compress_all(log: &Log) {
    let compressor = log.compressor();
    while compressor.compress_one().unwrap() {}
}

/// Every byte that is kept, with its offset and epoch. The pages are shorter than the chunks of [`SMALL`].
pub(crate) fn read_all(reader: &Reader) -> Vec<(u64, Option<u64>, u8)> {
    read_all_by(reader, 37)
}

fn read_all_by(reader: &Reader, page_bytes: usize) -> Vec<(u64, Option<u64>, u8)> {
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        let page = reader.range(at, page_bytes).unwrap();
        assert_eq!(page.start - at, page.gap_before);
        assert_eq!(page.end - page.start, page.bytes.len() as u64);
        if page.bytes.is_empty() {
            return all;
        }
        at = page.end;
        all.extend(
            (page.start..).zip(&page.bytes).map(|(offset, byte)| (offset, page.epoch, *byte)),
        );
    }
}

/// The same, joined; there must be no hole.
pub(crate) fn read_bytes(reader: &Reader) -> Vec<u8> {
    read_bytes_by(reader, 37)
}

/// The same, read in pages of this size.
pub(crate) fn read_bytes_by(reader: &Reader, page_bytes: usize) -> Vec<u8> {
    let all = read_all_by(reader, page_bytes);
    for pair in all.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "a hole");
    }
    all.into_iter().map(|(_, _, byte)| byte).collect()
}

/// The names in `dir` that end with `suffix`, sorted.
pub(crate) fn names(dir: &Path, suffix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(suffix)).collect();
    names.sort();
    names
}
