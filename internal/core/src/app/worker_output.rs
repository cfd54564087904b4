//! What workers printed: pages, search, recordings. Read from the log; no shed is asked.

use shed_model::Rejection;
use std::time::Duration;

use base64::Engine as _;
use shed_api::worker::{OutputHit, OutputHits, OutputPage};
use shed_api::{Scope, SessionRef, ShedName};
use shed_model::worker::WorkerRow;
use shed_output::{MAX_PAGE_BYTES, Reader};

use super::App;
use crate::output::collector::blocking;
use crate::{Error, Person};
use shed_model::session::Managed;

/// The most lines one reads back at once.
const MAX_LINES: u32 = 100_000;
/// The most bytes of a recording: what a player loads.
const MAX_CAST_BYTES: u64 = 64 << 20;

/// The longest that is waited for output.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// What to look for in a worker's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSearch {
    /// The text, as it is.
    pub text: String,
    /// From this offset on.
    pub from: u64,
    /// So many lines at most.
    pub max_hits: u32,
}

impl App {
    /// At most `max_bytes` from `from` on.
    pub async fn output_page(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        from: u64,
        max_bytes: Option<u64>,
    ) -> Result<OutputPage, Error> {
        let max = max_bytes.and_then(|max| usize::try_from(max).ok()).unwrap_or(MAX_PAGE_BYTES);
        let read = move |reader: &Reader| {
            let page = reader.range(from, max.clamp(1, MAX_PAGE_BYTES))?;
            to_page(reader, page)
        };
        self.read_output(person, name, session, worker, read).await
    }

    /// Waits until a worker has printed something after `from` or its command does not run, at most for `limit`; how it was
    /// is then asked as always.
    pub async fn await_output(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        from: u64,
        limit: Duration,
    ) -> Result<(), Error> {
        let what = "to see what a worker printed";
        let (handle, known) = self.remembered(person, name, session, Scope::Read, what)?;
        let worker = worker_of(&known, worker)?.id.clone();
        let mut view = handle.work.view.clone();
        let mut mark = self.resources.logs.mark(&worker);
        let session = known.row.id.clone();
        let more = async {
            loop {
                let end = mark.borrow_and_update().end.max(self.resources.logs.end(&worker));
                let runs = view.borrow_and_update().runs(&session, &worker);
                if end > from || !runs {
                    return;
                }
                let changed = tokio::select! {
                    changed = mark.changed() => changed,
                    changed = view.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = more => {}
            () = tokio::time::sleep(limit.min(MAX_WAIT)) => {}
            () = self.server.stop.cancelled() => {}
        }
        Ok(())
    }

    /// The last `n_lines` lines, as far as they fit a page.
    pub async fn output_tail(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        n_lines: u32,
    ) -> Result<OutputPage, Error> {
        let n = usize::try_from(n_lines.min(MAX_LINES)).unwrap_or(usize::MAX);
        let read = move |reader: &Reader| {
            let status = reader.status()?;
            let page_bytes = u64::try_from(MAX_PAGE_BYTES).unwrap_or(u64::MAX);
            // The newest of what is asked for, when it is more than a page.
            let from = reader.tail_lines(n)?.max(status.end.saturating_sub(page_bytes));
            to_page(reader, reader.range(from, MAX_PAGE_BYTES)?)
        };
        self.read_output(person, name, session, worker, read).await
    }

    /// Lines in which a text stands, without what steers a terminal.
    pub async fn search_output(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        search: OutputSearch,
    ) -> Result<OutputHits, Error> {
        let OutputSearch { text, from, max_hits } = search;
        let max = usize::try_from(max_hits).unwrap_or(usize::MAX).clamp(1, shed_output::MAX_HITS);
        let read = move |reader: &Reader| {
            let found = reader.search(&text, from, max)?;
            let hits = found.hits.into_iter();
            let hits = hits.map(|hit| OutputHit { offset: hit.offset, line: hit.line }).collect();
            Ok(OutputHits { hits, next: found.next })
        };
        self.read_output(person, name, session, worker, read).await
    }

    /// A recording in the form of asciicast v2, from one offset to another.
    pub async fn output_cast(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<Vec<u8>, Error> {
        let read = move |reader: &Reader| {
            let status = reader.status()?;
            let from = from.unwrap_or(status.start).max(status.start);
            let to = to.unwrap_or(status.end).min(status.end).max(from);
            if to - from > MAX_CAST_BYTES {
                let text = format!(
                    "that is more than {} MiB; say from where to where",
                    MAX_CAST_BYTES >> 20
                );
                return Err(Error::Rejected(Rejection::TooLarge(text)));
            }
            let mut out = Vec::new();
            reader.cast(from..to, &mut out)?;
            Ok(out)
        };
        self.read_output(person, name, session, worker, read).await
    }

    async fn read_output<T: Send + 'static>(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        worker: &str,
        read: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (_, known) =
            self.remembered(person, name, session, Scope::Read, "to see what a worker printed")?;
        let row = worker_of(&known, worker)?;
        let (logs, shed, id) = (self.resources.logs.clone(), name.clone(), row.id.clone());
        blocking(move || read(&logs.reader(shed.as_str(), &id)?)).await
    }
}

fn worker_of<'a>(known: &'a Managed, worker: &str) -> Result<&'a WorkerRow, Error> {
    known.worker(worker).ok_or_else(|| Error::NoWorker {
        session: known.row.name.clone(),
        worker: worker.to_owned(),
    })
}

fn to_page(reader: &Reader, page: shed_output::Page) -> Result<OutputPage, Error> {
    let status = reader.status()?;
    let (text, base64) = match String::from_utf8(page.bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.as_bytes();
            let exact = base64::engine::general_purpose::STANDARD.encode(bytes);
            (String::from_utf8_lossy(bytes).into_owned(), Some(exact))
        }
    };
    Ok(OutputPage {
        start: page.start,
        end: page.end,
        log_end: status.end,
        log_start: status.start,
        epoch: page.epoch.unwrap_or(0),
        gap: page.gap_before,
        text,
        base64,
    })
}
