// Builds the static shed-init and returns its path, for build scripts that include this file.
//
// shed-init must run in any Linux image, so it is linked statically and cannot share a build with the other programs. A
// nested cargo with a target directory of its own builds it. With `SHED_INIT_BIN` an existing program is used instead.

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
    // Cargo's variables for this build must not affect the nested one.
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
