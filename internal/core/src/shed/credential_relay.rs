//! Lending for a clone: the creator's ssh-agent and git credentials, for this clone only, nothing stored.
//!
//! A private socket in the container gives access to it; it exists while the clone runs. Each connection to it becomes an
//! entry of the relay, reported as progress; the creator's client fetches it and answers from its own machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shed_api::Actor;
use shed_api::shed::Lend;
use shed_link::Listened;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::Error;
use crate::shed::view::ProgressState;
use shed_guest::Link;
use shed_guest::{Connection, Helper};
use shed_model::shed::repo::Repo;

/// How long a connection waits for the creator's client.
const FETCH_LIMIT: Duration = Duration::from_secs(30);
/// Connections that wait at once. git asks for one at a time.
const MAX_WAITING: usize = 16;
/// git's question: a few short lines.
const MAX_QUESTION_BYTES: u64 = 8 << 10;

/// Connections that wait to be fetched.
#[derive(Debug, Clone, Default)]
pub(crate) struct CredentialRelay {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Who offered to lend. Somebody else's answer could be anything.
    lender: Option<Actor>,
    connections: HashMap<String, (Instant, Connection)>,
}

impl CredentialRelay {
    /// Says whose connections these are from now on.
    pub(crate) fn open_for(&self, lender: Actor) {
        self.waiting().lender = Some(lender);
    }

    fn put(&self, id: String, socket: Connection) -> bool {
        let connections = &mut self.waiting().connections;
        connections.retain(|_, (since, _)| since.elapsed() < FETCH_LIMIT);
        if connections.len() >= MAX_WAITING {
            return false;
        }
        connections.insert(id, (Instant::now(), socket));
        true
    }

    /// Fetches a connection; once, and only for the lender.
    pub(crate) fn take(&self, id: &str, person: &Actor) -> Option<Connection> {
        let mut waiting = self.waiting();
        if waiting.lender.as_ref() != Some(person) {
            return None;
        }
        let (since, socket) = waiting.connections.remove(id)?;
        (since.elapsed() < FETCH_LIMIT).then_some(socket)
    }

    pub(crate) fn clear(&self) {
        self.waiting().connections.clear();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Private sockets in the container for the time of a clone. Dropping it removes them.
pub(crate) struct Lent {
    /// `SSH_AUTH_SOCK` for the clone.
    pub(crate) agent: Option<String>,
    /// The socket git's credential helper asks.
    pub(crate) credential: Option<String>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Opens what the clone of `repo` may need: what was lent, and the password that was in its URL.
pub(crate) async fn open(
    link: &Link,
    repo: &Repo,
    lend: &[Lend],
    relay: &CredentialRelay,
    progress: &watch::Sender<ProgressState>,
) -> Result<Lent, Error> {
    let mut lent = Lent { agent: None, credential: None, tasks: Vec::new() };
    if lend.contains(&Lend::SshAgent) && repo.protocol == "ssh" {
        let (path, helper) = listen(link, "agent").await?;
        let (relay, progress) = (relay.clone(), progress.clone());
        lent.agent = Some(path);
        lent.tasks.push(tokio::spawn(async move {
            pass_on(helper, |socket| offer(&relay, &progress, Lend::SshAgent, socket)).await;
        }));
    }
    let own = repo.credential.clone();
    if repo.credential_host.is_some() && (own.is_some() || lend.contains(&Lend::GitCredential)) {
        let (path, helper) = listen(link, "credential").await?;
        let (relay, progress, repo) = (relay.clone(), progress.clone(), repo.clone());
        lent.credential = Some(path);
        lent.tasks.push(tokio::spawn(async move {
            pass_on(helper, |socket| match &own {
                Some(own) => drop(tokio::spawn(answer(socket, repo.clone(), own.clone()))),
                None => offer(&relay, &progress, Lend::GitCredential, socket),
            })
            .await;
        }));
    }
    Ok(lent)
}

fn offer(
    relay: &CredentialRelay,
    progress: &watch::Sender<ProgressState>,
    what: Lend,
    socket: Connection,
) {
    let id = uuid::Uuid::new_v4().simple().to_string();
    if relay.put(id.clone(), socket) {
        progress.send_modify(|progress| progress.lends.push((id, what)));
    }
}

async fn listen(link: &Link, name: &str) -> Result<(String, Helper), Error> {
    let random = uuid::Uuid::new_v4().simple();
    let path = format!("/tmp/shed-lend-{random}/{name}");
    let mut helper = link.start_helper(&["listen", "unix", &path, "private"]).await?;
    match helper.next::<Listened>().await {
        Some((Listened::Listening { .. }, _)) => Ok((path, helper)),
        Some((Listened::Refused(why), _)) => Err(Error::Connect(why)),
        Some((Listened::Accepted { .. }, _)) | None => {
            Err(Error::Connect(format!("cannot listen at {path}")))
        }
    }
}

/// Hands each accepted connection to `take`. Ends with the listener.
async fn pass_on(mut helper: Helper, mut take: impl FnMut(Connection)) {
    while let Some((Listened::Accepted { .. }, connection)) = helper.next::<Listened>().await {
        if let Some(connection) = connection {
            take(connection);
        }
    }
}

/// Answers git's question from the URL's own user and password, if it is for that host.
async fn answer(mut socket: Connection, repo: Repo, own: (String, String)) {
    let mut question = String::new();
    let read = (&mut socket).take(MAX_QUESTION_BYTES).read_to_string(&mut question).await;
    if read.is_ok() && is_about(&question, &repo) {
        let (user, password) = own;
        let text = format!("username={user}\npassword={password}\n\n");
        // git gave up when this fails.
        socket.write_all(text.as_bytes()).await.ok();
    }
}

/// Whether git asks for exactly the repository's protocol and host.
fn is_about(question: &str, repo: &Repo) -> bool {
    let field =
        |name: &str| question.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    field("protocol") == Some(repo.protocol) && field("host") == repo.credential_host.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_for_its_host_alone() {
        let repo = shed_model::shed::repo::parse("https://u:p@example.com:8443/a").unwrap();
        let about = |text: &str| is_about(text, &repo);
        assert!(about("protocol=https\nhost=example.com:8443\n\n"));
        assert!(!about("protocol=http\nhost=example.com:8443\n\n"));
        assert!(!about("protocol=https\nhost=evil.com\n\n"));
        assert!(!about("protocol=https\nhost=evil.com\npath=host=example.com:8443\n"));
    }

    #[tokio::test]
    async fn a_connection_is_fetched_once() {
        let relay = CredentialRelay::default();
        let (a, _b) = tokio::io::duplex(1);
        assert!(relay.put("x".to_owned(), Connection::other(Box::new(a))));
        let me = Actor::Local("me".to_owned());
        relay.open_for(me.clone());
        assert!(relay.take("x", &Actor::Local("you".to_owned())).is_none());
        assert!(relay.take("x", &me).is_some());
        assert!(relay.take("x", &me).is_none());
    }
}
