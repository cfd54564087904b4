//! The clone of a new shed: git runs in the container as `dev`; progress is reported, credentials are lent.

use std::time::Duration;

use shed_api::name::printable;
use shed_api::shed::GitIdentity;
use shed_api::stream::Exit;
use shed_api::{Code, ShedName};
use shed_link::{Io, Program, Run, Spawn, User};
use tokio::time::timeout;

use crate::Error;
use crate::error::Failure;
use crate::shed::credential_relay;
use crate::shed::operations::OpEnv;
use shed_guest::Link;
use shed_guest::{Chunk, Chunks, Main, Stream};
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

/// `shed-init checkout` cloned all but what it said.
pub const INCOMPLETE: u8 = 12;
/// How it says what is missing.
const MISSING: &str = "incomplete: ";

/// Clones the shed's repository into its workspace, with submodules. Returns what could not be fetched, in words.
pub(crate) async fn checkout(env: &OpEnv, link: &Link) -> Result<Vec<String>, Failure> {
    let Some(repo) = repository(env) else {
        return Ok(Vec::new());
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
    let Stream { input, output, errors, control, mut exit } = stream;
    drop(input);
    let mut last_words = LastWords::default();
    let followed = follow(Chunks::new(output, errors, Main::Errors), exit.wait(), |bytes| {
        // git reports everything on standard error.
        if let Some((text, percent)) = repo::progress(&String::from_utf8_lossy(bytes)) {
            env.step(format!("cloning {}: {text}", repo.url), percent);
        }
        last_words.add(bytes);
    });
    let followed = followed.await;
    // Ends a git that hangs.
    drop(control);
    drop(lent);
    let Some(exit) = followed else {
        let text = format!(
            "cannot clone {}: git printed nothing for {} seconds",
            repo.url,
            SILENCE_LIMIT.as_secs()
        );
        return Err(Failure::new(Code::CloneFailed, text).hint(retry(&env.name)));
    };
    match exit {
        Some(Exit::Code(status @ (0 | INCOMPLETE))) => {
            if let Some(identity) = &env.row.spec.git_identity {
                set_identity(link, identity).await.map_err(failed)?;
            }
            Ok(if status == 0 { Vec::new() } else { missing(&last_words.text()) })
        }
        Some(Exit::Code(KEPT)) => {
            env.step("kept the checkout that was in the workspace", None);
            Ok(Vec::new())
        }
        exit => Err(why(env, &repo, exit.as_ref(), &last_words.text())),
    }
}

/// What is missing in a clone, as its last words say.
fn missing(last_words: &str) -> Vec<String> {
    let lines = last_words.lines().filter_map(|line| line.strip_prefix(MISSING));
    let lines: Vec<String> = lines.map(printable).collect();
    if lines.is_empty() { vec!["the clone is incomplete".to_owned()] } else { lines }
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

/// The last part of what git printed.
#[derive(Debug, Default)]
struct LastWords(Vec<u8>);

impl LastWords {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(KEPT_BYTES);
        self.0.drain(..excess);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// Passes on what git prints on its standard error until git exits; `None` if it neither prints nor exits for too long. Its
/// outputs are read until then: a git whose output nobody reads would be killed by a signal. They may stay open longer, in
/// a daemon that git started.
async fn follow<T>(
    mut chunks: Chunks,
    exit: impl Future<Output = T>,
    mut told: impl FnMut(&[u8]),
) -> Option<T> {
    let mut exit = std::pin::pin!(exit);
    let mut is_open = true;
    loop {
        let next = async {
            tokio::select! {
                exit = &mut exit => Err(exit),
                chunk = chunks.next(), if is_open => Ok(chunk),
            }
        };
        match timeout(SILENCE_LIMIT, next).await.ok()? {
            Ok(Some(Chunk::Errors(bytes))) => told(bytes),
            Ok(Some(Chunk::Output(_))) => {}
            Ok(None) => is_open = false,
            Err(exit) => {
                while chunks.is_ready() {
                    match chunks.next().await {
                        Some(Chunk::Errors(bytes)) => told(bytes),
                        Some(Chunk::Output(_)) => {}
                        None => break,
                    }
                }
                return Some(exit);
            }
        }
    }
}

/// The command that tries again.
fn retry(name: &ShedName) -> String {
    format!("shed create {name} --retry")
}

fn why(env: &OpEnv, repo: &Repo, exit: Option<&Exit>, last_words: &str) -> Failure {
    let name = &env.name;
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
    Failure::new(Code::CloneFailed, format!("cannot clone {}: {text}", repo.url)).hint(retry(name))
}

async fn set_identity(link: &Link, identity: &GitIdentity) -> Result<(), Error> {
    for (key, value) in [("user.name", &identity.name), ("user.email", &identity.email)] {
        let argv = ["git", "config", "--local", "--", key, value].map(str::to_owned).to_vec();
        let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: CONFIG_LIMIT_MS };
        link.run(run).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use shed_guest::{Output, ReadStream};
    use tokio::io::{AsyncRead, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
    use tokio::sync::oneshot;

    use super::*;

    /// The reading end of git's standard error, with the number of bytes in it.
    struct Near(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Near {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let before = buffer.filled().len();
            let read = Pin::new(&mut self.0).poll_read(context, buffer);
            self.1.fetch_sub(buffer.filled().len() - before, Ordering::Relaxed);
            read
        }
    }

    impl ReadStream for Near {
        fn ready_bytes(&self) -> usize {
            self.1.load(Ordering::Relaxed)
        }
    }

    /// A git that prints on its standard error.
    struct Git {
        errors: DuplexStream,
        n_ready: Arc<AtomicUsize>,
        _output: DuplexStream,
    }

    impl Git {
        fn start() -> (Self, Chunks) {
            let ((errors, near), (output, near_output)) = (duplex(1 << 10), duplex(1 << 10));
            let n_ready = Arc::new(AtomicUsize::new(0));
            let near = Output::other(Box::new(Near(near, Arc::clone(&n_ready))));
            let near_output = Output::other(Box::new(Near(near_output, Arc::default())));
            let chunks = Chunks::new(near_output, Some(near), Main::Errors);
            (Self { errors, n_ready, _output: output }, chunks)
        }

        async fn print(&mut self, text: &str) {
            self.n_ready.fetch_add(text.len(), Ordering::Relaxed);
            self.errors.write_all(text.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clone_ends_with_git_though_its_daemon_keeps_its_output_open() {
        let (mut git, chunks) = Git::start();
        let (ends, exit) = oneshot::channel();
        git.print("fatal: no").await;
        ends.send(128).unwrap();
        let mut last_words = LastWords::default();
        let start = tokio::time::Instant::now();
        let exit = follow(chunks, exit, |bytes| last_words.add(bytes)).await;
        assert_eq!((exit, last_words.text().as_str()), (Some(Ok(128)), "fatal: no"));
        assert_eq!(start.elapsed(), Duration::ZERO);
        drop(git);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clone_that_neither_prints_nor_exits_is_over() {
        let (mut git, chunks) = Git::start();
        let printing = async {
            for _ in 0..3 {
                tokio::time::sleep(SILENCE_LIMIT / 2).await;
                git.print("Receiving objects").await;
            }
            git.errors.shutdown().await.unwrap();
        };
        let start = tokio::time::Instant::now();
        let followed = follow(chunks, std::future::pending::<()>(), |_| {});
        let (exit, ()) = tokio::join!(followed, printing);
        assert_eq!(exit, None);
        assert_eq!(start.elapsed(), SILENCE_LIMIT / 2 * 3 + SILENCE_LIMIT);
    }
}
