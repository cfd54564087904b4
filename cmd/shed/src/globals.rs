//! The options that every command shares.

use clap_complete::{ArgValueCandidates, CompletionCandidate};

use crate::config::{Files, LOCAL};

/// Heading of these options in every help page.
const HEADING: &str = "Global options";
/// Environment variable with the server to use when `--server` is absent.
const SERVER_VARIABLE: &str = "SHED_SERVER";

// The options before or after the command's name. No doc comment: clap would print it as the help of `shed` itself.
#[expect(clippy::doc_markdown, reason = "help text for a terminal, not Markdown")]
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Globals {
    /// Server: a configured name, unix:PATH, ssh://[user@]HOST[:PORT] or https://HOST[:PORT]
    #[arg(
        short,
        long,
        global = true,
        env = SERVER_VARIABLE,
        hide_env_values = true,
        value_name = "SERVER",
        help_heading = HEADING,
        add = servers()
    )]
    pub(crate) server: Option<String>,
    /// Print data as JSON
    #[arg(long, global = true, help_heading = HEADING)]
    pub(crate) json: bool,
}

impl Globals {
    /// The options on a command line that is still being typed, and so may not parse.
    pub(crate) fn of_incomplete_line(words: &[String]) -> Self {
        let server = words.iter().enumerate().find_map(|(at, word)| match word.as_str() {
            "-s" | "--server" => words.get(at + 1).cloned(),
            word => word.strip_prefix("--server=").map(str::to_owned),
        });
        Self { server: server.or_else(|| std::env::var(SERVER_VARIABLE).ok()), json: false }
    }
}

/// Completes the names of configured servers.
pub(crate) fn servers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let config = Files::find().and_then(|files| files.read());
        let names =
            config.map(|config| config.servers.into_keys().collect::<Vec<_>>()).unwrap_or_default();
        names.into_iter().chain([LOCAL.to_owned()]).map(CompletionCandidate::new).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_found_anywhere_on_an_incomplete_line() {
        for (line, server) in [
            (&["shed", "-s", "a", "attach", ""][..], Some("a")),
            (&["shed", "attach", "--server", "a", ""], Some("a")),
            (&["shed", "--server=a", "attach"], Some("a")),
        ] {
            let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(Globals::of_incomplete_line(&words).server.as_deref(), server, "{line:?}");
        }
    }
}
