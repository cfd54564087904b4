//! The command line: the shared options and the command.

use clap::Parser;

use crate::commands::Command;
use crate::globals::Globals;

/// Persistent, isolated sessions for coding agents on servers you own
#[derive(Debug, Parser)]
#[command(
    name = "shed",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  shed create web --repo owner/repo      create a shed with a clone in /workspace
  shed run web --worktree -- make test   run a command in a session with its own worktree and branch
  shed attach web                        attach to session `default`; Ctrl-B D detaches
  shed exec web -- make test             run a command and pass its exit status on
  shed sessions --all                    list the sessions of all servers

Exit statuses: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unreachable, 6 denied;
run, exec, attach and console pass the remote status on."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use clap::CommandFactory as _;

    use super::*;

    /// The example commands in the help of a command and its subcommands, without their explanations.
    fn examples(command: &clap::Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines() {
            // Only the part that runs shed: an example may pipe or substitute.
            let own = line.split_inclusive(['|', '(', ')', '>']).map(|part| {
                part.trim_end_matches(['|', '(', ')', '>']).trim_start_matches(['<', ' '])
            });
            let own = own.filter(|part| part.starts_with("shed "));
            found.extend(own.map(|part| part.split("   ").next().unwrap().to_owned()));
        }
        command.get_subcommands().for_each(|command| examples(command, found));
    }

    /// Splits a line as a shell does; knows blanks and single quotes, which is all that examples use.
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
    fn the_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_parses() {
        let mut found = Vec::new();
        examples(&Cli::command(), &mut found);
        assert!(found.len() > 50, "{found:#?}");
        for line in found {
            if let Err(error) = Cli::try_parse_from(words(&line)) {
                panic!("{line}: {error}");
            }
        }
    }

    /// The help of a command and, below it, of its subcommands.
    fn help(command: &mut clap::Command) -> String {
        let mut text = command.render_long_help().to_string();
        for subcommand in command.get_subcommands_mut().filter(|it| it.get_name() != "help") {
            text += "\n----------------------------------------\n\n";
            text += &help(subcommand);
        }
        text
    }

    fn snapshots() -> insta::Settings {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings
    }

    /// To accept changed help texts: `INSTA_UPDATE=always cargo nextest run -p shed every_help_page`.
    #[test]
    fn every_help_page_is_as_reviewed() {
        let mut root = Cli::command().color(clap::ColorChoice::Never);
        root.build();
        let mut pages = BTreeMap::from([("help".to_owned(), root.render_long_help().to_string())]);
        for command in root.get_subcommands_mut().filter(|it| it.get_name() != "help") {
            pages.insert(format!("help-{}", command.get_name()), help(command));
        }
        // Fails for all changed pages at once.
        let failed: Vec<_> = pages
            .iter()
            .filter(|(name, page)| {
                let check = || snapshots().bind(|| insta::assert_snapshot!(name.as_str(), page));
                std::panic::catch_unwind(check).is_err()
            })
            .map(|(name, _)| name)
            .collect();
        assert!(failed.is_empty(), "changed: {failed:?}");
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snapshots");
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.filter(|path| path.extension().unwrap() == "snap").collect();
        assert_eq!(files.len(), pages.len(), "src/snapshots has files of removed commands");
    }

    #[test]
    fn help_texts_follow_the_rules() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.starts_with(char::is_uppercase), "{name}: {about:?}");
            assert!(!about.ends_with('.'), "{name}: {about:?} ends with a full stop");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let id = argument.get_id();
                assert!(!help.is_empty() && !help.ends_with('.'), "{name} {id}: {help:?}");
                let is_global = argument.is_global_set();
                let heading = argument.get_help_heading();
                assert_eq!(heading, is_global.then_some("Global options"), "{name} {id}");
            }
            command.get_subcommands().for_each(check);
        }
        let mut root = Cli::command();
        root.build();
        check(&root);
    }
}
