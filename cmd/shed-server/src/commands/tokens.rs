//! `shed-server token`.

use anyhow::Context as _;
use clap::Subcommand;
use shed_api::Scope;
use shed_api::access::{NewToken, TokenList};

use shed_report::table;

use crate::access::Access;
use crate::globals::Globals;
use crate::print::{print, say, sheds_cell, time_cell};

/// Manage API tokens
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a token; its secret is shown once
    Add {
        /// Display name
        name: String,
        /// What it may do: read (view), drive (also use and change sheds and sessions) or admin (also root, mounts, keys and
        /// tokens)
        #[arg(long, default_value_t = Scope::Drive)]
        scope: Scope,
        /// Limit the token to this shed (repeatable)
        #[arg(long = "shed", value_name = "SHED")]
        sheds: Vec<String>,
        /// Time until it expires, such as 12h or 90d; without it the token never expires
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires: Option<u64>,
    },
    /// List tokens; secrets are not shown
    List,
    /// Revoke a token
    Remove {
        /// Id or name
        token: String,
    },
}

/// Runs the command.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<u8> {
    let access = Access::open(globals)?;
    match args.command {
        Command::Add { name, scope, sheds, expires } => {
            let request = NewToken { name, scope, sheds, expires_in_seconds: expires };
            let issued = match &access {
                Access::Running(client) => client.add_token(&request).await?,
                Access::Stopped(credentials, person, _) => {
                    credentials.add_token(person, request).await?
                }
            };
            print(globals, &issued, || format!("{}\n", issued.token))?;
            say("copy the token now: the server keeps only its hash and cannot show it again");
        }
        Command::List => {
            let list = list(&access).await?;
            print(globals, &list, || {
                let rows = list.tokens.iter().map(|token| {
                    vec![
                        token.id.clone(),
                        token.name.clone(),
                        token.scope.to_string(),
                        sheds_cell(&token.sheds),
                        time_cell(token.expires_at),
                        time_cell(token.last_used_at),
                    ]
                });
                table(&["ID", "NAME", "SCOPE", "SHEDS", "EXPIRES", "LAST USED"], rows.collect())
            })?;
        }
        Command::Remove { token } => {
            let list = list(&access).await?;
            let found = list.tokens.iter().find(|it| it.id == token || it.name == token);
            let missing =
                || format!("no token {token:?}; list tokens: {}", globals.paste("token list"));
            let id = &found.with_context(missing)?.id;
            match &access {
                Access::Running(client) => client.remove_token(id).await?,
                Access::Stopped(credentials, person, _) => {
                    credentials.remove_token(person, id).await?;
                }
            }
        }
    }
    Ok(0)
}

async fn list(access: &Access) -> anyhow::Result<TokenList> {
    Ok(match access {
        Access::Running(client) => client.tokens().await?,
        Access::Stopped(credentials, person, _) => credentials.tokens(person).await?,
    })
}

/// Parses `30s`, `15m`, `12h` or `90d` into seconds.
fn duration(text: &str) -> Result<u64, String> {
    let error =
        || format!("invalid duration {text:?}; expected a number with s, m, h or d, such as 90d");
    let mut letters = text.chars();
    let seconds_each = match letters.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(error()),
    };
    let number: u64 = letters.as_str().parse().map_err(|_| error())?;
    number.checked_mul(seconds_each).filter(|seconds| *seconds > 0).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        assert_eq!(duration("90d"), Ok(7_776_000));
        assert_eq!(duration("30s"), Ok(30));
        for bad in ["", "d", "90", "0h", "-1d", "1y", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
