//! A dependency's version stands once, in the workspace's manifest.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::workspace::{packages, read};

/// The tables of a member's manifest that name dependencies.
const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// The dependencies of a crate in all its tables, those of one platform too.
fn dependencies(manifest: &Table) -> Vec<(&String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let tables = targets.chain([manifest]).flat_map(|table| KINDS.map(|kind| table.get(kind)));
    tables.flatten().filter_map(Value::as_table).flatten().collect()
}

fn member(dir: &str) -> Table {
    read(&format!("{dir}/Cargo.toml")).parse().unwrap()
}

#[test]
fn no_member_names_a_version_or_a_source_of_a_dependency() {
    let mut found = Vec::new();
    for (name, package) in packages() {
        for (dependency, value) in dependencies(&member(&package.dir)) {
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                found.push(format!("{name}: {dependency} = {value:?}"));
            }
        }
    }
    assert!(found.is_empty(), "write `NAME.workspace = true`:\n{}", found.join("\n"));
}

#[test]
fn every_version_in_the_workspace_is_used_by_a_member() {
    let workspace: Table = read("Cargo.toml").parse().unwrap();
    let listed: BTreeSet<String> =
        workspace["workspace"]["dependencies"].as_table().unwrap().keys().cloned().collect();
    let members: Vec<Table> = packages().values().map(|package| member(&package.dir)).collect();
    let used: BTreeSet<String> =
        members.iter().flat_map(dependencies).map(|(name, _)| name.clone()).collect();
    assert_eq!(listed, used);
}
