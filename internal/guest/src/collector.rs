//! The collector of a container: `shed-init collect` follows the spools of all workers and sends what they hold.
//!
//! The collector names the epochs it finds; each one the server requests for is followed from an offset. The server
//! acknowledges what it has stored; until then the container keeps it.

use shed_link::spool::{CollectorRequest, Item};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Error;
use crate::connection::Connection;
use crate::link::Link;

/// What is read at once, in bytes. What the server cannot store waits in the container.
const READ_BYTES: usize = 256 << 10;

/// The stream of one collector.
#[derive(Debug)]
pub struct Collector {
    connection: Connection,
    bytes: Vec<u8>,
}

impl Collector {
    /// Starts a collector in the container.
    pub async fn start(link: &Link) -> Result<Self, Error> {
        let connection = link.start_connected(&["collect", &link.spool_dir()]).await?;
        Ok(Self { connection, bytes: Vec::new() })
    }

    /// Every item that has come completely. Waits for bytes, and may return none of a part. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Vec<Item>, Error> {
        self.bytes.reserve(READ_BYTES);
        let mut limited = (&mut self.connection).take(READ_BYTES as u64);
        let n_read = limited.read_buf(&mut self.bytes).await.map_err(Error::io("collector"))?;
        if n_read == 0 {
            return Err(Error::Connect("the collector in the shed ended".to_owned()));
        }
        let mut items = Vec::new();
        let mut at = 0;
        let invalid = |error: shed_link::spool::SpoolError| Error::Connect(error.to_string());
        while let Some((item, n_bytes)) = Item::decode(&self.bytes[at..]).map_err(invalid)? {
            items.push(item);
            at += n_bytes;
        }
        self.bytes.drain(..at);
        Ok(items)
    }

    /// Sends requests, in order.
    pub async fn send(
        &mut self,
        requests: impl IntoIterator<Item = CollectorRequest>,
    ) -> Result<(), Error> {
        let mut frames = Vec::new();
        for request in requests {
            request.encode(&mut frames);
        }
        if !frames.is_empty() {
            self.connection.write_all(&frames).await.map_err(Error::io("collector"))?;
        }
        Ok(())
    }
}
