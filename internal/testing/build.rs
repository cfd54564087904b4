//! Builds the static shed-init that the process engine runs.

use std::path::Path;

include!("../../cmd/shed-init/embed.rs");

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = build_shed_init(&root);
    println!("cargo::rustc-env=SHED_INIT_PATH={}", path.display());
}
