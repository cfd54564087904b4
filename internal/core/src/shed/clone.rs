//! The clone of a new shed: git runs in the container as `dev`; progress is reported, credentials are lent.

use std::time::Duration;

use shed_api::Code;
use shed_api::name::printable;
use shed_api::shed::GitIdentity;
use shed_api::stream::Exit;
use shed_link::{Io, Program, Run, Spawn, User};
use tokio::time::timeout;

use crate::Error;
use crate::error::Failure;
use crate::shed::credential_relay;
use crate::shed::operations::OpEnv;
use shed_guest::Link;
use shed_guest::{Chunk, Chunks, Main, Output, Stream};
use shed_model::shed::repo::{self, Repo};

/// How much of git's last words is kept for the reason of a failure.
const KEPT_BYTES: usize = 4 << 10;
/// How long a clone may say nothing at all.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// How long `git config` may take.
const CONFIG_LIMIT_MS: u64 = 10_000;

/// `shed-init checkout` found a checkout and kept it.
pub const KEPT: u8 = 10;
/// `shed-init checkout` found something else and did nothing.
pub const NOT_EMPTY: u8 = 11;

/// Clones the shed's repository into its workspace.
pub(crate) async fn checkout(env: &OpEnv, link: &Link) -> Result<(), Failure> {
    let Some(repo) = repository(env) else {
        return Ok(());
    };
    env.step(format!("cloning {}", repo.url), None);
    let failed = |error: Error| {
        let problem = error.problem();
        Failure { code: problem.code, text: problem.detail, hint: problem.hint }
    };
    let lent = credential_relay::open(link, &repo, &env.order.lend, &env.relay, &env.progress);
    let lent = lent.await.map_err(failed)?;
    let spawn = git_spawn(env, link, &repo, &lent);
    let stream = link.start(spawn).await.map_err(|error| failed(error.into()))?;
    let Stream { input, output, errors, control: _control, mut exit } = stream;
    drop(input);
    let last_words = follow(env, output, errors, &repo).await;
    let exit = exit.wait().await;
    drop(lent);
    match exit {
        Some(Exit::Code(0)) => {
            if let Some(identity) = &env.row.spec.git_identity {
                set_identity(link, identity).await.map_err(failed)?;
            }
            Ok(())
        }
        Some(Exit::Code(KEPT)) => {
            env.step("kept the checkout that was in the workspace", None);
            Ok(())
        }
        exit => Err(why(env, &repo, exit.as_ref(), &last_words)),
    }
}

/// With the password if it was given just now; else as stored.
fn repository(env: &OpEnv) -> Option<Repo> {
    let remembered = || env.row.spec.repo.as_deref().and_then(|url| repo::parse(url).ok());
    env.order.repo.clone().or_else(remembered)
}

fn git_spawn(env: &OpEnv, link: &Link, repo: &Repo, lent: &credential_relay::Lent) -> Spawn {
    let helper = lent.credential.as_ref().map(|socket| {
        // Both are paths in the container, read by a shell there.
        format!("!{} credential {socket}", link.hello().program)
    });
    let branch = env.row.spec.branch.as_deref();
    let mut words = vec!["checkout".to_owned(), "git".to_owned()];
    words.extend(repo::clone_args(repo, branch, helper.as_deref()));
    let mut vars = vec![
        ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
        // A new host is taken at its word once and then pinned, and nothing is ever asked.
        (
            "GIT_SSH_COMMAND".to_owned(),
            "ssh -o StrictHostKeyChecking=accept-new -o BatchMode=yes".to_owned(),
        ),
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
    ];
    if let Some(agent) = &lent.agent {
        vars.push(("SSH_AUTH_SOCK".to_owned(), agent.clone()));
    }
    Spawn {
        program: Program::Own(words),
        env: vars,
        locale: Vec::new(),
        directory: None,
        user: User::Dev,
        io: Io::Pipes,
        detached: None,
        worker: None,
    }
}

/// Reports git's progress until git closes its standard error; returns the last part of what it printed there.
async fn follow(env: &OpEnv, output: Output, errors: Option<Output>, repo: &Repo) -> String {
    let mut said = Vec::new();
    let mut chunks = Chunks::new(output, errors, Main::Errors);
    while let Ok(Some(chunk)) = timeout(SILENCE_LIMIT, chunks.next()).await {
        // git reports everything on standard error.
        let Chunk::Errors(bytes) = chunk else {
            continue;
        };
        if let Some((text, percent)) = repo::progress(&String::from_utf8_lossy(bytes)) {
            env.step(format!("cloning {}: {text}", repo.url), percent);
        }
        said.extend(bytes);
        let excess = said.len().saturating_sub(KEPT_BYTES);
        said.drain(..excess);
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn why(env: &OpEnv, repo: &Repo, exit: Option<&Exit>, last_words: &str) -> Failure {
    let name = &env.name;
    let retry = format!("shed create {name} --retry");
    let text = match exit {
        Some(Exit::Code(NOT_EMPTY)) => {
            return Failure::new(
                Code::CloneFailed,
                format!("cannot clone into shed {name:?}: its workspace has files and no checkout"),
            )
            .hint(format!("shed console {name}"));
        }
        Some(Exit::Code(127)) => "its image has no git".to_owned(),
        None => "the connection to the shed was lost".to_owned(),
        Some(_) => {
            let lines = last_words.split(['\r', '\n']).map(str::trim);
            let telling =
                lines.filter(|line| line.starts_with("fatal:") || line.starts_with("error:"));
            let told: Vec<String> = telling.map(printable).collect();
            if told.is_empty() { "git failed".to_owned() } else { told.join("; ") }
        }
    };
    Failure::new(Code::CloneFailed, format!("cannot clone {}: {text}", repo.url)).hint(retry)
}

async fn set_identity(link: &Link, identity: &GitIdentity) -> Result<(), Error> {
    for (key, value) in [("user.name", &identity.name), ("user.email", &identity.email)] {
        let argv = ["git", "config", "--local", "--", key, value].map(str::to_owned).to_vec();
        let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: CONFIG_LIMIT_MS };
        link.run(run).await?;
    }
    Ok(())
}
