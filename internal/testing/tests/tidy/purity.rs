//! Crates that the page calls pure compute values from values.

use crate::page;
use crate::paths::Names;
use crate::tokens::{code, flat};
use crate::workspace::{packages, sources};

/// The foreign crates that a pure crate may use. None of them brings tasks, randomness, the database or the operating system.
const PURE_FOREIGN_CRATES: [&str; 6] =
    ["chrono", "regex", "serde", "tabled", "thiserror", "utoipa"];

/// Modules of the standard library that reach out of the program.
const IMPURE_MODULES: [&str; 6] = ["env", "fs", "net", "os", "process", "thread"];

/// What can tell the time.
const CLOCKS: [&str; 4] = ["Instant", "Local", "SystemTime", "Utc"];

#[test]
fn a_pure_crate_depends_on_pure_crates_only() {
    let pages = page::crates();
    let packages = packages();
    let pure: Vec<_> = pages.iter().filter(|(_, entry)| entry.pure).collect();
    assert!(!pure.is_empty(), "no crate is pure");
    for (name, entry) in pure {
        for other in &entry.uses {
            assert!(pages[other].pure, "{name} is pure and uses {other}, which is not");
        }
        for other in &packages[name].dependencies {
            let pure = PURE_FOREIGN_CRATES.contains(&other.as_str()) || pages.contains_key(other);
            assert!(pure, "{name} is pure and depends on {other}");
        }
    }
}

#[test]
fn a_pure_crate_names_no_task_file_socket_process_or_clock() {
    let mut found = Vec::new();
    for (name, package) in packages() {
        if page::crates().get(&name).is_some_and(|entry| entry.pure) {
            for (file, text) in sources(&package) {
                found.extend(impurities(&file, &text).iter().map(|it| format!("{file}: {it}")));
            }
        }
    }
    assert!(found.is_empty(), "pure crates must not name these:\n{}", found.join("\n"));
}

/// What a pure file must not name.
fn impurities(file: &str, text: &str) -> Vec<String> {
    let code = code(file, text);
    let written = Names::read(&code, &[]).written;
    let paths = written.into_iter().map(|it| it.segments).filter(|segments| {
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let outside = matches!(parts[..], ["std", module, ..] if IMPURE_MODULES.contains(&module));
        let clock = parts.windows(2).any(|pair| CLOCKS.contains(&pair[0]) && pair[1] == "now");
        outside || clock
    });
    let mut found: Vec<String> = paths.map(|segments| segments.join("::")).collect();
    if format!("{} ", flat(&code)).contains(". await ") {
        found.push(".await".to_owned());
    }
    found
}

#[test]
fn impurities_are_found_in_code_and_not_in_comments_or_tests() {
    let pure = "//! Like std::fs, never .await.\nuse std::collections::BTreeMap;\n\
                fn f(now: chrono::DateTime<chrono::Utc>) { \"std::fs .await\"; }\n\
                #[cfg(test)] mod tests { use std::fs; fn f() { Utc::now(); } }";
    assert_eq!(impurities("pure.rs", pure), [""; 0]);
    let impure = "use std::{fmt, net::{self, IpAddr}}; fn f() { chrono::Utc::now(); g().await; \
                  std::process::id(); Instant::now() }";
    let expected = [
        "std::net",
        "std::net::IpAddr",
        "chrono::Utc::now",
        "std::process::id",
        "Instant::now",
        ".await",
    ];
    assert_eq!(impurities("impure.rs", impure), expected);
}
