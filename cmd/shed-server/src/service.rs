//! `shed-server service`: the server in the background.
//!
//! Where systemd is process 1 and the user is root, the server is the unit `shed-server.service`. Elsewhere it is the child
//! of a supervisor, a background process that starts it again when it dies. Only files record what should run, and each is
//! checked before it is believed: see `layout`. `decide` has the decisions, without side effects.

mod addresses;
mod answers;
mod decide;
mod layout;
mod log;
mod process;
mod seen;
mod start;
mod status;
mod stop;
mod supervise;
mod unit;

use std::path::PathBuf;

use clap::Subcommand;

use crate::globals::Globals;
use crate::runtime::block_on;
use layout::Layout;

/// Run the server in the background
///
/// As root on a system with systemd the server becomes the unit shed-server.service. Elsewhere a
/// background process restarts the server when it dies. Sheds keep running while the server does not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Keep data, state and socket in DIR, for a second server beside the first. DIR/server.toml is its
    /// configuration, if it exists. Takes precedence over --config and --data-dir
    #[arg(long, global = true, env = "SHED_RUN_DIR", hide_env_values = true, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server, unless it runs; restart it if it runs another build
    ///
    /// The first start listens on 127.0.0.1, ports 8080 (HTTP) and 2222 (SSH) or the next free ones.
    /// Later starts use the same addresses; they are kept in the file `address` of the state directory.
    Start,
    /// Stop the server; sheds keep running
    Stop,
    /// Report in one line whether the server runs; exit status 0 if it answers, else 1
    Status(status::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

/// Runs the command.
pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<u8> {
    let layout = || {
        let layout = Layout::find(args.run_dir.as_deref(), globals)?;
        seen::check_data_dir(&layout)?;
        anyhow::Ok(layout)
    };
    match args.command {
        Command::Start => block_on(start::run(&layout()?, globals)),
        Command::Stop => block_on(stop::run(&layout()?, globals)),
        Command::Status(status) => block_on(status::run(&status, &layout()?, globals)),
        Command::Supervise(args) => supervise::run(&args),
    }
}
