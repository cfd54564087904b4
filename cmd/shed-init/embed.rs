// Builds the static shed-init for a build script that includes this file, and returns its path.
//
// shed-init must run in any Linux image, so it is linked statically and cannot share a build with the programs around it:
// a nested cargo with a target directory of its own makes it. `SHED_INIT_BIN` names a ready one instead.

fn build_shed_init(root: &std::path::Path) -> std::path::PathBuf {
    println!("cargo::rerun-if-env-changed=SHED_INIT_BIN");
    for source in ["cmd/shed-init", "internal/api/src", "internal/link/src", "internal/tmux/src", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    if let Some(ready) = std::env::var_os("SHED_INIT_BIN") {
        return ready.into();
    }
    let triple = std::env::var("TARGET").expect("cargo sets TARGET");
    let target_dir = root.join("target").join("init");
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").expect("cargo sets CARGO"));
    // What cargo told this build must not leak into the other one.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" || text == "RUSTC_WRAPPER" || text == "RUSTC_WORKSPACE_WRAPPER" {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .current_dir(root)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--quiet", "--package", "shed-init", "--profile", "init", "--target", &triple])
        .arg("--target-dir")
        .arg(&target_dir)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "shed-init was not built");
    target_dir.join(triple).join("init").join("shed-init")
}
