//! `shed-server token`.

use anyhow::Context as _;
use clap::Subcommand;
use shed_api::Scope;
use shed_api::access::{NewToken, TokenList};

use super::{Access, confined, day, print, say};
use shed_report::table;

use crate::cli::Options;

/// Tokens for REST
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token; its secret is shown this once
    Add {
        /// A name for people
        name: String,
        /// read (look), drive (use and change sheds and sessions) or admin (root, mounts, keys, tokens)
        #[arg(long, default_value_t = Scope::Drive)]
        scope: Scope,
        /// Only this shed; may be given more than once
        #[arg(long = "shed", value_name = "SHED")]
        sheds: Vec<String>,
        /// When it ends: 12h, 90d; never without it
        #[arg(long, value_name = "AGE", value_parser = age)]
        expires: Option<u64>,
    },
    /// List tokens, without their secrets
    List,
    /// Revoke a token
    Remove {
        /// Its id or name
        token: String,
    },
}

/// Runs the command.
pub(crate) async fn run(args: Args, options: &Options) -> anyhow::Result<u8> {
    let access = Access::open(options)?;
    match args.command {
        Command::Add { name, scope, sheds, expires } => {
            let request = NewToken { name, scope, sheds, expires_in_seconds: expires };
            let issued = match &access {
                Access::Running(client) => client.add_token(&request).await?,
                Access::Stopped(credentials, person, _) => {
                    credentials.add_token(person, request).await?
                }
            };
            print(options, &issued, || format!("{}\n", issued.token))?;
            say("shown this once; only its hash is kept");
        }
        Command::List => {
            let list = list(&access).await?;
            print(options, &list, || {
                let rows = list.tokens.iter().map(|token| {
                    vec![
                        token.id.clone(),
                        token.name.clone(),
                        token.scope.to_string(),
                        confined(&token.sheds),
                        day(token.expires_at),
                        day(token.last_used_at),
                    ]
                });
                table(&["ID", "NAME", "SCOPE", "SHEDS", "EXPIRES", "LAST USED"], rows.collect())
            })?;
        }
        Command::Remove { token } => {
            let list = list(&access).await?;
            let found = list.tokens.iter().find(|it| it.id == token || it.name == token);
            let found =
                found.with_context(|| format!("no token {token:?}; shed-server token list"));
            let id = &found?.id;
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

/// `30s`, `15m`, `12h`, `90d` in seconds.
fn age(text: &str) -> Result<u64, String> {
    let error = || format!("{text:?} is no age: write 30s, 15m, 12h or 90d");
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
    fn ages_are_read() {
        assert_eq!(age("90d"), Ok(7_776_000));
        assert_eq!(age("30s"), Ok(30));
        for bad in ["", "d", "90", "0h", "-1d", "1y", "99999999999999999999d"] {
            assert!(age(bad).is_err(), "{bad:?}");
        }
    }
}
