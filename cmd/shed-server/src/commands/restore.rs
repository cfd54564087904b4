//! `shed-server restore`.

use std::path::PathBuf;

use anyhow::Context as _;
use shed_store::Store;

use crate::globals::Globals;
use crate::print::say;

/// Replace the database by a backup; the server must not run
///
/// The file is checked first. A database that is there is kept under another name in the data directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  shed-server restore /backup/shed-2026-11-21.db")]
pub(crate) struct Args {
    /// File that `shed-server backup` wrote
    file: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    let (_, data_dir) = globals.read()?;
    data_dir.create()?;
    let lock = data_dir.lock();
    let _lock = lock.context("cannot replace the database of a server that runs; stop it first")?;
    if let Some(aside) = Store::restore(data_dir.path(), &args.file)? {
        say(&format!("moved the database that was there to {}", aside.display()));
    }
    say(&format!("restored {}", args.file.display()));
    if data_dir.known_server_id().ok().flatten().is_none() {
        say(&format!(
            "the data directory has no server id; restore the file server_id too, or: {}",
            globals.paste("adopt --server-id ID")
        ));
    }
    say(&format!("start the server: {}", globals.paste("serve")));
    Ok(0)
}
