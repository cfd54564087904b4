//! `shed server`.

use std::time::Instant;

use serde::Serialize;
use shed_api::problem::exit;
use shed_client::{Address, Client, SshAddress, SshOptions};

use crate::config::{LOCAL, Server};
use crate::context::{Context, Named, unknown_server};
use crate::failure::{Failure, Outcome, command_line};
use crate::globals;
use crate::prompt::confirm;
use shed_report::table;

mod hostkey;

/// The longest name of a server, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// Add, list and select servers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[expect(clippy::doc_markdown, reason = "help text for a terminal, not Markdown")]
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a server, reached over ssh with your own keys, over https or at a unix socket
    ///
    /// Over ssh it shows the fingerprint of the server's host key, asks for confirmation and pins the key. Your public key
    /// must be allowed; on the server: `shed-server key add`.
    #[command(after_help = "\
Examples:
  shed server add dev.example.com
  shed server add dev.example.com --fingerprint SHA256:…      without confirmation
  shed server add https://dev.example.com --token-file -")]
    Add {
        /// Address: HOST[:PORT], ssh://[user@]HOST[:PORT], https://HOST[:PORT] or unix:PATH
        host: String,
        /// Name (default: the server's own)
        #[arg(short, long)]
        name: Option<String>,
        /// Expected fingerprint of the host key; skips the confirmation
        #[arg(long, value_name = "SHA256:…")]
        fingerprint: Option<String>,
        /// File with the token for https; - reads standard input
        #[arg(long, value_name = "FILE")]
        token_file: Option<String>,
    },
    /// List servers and whether they respond
    List,
    /// Remove a server and its pinned host key
    Remove {
        /// Server
        #[arg(add = globals::servers())]
        name: String,
    },
    /// Set the server to use when none is selected
    SetDefault {
        /// Server; `local` is the one on this machine
        #[arg(add = globals::servers())]
        name: String,
    },
    /// Check that servers respond
    Ping {
        /// Servers (default: all)
        #[arg(value_name = "NAME", add = globals::servers())]
        names: Vec<String>,
    },
}

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

/// Parses an address; a bare host is reached over ssh.
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
        let name = name.iter().flat_map(|name| ["--name", name.as_str()]);
        return Err(Failure::usage(format!("{address} needs a token")).hint(command_line(
            ["shed", "server", "add", host].into_iter().chain(name).chain(["--token-file", "-"]),
        )));
    }
    if let Address::Ssh(ssh) = &address {
        pin(host, ssh, fingerprint.as_deref(), context)?;
    }
    let client = Client::new(address.clone())
        .with_token(token.clone())
        .with_ssh(context.files.ssh_options());
    let info = client.info().await?;
    let name = name.unwrap_or_else(|| info.name.clone());
    // The same command with another name.
    let with_name = |name: &str| {
        let fingerprint = fingerprint.iter().flat_map(|given| ["--fingerprint", given.as_str()]);
        let token_file = token_file.iter().flat_map(|file| ["--token-file", file.as_str()]);
        let words = ["shed", "server", "add", host, "--name", name].into_iter();
        command_line(words.chain(fingerprint).chain(token_file))
    };
    check_name(&name).map_err(|failure| failure.hint(with_name(&valid_name(&name))))?;
    let server = Server {
        address: address.to_string(),
        token,
        added_at: Some(chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
    };
    context.files.change(|config| {
        if let Some(known) = config.servers.get(&name)
            && known.address != server.address
        {
            let text = format!("server {name:?} exists already, with address {}", known.address);
            return Err(Failure::new(text)
                .with_status(exit::CONFLICT)
                .hint(with_name(&free_name(&name, |name| config.servers.contains_key(name)))));
        }
        config.servers.insert(name.clone(), server);
        if config.default_server.is_none() && config.servers.len() == 1 {
            config.default_server = Some(name.clone());
        }
        Ok(())
    })?;
    context.out.say(&format!(
        "server {name} was added: shed-server {}, scope {}",
        info.version, info.scope
    ));
    context.out.data(&info, String::new)?;
    Ok(0)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name == LOCAL
        || name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name.starts_with('-')
        || !name.chars().all(is_plain)
    {
        let rule = "expected at most 63 of A-Z, a-z, 0-9, '-', '_' and '.', and not `local`";
        return Err(Failure::usage(format!("invalid server name {name:?}; {rule}")));
    }
    Ok(())
}

/// A valid name that resembles an invalid one.
fn valid_name(name: &str) -> String {
    let replaced: String = name.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let name: String = replaced.trim_matches('-').chars().take(MAX_NAME_BYTES).collect();
    if check_name(&name).is_ok() { name } else { "server".to_owned() }
}

/// A valid name that resembles one that is taken: `web-2` for `web`.
fn free_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    // Six characters are enough for the hyphen and the number.
    let start: String = name.chars().take(MAX_NAME_BYTES - 6).collect();
    let mut number = 2;
    loop {
        let other = format!("{start}-{number}");
        if !is_taken(&other) {
            return other;
        }
        number += 1;
    }
}

fn read_token(file: &str) -> Result<String, Failure> {
    let text = if file == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(Failure::io("standard input"))?
    } else {
        std::fs::read_to_string(file).map_err(Failure::io(file))?
    };
    let token = text.trim().to_owned();
    if token.is_empty() {
        Err(Failure::usage(format!("token file {file} is empty")))
    } else {
        Ok(token)
    }
}

/// Fetches the host key, compares it with the expected one or asks the user, and pins it.
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
                "host key mismatch for {}: got {}, expected {expected}",
                address.host, found.fingerprint
            );
            return Err(Failure::new(text).with_status(exit::DENIED));
        }
        None => {
            let out = context.out;
            out.say(&format!("ed25519 host key of {}: {}", address.host, found.fingerprint));
            out.say("to compare, on the server: shed-server key host");
            let unattended = format!("shed server add {given} --fingerprint {}", found.fingerprint);
            confirm("is this the server's key?", unattended, out)?;
        }
    }
    context.files.change_known_hosts(|text| hostkey::replace(&text, &found))
}

/// A server and whether it responds.
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

/// Asks each server for its version and measures the time.
async fn probe(servers: &[Named], context: &Context) -> Vec<Row> {
    let default = context.server().map(|server| server.name).unwrap_or_default();
    let answers = Context::ask_all(servers, async |client| {
        let start = Instant::now();
        let info = client.info().await?;
        Ok((info, u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)))
    });
    let rows = servers.iter().zip(answers.await).map(|(server, answer)| {
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
        let removed = config.servers.remove(name).ok_or_else(|| unknown_server(name))?;
        if config.default_server.as_deref() == Some(name) {
            config.default_server = None;
        }
        Ok(removed)
    })?;
    if let Ok(Address::Ssh(address)) = removed.address.parse::<Address>() {
        context.files.change_known_hosts(|text| hostkey::forget(&text, &address))?;
        close_shared_connection(&address, &context.files.ssh_options());
    }
    context.out.say(&format!("server {name} was removed"));
    Ok(0)
}

/// Closes ssh's shared connection to a removed server.
fn close_shared_connection(address: &SshAddress, options: &SshOptions) {
    if let Some(dir) = &options.control_dir {
        let user = address.user.as_deref().unwrap_or("_api");
        std::process::Command::new("ssh")
            .args(["-O", "exit", "-p", &address.port.to_string(), "-l", user, "-o"])
            .arg(format!("ControlPath={}/%C", dir.display()))
            .args(["--", &address.host])
            .stderr(std::process::Stdio::null())
            .status()
            // Fails when there is none. An idle one closes by itself after a minute.
            .ok();
    }
}

fn set_default(name: &str, context: &Context) -> Outcome {
    context.files.change(|config| {
        if name != LOCAL && !config.servers.contains_key(name) {
            return Err(unknown_server(name));
        }
        config.default_server = Some(name.to_owned());
        Ok(())
    })?;
    context.out.say(&format!("the default server is now {name}"));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_names_are_valid_and_free() {
        for (given, valid) in [("a b", "a-b"), ("-x", "x"), ("local", "server"), ("", "server")] {
            assert_eq!(valid_name(given), valid, "{given:?}");
        }
        let long = "\u{e9}n".repeat(40);
        assert!(check_name(&valid_name(&long)).is_ok());
        assert_eq!(free_name("one", |name| name == "one-2"), "one-3");
        let longest = "n".repeat(MAX_NAME_BYTES);
        assert!(check_name(&free_name(&longest, |_| false)).is_ok());
    }
}
