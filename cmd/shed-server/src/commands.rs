//! The commands beside `serve` and `doctor`, one file each, and what they share.

pub(crate) mod adopt;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod keys;
pub(crate) mod man;
pub(crate) mod tokens;

use std::io::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shed_client::{Address, Client};
use shed_core::{Clock, Credentials, Person};
use shed_store::Store;

use crate::cli::Options;
use crate::place::{InUse, Lock, Place};

/// Who is asked about keys and tokens: the running server, or its store while no server runs.
pub(crate) enum Access {
    /// The server's socket.
    Running(Client),
    /// The store, and the lock that keeps a server from starting meanwhile.
    Stopped(Credentials, Person, #[expect(dead_code, reason = "held, not read")] Lock),
}

impl Access {
    /// Finds out which.
    pub(crate) fn open(options: &Options) -> anyhow::Result<Self> {
        Self::open_place(&options.read()?.1)
    }

    /// The same for a data directory.
    pub(crate) fn open_place(place: &Place) -> anyhow::Result<Self> {
        place.make()?;
        match place.lock() {
            Ok(lock) => {
                let credentials = Credentials::new(Store::open(place.dir())?, Clock::System);
                let uid = rustix::process::geteuid().as_raw();
                let user = std::env::var("USER").unwrap_or_else(|_| uid.to_string());
                Ok(Self::Stopped(credentials, Person::local(user, uid), lock))
            }
            Err(error) if error.is::<InUse>() => {
                let socket = place.running()?.socket;
                Ok(Self::Running(Client::new(Address::Unix(socket.into()))))
            }
            Err(error) => Err(error),
        }
    }
}

/// Prints data: JSON if that was asked for, else what `text` makes of it.
pub(crate) fn print<T: Serialize>(
    options: &Options,
    data: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let text = if options.json { serde_json::to_string_pretty(data)? + "\n" } else { text() };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Says something to whoever sits there.
pub(crate) fn say(text: &str) {
    // Nobody listens when this fails.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// A day and a minute, or `-`.
pub(crate) fn day(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string())
}

/// The sheds a credential is confined to.
pub(crate) fn confined(sheds: &[String]) -> String {
    if sheds.is_empty() { "all".to_owned() } else { sheds.join(",") }
}
