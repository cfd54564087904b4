//! Rules that every file follows.

use crate::workspace::{files, read};

/// A longer file holds more than one idea.
const MAX_LINES: usize = 450;

#[test]
fn no_rust_file_is_longer_than_450_lines() {
    let length = |(name, text): (String, String)| (text.lines().count(), name);
    let mut long: Vec<_> =
        files(".rs").into_iter().map(length).filter(|(n_lines, _)| *n_lines > MAX_LINES).collect();
    long.sort();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_source_file_begins_with_its_documentation() {
    let sources = files(".rs").into_iter().filter(|(name, _)| name.contains("/src/"));
    let without: Vec<_> =
        sources.filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(without.is_empty(), "{without:#?}");
}

#[test]
fn open_tasks_name_a_plan_and_no_path_of_a_developers_machine_is_named() {
    // In two parts each, so that this file does not contain them.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["/work", "/main"].concat()];
    for suffix in [".rs", ".md", ".sh", ".toml", ".py", "Makefile", "Dockerfile"] {
        for (name, text) in files(suffix) {
            for word in &words {
                let line =
                    text.lines().find(|line| line.contains(word) && !line.contains("plans/"));
                assert!(line.is_none(), "{name}: {}", line.unwrap_or_default());
            }
        }
    }
}

/// A test that is renamed would lose its time limit, and be ended by the default one.
#[test]
fn every_test_with_limits_of_its_own_exists() {
    let config = read(".config/nextest.toml");
    let names = config.split("\"test(").skip(1).filter_map(|rest| rest.split(')').next());
    let names: Vec<_> = names.collect();
    assert!(!names.is_empty(), "no test has limits of its own");
    let sources = files(".rs");
    for name in names {
        let defined = format!("fn {name}(");
        assert!(sources.iter().any(|(_, text)| text.contains(&defined)), "no test {name}");
    }
}
