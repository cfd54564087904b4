//! Keys and tokens of a server: through its socket while it runs, else in its database.

use shed_client::{Address, Client};
use shed_core::{Clock, Credentials, Person};

use crate::data_dir::{DataDir, InUse, Lock};
use crate::globals::Globals;

/// How a server's keys and tokens are read and changed.
pub(crate) enum Access {
    /// The server runs: requests go to its socket.
    Running(Client),
    /// The server does not run: changes go to its database. The lock keeps a server from starting meanwhile.
    Stopped(Credentials, Person, #[expect(dead_code, reason = "held, not read")] Lock),
}

impl Access {
    /// Access to the server that the options select.
    pub(crate) fn open(globals: &Globals) -> anyhow::Result<Self> {
        Self::open_data_dir(&globals.read()?.1)
    }

    /// Access to the server of a data directory. Creates the directory if it does not exist.
    pub(crate) fn open_data_dir(data_dir: &DataDir) -> anyhow::Result<Self> {
        data_dir.create()?;
        match data_dir.lock() {
            Ok(lock) => {
                let credentials = Credentials::new(data_dir.open_store(&lock)?, Clock::System);
                let uid = rustix::process::geteuid().as_raw();
                let user = std::env::var("USER").unwrap_or_else(|_| uid.to_string());
                Ok(Self::Stopped(credentials, Person::local(user, uid), lock))
            }
            Err(error) if error.is::<InUse>() => {
                let socket = data_dir.running()?.socket;
                Ok(Self::Running(Client::new(Address::Unix(socket.into()))))
            }
            Err(error) => Err(error),
        }
    }
}
