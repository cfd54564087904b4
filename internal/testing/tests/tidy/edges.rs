//! The edges between crates are the ones in `docs/ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::page;
use crate::workspace::packages;

#[test]
fn the_edges_between_crates_are_the_ones_on_the_page() {
    let page = page::crates();
    let packages = packages();
    let names: BTreeSet<&String> = packages.keys().collect();
    assert_eq!(page.keys().collect::<BTreeSet<_>>(), names, "crates: page and workspace");
    for (name, package) in &packages {
        let ours: BTreeSet<&String> =
            package.dependencies.iter().filter(|it| names.contains(it)).collect();
        let listed: BTreeSet<&String> = page[name].uses.iter().collect();
        assert_eq!(listed, ours, "edges of {name}: page and manifest");
    }
}

#[test]
fn a_foreign_crate_is_named_by_the_crates_on_the_page() {
    let packages = packages();
    let who = |foreign: &String| -> BTreeSet<String> {
        let all = packages.iter().filter(|(_, package)| package.dependencies.contains(foreign));
        all.map(|(name, _)| name.clone()).collect()
    };
    let listed = page::foreign();
    let found: BTreeMap<_, _> = listed.keys().map(|it| (it.clone(), who(it))).collect();
    assert_eq!(listed, found, "page and manifests");
}
