//! What `shed` and `shed-server` print for people: tables without borders, names with values, and the two doctors' checks.
//! Text only; who prints it, and whether as JSON instead, is each program's affair.

mod check;

use tabled::builder::Builder;
use tabled::settings::{Padding, Style};

pub use check::{Check, Verdict, check, has_failed, show};

/// A table without borders: a head in capitals, columns two spaces apart. Empty without rows.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut builder = Builder::default();
    builder.push_record(head.iter().copied());
    for row in rows {
        builder.push_record(row);
    }
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    let lines: Vec<String> =
        table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// Names and values, one a line.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect::<Vec<_>>()
        .concat()
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
    fn pairs_line_up() {
        assert_eq!(pairs(&[("a", "1".to_owned()), ("long", "2".to_owned())]), "a     1\nlong  2\n");
    }
}
