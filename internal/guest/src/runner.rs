//! A worker's runner, asked on its control socket in the container: type, signal, stop, freeze.

use std::time::Duration;

use shed_link::Connected;
use shed_link::control::{Reply, Report, RunnerRequest};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::Error;
use crate::connection::Connection;
use crate::link::Link;

/// How long a runner may take to answer anything but a stop.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a tree may take to go after its grace: KILL is not ignored, but a disk may be slow.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a runner. Requests are answered in order.
#[derive(Debug)]
pub struct Runner {
    connection: Connection,
    bytes: Vec<u8>,
}

impl Runner {
    /// Connects to the runner of one start of a worker.
    pub async fn connect(link: &Link, worker: &str, epoch: u64) -> Result<Self, Error> {
        let path = format!("{}/{worker}/{epoch}/{}", link.spool_dir(), shed_link::control::SOCKET);
        let mut helper = link.start_helper(&["connect", "unix", &path]).await?;
        match timeout(ANSWER_LIMIT, helper.next::<Connected>()).await {
            Ok(Some((Connected::Socket, Some(connection)))) => {
                Ok(Self { connection, bytes: Vec::new() })
            }
            Ok(Some((Connected::Socket | Connected::Refused(_), _)) | None) | Err(_) => {
                Err(Error::Connect("the worker's runner does not answer".to_owned()))
            }
        }
    }

    /// Types bytes, exactly. Waits while the worker does not read.
    pub async fn input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let frames = RunnerRequest::Input(bytes.to_vec()).encode();
        self.connection.write_all(&frames).await.map_err(Error::io("the worker's runner"))
    }

    /// Ends the whole tree; returns when it is gone.
    pub async fn stop(&mut self, grace: Duration) -> Result<(), Error> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        match self.ask(&RunnerRequest::Stop { grace_ms }, grace + KILL_LIMIT).await {
            // The runner ends with its tree, and may be gone before it has said so.
            Err(Error::Connect(_)) => Ok(()),
            answered => answered.map(drop),
        }
    }

    /// Freezes the whole tree.
    pub async fn freeze(&mut self) -> Result<(), Error> {
        self.ask(&RunnerRequest::Freeze, ANSWER_LIMIT).await.map(drop)
    }

    /// Continues a frozen tree.
    pub async fn thaw(&mut self) -> Result<(), Error> {
        self.ask(&RunnerRequest::Thaw, ANSWER_LIMIT).await.map(drop)
    }

    /// Reports the state of the worker.
    pub async fn status(&mut self) -> Result<Report, Error> {
        match self.ask(&RunnerRequest::Status, ANSWER_LIMIT).await? {
            Reply::Status(report) => Ok(report),
            Reply::Done | Reply::Refused(_) => Err(lost()),
        }
    }

    async fn ask(&mut self, request: &RunnerRequest, limit: Duration) -> Result<Reply, Error> {
        let asked = async {
            let frame = request.encode();
            self.connection.write_all(&frame).await.map_err(|_| lost())?;
            loop {
                if let Some((reply, n_bytes)) = Reply::decode(&self.bytes).map_err(|_| lost())? {
                    self.bytes.drain(..n_bytes);
                    return match reply {
                        Reply::Refused(why) => Err(Error::Invalid(shed_api::name::printable(&why))),
                        reply => Ok(reply),
                    };
                }
                if read_more(&mut self.connection, &mut self.bytes).await == 0 {
                    return Err(lost());
                }
            }
        };
        timeout(limit, asked)
            .await
            .map_err(|_| Error::TimedOut("the worker's runner did not answer in time".to_owned()))?
    }
}

async fn read_more(socket: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> usize {
    let mut buffer = [0; 4 << 10];
    let n_read = socket.read(&mut buffer).await.unwrap_or(0);
    bytes.extend(&buffer[..n_read]);
    n_read
}

fn lost() -> Error {
    Error::Connect("the connection to the worker's runner was lost".to_owned())
}
