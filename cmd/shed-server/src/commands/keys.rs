//! `shed-server key`.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use shed_api::Scope;
use shed_api::access::{KeyList, NewKey};

use super::{Access, confined, day, print, say};
use shed_report::table;

use crate::cli::Options;
use crate::place::Place;

/// SSH public keys that may come in, and the server's own host key
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a key in
    Add {
        /// A name for people; without it the key's comment or its file's name
        #[arg(value_name = "[NAME] KEY", num_args = 1..=2, required = true)]
        words: Vec<String>,
        /// read (look), drive (use and change sheds and sessions) or admin (root, mounts, keys, tokens)
        #[arg(long, default_value_t = Scope::Drive)]
        scope: Scope,
        /// Only this shed; may be given more than once
        #[arg(long = "shed", value_name = "SHED")]
        sheds: Vec<String>,
    },
    /// List keys
    List,
    /// Keep a key out from now on
    Remove {
        /// Its id, name or fingerprint
        key: String,
    },
    /// Show the server's host key and its fingerprint
    Host,
}

/// Runs the command.
pub(crate) async fn run(args: Args, options: &Options) -> anyhow::Result<u8> {
    match args.command {
        Command::Add { words, scope, sheds } => add(&words, scope, sheds, options).await?,
        Command::List => {
            let list = list(&Access::open(options)?).await?;
            print(options, &list, || {
                let rows = list.keys.iter().map(|key| {
                    vec![
                        key.id.clone(),
                        key.name.clone(),
                        key.scope.to_string(),
                        confined(&key.sheds),
                        key.fingerprint.clone(),
                        day(key.last_used_at),
                    ]
                });
                let head = ["ID", "NAME", "SCOPE", "SHEDS", "FINGERPRINT", "LAST USED"];
                table(&head, rows.collect())
            })?;
        }
        Command::Remove { key } => {
            let access = Access::open(options)?;
            let list = list(&access).await?;
            let found =
                list.keys.iter().find(|it| it.id == key || it.name == key || it.fingerprint == key);
            let id = &found.with_context(|| format!("no key {key:?}; shed-server key list"))?.id;
            match &access {
                Access::Running(client) => client.remove_key(id).await?,
                Access::Stopped(credentials, person, _) => {
                    credentials.remove_key(person, id).await?;
                }
            }
        }
        Command::Host => host(&options.read()?.1, options)?,
    }
    Ok(0)
}

pub(crate) async fn list(access: &Access) -> anyhow::Result<KeyList> {
    Ok(match access {
        Access::Running(client) => client.keys().await?,
        Access::Stopped(credentials, person, _) => credentials.keys(person).await?,
    })
}

async fn add(
    words: &[String],
    scope: Scope,
    sheds: Vec<String>,
    options: &Options,
) -> anyhow::Result<()> {
    let (name, given) = match words {
        [name, key] => (Some(name.clone()), key),
        [key] => (None, key),
        _ => bail!("usage: shed-server key add [NAME] KEY"),
    };
    let (line, file_name) = read(given)?;
    // The comment is what follows type and key.
    let comment = line.split_whitespace().nth(2).map(ToOwned::to_owned);
    let name = name.or(comment).or(file_name);
    let name = name.context("the key has no comment to name it by; give it a name")?;
    let request = NewKey { name, public_key: line, scope, sheds };
    let key = match Access::open(options)? {
        Access::Running(client) => client.add_key(&request).await?,
        Access::Stopped(credentials, person, _) => credentials.add_key(&person, request).await?,
    };
    print(options, &key, || format!("{}\n", key.id))?;
    say(&format!("key {} may come in: {} {}", key.name, key.scope, key.fingerprint));
    Ok(())
}

/// A key's line from a file, from standard input (`-`), or as it is, and the name of the file.
fn read(given: &str) -> anyhow::Result<(String, Option<String>)> {
    if given == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok((text.trim().to_owned(), None));
    }
    // No file is named like the beginning of a key, with a blank in it.
    if given.contains(' ') && ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| given.starts_with(kind)) {
        return Ok((given.to_owned(), None));
    }
    let text = std::fs::read_to_string(given).with_context(|| given.to_owned())?;
    let stem = std::path::Path::new(given).file_stem();
    Ok((text.trim().to_owned(), stem.map(|stem| stem.to_string_lossy().into_owned())))
}

fn host(place: &Place, options: &Options) -> anyhow::Result<()> {
    let path = place.host_key();
    if !path.exists() {
        bail!("{} is not there; the server makes it at its first start", path.display());
    }
    let key = shed_ssh::HostKey::load_or_create(&path)?;
    let key = shed_api::server::HostKey {
        host_key: key.public_line().to_owned(),
        fingerprint: key.fingerprint(),
    };
    print(options, &key, || format!("{}\n{}\n", key.host_key, key.fingerprint))
}
