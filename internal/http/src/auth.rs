//! Authentication: the person behind a request, from the connection and the request's credentials.

use std::net::SocketAddr;

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use shed_core::{Error, Person};

use crate::State;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// A process on this machine, over the unix socket.
    Local {
        /// Its user id, from the kernel's peer credentials.
        uid: u32,
    },
    /// A client over TCP.
    Network(SocketAddr),
    /// A person whom the SSH door has authenticated.
    Known(Person),
}

impl Peer {
    /// The address by which unauthenticated requests are counted; none for callers that need no token.
    pub(crate) fn address(&self) -> Option<std::net::IpAddr> {
        match self {
            Self::Network(address) => Some(address.ip()),
            Self::Local { .. } | Self::Known(_) => None,
        }
    }
}

/// Authenticates a request.
pub(crate) async fn person(state: &State, peer: &Peer, parts: &Parts) -> Result<Person, Error> {
    match peer {
        Peer::Known(person) => Ok(person.clone()),
        Peer::Local { uid } if *uid == state.options.owner_uid || *uid == 0 => {
            Ok(Person::local(user_name(*uid), *uid))
        }
        Peer::Local { .. } => Err(Error::Unauthorized("only its owner may use the unix socket")),
        Peer::Network(_) => {
            let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = header.and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
            });
            let token = token
                .ok_or(Error::Unauthorized("missing token; expected Authorization: Bearer …"))?;
            state.app.access().token_holder(token).await
        }
    }
}

/// The name of a user for events, or the uid if it has none.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}
