//! `shed ssh-config`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use serde::Serialize;
use shed_client::Address;

use crate::candidates::sheds;
use crate::config::{LOCAL, write_whole};
use crate::context::{Context, Named};
use crate::failure::{Failure, Outcome};
use crate::names;

mod block;

use block::{Block, Change, Entry};

/// Print or install ssh configuration for sheds, for editors and plain ssh
///
/// Each shed gets the entry `Host shed-NAME shed-NAME.SERVER`; if several servers have a shed of that name, only one of them
/// gets the short name. --install writes the entries to a managed block of ~/.ssh/config and changes nothing else there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed ssh-config --install              the sheds of one server
  shed ssh-config --all --install        the sheds of all servers
  shed ssh-config --install --dry-run
  ssh shed-web")]
pub(crate) struct Args {
    /// Shed (default: all)
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: Option<String>,
    /// Include the sheds of all configured servers; keep the entries of one that does not answer
    #[arg(short, long)]
    all: bool,
    /// Write the entries to ~/.ssh/config
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Remove the managed block from ~/.ssh/config
    #[arg(long)]
    uninstall: bool,
    /// Show what would change and change nothing
    #[arg(long)]
    dry_run: bool,
    /// File to change (default: ~/.ssh/config)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// An entry as `--json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    /// The host names of the entry.
    hosts: Vec<String>,
    #[serde(flatten)]
    entry: &'a Entry,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".ssh/config"),
    };
    if args.uninstall {
        let text = read(&file)?;
        return apply(&file, &text, &Block::remove(&text)?, &args, context);
    }
    let (changes, status) = changes(&args, context).await?;
    if !args.install {
        let mut block = Block::default();
        block.apply(&changes);
        let rows: Vec<_> = changes
            .iter()
            .flat_map(Change::entries)
            .map(|entry| {
                let hosts = block.hosts(&entry.server, &entry.shed, entry.is_default);
                Row { hosts, entry }
            })
            .collect();
        context.out.data(&rows, || format!("{}\n", block.entries_text().trim_end()))?;
        return Ok(status);
    }
    let text = read(&file)?;
    let mut block = Block::find(&text)?;
    block.apply(&changes);
    let new = block.put(&text)?;
    apply(&file, &text, &new, &args, context)?;
    Ok(status)
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(Failure::io(file.display())),
    }
}

fn apply(file: &std::path::Path, old: &str, new: &str, args: &Args, context: &Context) -> Outcome {
    let (before, after) = (Block::find(old)?, Block::find(new)?);
    for line in before.differences(&after) {
        context.out.say(&line);
    }
    if old == new {
        context.out.say(&format!("{} is up to date", file.display()));
    } else if args.dry_run {
        context.out.say(&format!("{} would change; nothing was written", file.display()));
    } else {
        if let Some(dir) = file.parent() {
            let mut builder = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
            builder.create(dir).map_err(Failure::io(dir.display()))?;
        }
        write_whole(file, new.as_bytes())?;
        context.out.say(&format!("{} was changed", file.display()));
    }
    Ok(0)
}

/// The changes that bring the block up to date, and the exit status. A server that does not answer changes nothing.
async fn changes(args: &Args, context: &Context) -> Result<(Vec<Change>, u8), Failure> {
    let servers = if args.all { context.all_servers()? } else { vec![context.server()?] };
    let default = context.config.default_server.as_deref().unwrap_or(LOCAL);
    let mut status = 0;
    let mut changes = Vec::new();
    for server in &servers {
        match entries(server, args, default, context).await {
            Ok(entries) => match &args.name {
                Some(_) => changes.push(Change::Add(entries)),
                None => changes.push(Change::Replace(server.name.clone(), entries)),
            },
            Err(failure) if args.all => {
                context.out.failure(&failure);
                status = failure.status;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok((changes, status))
}

async fn entries(
    server: &Named,
    args: &Args,
    default: &str,
    context: &Context,
) -> Result<Vec<Entry>, Failure> {
    let ask = async {
        let sheds = match &args.name {
            Some(name) => vec![server.client.shed(name).await?],
            None => server.client.sheds().await?.sheds,
        };
        let (host, port) = endpoint(server, context).await?;
        // A server that is selected by address gets its own name.
        let server_name = if server.name.contains(':') {
            server.client.info().await?.name
        } else {
            server.name.clone()
        };
        let known_hosts = context.files.known_hosts().display().to_string();
        let entries = sheds.into_iter().map(|shed| Entry {
            server: server_name.clone(),
            shed: shed.name,
            host: host.clone(),
            port,
            known_hosts: known_hosts.clone(),
            is_default: server.name == default,
        });
        Ok(entries.collect())
    };
    server.in_time(ask).await
}

/// Host and port for ssh to the sheds of a server. Pins the server's host key unless the server is reached over ssh, where
/// it is pinned already.
async fn endpoint(server: &Named, context: &Context) -> Result<(String, u16), Failure> {
    let host = match server.client.address() {
        Address::Ssh(address) => return Ok((address.host.clone(), address.port)),
        Address::Unix(_) => "127.0.0.1".to_owned(),
        Address::Https { host, .. } | Address::Http { host, .. } => host.clone(),
    };
    let info = server.client.info().await?;
    let no_listener = || Failure::new(format!("server {} has no SSH listener", server.name));
    let port = info.ssh_port.ok_or_else(no_listener)?;
    let key = server.client.host_key().await?.host_key;
    let name = if port == 22 { host.clone() } else { format!("[{host}]:{port}") };
    context.files.change_known_hosts(|text| {
        let others = text.lines().filter(|line| line.split_whitespace().next() != Some(&name));
        let others: String = others.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat();
        format!("{others}{name} {}\n", key.trim())
    })?;
    Ok((host, port))
}
