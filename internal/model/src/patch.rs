//! What `git diff -p` printed, as files, hunks and lines. Pure; made for text from inside a shed, which may be anything.
//!
//! A file whose kind changed is two, as git prints it: one deleted, one added.

use shed_api::git::{FileDiff, FileStatus, Hunk, Line, LineKind, quote_path, unquote_path};

/// The most files that are read: as many as a diff lists.
pub const MAX_FILES: usize = 5_000;
/// The most lines and hunks that are read, of all files together. Nobody reads more on a screen, and each takes a
/// hundred bytes of memory however short it is.
pub const MAX_LINES: usize = 200_000;

/// A patch that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// The files, in the patch's order.
    pub files: Vec<FileDiff>,
    /// Whether something is missing: the text was cut, or there is more than the limits.
    pub truncated: bool,
}

/// Whether a patch is all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// It is whole.
    Whole,
    /// It was cut somewhere; its last file is not whole.
    Cut,
}

/// Reads a patch. Lines that are no part of one are passed over, as git prints none.
pub fn parse(patch: &[u8], extent: Extent) -> Patch {
    let mut reader = Reader { lines: Lines(patch), n_lines: 0, full: false };
    let mut parsed = Patch::default();
    while let Some(line) = reader.lines.next() {
        let Some(names) = line.strip_prefix(b"diff --git ") else { continue };
        if parsed.files.len() == MAX_FILES {
            reader.full = true;
            break;
        }
        parsed.files.push(reader.file(names));
        if reader.full {
            break;
        }
    }
    parsed.truncated = reader.full || extent == Extent::Cut;
    if parsed.truncated
        && let Some(last) = parsed.files.last_mut()
    {
        last.truncated = true;
    }
    parsed
}

/// The lines of a text, without their ends. A last line without an end is one.
#[derive(Clone)]
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        self.clone().next()
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let (line, rest) =
            end.map_or((self.0, &[][..]), |end| (&self.0[..end], &self.0[end + 1..]));
        self.0 = rest;
        Some(line)
    }
}

struct Reader<'a> {
    lines: Lines<'a>,
    n_lines: usize,
    full: bool,
}

impl Reader<'_> {
    /// What follows a `diff --git` line, up to the next.
    fn file(&mut self, names: &[u8]) -> FileDiff {
        let mut head = Head { both: both(names), ..Head::default() };
        let mut file = empty();
        while let Some(line) = self.lines.peek() {
            if line.starts_with(b"diff --git ") || self.full {
                break;
            }
            self.lines.next();
            if let Some(range) = line.strip_prefix(b"@@ ") {
                if let Some(hunk) = self.hunk(range) {
                    count(&mut file, &hunk);
                    file.hunks.push(hunk);
                }
            } else if file.hunks.is_empty() {
                head.read(line);
            }
        }
        head.finish(file)
    }

    fn hunk(&mut self, range: &[u8]) -> Option<Hunk> {
        let mut hunk = range_of(range)?;
        self.take_one();
        let (mut old, mut new) = (hunk.old_start, hunk.new_start);
        let (mut old_left, mut new_left) = (hunk.old_lines, hunk.new_lines);
        while let Some(line) = self.lines.peek() {
            let (kind, text) = match line.split_first() {
                Some((b'\\', _)) => {
                    self.lines.next();
                    if let Some(last) = hunk.lines.last_mut() {
                        last.no_newline = true;
                    }
                    continue;
                }
                Some((b' ', text)) if old_left > 0 && new_left > 0 => (LineKind::Context, text),
                // Some programs take the blank off an empty line.
                None if old_left > 0 && new_left > 0 => (LineKind::Context, line),
                Some((b'+', text)) if new_left > 0 => (LineKind::Added, text),
                Some((b'-', text)) if old_left > 0 => (LineKind::Deleted, text),
                _ => break,
            };
            if !self.take_one() {
                break;
            }
            self.lines.next();
            let (in_old, in_new) = (kind != LineKind::Added, kind != LineKind::Deleted);
            hunk.lines.push(Line {
                kind,
                old: in_old.then_some(old),
                new: in_new.then_some(new),
                text: String::from_utf8_lossy(text).into_owned(),
                no_newline: false,
            });
            old = old.saturating_add(u64::from(in_old));
            new = new.saturating_add(u64::from(in_new));
            old_left -= u64::from(in_old);
            new_left -= u64::from(in_new);
        }
        Some(hunk)
    }

    /// Counts a line; `false` when there is no room for it.
    fn take_one(&mut self) -> bool {
        self.full |= self.n_lines == MAX_LINES;
        self.n_lines += usize::from(!self.full);
        !self.full
    }
}

/// The lines between `diff --git` and the first hunk.
#[derive(Debug, Default)]
struct Head {
    /// The name if it is the same on both sides, from the first line.
    both: Option<Vec<u8>>,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
    old_mode: Option<String>,
    new_mode: Option<String>,
    status: Option<FileStatus>,
    similarity: Option<u8>,
    binary: bool,
}

impl Head {
    fn read(&mut self, line: &[u8]) {
        let after = |start: &str| line.strip_prefix(start.as_bytes());
        if let Some(mode) = after("old mode ") {
            self.old_mode = mode_of(mode);
        } else if let Some(mode) = after("new mode ") {
            self.new_mode = mode_of(mode);
        } else if let Some(mode) = after("new file mode ") {
            self.status = Some(FileStatus::Added);
            self.new_mode = mode_of(mode);
        } else if let Some(mode) = after("deleted file mode ") {
            self.status = Some(FileStatus::Deleted);
            self.old_mode = mode_of(mode);
        } else if let Some(name) = after("rename from ") {
            self.status = Some(FileStatus::Renamed);
            self.old = unquote_path(name);
        } else if let Some(name) = after("copy from ") {
            self.status = Some(FileStatus::Copied);
            self.old = unquote_path(name);
        } else if let Some(name) = after("rename to ").or(after("copy to ")) {
            self.new = unquote_path(name);
        } else if let Some(percent) = after("similarity index ") {
            let percent = percent.strip_suffix(b"%").unwrap_or(percent);
            self.similarity = number(percent).and_then(|percent| u8::try_from(percent).ok());
        } else if let Some(ids) = after("index ") {
            // `OLD..NEW MODE`: the mode stands here when it is the same on both sides.
            if let Some(at) = ids.iter().rposition(|byte| *byte == b' ') {
                let mode = mode_of(&ids[at + 1..]);
                self.old_mode = self.old_mode.take().or_else(|| mode.clone());
                self.new_mode = self.new_mode.take().or(mode);
            }
        } else if let Some(name) = after("--- ") {
            self.old = self.old.take().or_else(|| side(name, b"a/"));
        } else if let Some(name) = after("+++ ") {
            self.new = self.new.take().or_else(|| side(name, b"b/"));
        } else if line.starts_with(b"Binary files ") || line == b"GIT binary patch" {
            self.binary = true;
        }
    }

    fn finish(self, file: FileDiff) -> FileDiff {
        let status = self.status.unwrap_or(FileStatus::Modified);
        let moved = matches!(status, FileStatus::Renamed | FileStatus::Copied);
        let old_path = self.old.as_deref().filter(|_| moved).map(quote_path);
        let path = self.new.or(self.old).or(self.both).unwrap_or_default();
        let (no_old, no_new) = (status == FileStatus::Added, status == FileStatus::Deleted);
        FileDiff {
            status,
            path: quote_path(&path),
            old_path,
            old_mode: self.old_mode.filter(|_| !no_old),
            new_mode: self.new_mode.filter(|_| !no_new),
            binary: self.binary,
            similarity: self.similarity,
            ..file
        }
    }
}

fn empty() -> FileDiff {
    FileDiff {
        status: FileStatus::Modified,
        path: String::new(),
        old_path: None,
        old_mode: None,
        new_mode: None,
        binary: false,
        similarity: None,
        insertions: 0,
        deletions: 0,
        hunks: Vec::new(),
        truncated: false,
    }
}

fn count(file: &mut FileDiff, hunk: &Hunk) {
    for line in &hunk.lines {
        match line.kind {
            LineKind::Context => {}
            LineKind::Added => file.insertions += 1,
            LineKind::Deleted => file.deletions += 1,
        }
    }
}

/// The name in `a/NAME b/NAME`, quoted or not, when both are the same: such a line has an odd length and a blank in
/// the middle.
fn both(names: &[u8]) -> Option<Vec<u8>> {
    let (old, rest) = names.split_at_checked(names.len() / 2)?;
    let new = rest.strip_prefix(b" ")?;
    let old = unquote_path(old)?.strip_prefix(b"a/")?.to_vec();
    (unquote_path(new)?.strip_prefix(b"b/")? == old).then_some(old)
}

/// A name behind `---` or `+++`; `None` of `/dev/null`.
fn side(name: &[u8], prefix: &[u8]) -> Option<Vec<u8>> {
    // A name with blanks has a tab behind it, so that other programs find its end.
    let name = unquote_path(name.strip_suffix(b"\t").unwrap_or(name))?;
    name.strip_prefix(prefix).map(<[u8]>::to_vec)
}

/// Six octal digits.
fn mode_of(text: &[u8]) -> Option<String> {
    let octal = text.len() == 6 && text.iter().all(|byte| (b'0'..=b'7').contains(byte));
    octal.then(|| String::from_utf8_lossy(text).into_owned())
}

/// `-1,2 +3,4 @@ section`, after the first `@@ `.
fn range_of(text: &[u8]) -> Option<Hunk> {
    let end = text.windows(3).position(|window| window == b" @@")?;
    let (ranges, section) = (&text[..end], &text[end + 3..]);
    let blank = ranges.iter().position(|byte| *byte == b' ')?;
    let (old_start, old_lines) = pair(ranges[..blank].strip_prefix(b"-")?)?;
    let (new_start, new_lines) = pair(ranges[blank + 1..].strip_prefix(b"+")?)?;
    let section =
        String::from_utf8_lossy(section.strip_prefix(b" ").unwrap_or(section)).into_owned();
    Some(Hunk { old_start, old_lines, new_start, new_lines, section, lines: Vec::new() })
}

/// `START,COUNT`; a count of one is left out.
fn pair(text: &[u8]) -> Option<(u64, u64)> {
    match text.iter().position(|byte| *byte == b',') {
        Some(comma) => Some((number(&text[..comma])?, number(&text[comma + 1..])?)),
        None => Some((number(text)?, 1)),
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
