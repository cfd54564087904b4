//! `.worktreeinclude`: names ignored or untracked files, such as `.env`, that are copied into a new worktree. The file has
//! the format of `.gitignore`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use shed_api::git::quote_path;
use shed_link::git::{MAX_INCLUDED_BYTES, MAX_INCLUDED_FILES, MAX_SHORT_LIST, NotCopied};

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::repository::Repository;

/// The file's name, at the top of the working tree.
const NAME: &str = ".worktreeinclude";
/// The longest `.worktreeinclude`, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 10;
/// The most lines of a `.worktreeinclude` whose files do not all fit. Each takes a run of git.
const MAX_ENTRIES: usize = 200;
/// The permission bits that are copied.
const MODE: u32 = 0o777;

/// The result of copying.
#[derive(Debug, Default)]
pub(crate) struct Included {
    pub(crate) copied: Vec<String>,
    pub(crate) n_copied: u64,
    pub(crate) bytes: u64,
    pub(crate) not_copied: Vec<NotCopied>,
    pub(crate) n_not_copied: u64,
}

/// Copies the files that `.worktreeinclude` of the repository's working tree names into the new worktree.
pub(crate) fn copy(
    repository: &Repository,
    target: &Path,
    interrupt: &Interrupt,
) -> Result<Included, Failure> {
    let mut included = Included::default();
    let list = repository.toplevel.join(NAME);
    match fs::symlink_metadata(&list) {
        Ok(file) if file.is_file() && file.len() <= MAX_LIST_BYTES => {}
        Ok(_) => {
            included.skip(NAME.as_bytes(), "it is not a regular file, or it is too long");
            return Ok(included);
        }
        Err(_) => return Ok(included),
    }
    let patterns = vec![format!("--exclude-from={NAME}")];
    let all = named(repository, &patterns)?;
    let names = if Total::of(repository, &all).fits() {
        all
    } else {
        whole_entries(repository, &list, &mut included)?
    };
    for name in names {
        interrupt.check()?;
        match copy_file(&repository.toplevel, target, &name, &included)? {
            Ok(n_bytes) => {
                included.bytes += n_bytes;
                included.n_copied += 1;
                if included.copied.len() < MAX_SHORT_LIST {
                    included.copied.push(quote_path(&name));
                }
            }
            Err(reason) => included.skip(&name, reason),
        }
    }
    Ok(included)
}

/// The number and size of files.
#[derive(Debug, Default, Clone, Copy)]
struct Total {
    n_files: usize,
    bytes: u64,
}

impl Total {
    fn of(repository: &Repository, names: &[Vec<u8>]) -> Self {
        let size = |name: &Vec<u8>| {
            let path = repository.toplevel.join(OsStr::from_bytes(name));
            fs::symlink_metadata(path).map_or(0, |file| if file.is_file() { file.len() } else { 0 })
        };
        Self { n_files: names.len(), bytes: names.iter().map(size).sum() }
    }

    fn and(self, other: Self) -> Self {
        Self {
            n_files: self.n_files + other.n_files,
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn fits(self) -> bool {
        self.n_files <= MAX_INCLUDED_FILES && self.bytes <= MAX_INCLUDED_BYTES
    }
}

/// The files that patterns name, as options of `git ls-files`.
fn named(repository: &Repository, patterns: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
    let call = repository.git.call("ls-files").args(["-z", "-o", "-i"]).args(patterns);
    let output = call.output("cannot list the files of .worktreeinclude")?;
    let names = output.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// The files of the entries that fit into the limits, in order. Of an entry that does not fit nothing is copied: half of a
/// directory of dependencies is of no use.
fn whole_entries(
    repository: &Repository,
    list: &Path,
    included: &mut Included,
) -> Result<Vec<Vec<u8>>, Failure> {
    let text = fs::read_to_string(list)
        .map_err(|error| Failure::io("cannot read .worktreeinclude", &error))?;
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| is_entry(line)).collect();
    let over = |total: Total| {
        let (n_files, bytes) = (total.n_files, total.bytes);
        let most = MAX_INCLUDED_BYTES >> 20;
        format!(
            "{n_files} files with {bytes} bytes; at most {MAX_INCLUDED_FILES} files and {most} MiB are copied in all"
        )
    };
    if lines.len() > MAX_ENTRIES {
        included.skip(NAME.as_bytes(), format!("it has more than {MAX_ENTRIES} lines"));
        return Ok(Vec::new());
    }
    let (mut names, mut total) = (Vec::new(), Total::default());
    let mut seen = BTreeSet::new();
    for (n, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('!')) {
        // What a later line takes back is not of this entry.
        let back = lines[n..].iter().filter(|line| line.starts_with('!'));
        let patterns: Vec<String> =
            std::iter::once(line).chain(back).map(|line| format!("--exclude={line}")).collect();
        let mut entry = named(repository, &patterns)?;
        entry.retain(|name| !seen.contains(name));
        let size = Total::of(repository, &entry);
        if total.and(size).fits() {
            total = total.and(size);
            seen.extend(entry.iter().cloned());
            names.extend(entry);
        } else {
            included.skip(line.as_bytes(), over(size));
        }
    }
    Ok(names)
}

/// Whether a line of `.gitignore`'s format is a pattern.
fn is_entry(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

impl Included {
    fn skip(&mut self, name: &[u8], reason: impl Into<String>) {
        self.n_not_copied += 1;
        if self.not_copied.len() < MAX_SHORT_LIST {
            self.not_copied.push(NotCopied { path: quote_path(name), reason: reason.into() });
        }
    }
}

/// Copies one file. The inner error is the reason to skip it, the outer one aborts the operation.
fn copy_file(
    from: &Path,
    to: &Path,
    name: &[u8],
    so_far: &Included,
) -> Result<Result<u64, &'static str>, Failure> {
    if name.ends_with(b"/") {
        return Ok(Err("it is a nested repository"));
    }
    if so_far.n_copied >= MAX_INCLUDED_FILES as u64 {
        return Ok(Err("the limit of files is reached"));
    }
    let path = OsStr::from_bytes(name);
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    // Opening a named pipe would otherwise wait for a writer.
    let flags = no_follow | OFlags::NONBLOCK.bits().cast_signed();
    let Ok(mut source) = OpenOptions::new().read(true).custom_flags(flags).open(from.join(path))
    else {
        return Ok(Err("it is a symlink or cannot be read"));
    };
    let Some(metadata) = source.metadata().ok().filter(fs::Metadata::is_file) else {
        return Ok(Err("it is not a regular file"));
    };
    if so_far.bytes.saturating_add(metadata.len()) > MAX_INCLUDED_BYTES {
        return Ok(Err("the limit of bytes is reached"));
    }
    let failed =
        |error: &io::Error| Failure::io(&format!("cannot copy {}", quote_path(name)), error);
    if !make_parents(to, name).map_err(|error| failed(&error))? {
        return Ok(Err("the branch has another file in place of its directory"));
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).custom_flags(no_follow).mode(metadata.mode() & MODE);
    let mut target: File = match options.open(to.join(path)) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Ok(Err("the branch has a file of this name"));
        }
        Err(error) => return Err(failed(&error)),
    };
    // Not more than was counted, even if the file is growing.
    let mut bounded = io::Read::take(&mut source, metadata.len());
    io::copy(&mut bounded, &mut target).map(Ok).map_err(|error| failed(&error))
}

/// Creates the parent directories of a file; `false` if one of them exists and is not a directory, such as a symlink out of
/// the worktree.
fn make_parents(top: &Path, name: &[u8]) -> io::Result<bool> {
    let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends {
        let path = top.join(OsStr::from_bytes(&name[..end]));
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o755).create(&path)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
