//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    attach, batch, checkpoint, completions, console, cp, create, delete, df, diff, doctor, events,
    exec, forward, gc, lifecycle, list, logs, man, orphans, output, rebuild, run, server, sessions,
    set, show, ssh_config, stats, template, terminate, trash, workers,
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
  shed run web --worktree -- make test   work in a session, a worktree and a branch of its own
  shed attach web                        its session `default`; Ctrl-B D leaves, nothing ends
  shed exec web -- make test             a command, with its exit status
  shed sessions --all                    every session on every server

Exit statuses: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unreachable, 6 denied;
run, exec, attach and console pass the remote status on."
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
    Run(Box<run::Args>),
    Attach(attach::Args),
    Sessions(sessions::Args),
    Workers(workers::Args),
    Output(output::Args),
    Diff(diff::Args),
    Checkpoint(checkpoint::Args),
    Terminate(terminate::Args),
    Batch(batch::Args),
    Template(template::Args),
    Trash(trash::Args),
    Gc(gc::Args),
    Orphans(orphans::Args),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Every example of a command's help and its subcommands', without the words beside it.
    fn examples(command: &clap::Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines() {
            // A pipe, or a substitution, of a shell's is not ours.
            let own = line.split_inclusive(['|', '(', ')', '>']).map(|part| {
                part.trim_end_matches(['|', '(', ')', '>']).trim_start_matches(['<', ' '])
            });
            let own = own.filter(|part| part.starts_with("shed "));
            found.extend(own.map(|part| part.split("   ").next().unwrap().to_owned()));
        }
        command.get_subcommands().for_each(|command| examples(command, found));
    }

    /// As a shell splits them, as far as examples go.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.trim_end().chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words
    }

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_example_is_a_lie() {
        let mut found = Vec::new();
        examples(&Cli::command(), &mut found);
        assert!(found.len() > 50, "{found:#?}");
        for line in found {
            if let Err(error) = Cli::try_parse_from(words(&line)) {
                panic!("{line}: {error}");
            }
        }
    }
}
