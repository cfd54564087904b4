//! The API's client: the same calls over a unix socket, over the system's own ssh, or over https with a token.
//!
//! A [`Client`] belongs to one server. Each call dials; a pipe costs some microseconds (unix), a channel of a kept
//! connection (ssh) or a handshake (https). What goes over it is HTTP/1.1 and WebSocket, so exit statuses and errors are the
//! same everywhere.

mod address;
mod calls;
mod dial;
mod events;
mod many;
mod request;
mod stream;
mod tree;
mod work;

pub use address::{Address, AddressError, DEFAULT_SSH_PORT, SshAddress};
pub use calls::Wished;
pub use dial::SshOptions;
pub use events::EventStream;
pub use stream::{Frame, Input, ProcessStream, StreamReader};
pub use tree::{Compared, Patch};
pub use work::{Download, page_bytes};

use shed_api::Problem;

/// A server, and how to prove who we are.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) address: Address,
    pub(crate) token: Option<String>,
    pub(crate) ssh: SshOptions,
}

impl Client {
    /// A client of the server at `address`.
    pub fn new(address: Address) -> Self {
        Self { address, token: None, ssh: SshOptions::default() }
    }

    /// The same with a token, for http and https.
    #[must_use]
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// The same with other options for ssh.
    #[must_use]
    pub fn with_ssh(mut self, ssh: SshOptions) -> Self {
        self.ssh = ssh;
        self
    }

    /// Where it goes.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server was not reached.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// In words.
        why: String,
    },
    /// The server said no.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The connection ended in the middle: what was asked may have been done.
    #[error("the connection to {address} ended: {why}")]
    Lost {
        /// Which server's.
        address: String,
        /// In words.
        why: String,
    },
    /// The server answered something else than its API.
    #[error("{address} does not answer as a shed server: {why}")]
    Protocol {
        /// Which server.
        address: String,
        /// In words.
        why: String,
    },
}

impl ClientError {
    /// The exit status of a command that ended with this.
    pub fn exit_status(&self) -> u8 {
        use shed_api::problem::exit;
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => exit::UNREACHABLE,
            Self::Problem(problem) => problem.code.exit_status(),
            Self::Protocol { .. } => exit::FAILED,
        }
    }

    /// The problem's code, if it is one.
    pub fn code(&self) -> Option<shed_api::Code> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Protocol { .. } => None,
        }
    }
}
