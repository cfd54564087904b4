//! Text output of `shed` and `shed-server`: tables, lists of names with values, patches, the results of `doctor`, and how text
//! of a shed is made safe for a terminal. Pure: the programs print it, or JSON instead.

mod check;
mod patch;
mod visible;

use tabled::builder::Builder;
use tabled::settings::{Padding, Style};

pub use check::{Check, Verdict, check, has_failed, show};
pub use patch::PatchText;
pub use visible::{visible, visible_bytes, visible_json, visible_with_colours};

/// Formats a table without borders; columns are two spaces apart, lines have no trailing blanks. Control characters are shown by
/// name, so that a row is one line. Empty without rows.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut builder = Builder::default();
    builder.push_record(head.iter().copied());
    for row in rows {
        builder.push_record(row.iter().map(|cell| visible::cell(cell)));
    }
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    let lines: Vec<String> =
        table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// Formats names with values, one per line, the values aligned. Control characters are shown by name.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter()
        .map(|(name, value)| format!("{name:width$}  {}\n", visible::cell(value)))
        .collect::<Vec<_>>()
        .concat()
}

/// A number with its noun: `1 file`, `2 files`.
pub fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_borders_and_no_trailing_blanks() {
        let rows = vec![
            vec!["a".to_owned(), "running".to_owned()],
            vec!["longer".to_owned(), String::new()],
        ];
        assert_eq!(table(&["SHED", "STATUS"], rows), "SHED    STATUS\na       running\nlonger\n");
        assert_eq!(table(&["SHED"], Vec::new()), "");
    }

    #[test]
    fn text_of_a_shed_cannot_add_lines_or_escape_sequences() {
        let hostile = "x\n\x1b[8m".to_owned();
        assert_eq!(table(&["A"], vec![vec![hostile.clone()]]), "A\nx^J^[[8m\n");
        assert_eq!(pairs(&[("user", hostile)]), "user  x^J^[[8m\n");
    }

    #[test]
    fn nouns_are_counted() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "file")), ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn values_are_aligned() {
        assert_eq!(pairs(&[("a", "1".to_owned()), ("long", "2".to_owned())]), "a     1\nlong  2\n");
    }
}
