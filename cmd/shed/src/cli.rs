//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    attach, completions, console, cp, create, delete, df, doctor, events, exec, forward, lifecycle,
    list, logs, man, rebuild, server, sessions, set, show, ssh_config, stats,
};

/// Persistent, isolated sessions for coding agents on servers you own
#[expect(clippy::doc_markdown, reason = "help text for a terminal, not Markdown")]
#[derive(Debug, Parser)]
#[command(
    name = "shed",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  shed create web --repo owner/repo      a shed with a clone in /workspace
  shed attach web                        its session `default`; Ctrl-B D leaves, nothing ends
  shed exec web -- make test             a command, with its exit status
  shed sessions --all                    every session on every server

Exit statuses: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unreachable, 6 denied;
exec, attach and console pass the remote status on."
)]
pub(crate) struct Cli {
    /// Server: a configured name, unix:PATH, ssh://[user@]HOST[:PORT] or https://HOST[:PORT]
    #[arg(short, long, global = true, env = "SHED_SERVER", value_name = "SERVER", add = completions::servers())]
    pub(crate) server: Option<String>,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Commands, in the order people meet them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(create::Args),
    #[command(alias = "ls")]
    List(list::Args),
    Attach(attach::Args),
    Sessions(sessions::Args),
    Exec(exec::Args),
    Console(console::Args),
    Cp(cp::Args),
    Forward(forward::Args),
    Show(show::Args),
    /// Start sheds
    Start(lifecycle::Args),
    /// Stop sheds; what is on their volumes stays
    Stop(lifecycle::Args),
    /// Stop and start sheds
    Restart(lifecycle::Args),
    /// Freeze everything in sheds
    Pause(lifecycle::Args),
    /// Thaw frozen sheds
    Unpause(lifecycle::Args),
    Rebuild(rebuild::Args),
    Set(set::Args),
    #[command(alias = "rm")]
    Delete(delete::Args),
    Logs(logs::Args),
    Stats(stats::Args),
    Df(df::Args),
    Events(events::Args),
    Server(server::Args),
    SshConfig(ssh_config::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Man(man::Args),
}
