//! Credentials for a clone: signatures of the local ssh-agent and one answer of the local git's credential helpers. They are
//! given only when the clone asks, and a credential only for the host of its repository.

use std::process::Stdio;

use hyper::body::Bytes;
use shed_api::shed::Lend;
use shed_client::{Client, Frame, ProcessStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Request types of the ssh-agent protocol that are passed on: list keys, sign. Requests that change the agent are refused.
const ALLOWED: [u8; 2] = [11, 13];
/// `SSH_AGENT_FAILURE`, with its length.
const REFUSED: [u8; 5] = [0, 0, 0, 1, 5];
/// Longest message of the agent protocol: OpenSSH's limit.
const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// Longest request of git's credential protocol; real ones are a few short lines.
const MAX_REQUEST_BYTES: usize = 8 << 10;

/// The kinds of credentials that this machine can provide.
pub(super) fn available() -> Vec<Lend> {
    let mut kinds = vec![Lend::GitCredential];
    if std::env::var_os("SSH_AUTH_SOCK").is_some_and(|path| !path.is_empty()) {
        kinds.push(Lend::SshAgent);
    }
    kinds
}

/// Serves one request of the clone. An error here makes the clone fail, which reports it.
pub(super) async fn serve(client: Client, shed: String, id: String, what: Lend, repo: String) {
    let Ok(stream) = client.credential_stream(&shed, &id).await else {
        return;
    };
    match what {
        Lend::SshAgent => serve_agent(stream).await,
        Lend::GitCredential => serve_git_credential(stream, &repo).await,
    };
}

/// Passes messages between the clone and the agent.
async fn serve_agent(stream: ProcessStream) -> Option<()> {
    let path = std::env::var_os("SSH_AUTH_SOCK")?;
    let mut agent = UnixStream::connect(path).await.ok()?;
    let ProcessStream { mut reader, input } = stream;
    let mut received = Vec::new();
    loop {
        match reader.next().await.ok()? {
            Frame::Stdout(bytes) => received.extend(&bytes),
            Frame::Started => {}
            _ => return None,
        }
        loop {
            let message = match take_message(&mut received) {
                Taken::Whole(message) => message,
                Taken::More => break,
                Taken::Invalid => return None,
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

/// The result of taking a message from the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// A message, including its length prefix.
    Whole(Vec<u8>),
    /// The message is incomplete.
    More,
    /// The message is too long or empty.
    Invalid,
}

fn take_message(bytes: &mut Vec<u8>) -> Taken {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Taken::More;
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > MAX_MESSAGE_BYTES {
        return Taken::Invalid;
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

/// Answers git's credential request if it is for the repository's host.
async fn serve_git_credential(stream: ProcessStream, repo: &str) -> Option<()> {
    let ProcessStream { mut reader, input } = stream;
    let mut request = Vec::new();
    loop {
        match reader.next().await.ok()? {
            Frame::Stdout(bytes) if request.len() + bytes.len() <= MAX_REQUEST_BYTES => {
                request.extend(&bytes);
            }
            Frame::Started => {}
            Frame::Eof => break,
            _ => return None,
        }
    }
    let request = String::from_utf8(request).ok()?;
    let (protocol, host) = protocol_and_host(repo)?;
    let has =
        |name: &str, value: &str| request.lines().any(|line| line == format!("{name}={value}"));
    if has("protocol", &protocol) && has("host", &host) {
        let answer = fill(&format!("protocol={protocol}\nhost={host}\n\n")).await?;
        input.send(Bytes::from(answer)).await;
    }
    input.eof().await;
    // The clone reads to the end and then closes the connection.
    while reader.next().await.is_ok() {}
    Some(())
}

/// Protocol and host that git asks credentials for; `None` when the repository is reached over another protocol.
fn protocol_and_host(repo: &str) -> Option<(String, String)> {
    let Some((scheme, rest)) = repo.split_once("://") else {
        return (!repo.contains(':')).then(|| ("https".to_owned(), "github.com".to_owned()));
    };
    let authority = rest.split('/').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    matches!(scheme, "http" | "https").then(|| (scheme.to_owned(), host.to_owned()))
}

/// Runs `git credential fill` without prompting.
async fn fill(request: &str) -> Option<Vec<u8>> {
    let mut git = tokio::process::Command::new("git")
        .args(["credential", "fill"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    git.stdin.take()?.write_all(request.as_bytes()).await.ok()?;
    let output = git.wait_with_output().await.ok()?;
    output.status.success().then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_when_complete() {
        let mut bytes = vec![0, 0, 0, 2, 13, 9, 0, 0];
        assert_eq!(take_message(&mut bytes), Taken::Whole(vec![0, 0, 0, 2, 13, 9]));
        assert_eq!(take_message(&mut bytes), Taken::More);
        assert_eq!(take_message(&mut vec![0, 0, 0, 0]), Taken::Invalid);
        assert_eq!(take_message(&mut vec![0xff; 8]), Taken::Invalid);
    }

    #[test]
    fn credentials_are_for_the_host_of_the_repository() {
        assert_eq!(
            protocol_and_host("https://u@h:8443/p"),
            Some(("https".to_owned(), "h:8443".to_owned()))
        );
        assert_eq!(protocol_and_host("o/r"), Some(("https".to_owned(), "github.com".to_owned())));
        assert_eq!(protocol_and_host("git@h:p"), None);
        assert_eq!(protocol_and_host("ssh://h/p"), None);
    }
}
