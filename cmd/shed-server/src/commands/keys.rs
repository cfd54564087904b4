//! `shed-server key`.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use shed_api::Scope;
use shed_api::access::{KeyList, NewKey};

use shed_report::table;

use crate::access::Access;
use crate::data_dir::DataDir;
use crate::globals::Globals;
use crate::print::{print, say, sheds_cell, time_cell};

/// Manage authorized SSH keys; show the server's host key
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Authorize a public key
    Add {
        /// Display name (default: the key's comment, else the file's name), and the key: a file, `-` for stdin, or the key
        /// itself
        #[arg(value_name = "[NAME] KEY", num_args = 1..=2, required = true)]
        words: Vec<String>,
        /// What it may do: read (view), drive (also use and change sheds and sessions) or admin (also root, mounts, keys and
        /// tokens)
        #[arg(long, default_value_t = Scope::Drive)]
        scope: Scope,
        /// Limit the key to this shed (repeatable)
        #[arg(long = "shed", value_name = "SHED")]
        sheds: Vec<String>,
    },
    /// List authorized keys
    List,
    /// Revoke a key; open connections stay open until the server restarts
    Remove {
        /// Id, name or fingerprint
        key: String,
    },
    /// Show the server's own host key and its fingerprint
    Host,
}

/// Runs the command.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<u8> {
    match args.command {
        Command::Add { words, scope, sheds } => add(&words, scope, sheds, globals).await?,
        Command::List => {
            let list = list(&Access::open(globals)?).await?;
            print(globals, &list, || {
                let rows = list.keys.iter().map(|key| {
                    vec![
                        key.id.clone(),
                        key.name.clone(),
                        key.scope.to_string(),
                        sheds_cell(&key.sheds),
                        key.fingerprint.clone(),
                        time_cell(key.last_used_at),
                    ]
                });
                let head = ["ID", "NAME", "SCOPE", "SHEDS", "FINGERPRINT", "LAST USED"];
                table(&head, rows.collect())
            })?;
        }
        Command::Remove { key } => {
            let access = Access::open(globals)?;
            let list = list(&access).await?;
            let found =
                list.keys.iter().find(|it| it.id == key || it.name == key || it.fingerprint == key);
            let missing = || format!("no key {key:?}; list keys: {}", globals.paste("key list"));
            let id = &found.with_context(missing)?.id;
            match &access {
                Access::Running(client) => client.remove_key(id).await?,
                Access::Stopped(credentials, person, _) => {
                    credentials.remove_key(person, id).await?;
                }
            }
        }
        Command::Host => host(&globals.read()?.1, globals)?,
    }
    Ok(0)
}

/// The authorized keys.
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
    globals: &Globals,
) -> anyhow::Result<()> {
    let (name, given) = match words {
        [name, key] => (Some(name.clone()), key),
        [key] => (None, key),
        _ => bail!("invalid number of arguments; expected key add [NAME] KEY"),
    };
    let (line, file_name) = read(given)?;
    // The comment follows type and key.
    let comment = line.split_whitespace().nth(2).map(ToOwned::to_owned);
    let name = name.or(comment).or(file_name);
    let name =
        name.context("the key has no comment to use as its name; name it: key add NAME KEY")?;
    let request = NewKey { name, public_key: line, scope, sheds };
    let key = match Access::open(globals)? {
        Access::Running(client) => client.add_key(&request).await?,
        Access::Stopped(credentials, person, _) => credentials.add_key(&person, request).await?,
    };
    print(globals, &key, || format!("{}\n", key.id))?;
    say(&format!("authorized key {} with scope {}: {}", key.name, key.scope, key.fingerprint));
    Ok(())
}

/// Reads a key from a file, from stdin (`-`), or from the argument itself. Returns its line and the name of the file.
fn read(given: &str) -> anyhow::Result<(String, Option<String>)> {
    if given == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok((text.trim().to_owned(), None));
    }
    // A key on the command line. Hardly any file has a name that begins like one and has a space in it.
    if given.contains(' ') && ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| given.starts_with(kind)) {
        return Ok((given.to_owned(), None));
    }
    let text = std::fs::read_to_string(given).with_context(|| {
        format!(
            "cannot read the public key file {given}; expected a file, a key (ssh-ed25519 …) or -"
        )
    })?;
    let stem = std::path::Path::new(given).file_stem();
    Ok((text.trim().to_owned(), stem.map(|stem| stem.to_string_lossy().into_owned())))
}

fn host(data_dir: &DataDir, globals: &Globals) -> anyhow::Result<()> {
    let path = data_dir.host_key();
    if !path.exists() {
        bail!("{} does not exist; the server creates it at its first start", path.display());
    }
    let key = shed_ssh::HostKey::load_or_create(&path)?;
    let key = shed_api::server::HostKey {
        host_key: key.public_line().to_owned(),
        fingerprint: key.fingerprint(),
    };
    print(globals, &key, || format!("{}\n{}\n", key.host_key, key.fingerprint))
}
