//! `shed-server backup`.

use std::path::PathBuf;

use anyhow::bail;
use shed_store::{DATABASE, Store};

use super::say;
use crate::cli::Options;

/// Copy the database to a new file, also while the server runs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The new file. With it keep `host_key` and `server_id` of the data directory: they never change
    file: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args, options: &Options) -> anyhow::Result<u8> {
    let (_, place) = options.read()?;
    if !place.dir().join(DATABASE).exists() {
        bail!("{} has no database; name the data directory: --data-dir DIR", place.dir().display());
    }
    Store::backup(place.dir(), &args.file)?;
    let file = args.file.display();
    say(&format!(
        "to restore: stop the server, then: cp {file} {}",
        place.dir().join(DATABASE).display()
    ));
    Ok(0)
}
