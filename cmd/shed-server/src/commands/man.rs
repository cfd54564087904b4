//! `shed-server man`: manual pages, for packages.

use std::path::PathBuf;

/// Write manual pages into a directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory; created if missing
    dir: PathBuf,
}

/// Writes the pages of `program`.
pub(crate) fn run(args: &Args, program: clap::Command) -> anyhow::Result<u8> {
    std::fs::create_dir_all(&args.dir)?;
    clap_mangen::generate_to(program, &args.dir)?;
    Ok(0)
}
