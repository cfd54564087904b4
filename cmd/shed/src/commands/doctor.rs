//! `shed doctor`.

use shed_client::Address;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use shed_report::{Check, Verdict, check, has_failed, show};

/// Check this client and the servers it knows, and explain what is wrong
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) async fn run(_: Args, context: &Context) -> Outcome {
    let mut checks = vec![program("ssh", &["-V"]), agent()];
    let servers =
        if context.is_chosen() { vec![context.server()?] } else { context.all_servers()? };
    let asked = Context::ask_all(&servers, async |client| {
        let info = client.info().await?;
        let health = client.health().await;
        Ok((info, health))
    });
    for (server, answer) in servers.iter().zip(asked.await) {
        let what = format!("server {}", server.name);
        checks.push(match answer {
            Err(failure) => {
                check(what, Verdict::Fail, with_hint(&failure, server.client.address()))
            }
            Ok((info, Ok(health))) if health.ready => {
                let other = info.version != env!("CARGO_PKG_VERSION");
                let verdict = if other { Verdict::Warn } else { Verdict::Pass };
                let note = if other {
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
            Ok((_, Ok(health))) => check(what, Verdict::Fail, health.missing.join("; ")),
            Ok((_, Err(error))) => check(what, Verdict::Fail, error.to_string()),
        });
    }
    context.out.data(&serde_json::json!({ "checks": checks }), || show(&checks))?;
    Ok(if has_failed(&checks) { shed_api::problem::exit::FAILED } else { 0 })
}

fn with_hint(failure: &Failure, address: &Address) -> String {
    let hint = match address {
        Address::Unix(_) => "start it: make run, or: systemctl start shed-server".to_owned(),
        Address::Ssh(address) => format!("by hand: ssh -p {} _api@{}", address.port, address.host),
        Address::Https { host, port } | Address::Http { host, port } => {
            format!("by hand: curl -v https://{host}:{port}/api/health/live")
        }
    };
    format!("{}; {hint}", failure.text)
}

fn program(name: &str, words: &[&str]) -> Check {
    match std::process::Command::new(name).args(words).output() {
        Ok(output) => {
            let words = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let words =
                String::from_utf8_lossy(&words).lines().next().unwrap_or_default().to_owned();
            check(name, Verdict::Pass, words)
        }
        Err(error) => check(name, Verdict::Fail, format!("{error}; install openssh-client")),
    }
}

fn agent() -> Check {
    if std::env::var_os("SSH_AUTH_SOCK").is_none() {
        return check("ssh-agent", Verdict::Warn, "none; keys with a passphrase will not work");
    }
    match std::process::Command::new("ssh-add").arg("-l").output() {
        Ok(keys) if keys.status.success() => {
            let n_keys = String::from_utf8_lossy(&keys.stdout).lines().count();
            check("ssh-agent", Verdict::Pass, format!("{n_keys} keys"))
        }
        Ok(_) | Err(_) => check("ssh-agent", Verdict::Warn, "it has no keys, or does not answer"),
    }
}
