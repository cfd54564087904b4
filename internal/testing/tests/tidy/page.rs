//! The tables of `docs/ARCHITECTURE.md` that tests compare with the code.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::read;

const PAGE: &str = "docs/ARCHITECTURE.md";

/// What the page states about a crate.
pub(crate) struct Entry {
    /// Crates of the workspace that it depends on, by package name.
    pub(crate) uses: BTreeSet<String>,
    /// Whether it computes values only: no task, file, socket, process or clock.
    pub(crate) pure: bool,
}

/// The table that begins with `| crate | uses | pure |`, by package name.
pub(crate) fn crates() -> BTreeMap<String, Entry> {
    let rows = table(&["crate", "uses", "pure"]);
    let entry = |row: &Vec<String>| Entry {
        uses: words(&row[1]).iter().map(|word| format!("shed-{word}")).collect(),
        pure: match row[2].as_str() {
            "pure" => true,
            "" => false,
            other => panic!("{PAGE}: {other:?} in the column \"pure\" of {}", row[0]),
        },
    };
    rows.iter().map(|row| (package(&row[0]), entry(row))).collect()
}

/// The table that begins with `| foreign crate | named by |`: package names by foreign crate.
pub(crate) fn foreign() -> BTreeMap<String, BTreeSet<String>> {
    let rows = table(&["foreign crate", "named by"]);
    let who = |cell: &str| cell.split(", ").map(package).collect();
    rows.iter().map(|row| (row[0].clone(), who(&row[1]))).collect()
}

/// `shed-core` of `shed-core`, `shed` of `shed (cmd)`.
fn package(cell: &str) -> String {
    cell.split(" (").next().unwrap().to_owned()
}

/// The words of a cell; none if it has only a dash.
fn words(cell: &str) -> Vec<&str> {
    cell.split_whitespace().filter(|word| *word != "–").collect()
}

/// The rows of the only table with this header. Backticks are dropped.
fn table(header: &[&str]) -> Vec<Vec<String>> {
    let page = read(PAGE);
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let lines: Vec<&str> = page.lines().collect();
    let heads: Vec<usize> = (0..lines.len()).filter(|at| cells(lines[*at]) == header).collect();
    assert_eq!(heads.len(), 1, "{PAGE}: tables with the header {header:?}");
    let rows = lines[heads[0] + 2..].iter().take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows.map(|line| cells(line)).collect();
    assert!(!rows.is_empty(), "{PAGE}: the table with the header {header:?} has no rows");
    for row in &rows {
        assert_eq!(row.len(), header.len(), "{PAGE}: the row {row:?}");
    }
    rows
}
