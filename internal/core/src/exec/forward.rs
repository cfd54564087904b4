//! Connections into a shed and out of it, made in the shed as `dev`.

use shed_link::{Connected, Listened};
use shed_model::Rejection;

use crate::Error;
use crate::shed::entered::Entered;
use shed_guest::{Connection, Helper};

/// Where to connect in a shed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host, as the shed resolves it, and a port.
    Tcp(String, u16),
    /// A socket file.
    Unix(String),
}

/// Where to listen in a shed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// An address (in the words of SSH: empty and `*` mean all) and a port; 0 means any.
    Tcp(String, u16),
    /// A socket file.
    Unix(String),
    /// A new socket file for an ssh-agent, in a directory of its own that goes with it.
    Agent,
}

/// A listener in a shed. Dropping it ends it.
pub struct Listening {
    helper: Helper,
    /// The port it listens at; 0 for a socket file.
    pub port: u16,
    /// The socket file, if it is one.
    pub path: Option<String>,
}

/// Connects to something in a shed.
pub(crate) async fn connect(entered: &Entered, target: &Target) -> Result<Connection, Error> {
    let name = &entered.shed;
    let port;
    let words = match target {
        Target::Tcp(host, number) => {
            port = number.to_string();
            vec!["connect", "tcp", plain(host)?, &port]
        }
        Target::Unix(path) => vec!["connect", "unix", absolute(path)?],
    };
    let mut helper = entered.link.start_helper(&words).await?;
    match helper.next::<Connected>().await {
        Some((Connected::Socket, Some(connection))) => Ok(connection),
        Some((Connected::Refused(why), _)) => Err(Error::Connect(shed_api::name::printable(&why))),
        Some((Connected::Socket, None)) | None => Err(Error::ShedUnreachable(name.clone())),
    }
}

/// Listens in a shed.
pub(crate) async fn listen(entered: &Entered, bind: &Bind) -> Result<Listening, Error> {
    let name = &entered.shed;
    if *bind == Bind::Agent && !entered.handle.view.borrow().row.spec.allow_agent_forwarding {
        let text = format!("shed {name:?} does not allow agent forwarding");
        return Err(Error::Rejected(Rejection::Forbidden(text)));
    }
    let (path, port);
    let words = match bind {
        Bind::Tcp(host, number) => {
            (path, port) = (None, number.to_string());
            vec!["listen", "tcp", plain(host)?, &port]
        }
        Bind::Unix(file) => {
            path = Some(absolute(file)?.to_owned());
            vec!["listen", "unix", file]
        }
        Bind::Agent => {
            let random = uuid::Uuid::new_v4().simple();
            path = Some(format!("/tmp/shed-agent-{random}/agent"));
            vec!["listen", "unix", path.as_deref().unwrap_or_default(), "private"]
        }
    };
    let mut helper = entered.link.start_helper(&words).await?;
    match helper.next::<Listened>().await {
        Some((Listened::Listening { port }, _)) => Ok(Listening { helper, port, path }),
        Some((Listened::Refused(why), _)) => Err(Error::Connect(shed_api::name::printable(&why))),
        Some((Listened::Accepted { .. }, _)) | None => Err(Error::ShedUnreachable(name.clone())),
    }
}

impl Listening {
    /// The next connection, with the peer's address and port; `None` when the shed or the listener is gone. Safe to drop
    /// and call again.
    pub async fn accept(&mut self) -> Option<(Connection, String, u16)> {
        loop {
            let (Listened::Accepted { host, port }, connection) = self.helper.next().await? else {
                return None;
            };
            if let Some(connection) = connection {
                return Some((connection, shed_api::name::printable(&host), port));
            }
        }
    }
}

/// Checks a host, which becomes a word of a command line: it must not look like an option.
fn plain(host: &str) -> Result<&str, Error> {
    let good = host.len() <= 255
        && !host.starts_with('-')
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:%*".contains(c));
    if good {
        Ok(host)
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!(
            "invalid host {host:?}; expected a name or an address"
        ))))
    }
}

fn absolute(path: &str) -> Result<&str, Error> {
    let good = path.starts_with('/') && path.len() < 108 && !path.contains('\0');
    if good {
        Ok(path)
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!(
            "invalid socket {path:?}; expected an absolute path shorter than 108 bytes"
        ))))
    }
}
