//! `shed man`: manual pages, for packages.

use std::path::PathBuf;

use crate::failure::{Failure, Outcome};

/// Write manual pages into a directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory to write to; created when missing
    dir: PathBuf,
}

/// Runs the command for the whole command line as `definition` describes it.
pub(crate) fn run(args: &Args, definition: clap::Command) -> Outcome {
    std::fs::create_dir_all(&args.dir).map_err(Failure::io(args.dir.display()))?;
    clap_mangen::generate_to(definition, &args.dir).map_err(Failure::io(args.dir.display()))?;
    Ok(0)
}
