//! Lending for a clone: signatures of the local ssh-agent, and one answer of the local git's credential helpers. Only what
//! the clone asks for, only for its own repository's host.

use std::process::Stdio;

use hyper::body::Bytes;
use shed_api::shed::Lend;
use shed_client::{Client, Frame, ProcessStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The messages of the agent protocol that are passed on: list the keys, sign. Nothing that changes the agent.
const ALLOWED: [u8; 2] = [11, 13];
/// The agent's "no".
const REFUSED: [u8; 5] = [0, 0, 0, 1, 5];
/// The longest message of the agent protocol; OpenSSH's own limit.
const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// git's question: a few short lines.
const MAX_QUESTION_BYTES: usize = 8 << 10;

/// What can be lent here.
pub(super) fn available() -> Vec<Lend> {
    let mut lend = vec![Lend::GitCredential];
    if std::env::var_os("SSH_AUTH_SOCK").is_some_and(|path| !path.is_empty()) {
        lend.push(Lend::SshAgent);
    }
    lend
}

/// Serves one connection of the clone. What goes wrong shows as the clone's own failure.
pub(super) async fn lend(client: Client, shed: String, id: String, what: Lend, repo: String) {
    let Ok(stream) = client.lend(&shed, &id).await else {
        return;
    };
    match what {
        Lend::SshAgent => lend_agent(stream).await,
        Lend::GitCredential => lend_credential(stream, &repo).await,
    };
}

/// Passes whole messages between the clone and the agent.
async fn lend_agent(stream: ProcessStream) -> Option<()> {
    let path = std::env::var_os("SSH_AUTH_SOCK")?;
    let mut agent = UnixStream::connect(path).await.ok()?;
    let ProcessStream { mut reader, input } = stream;
    let mut asked = Vec::new();
    loop {
        match reader.next().await.ok()? {
            Frame::Stdout(bytes) => asked.extend(&bytes),
            Frame::Started => {}
            _ => return None,
        }
        loop {
            let message = match take_message(&mut asked) {
                Taken::Whole(message) => message,
                Taken::More => break,
                Taken::Nonsense => return None,
            };
            let answer = if ALLOWED.contains(&message[4]) {
                agent.write_all(&message).await.ok()?;
                read_message(&mut agent).await?
            } else {
                REFUSED.to_vec()
            };
            if !input.send(Bytes::from(answer)).await {
                return None;
            }
        }
    }
}

/// What is at the front of what the clone asked.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// A message, with its length.
    Whole(Vec<u8>),
    /// The beginning of one.
    More,
    /// Too long, or empty.
    Nonsense,
}

fn take_message(bytes: &mut Vec<u8>) -> Taken {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Taken::More;
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > MAX_MESSAGE_BYTES {
        return Taken::Nonsense;
    }
    if rest.len() < length {
        Taken::More
    } else {
        Taken::Whole(bytes.drain(..4 + length).collect())
    }
}

async fn read_message(agent: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    agent.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]) as usize;
    if length > MAX_MESSAGE_BYTES {
        return None;
    }
    message.resize(4 + length, 0);
    agent.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

/// Asks the local git for a credential of the repository's host, and only that.
async fn lend_credential(stream: ProcessStream, repo: &str) -> Option<()> {
    let ProcessStream { mut reader, input } = stream;
    let mut question = Vec::new();
    loop {
        match reader.next().await.ok()? {
            Frame::Stdout(bytes) if question.len() + bytes.len() <= MAX_QUESTION_BYTES => {
                question.extend(&bytes);
            }
            Frame::Started => {}
            Frame::Eof => break,
            _ => return None,
        }
    }
    let question = String::from_utf8(question).ok()?;
    let (protocol, host) = about(repo)?;
    let is =
        |name: &str, value: &str| question.lines().any(|line| line == format!("{name}={value}"));
    if is("protocol", &protocol) && is("host", &host) {
        let answer = fill(&format!("protocol={protocol}\nhost={host}\n\n")).await?;
        input.send(Bytes::from(answer)).await;
    }
    input.eof().await;
    // The other end reads to the end, then closes.
    while reader.next().await.is_ok() {}
    Some(())
}

/// Protocol and host of a repository as people write it.
fn about(repo: &str) -> Option<(String, String)> {
    let Some((scheme, rest)) = repo.split_once("://") else {
        return (!repo.contains(':')).then(|| ("https".to_owned(), "github.com".to_owned()));
    };
    let authority = rest.split('/').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    matches!(scheme, "http" | "https").then(|| (scheme.to_owned(), host.to_owned()))
}

/// `git credential fill`, never asking anybody.
async fn fill(question: &str) -> Option<Vec<u8>> {
    let mut git = tokio::process::Command::new("git")
        .args(["credential", "fill"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    git.stdin.take()?.write_all(question.as_bytes()).await.ok()?;
    let output = git.wait_with_output().await.ok()?;
    output.status.success().then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole() {
        let mut bytes = vec![0, 0, 0, 2, 13, 9, 0, 0];
        assert_eq!(take_message(&mut bytes), Taken::Whole(vec![0, 0, 0, 2, 13, 9]));
        assert_eq!(take_message(&mut bytes), Taken::More);
        assert_eq!(take_message(&mut vec![0, 0, 0, 0]), Taken::Nonsense);
        assert_eq!(take_message(&mut vec![0xff; 8]), Taken::Nonsense);
    }

    #[test]
    fn a_credential_is_for_the_repositorys_own_host() {
        assert_eq!(about("https://u@h:8443/p"), Some(("https".to_owned(), "h:8443".to_owned())));
        assert_eq!(about("o/r"), Some(("https".to_owned(), "github.com".to_owned())));
        assert_eq!(about("git@h:p"), None);
        assert_eq!(about("ssh://h/p"), None);
    }
}
