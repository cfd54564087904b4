//! `shed-server config`.

use clap::Subcommand;

use super::say;
use crate::cli::Options;
use crate::config::PATH;

/// The configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration as `serve` would, and say what is wrong with it
    Check,
}

/// Runs the command.
pub(crate) fn run(args: &Args, options: &Options) -> anyhow::Result<u8> {
    match args.command {
        Command::Check => {
            let (config, place) = options.read()?;
            config.defaults().map_err(anyhow::Error::msg)?;
            crate::serve::check_listeners(&config)?;
            let path = options.config.as_deref().unwrap_or(PATH.as_ref());
            let words = if path.exists() { "is good" } else { "is not there; defaults apply" };
            say(&format!("{} {words}; data in {}", path.display(), place.dir().display()));
        }
    }
    Ok(0)
}
