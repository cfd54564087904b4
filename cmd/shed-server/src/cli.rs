//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{adopt, backup, check, keys, man, tokens};
use crate::config::Config;
use crate::place::Place;
use crate::{doctor, serve};

/// The server of shed: persistent, isolated sessions for coding agents
#[derive(Debug, Parser)]
#[command(
    name = "shed-server",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  shed-server serve                                     with /etc/shed/server.toml, if it is there
  shed-server key add laptop ~/.ssh/id_ed25519.pub      who may come in over SSH
  shed-server token add ci --scope drive --expires 90d  for REST; the secret is shown once
  shed-server doctor                                    checks this host and explains

Commands beside `serve` work while the server runs and while it does not."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    command: Command,
}

/// What every command needs to find its server.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Configuration file [default: /etc/shed/server.toml, if it is there]
    #[arg(long, global = true, env = "SHED_SERVER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory [default: /var/lib/shed for root, else ~/.local/share/shed]
    #[arg(long, global = true, env = "SHED_SERVER_DATA", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Commands, in the order people meet them.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Key(keys::Args),
    Token(tokens::Args),
    Doctor(doctor::Args),
    Backup(backup::Args),
    Adopt(adopt::Args),
    Config(check::Args),
    #[command(hide = true)]
    Man(man::Args),
}

impl Options {
    /// The configuration and the data directory it leads to.
    pub(crate) fn read(&self) -> anyhow::Result<(Config, Place)> {
        let config = Config::load(self.config.as_deref())?;
        let place = Place::find(self.data_dir.as_deref(), config.data_dir.as_deref())?;
        Ok((config, place))
    }
}

/// Runs the command; the exit status.
pub(crate) fn run(cli: Cli) -> anyhow::Result<u8> {
    let options = &cli.options;
    match cli.command {
        Command::Serve(args) => serve::run(args, options),
        Command::Key(args) => one_task(keys::run(args, options)),
        Command::Token(args) => one_task(tokens::run(args, options)),
        Command::Doctor(args) => one_task(doctor::run(args, options)),
        Command::Backup(args) => backup::run(&args, options),
        Command::Adopt(args) => adopt::run(&args, options),
        Command::Config(args) => check::run(&args, options),
        Command::Man(args) => man::run(&args),
    }
}

/// Commands beside `serve` are one task after another.
fn one_task(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
