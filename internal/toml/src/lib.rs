//! TOML files that people write: the server's and the client's configuration, and templates of sessions.
//!
//! Errors say where the mistake is (line and column) and which known key was probably meant. They fit on one line. Text
//! of the file is quoted as it is: who shows an error about an untrusted file removes control characters first.

mod nearest;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use nearest::nearest;

/// A mistake in a TOML text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}{}", hint_suffix(.hint.as_deref()))]
pub struct Error {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong: ``unknown key `lisen` ``.
    pub what: String,
    /// ``did you mean `listen`?``, or the known keys where none is near. Absent for other mistakes.
    pub hint: Option<String>,
}

/// A TOML file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read as text.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why; `InvalidData` where the file is not UTF-8.
        source: std::io::Error,
    },
    /// The file has a mistake.
    #[error(
        "{} in {} line {}, column {}{}",
        .error.what, .path.display(), .error.line, .error.column, hint_suffix(.error.hint.as_deref())
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The mistake.
        error: Error,
    },
}

/// A value that TOML cannot express, such as a number over 63 bits.
#[derive(Debug, thiserror::Error)]
#[error("cannot be written as TOML: {0}")]
pub struct WriteError(#[from] toml::ser::Error);

/// Reads a TOML text.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let in_line = before.get(line_start..).unwrap_or_default();
        let (what, hint) = explain(error.message());
        Error {
            line: before.matches('\n').count() + 1,
            column: in_line.chars().count() + 1,
            what,
            hint,
        }
    })
}

/// Reads a TOML file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|error| FileError::Invalid { path: path.to_owned(), error })
}

/// A value as the text of a TOML file.
pub fn write<T: Serialize>(value: &T) -> Result<String, WriteError> {
    Ok(toml::to_string_pretty(value)?)
}

impl FileError {
    /// Whether there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

fn hint_suffix(hint: Option<&str>) -> String {
    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// Turns serde's message into words about keys and values, with a hint where known names are listed in it.
fn explain(message: &str) -> (String, Option<String>) {
    let message = message.trim().replace('\n', "; ");
    for (theirs, ours) in [("unknown field ", "unknown key"), ("unknown variant ", "unknown value")]
    {
        let Some(list) = message.strip_prefix(theirs) else { continue };
        // Every second part of "`a`, expected one of `b`, `c`" is a name.
        let mut names = list.split('`').skip(1).step_by(2);
        let Some(unknown) = names.next() else { continue };
        return (format!("{ours} `{unknown}`"), hint(unknown, &names.collect::<Vec<_>>()));
    }
    let what = message.replacen("missing field", "missing key", 1);
    (what, None)
}

fn hint(unknown: &str, known: &[&str]) -> Option<String> {
    if let Some(name) = nearest(unknown, known) {
        return Some(format!("did you mean `{name}`?"));
    }
    match known {
        [] => None,
        [name] => Some(format!("expected `{name}`")),
        names => Some(format!("expected one of `{}`", names.join("`, `"))),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        name: String,
        http: Http,
        format: Option<Format>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Http {
        listen: Vec<String>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Format {
        Text,
        Json,
    }

    #[test]
    fn an_error_names_line_column_and_the_nearest_key() {
        let cases = [
            (
                "name = 'x'\n\n[http]\nlisten = []\n  listn = 1\n",
                "line 5, column 3: unknown key `listn`; did you mean `listen`?",
            ),
            ("[htttp]\n", "line 1, column 2: unknown key `htttp`; did you mean `http`?"),
            (
                "quuxquux = 1\n",
                "line 1, column 1: unknown key `quuxquux`; expected one of `name`, `http`, `format`",
            ),
            ("format = 'jsn'", "line 1, column 10: unknown value `jsn`; did you mean `json`?"),
            ("[http]\n", "line 1, column 1: missing key `listen`"),
            ("name = 1\n", "line 1, column 8: invalid type: integer `1`, expected a string"),
            ("# ä\nname = 'ä' x", "line 2, column 12: "),
        ];
        for (text, expected) in cases {
            let error = parse::<File>(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn an_error_about_a_file_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        let error = read::<File>(&path).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().starts_with(&format!("cannot read {}: ", path.display())));

        std::fs::write(&path, "\n\nnmae = 'x'\n").unwrap();
        let error = read::<File>(&path).unwrap_err();
        assert!(!error.is_not_found());
        let expected = format!(
            "unknown key `nmae` in {} line 3, column 1; did you mean `name`?",
            path.display()
        );
        assert_eq!(error.to_string(), expected);

        std::fs::write(&path, [0xff]).unwrap();
        let error = read::<File>(&path).unwrap_err();
        assert!(!error.is_not_found() && error.to_string().contains("UTF-8"), "{error}");
    }

    #[test]
    fn what_is_written_reads_back() {
        let file = File {
            name: "a \"b\"\nc".to_owned(),
            http: Http { listen: vec!["127.0.0.1:1".to_owned()] },
            format: Some(Format::Json),
        };
        assert_eq!(parse::<File>(&write(&file).unwrap()), Ok(file));
    }
}
