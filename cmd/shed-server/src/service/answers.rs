//! Whether a server answers.

use std::path::Path;
use std::time::Duration;

use shed_client::{Address, Client};

/// A server that takes longer does not answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether a server answers on the socket.
pub(crate) async fn answers(socket: &Path) -> bool {
    let client = Client::new(Address::Unix(socket.to_owned()));
    matches!(tokio::time::timeout(LIMIT, client.info()).await, Ok(Ok(_)))
}
