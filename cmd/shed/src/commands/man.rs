//! `shed man`: manual pages, for packages.

use std::path::PathBuf;

use clap::CommandFactory as _;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Write manual pages into a directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory
    dir: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args, _: &Context) -> Outcome {
    std::fs::create_dir_all(&args.dir).map_err(Failure::io(args.dir.display()))?;
    clap_mangen::generate_to(crate::cli::Cli::command(), &args.dir)
        .map_err(Failure::io(args.dir.display()))?;
    Ok(0)
}
