//! `shed server`.

use std::time::Instant;

use serde::Serialize;
use shed_api::problem::exit;
use shed_client::{Address, Client, SshAddress, SshOptions};

use super::completions;
use super::delete::ask;
use crate::config::{LOCAL, Server};
use crate::context::{Context, Named};
use crate::failure::{Failure, Outcome};
use shed_report::table;

mod hostkey;

/// Add, list and choose servers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[expect(clippy::doc_markdown, reason = "help text for a terminal, not Markdown")]
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a server, over ssh with your own keys
    ///
    /// Shows the fingerprint of the server's host key and asks for it; it is pinned from then on. Your public key must be
    /// allowed there: `shed-server key add` on the server.
    #[command(after_help = "\
Examples:
  shed server add box.example.com
  shed server add box.example.com --fingerprint SHA256:…      for scripts
  shed server add https://box.example.com --token-file -")]
    Add {
        /// HOST, HOST:PORT, ssh://[user@]HOST[:PORT], https://HOST[:PORT] or unix:PATH
        host: String,
        /// What to call it; by default what it calls itself
        #[arg(short, long)]
        name: Option<String>,
        /// The expected fingerprint of its host key; nothing is asked
        #[arg(long, value_name = "SHA256:…")]
        fingerprint: Option<String>,
        /// File with a token, for https; - reads standard input
        #[arg(long, value_name = "FILE")]
        token_file: Option<String>,
    },
    /// List servers, and whether they answer
    List,
    /// Forget a server, and its host key
    Remove {
        /// Server
        #[arg(add = completions::servers())]
        name: String,
    },
    /// Choose the server that is meant when none is named
    SetDefault {
        /// Server; `local` is this machine's own
        #[arg(add = completions::servers())]
        name: String,
    },
    /// Ask servers whether they are there
    Ping {
        /// Servers; all when none is named
        #[arg(value_name = "NAME", add = completions::servers())]
        names: Vec<String>,
    },
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    match args.command {
        Command::Add { host, name, fingerprint, token_file } => {
            add(&host, name, fingerprint, token_file, context).await
        }
        Command::List => list(context).await,
        Command::Remove { name } => remove(&name, context),
        Command::SetDefault { name } => set_default(&name, context),
        Command::Ping { names } => ping(&names, context).await,
    }
}

/// What people type for a host.
fn address(host: &str) -> Result<Address, Failure> {
    let text = if host.contains("://") || host.starts_with("unix:") {
        host.to_owned()
    } else {
        format!("ssh://{host}")
    };
    text.parse().map_err(|error: shed_client::AddressError| Failure::usage(error.to_string()))
}

async fn add(
    host: &str,
    name: Option<String>,
    fingerprint: Option<String>,
    token_file: Option<String>,
    context: &Context,
) -> Outcome {
    let address = address(host)?;
    let token = token_file.as_deref().map(read_token).transpose()?;
    if matches!(address, Address::Https { .. } | Address::Http { .. }) && token.is_none() {
        return Err(Failure::usage("https needs a token")
            .hint(format!("shed server add {host} --token-file FILE")));
    }
    if let Address::Ssh(ssh) = &address {
        pin(host, ssh, fingerprint.as_deref(), context)?;
    }
    let client = Client::new(address.clone())
        .with_token(token.clone())
        .with_ssh(context.files.ssh_options());
    let info = client.info().await?;
    let name = name.unwrap_or_else(|| info.name.clone());
    check_name(&name)?;
    let server = Server {
        address: address.to_string(),
        token,
        added_at: Some(chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
    };
    context.files.change(|config| {
        if let Some(known) = config.servers.get(&name)
            && known.address != server.address
        {
            let failure = Failure::new(format!("server {name:?} is {} already", known.address));
            return Err(Failure { status: exit::CONFLICT, ..failure }
                .hint(format!("shed server add {host} --name OTHER")));
        }
        config.servers.insert(name.clone(), server);
        if config.default_server.is_none() && config.servers.len() == 1 {
            config.default_server = Some(name.clone());
        }
        Ok(())
    })?;
    context.out.say(&format!(
        "server {name} was added: shed-server {}, your scope is {}",
        info.version, info.scope
    ));
    context.out.data(&info, String::new)?;
    Ok(0)
}

fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name == LOCAL
        || name.is_empty()
        || name.len() > 63
        || name.starts_with('-')
        || !name.chars().all(plain)
    {
        return Err(Failure::usage(format!("{name:?} is no name for a server")).hint("--name NAME"));
    }
    Ok(())
}

fn read_token(file: &str) -> Result<String, Failure> {
    let text = if file == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(Failure::io("standard input"))?
    } else {
        std::fs::read_to_string(file).map_err(Failure::io(file))?
    };
    let token = text.trim().to_owned();
    if token.is_empty() { Err(Failure::usage(format!("{file} holds no token"))) } else { Ok(token) }
}

/// Fetches the host key, has it confirmed, and pins it.
fn pin(
    given: &str,
    address: &SshAddress,
    expected: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let found = hostkey::fetch(address)?;
    match expected {
        Some(expected) if expected == found.fingerprint => {}
        Some(expected) => {
            let text = format!(
                "the host key of {} is {}, not {expected}",
                address.host, found.fingerprint
            );
            return Err(Failure { status: exit::DENIED, ..Failure::new(text) });
        }
        None => {
            context
                .out
                .say(&format!("{} has the ed25519 host key {}", address.host, found.fingerprint));
            context.out.say("compare it with what the server says: shed-server key host");
            ask("is it the same?", context).map_err(|failure| {
                failure.hint(format!("shed server add {given} --fingerprint {}", found.fingerprint))
            })?;
        }
    }
    context.files.change_known_hosts(|text| hostkey::replace(&text, &found))
}

/// A server in the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    address: String,
    default: bool,
    online: bool,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<u64>,
}

async fn probe(servers: &[Named], context: &Context) -> Vec<Row> {
    let default = context.server().map(|server| server.name).unwrap_or_default();
    let asked = Context::ask_all(servers, async |client| {
        let start = Instant::now();
        let info = client.info().await?;
        Ok((info, u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)))
    });
    let rows = servers.iter().zip(asked.await).map(|(server, answer)| {
        let (online, status, round_trip_ms) = match answer {
            Ok((info, ms)) => (true, format!("online, {}", info.version), Some(ms)),
            Err(failure) => (false, failure.text, None),
        };
        Row {
            name: server.name.clone(),
            address: server.client.address().to_string(),
            default: server.name == default,
            online,
            status,
            round_trip_ms,
        }
    });
    rows.collect()
}

fn print(rows: &[Row], context: &Context) -> Result<(), Failure> {
    context.out.data(&serde_json::json!({ "servers": rows }), || {
        let cells = rows.iter().map(|row| {
            let time = row.round_trip_ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
            let default = if row.default { "*" } else { "" };
            vec![
                row.name.clone(),
                row.address.clone(),
                row.status.clone(),
                time,
                default.to_owned(),
            ]
        });
        table(&["NAME", "ADDRESS", "STATUS", "TIME", "DEFAULT"], cells.collect())
    })
}

async fn list(context: &Context) -> Outcome {
    let rows = probe(&context.all_servers()?, context).await;
    print(&rows, context)?;
    Ok(0)
}

async fn ping(names: &[String], context: &Context) -> Outcome {
    let servers = if names.is_empty() {
        context.all_servers()?
    } else {
        names.iter().map(|name| context.named(name)).collect::<Result<Vec<_>, _>>()?
    };
    let rows = probe(&servers, context).await;
    print(&rows, context)?;
    Ok(if rows.iter().all(|row| row.online) { 0 } else { exit::UNREACHABLE })
}

fn remove(name: &str, context: &Context) -> Outcome {
    let removed = context.files.change(|config| {
        let none = || {
            Failure::not_found(format!("no server {name:?} is configured")).hint("shed server list")
        };
        let removed = config.servers.remove(name).ok_or_else(none)?;
        if config.default_server.as_deref() == Some(name) {
            config.default_server = None;
        }
        Ok(removed)
    })?;
    if let Ok(Address::Ssh(address)) = removed.address.parse::<Address>() {
        context.files.change_known_hosts(|text| hostkey::forget(&text, &address))?;
        end_kept_connection(&address, &context.files.ssh_options());
    }
    context.out.say(&format!("server {name} was removed"));
    Ok(0)
}

/// Ends ssh's kept connection to a server that is not ours any more.
fn end_kept_connection(address: &SshAddress, options: &SshOptions) {
    if let Some(dir) = &options.control_dir {
        let user = address.user.as_deref().unwrap_or("_api");
        std::process::Command::new("ssh")
            .args(["-O", "exit", "-p", &address.port.to_string(), "-l", user, "-o"])
            .arg(format!("ControlPath={}/%C", dir.display()))
            .args(["--", &address.host])
            .stderr(std::process::Stdio::null())
            .status()
            // Nothing was kept, or it ends by itself in a minute.
            .ok();
    }
}

fn set_default(name: &str, context: &Context) -> Outcome {
    context.files.change(|config| {
        if name != LOCAL && !config.servers.contains_key(name) {
            let failure = Failure::not_found(format!("no server {name:?} is configured"));
            return Err(failure.hint("shed server list"));
        }
        config.default_server = Some(name.to_owned());
        Ok(())
    })?;
    context.out.say(&format!("server {name} is the default now"));
    Ok(0)
}
