//! Builds the static shed-init that the server carries with it.

use std::path::Path;

include!("../shed-init/embed.rs");

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = build_shed_init(&root);
    println!("cargo::rustc-env=SHED_INIT_PATH={}", path.display());
    let program = std::fs::read(&path).expect("shed-init was built");
    println!("cargo::rustc-env=SHED_INIT_HASH={:016x}", fnv1a(&program));
}

/// Names a version of the program; nothing is proven by it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
