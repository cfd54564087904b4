//! The server's side of a container: the [`Link`] to its shed-init, and what is asked and carried over it.
//!
//! How the bytes travel is a [`Transport`]. The one in [`unix`] is for containers that share the server's kernel: a unix
//! socket, and file descriptors that are passed over it, so that the server and the process in the container use the same
//! pipe. Everything else here, and everything above it, names no descriptor: a process is a [`Stream`], a connection is a
//! [`Connection`].
//!
//! What comes from a container is untrusted: it is bounded, checked, and made printable before it is shown.

mod backoff;
pub mod collector;
mod connection;
mod error;
pub mod git;
mod link;
mod output;
mod pace;
mod runner;
mod session_command;
mod stream;
mod terminal;
pub mod tmux;
mod transport;
pub mod unix;

pub use backoff::Backoff;
pub use connection::{Connection, Duplex};
pub use error::Error;
pub use link::{Link, LinkEvent, listen};
pub use output::{Chunk, Chunks, Main};
pub use runner::Runner;
pub use session_command::SessionCommand;
pub use stream::{Control, ExitWait, Input, Output, ReadStream, Stream, WriteStream};
pub use terminal::{ControlCharacter, Terminal, TerminalMode, WindowSize};
pub use transport::{
    Caller, Ends, Helper, HelperMessages, Listener, Near, Opened, Outgoing, Pending, Pipes,
    RawMessage, Receiver, Sender, Streams, TerminalEnds, Transport, Wire,
};
