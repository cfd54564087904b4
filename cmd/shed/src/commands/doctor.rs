//! `shed doctor`.

use std::collections::BTreeMap;

use shed_api::ShedStatus;
use shed_api::name::printable;
use shed_api::work::Orphan;
use shed_client::{Address, Client};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use shed_report::{Check, Verdict, check, counted, has_failed, show};

/// Check this client and its servers, and explain what is wrong
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> Outcome {
    let mut checks = vec![program("ssh", &["-V"]), agent()];
    let servers =
        if context.is_selected() { vec![context.server()?] } else { context.all_servers()? };
    let answers = Context::ask_all(&servers, async |client| {
        let info = client.info().await?;
        let health = client.health().await;
        Ok((info, health, orphans(&client).await))
    });
    for (server, answer) in servers.iter().zip(answers.await) {
        let orphans = answer.as_ref().ok().map(|(_, _, found)| check_orphans(&server.name, found));
        let what = format!("server {}", server.name);
        checks.push(match answer {
            Err(failure) => {
                check(what, Verdict::Fail, with_hint(&failure, server.client.address()))
            }
            Ok((info, Ok(health), _)) if health.ready => {
                let is_other = info.version != env!("CARGO_PKG_VERSION");
                let verdict = if is_other { Verdict::Warn } else { Verdict::Pass };
                let note = if is_other {
                    format!(" (this client is {})", env!("CARGO_PKG_VERSION"))
                } else {
                    String::new()
                };
                check(
                    what,
                    verdict,
                    format!("{}{note}, {}, scope {}", info.version, info.engine, info.scope),
                )
            }
            Ok((_, Ok(health), _)) => check(what, Verdict::Fail, health.missing.join("; ")),
            Ok((_, Err(error), _)) => check(what, Verdict::Fail, error.to_string()),
        });
        checks.extend(orphans);
    }
    context.out.data(&serde_json::json!({ "checks": checks }), || show(&checks))?;
    Ok(if has_failed(&checks) { shed_api::problem::exit::FAILED } else { 0 })
}

/// The orphans of each running shed that has any, or why they cannot be listed.
type Orphans = Result<Vec<(String, Vec<Orphan>)>, String>;

async fn orphans(client: &Client) -> Orphans {
    let sheds = client.sheds().await.map_err(|error| error.to_string())?.sheds;
    let mut found = Vec::new();
    for shed in sheds.iter().filter(|shed| shed.status == ShedStatus::Running) {
        let name = shed.name.as_str();
        let list = client.orphans(name).await.map_err(|error| format!("{name}: {error}"))?;
        if !list.orphans.is_empty() {
            found.push((name.to_owned(), list.orphans));
        }
    }
    Ok(found)
}

fn check_orphans(server: &str, found: &Orphans) -> Check {
    let what = format!("orphans {server}");
    let found = match found {
        Ok(found) if found.is_empty() => return check(what, Verdict::Pass, "none"),
        Ok(found) => found,
        Err(why) => return check(what, Verdict::Warn, printable(why)),
    };
    // An unmanaged tmux session is not a fault.
    let is_fault = |orphan: &Orphan| orphan.kind != "session";
    let verdict = if found.iter().any(|(_, orphans)| orphans.iter().any(is_fault)) {
        Verdict::Warn
    } else {
        Verdict::Pass
    };
    let each = found.iter().map(|(shed, orphans)| {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for orphan in orphans {
            *kinds.entry(&orphan.kind).or_default() += 1;
        }
        let kinds: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        format!("{}; shed orphans list {shed}", printable(&kinds.join(", ")))
    });
    check(what, verdict, each.collect::<Vec<_>>().join(" · "))
}

fn with_hint(failure: &Failure, address: &Address) -> String {
    let hint = match address {
        Address::Unix(_) => "on the server: shed-server service start".to_owned(),
        Address::Ssh(address) => {
            format!("check the connection: ssh -p {} _api@{}", address.port, address.host)
        }
        Address::Https { .. } | Address::Http { .. } => {
            format!("check the connection: curl -v {address}/api/health/live")
        }
    };
    format!("{}; {hint}", failure.text)
}

fn program(name: &str, args: &[&str]) -> Check {
    match std::process::Command::new(name).args(args).output() {
        Ok(output) => {
            let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let text = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
            check(name, Verdict::Pass, text)
        }
        Err(error) => check(name, Verdict::Fail, format!("{error}; install openssh-client")),
    }
}

fn agent() -> Check {
    if std::env::var_os("SSH_AUTH_SOCK").is_none() {
        return check(
            "ssh-agent",
            Verdict::Warn,
            "SSH_AUTH_SOCK is not set; keys with a passphrase will not work",
        );
    }
    match std::process::Command::new("ssh-add").arg("-l").output() {
        Ok(keys) if keys.status.success() => {
            let n_keys = String::from_utf8_lossy(&keys.stdout).lines().count();
            check("ssh-agent", Verdict::Pass, counted(n_keys as u64, "key"))
        }
        Ok(_) | Err(_) => {
            check("ssh-agent", Verdict::Warn, "it has no keys or does not answer; ssh-add")
        }
    }
}
