//! The workspace as cargo and git describe it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate of the workspace.
pub(crate) struct Package {
    /// Relative to the workspace's root, for example `internal/core`.
    pub(crate) dir: String,
    /// Normal dependencies: neither those of tests nor those of build scripts.
    pub(crate) dependencies: BTreeSet<String>,
}

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Reads a file; `path` is relative to the workspace's root.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The crates of the workspace by name.
pub(crate) fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = metadata["packages"].as_array().unwrap().iter();
    found.map(|it| (it["name"].as_str().unwrap().to_owned(), package(it))).collect()
}

fn package(metadata: &Value) -> Package {
    let manifest = Path::new(metadata["manifest_path"].as_str().unwrap());
    let dir = manifest.parent().unwrap().strip_prefix(root()).unwrap();
    let all = metadata["dependencies"].as_array().unwrap().iter();
    let normal = all.filter(|dependency| dependency["kind"].is_null());
    Package {
        dir: dir.to_str().unwrap().to_owned(),
        dependencies: normal.map(|it| it["name"].as_str().unwrap().to_owned()).collect(),
    }
}

/// Path and text of every file that git tracks or would add and whose path ends with `suffix`.
pub(crate) fn files(suffix: &str) -> Vec<(String, String)> {
    let output = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let names = names.split('\0').filter(|name| name.ends_with(suffix) && !name.is_empty());
    // A file that was deleted and not yet committed is still listed.
    let read =
        |name: &str| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?));
    let found: Vec<_> = names.filter_map(read).collect();
    assert!(!found.is_empty(), "no file ends with {suffix:?}");
    found
}

/// Path and text of the Rust files in a crate's `src`.
pub(crate) fn sources(package: &Package) -> Vec<(String, String)> {
    files(".rs").into_iter().filter(|(name, _)| name.starts_with(&src(package))).collect()
}

/// The directory of a crate's sources, with a slash at its end.
pub(crate) fn src(package: &Package) -> String {
    format!("{}/src/", package.dir)
}
