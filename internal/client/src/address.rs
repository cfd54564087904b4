//! Where a server is: `unix:PATH`, `ssh://[user@]HOST[:PORT]`, `https://HOST[:PORT]`, `http://127.0.0.1:PORT`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The SSH port when none is given.
pub const DEFAULT_SSH_PORT: u16 = 2222;
/// The https port when none is given.
const DEFAULT_HTTPS_PORT: u16 = 443;
/// The http port when none is given.
const DEFAULT_HTTP_PORT: u16 = 8080;

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket on this machine.
    Unix(PathBuf),
    /// Through the system's ssh.
    Ssh(SshAddress),
    /// TLS, with a token.
    Https {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// In the clear, with a token: only to this machine's loopback.
    Http {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A host for ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    /// The user; `_api` when none is given. A ProxyJump host may want another.
    pub user: Option<String>,
    /// Host name, address or alias of `~/.ssh/config`.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no server address: {why}")]
pub struct AddressError {
    given: String,
    why: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(given: &str) -> Result<Self, AddressError> {
        let error = |why| AddressError { given: given.to_owned(), why };
        if let Some(path) = given.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(error("the path is missing"))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let forms = "use unix:PATH, ssh://HOST[:PORT] or https://HOST[:PORT]";
        let (scheme, rest) = given.split_once("://").ok_or(error(forms))?;
        let rest = rest.trim_end_matches('/');
        if rest.contains('/') {
            return Err(error("there must be no path after the host"));
        }
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, rest),
        };
        let (host, port) = split_port(place).ok_or(error("the host or the port is not valid"))?;
        match (scheme, user) {
            ("ssh", user) => {
                if user.as_ref().is_some_and(|user| user.is_empty() || user.starts_with('-')) {
                    return Err(error("the user is not valid"));
                }
                Ok(Self::Ssh(SshAddress { user, host, port: port.unwrap_or(DEFAULT_SSH_PORT) }))
            }
            ("https", None) => Ok(Self::Https { host, port: port.unwrap_or(DEFAULT_HTTPS_PORT) }),
            ("http", None) if is_loopback(&host) => {
                Ok(Self::Http { host, port: port.unwrap_or(DEFAULT_HTTP_PORT) })
            }
            ("http", None) => {
                Err(error("a token must not cross a network in the clear: use https or ssh"))
            }
            ("https" | "http", Some(_)) => {
                Err(error("a token goes into the configuration, not into the address"))
            }
            _ => Err(error(forms)),
        }
    }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(place: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':').or((!after.is_empty()).then_some("x")))
        }
        None if place.matches(':').count() > 1 => (place, None),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
    let valid = !host.is_empty() && !host.starts_with('-') && host.chars().all(plain);
    let port = port.map(str::parse).transpose().ok()?;
    valid.then(|| (host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Ssh(SshAddress { user, host, port }) => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                write!(f, "ssh://{user}{}", with_port(host, *port))
            }
            Self::Https { host, port } => write!(f, "https://{}", with_port(host, *port)),
            Self::Http { host, port } => write!(f, "http://{}", with_port(host, *port)),
        }
    }
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Address {
    /// What goes into the Host header.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Unix(_) | Self::Ssh(_) => "localhost".to_owned(),
            Self::Https { host, port } | Self::Http { host, port } => with_port(host, *port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print_back() {
        for text in [
            "unix:/run/shed/shed.sock",
            "ssh://host:2222",
            "ssh://me@host:22",
            "ssh://[::1]:2222",
            "https://h.example.com:443",
            "http://127.0.0.1:8080",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("ssh://h".parse::<Address>().unwrap().to_string(), "ssh://h:2222");
        assert_eq!(
            "ssh://2001:db8::1".parse::<Address>().unwrap().to_string(),
            "ssh://[2001:db8::1]:2222"
        );
    }

    #[test]
    fn what_is_no_address_says_why() {
        for bad in [
            "",
            "host",
            "unix:",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://h:x",
            "ssh://h:99999",
            "ftp://h",
            "http://example.com",
            "https://u:p@h",
            "https://h/path",
            "ssh://[::1]x",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
