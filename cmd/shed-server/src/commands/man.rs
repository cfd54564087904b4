//! `shed-server man`: manual pages, for packages.

use std::path::PathBuf;

use clap::CommandFactory as _;

/// Write manual pages into a directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory
    dir: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    std::fs::create_dir_all(&args.dir)?;
    clap_mangen::generate_to(crate::cli::Cli::command(), &args.dir)?;
    Ok(0)
}
