//! The command line.

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::{adopt, backup, check, firewall, keys, man, restore, tokens};
use crate::globals::Globals;
use crate::runtime::block_on;
use crate::{doctor, serve, service};

/// The server of shed: persistent, isolated sessions for coding agents
#[derive(Debug, Parser)]
#[command(
    name = "shed-server",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  shed-server serve                                     run the server in the foreground
  shed-server service start                             run it in the background
  shed-server key add laptop ~/.ssh/id_ed25519.pub      authorize an SSH key
  shed-server token add ci --scope drive --expires 90d  create an API token; its secret is shown once
  shed-server doctor                                    check this host

All commands except `serve`, `adopt` and `restore` work whether or not the server runs."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Subcommands, in the order of the help.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Service(service::Args),
    Key(keys::Args),
    Token(tokens::Args),
    Doctor(doctor::Args),
    Firewall(firewall::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Adopt(adopt::Args),
    Config(check::Args),
    #[command(hide = true)]
    Man(man::Args),
}

/// Runs the command and returns its exit status.
pub(crate) fn run(cli: Cli) -> anyhow::Result<u8> {
    let globals = &cli.globals;
    match cli.command {
        Command::Serve(args) => serve::run(args, globals),
        Command::Service(args) => service::run(args, globals),
        Command::Key(args) => block_on(keys::run(args, globals)),
        Command::Token(args) => block_on(tokens::run(args, globals)),
        Command::Doctor(args) => block_on(doctor::run(args, globals)),
        Command::Firewall(args) => block_on(firewall::run(args, globals)),
        Command::Backup(args) => backup::run(&args, globals),
        Command::Restore(args) => restore::run(&args, globals),
        Command::Adopt(args) => adopt::run(&args, globals),
        Command::Config(args) => check::run(&args, globals),
        Command::Man(args) => man::run(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The help of a command and of all commands below it, each with its words joined by `-`.
    fn helps(name: &str, command: &mut clap::Command, into: &mut Vec<(String, String)>) {
        into.push((name.to_owned(), command.render_long_help().to_string()));
        for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
            helps(&format!("{name}-{}", child.get_name()), child, into);
        }
    }

    /// A failure means that help changed. Review the `.snap.new` files, then rename them: `cargo insta review`.
    #[test]
    fn the_help_of_every_command_is_as_reviewed() {
        let mut command = Cli::command();
        command.build();
        let mut all = Vec::new();
        helps("shed-server", &mut command, &mut all);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "help" }, {
            for (name, help) in &all {
                insta::assert_snapshot!(name.as_str(), help);
            }
        });
        let expected: BTreeSet<String> = all.into_iter().map(|(name, _)| name + ".snap").collect();
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/help");
        let files = std::fs::read_dir(dir).unwrap();
        let files: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(files, expected, "snapshots in src/help");
    }
}
