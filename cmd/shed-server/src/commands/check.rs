//! `shed-server config`.

use clap::Subcommand;

use crate::config::DEFAULT_PATH;
use crate::globals::Globals;
use crate::print::say;

/// Check the configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration as `serve` does and report mistakes
    Check,
}

/// Runs the command.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    match args.command {
        Command::Check => {
            let (config, data_dir) = globals.read()?;
            config.defaults().map_err(anyhow::Error::msg)?;
            crate::serve::check_listeners(&config)?;
            let path = globals.config.as_deref().unwrap_or(DEFAULT_PATH.as_ref());
            let state = if path.exists() { "is valid" } else { "does not exist; defaults apply" };
            say(&format!(
                "{} {state}; data directory: {}",
                path.display(),
                data_dir.path().display()
            ));
        }
    }
    Ok(0)
}
