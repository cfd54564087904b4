//! Addresses of servers: `unix:PATH`, `ssh://[user@]HOST[:PORT]`, `https://HOST[:PORT]`, `http://127.0.0.1:PORT`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Default port of ssh addresses.
pub const DEFAULT_SSH_PORT: u16 = 2222;
/// Default port of https addresses.
const DEFAULT_HTTPS_PORT: u16 = 443;
/// Default port of http addresses.
const DEFAULT_HTTP_PORT: u16 = 8080;

/// Address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket on this machine.
    Unix(PathBuf),
    /// Reached through the system's ssh.
    Ssh(SshAddress),
    /// TLS; needs a token.
    Https {
        /// Host name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Unencrypted; needs a token. Only a loopback host is valid.
    Http {
        /// Host name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// Address of a host for ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    /// User to log in as; `_api` when absent.
    pub user: Option<String>,
    /// Host name, IP address or alias of `~/.ssh/config`.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid server address {given:?}; {why}")]
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
                Err(error("expected a path after unix:"))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let forms = "expected unix:PATH, ssh://HOST[:PORT] or https://HOST[:PORT]";
        let (scheme, rest) = given.split_once("://").ok_or(error(forms))?;
        let rest = rest.trim_end_matches('/');
        if rest.contains('/') {
            return Err(error("expected no path after the host"));
        }
        let (user, host_and_port) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) =
            split_port(host_and_port).ok_or(error("the host or the port is invalid"))?;
        match (scheme, user) {
            ("ssh", user) => {
                if user.as_ref().is_some_and(|user| user.is_empty() || user.starts_with('-')) {
                    return Err(error("the user is invalid"));
                }
                Ok(Self::Ssh(SshAddress { user, host, port: port.unwrap_or(DEFAULT_SSH_PORT) }))
            }
            ("https", None) => Ok(Self::Https { host, port: port.unwrap_or(DEFAULT_HTTPS_PORT) }),
            ("http", None) if is_loopback(&host) => {
                Ok(Self::Http { host, port: port.unwrap_or(DEFAULT_HTTP_PORT) })
            }
            ("http", None) => Err(error("http is only for loopback addresses; use https or ssh")),
            ("https" | "http", Some(_)) => {
                Err(error("expected no user; pass the token with `shed server add --token-file`"))
            }
            _ => Err(error(forms)),
        }
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port` into host and port.
fn split_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':').or((!after.is_empty()).then_some("x")))
        }
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
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
    /// Value of the Host header.
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
    fn addresses_are_parsed_and_printed() {
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
    fn invalid_addresses_are_refused() {
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
