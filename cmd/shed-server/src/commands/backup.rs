//! `shed-server backup`.

use std::path::PathBuf;

use anyhow::bail;
use shed_store::{DATABASE, Store};

use crate::globals::Globals;
use crate::paste::quote;
use crate::print::say;

/// Copy the database to a new file; the server may run meanwhile
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to create. Back up `host_key` and `server_id` of the data directory too; they never change
    file: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    let (_, data_dir) = globals.read()?;
    let database = data_dir.path().join(DATABASE);
    if !database.exists() {
        bail!(
            "no database in {}; choose the data directory: --data-dir DIR",
            data_dir.path().display()
        );
    }
    Store::backup(data_dir.path(), &args.file)?;
    let file = quote(&std::path::absolute(&args.file)?.to_string_lossy());
    say(&format!(
        "to restore, stop the server, then: {}",
        globals.paste(&format!("restore {file}"))
    ));
    Ok(0)
}
