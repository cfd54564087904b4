//! Addresses of the server: the ones of the last start, or the first free ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

/// How many ports are tried, from the default one on.
const N_PORTS: u16 = 100;
/// The listeners, with option and default port.
const LISTENERS: [(&str, &str, u16); 2] = [("HTTP", "--http", 8080), ("SSH", "--ssh", 2222)];

/// Arguments of `serve`: `--http ADDR:PORT --ssh ADDR:PORT`. Either option may occur any number of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses(Vec<String>);

/// The addresses of a start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Those of the last start.
    Keep(Addresses),
    /// New ones; the messages name default ports that are in use.
    New(Addresses, Vec<String>),
}

/// No free port was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no free port from {first} to {last} for {listener}; see who listens: ss -ltnp")]
pub(crate) struct NoFreePort {
    listener: &'static str,
    first: u16,
    last: u16,
}

impl Addresses {
    /// Reads the text of an address file. None if it is empty.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
        (!words.is_empty()).then_some(Self(words))
    }

    /// Arguments of `serve`.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.0
    }

    /// Text of an address file.
    pub(crate) fn text(&self) -> String {
        self.0.join(" ") + "\n"
    }

    /// Every word that is an address. What is not, the server refuses with a message.
    fn sockets(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(|word| word.parse().ok())
    }
}

/// Keeps the addresses of the last start while they are free, because clients know them. Else takes the first free port of
/// each listener, from its default on.
pub(crate) fn choose(
    last: Option<Addresses>,
    is_taken: impl Fn(SocketAddr) -> bool,
) -> Result<Choice, NoFreePort> {
    if let Some(last) = last
        && !last.sockets().any(&is_taken)
    {
        return Ok(Choice::Keep(last));
    }
    let (mut words, mut messages) = (Vec::new(), Vec::new());
    for (listener, option, default) in LISTENERS {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let end = default + N_PORTS;
        let port = (default..end).find(|port| !is_taken(at(*port)));
        let port = port.ok_or(NoFreePort { listener, first: default, last: end - 1 })?;
        if port != default {
            messages
                .push(format!("port {default} is in use; {listener} listens at {port} instead"));
        }
        words.extend([option.to_owned(), at(port).to_string()]);
    }
    Ok(Choice::New(Addresses(words), messages))
}

/// Whether somebody listens at an address of this host.
pub(crate) fn is_taken(address: SocketAddr) -> bool {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    // Connecting to this host succeeds or fails at once. Port 0 stands for any free port.
    address.port() != 0 && TcpStream::connect((ip, address.port())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ports: &'static [u16]) -> impl Fn(SocketAddr) -> bool {
        |address| ports.contains(&address.port())
    }

    fn addresses(text: &str) -> Addresses {
        Addresses::parse(text).unwrap()
    }

    #[test]
    fn the_first_start_takes_the_first_free_ports() {
        let usual = addresses("--http 127.0.0.1:8080 --ssh 127.0.0.1:2222");
        assert_eq!(choose(None, taken(&[])), Ok(Choice::New(usual, Vec::new())));
        let moved = addresses("--http 127.0.0.1:8082 --ssh 127.0.0.1:2222");
        let message = "port 8080 is in use; HTTP listens at 8082 instead".to_owned();
        assert_eq!(choose(None, taken(&[8080, 8081])), Ok(Choice::New(moved, vec![message])));
        let none = choose(None, |address| address.port() >= 2222 && address.port() < 2322);
        let error = none.unwrap_err().to_string();
        assert!(error.starts_with("no free port from 2222 to 2321 for SSH"), "{error}");
    }

    #[test]
    fn later_starts_keep_the_addresses_while_they_are_free() {
        let text = "--http 127.0.0.1:9000 --http [::1]:9000\n--ssh 0.0.0.0:22\n";
        let last = addresses(text);
        assert_eq!(last.text(), "--http 127.0.0.1:9000 --http [::1]:9000 --ssh 0.0.0.0:22\n");
        assert_eq!(choose(Some(last.clone()), taken(&[8080])), Ok(Choice::Keep(last.clone())));
        let usual = addresses("--http 127.0.0.1:8080 --ssh 127.0.0.1:2222");
        assert_eq!(choose(Some(last), taken(&[22])), Ok(Choice::New(usual, Vec::new())));
        // The server refuses what is not an address; it is not thrown away here.
        let odd = addresses("--http nowhere");
        assert_eq!(choose(Some(odd.clone()), taken(&[])), Ok(Choice::Keep(odd)));
        assert_eq!(Addresses::parse(" \n"), None);
    }

    #[test]
    fn a_listener_takes_its_port_also_for_the_unspecified_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_taken(SocketAddr::from(([127, 0, 0, 1], port))));
        assert!(is_taken(SocketAddr::from(([0, 0, 0, 0], port))));
        drop(listener);
        assert!(!is_taken(SocketAddr::from(([127, 0, 0, 1], port))));
        assert!(!is_taken(SocketAddr::from(([127, 0, 0, 1], 0))));
    }
}
