//! What workers printed: pages, search, recordings. Read from the logs; no shed is asked.

use std::sync::Arc;
use std::time::Duration;

use shed_api::worker::{OutputHits, OutputPage};
use shed_api::{SessionRef, ShedName};
use shed_output::Reader;

use crate::access::Caller;
use crate::output::collector::blocking;
use crate::output::logs::Logs;
use crate::output::pages::{self, OutputSearch};
use crate::server::Server;
use crate::session::requests::worker_of;
use crate::shed::registry::Registry;
use crate::{Error, Person};

/// The first words of a refusal.
const ACTION: &str = "to see what a worker printed";

/// The output of all workers.
#[derive(Clone)]
pub struct WorkerOutput {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    pub(crate) logs: Logs,
}

impl WorkerOutput {
    /// At most `max_bytes` from offset `from` on; a page at most.
    pub async fn page(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        from: u64,
        max_bytes: Option<u64>,
    ) -> Result<OutputPage, Error> {
        let read = move |reader: &Reader| pages::page(reader, from, max_bytes);
        self.read(person, name, session, worker, read).await
    }

    /// Waits until a worker has printed something after `from` or its command does not run, for at most `limit` and 20
    /// seconds. Ask for a page then.
    pub async fn wait(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        from: u64,
        limit: Duration,
    ) -> Result<(), Error> {
        let caller = Caller::read(person, name, ACTION);
        let (handle, known) = self.registry.managed(&caller, session)?;
        let ids = (&*known.row.id, &*worker_of(&known, worker)?.id);
        pages::wait((&self.server, &self.logs), handle.work.view, ids, from, limit).await;
        Ok(())
    }

    /// The last `n_lines` lines, as far as they fit a page.
    pub async fn tail(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        n_lines: u32,
    ) -> Result<OutputPage, Error> {
        let read = move |reader: &Reader| pages::tail(reader, n_lines);
        self.read(person, name, session, worker, read).await
    }

    /// The lines that contain a text, without control sequences.
    pub async fn search(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        search: OutputSearch,
    ) -> Result<OutputHits, Error> {
        let read = move |reader: &Reader| pages::search(reader, &search);
        self.read(person, name, session, worker, read).await
    }

    /// A recording in the format asciicast v2, from one offset to another.
    pub async fn cast(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<Vec<u8>, Error> {
        let read = move |reader: &Reader| pages::cast(reader, from, to);
        self.read(person, name, session, worker, read).await
    }

    async fn read<T: Send + 'static>(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        read: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let caller = Caller::read(person, name, ACTION);
        let (_, known) = self.registry.managed(&caller, session)?;
        let id = worker_of(&known, worker)?.id.clone();
        let (logs, shed) = (self.logs.clone(), name.clone());
        blocking(move || read(&logs.reader(shed.as_str(), &id)?)).await
    }
}
