//! Client of the API: the same calls over a unix socket, over the system's ssh, or over https with a token.
//!
//! A [`Client`] belongs to one server. Each call opens a connection: some microseconds for a unix socket, a channel of a
//! shared connection for ssh, a handshake for https. All transports carry HTTP/1.1 and WebSocket, so errors and exit
//! statuses are the same.

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
pub use calls::Effect;
pub use dial::SshOptions;
pub use events::EventStream;
pub use stream::{Frame, Input, ProcessStream, StreamReader};
pub use tree::{Compared, Patch};
pub use work::{Download, page_bytes};

use shed_api::Problem;

/// A server, and the credentials for it.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) address: Address,
    pub(crate) token: Option<String>,
    pub(crate) ssh: SshOptions,
}

impl Client {
    /// A client of the server at `address`, without a token.
    pub fn new(address: Address) -> Self {
        Self { address, token: None, ssh: SshOptions::default() }
    }

    /// Sets the token for http and https.
    #[must_use]
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// Sets the options for ssh.
    #[must_use]
    pub fn with_ssh(mut self, ssh: SshOptions) -> Self {
        self.ssh = ssh;
        self
    }

    /// The address of the server.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection to the server could be opened.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Address of the server.
        address: String,
        /// Reason, without a full stop.
        why: String,
    },
    /// The server refused the request.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The connection was lost before the answer was complete: the request may have been carried out.
    #[error("connection to {address} lost: {why}")]
    Lost {
        /// Address of the server.
        address: String,
        /// Reason, without a full stop.
        why: String,
    },
    /// The answer is not one of the API.
    #[error("unexpected answer from {address}: {why}")]
    Protocol {
        /// Address of the server.
        address: String,
        /// Reason, without a full stop.
        why: String,
    },
}

impl ClientError {
    /// The exit status of a command that fails with this error.
    pub fn exit_status(&self) -> u8 {
        use shed_api::problem::exit;
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => exit::UNREACHABLE,
            Self::Problem(problem) => problem.code.exit_status(),
            Self::Protocol { .. } => exit::FAILED,
        }
    }

    /// The code of the server's problem; `None` for other errors.
    pub fn code(&self) -> Option<shed_api::Code> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Protocol { .. } => None,
        }
    }
}
