//! The locale of a program: the caller's where the image has it, otherwise `C.UTF-8`. With a locale that does not exist,
//! programs fall back to ASCII.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;

use crate::environment::Environment;

/// The locale that every image is expected to have.
const FALLBACK: &str = "C.UTF-8";
/// The variables that name a locale. Other variables `LC_*` are terminals' own.
const CATEGORIES: &[&str] = &[
    "LANG",
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];
/// The directory of glibc's locales.
const DIRECTORY: &str = "/usr/lib/locale";
/// The first four bytes of a locale archive.
const ARCHIVE_MAGIC: u32 = 0xde02_0109;
/// The most bytes of names that are read from an archive. Debian's, with all locales, has 16 KiB.
const MAX_NAME_BYTES: u32 = 1 << 20;

/// The caller's variables with the locales that the image has.
pub(crate) fn settle(variables: Environment) -> Environment {
    settle_with(variables, exists)
}

/// `locale NAME=VALUE…`: prints the variables with the locales that the image has, a line for each.
pub(crate) fn main(variables: &[String]) -> ExitCode {
    let pairs = variables.iter().filter_map(|variable| variable.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let lines = settle(pairs).into_iter().map(|(name, value)| format!("{name}={value}\n"));
    let text: String = lines.collect();
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn settle_with(variables: Environment, exists: impl Fn(&str) -> bool) -> Environment {
    let settle = |(name, value): (String, String)| {
        let keeps = !CATEGORIES.contains(&name.as_str()) || value.is_empty() || exists(&value);
        (name, if keeps { value } else { FALLBACK.to_owned() })
    };
    variables.into_iter().map(settle).collect()
}

/// Whether the image's libc knows a locale.
fn exists(locale: &str) -> bool {
    let normal = normal(locale);
    if matches!(normal.as_str(), "C" | "POSIX" | "C.utf8") {
        return true;
    }
    if locale.starts_with('.') || locale.contains('/') {
        return false;
    }
    let directory = Path::new(DIRECTORY);
    let names = [locale, &normal];
    names.iter().any(|name| directory.join(name).join("LC_CTYPE").exists())
        || is_in_archive(&directory.join("locale-archive"), &names).unwrap_or(false)
        || is_musl()
}

/// The name in the form of glibc's files: `de_DE.UTF-8@euro` becomes `de_DE.utf8@euro`.
fn normal(locale: &str) -> String {
    let (name, modifier) = locale.split_once('@').unwrap_or((locale, ""));
    let mut normal = name.to_owned();
    if let Some((language, codeset)) = name.split_once('.') {
        let codeset: String = codeset.chars().filter(char::is_ascii_alphanumeric).collect();
        let iso = if codeset.bytes().all(|byte| byte.is_ascii_digit()) { "iso" } else { "" };
        normal = format!("{language}.{iso}{}", codeset.to_ascii_lowercase());
    }
    if modifier.is_empty() { normal } else { format!("{normal}@{modifier}") }
}

/// Whether glibc's archive of locales contains one of the names. The header has, as numbers of four bytes, the magic number
/// and at 5 and 6 the offset and length of the table of names, each of which ends with a NUL byte.
fn is_in_archive(path: &Path, names: &[&str]) -> io::Result<bool> {
    let file = File::open(path)?;
    let number = |index: u64| -> io::Result<u32> {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, index * 4)?;
        Ok(u32::from_ne_bytes(bytes))
    };
    if number(0)? != ARCHIVE_MAGIC {
        return Ok(false);
    }
    let (offset, length) = (number(5)?, number(6)?.min(MAX_NAME_BYTES));
    let mut table = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut table, offset.into())?;
    let mut known = table.split(|byte| *byte == 0);
    Ok(known.any(|known| names.iter().any(|name| name.as_bytes() == known)))
}

/// Whether the image has musl, which takes any name and always uses UTF-8.
fn is_musl() -> bool {
    let entries = std::fs::read_dir("/lib").into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"ld-musl-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_that_does_not_exist_is_replaced() {
        let exists = |locale: &str| locale == "de_DE.UTF-8";
        for (name, value, settled) in [
            ("LANG", "de_DE.UTF-8", "de_DE.UTF-8"),
            ("LANG", "en_US.UTF-8", "C.UTF-8"),
            // What macOS sets.
            ("LC_CTYPE", "UTF-8", "C.UTF-8"),
            ("LC_ALL", "", ""),
            ("LC_TERMINAL", "iTerm2", "iTerm2"),
        ] {
            let after = settle_with(vec![(name.to_owned(), value.to_owned())], exists);
            assert_eq!(after, [(name.to_owned(), settled.to_owned())], "{name}={value}");
        }
    }

    #[test]
    fn names_have_the_form_of_glibcs_files() {
        for (locale, expected) in [
            ("en_US.UTF-8", "en_US.utf8"),
            ("de_DE.ISO-8859-15@euro", "de_DE.iso885915@euro"),
            ("de_DE.8859-1", "de_DE.iso88591"),
            ("ca_ES@valencia", "ca_ES@valencia"),
            ("C.UTF-8", "C.utf8"),
        ] {
            assert_eq!(normal(locale), expected);
        }
    }

    #[test]
    fn every_image_has_the_standard_locales_and_none_outside_its_directory() {
        for locale in ["C", "POSIX", "C.UTF-8", "C.utf8"] {
            assert!(exists(locale), "{locale}");
        }
        for locale in ["../../etc", "/etc", ".", "no_LANGUAGE.UTF-8"] {
            assert!(!exists(locale), "{locale}");
        }
    }

    #[test]
    fn an_archive_is_searched_for_whole_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locale-archive");
        let names = b"de_DE.utf8\0en_US.utf8\0";
        let header = [ARCHIVE_MAGIC, 1, 0, 0, 0, 40, u32::try_from(names.len()).unwrap(), 0, 0, 0];
        let mut archive: Vec<u8> = header.iter().flat_map(|number| number.to_ne_bytes()).collect();
        archive.extend(names);
        std::fs::write(&path, &archive).unwrap();
        assert!(is_in_archive(&path, &["en_US.UTF-8", "en_US.utf8"]).unwrap());
        assert!(!is_in_archive(&path, &["US.utf8"]).unwrap());
        std::fs::write(&path, &archive[..50]).unwrap();
        assert!(is_in_archive(&path, &["en_US.utf8"]).is_err());
        std::fs::write(&path, "no archive, but long enough for a header").unwrap();
        assert!(!is_in_archive(&path, &["en_US.utf8"]).unwrap());
    }
}
