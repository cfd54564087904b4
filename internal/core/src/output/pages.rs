//! Reading a worker's log: pages, lines, search, recordings.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use shed_api::worker::{OutputHit, OutputHits, OutputPage};
use shed_model::Rejection;
use shed_output::{MAX_PAGE_BYTES, Reader};
use tokio::sync::watch;

use crate::Error;
use crate::output::logs::Logs;
use crate::server::Server;
use crate::session::view::WorkView;

/// The most lines from the end that can be asked for.
const MAX_LINES: u32 = 100_000;
/// The most bytes of a recording: what a player loads.
const MAX_CAST_BYTES: u64 = 64 << 20;
/// The longest wait for output.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// What to look for in a worker's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSearch {
    /// The text; no pattern.
    pub text: String,
    /// The offset to start at.
    pub from: u64,
    /// The most lines to return.
    pub max_hits: u32,
}

/// At most `max_bytes` from `from` on.
pub(crate) fn page(
    reader: &Reader,
    from: u64,
    max_bytes: Option<u64>,
) -> Result<OutputPage, Error> {
    let max = max_bytes.and_then(|max| usize::try_from(max).ok()).unwrap_or(MAX_PAGE_BYTES);
    to_page(reader, reader.range(from, max.clamp(1, MAX_PAGE_BYTES))?)
}

/// The last `n_lines` lines, as far as they fit a page.
pub(crate) fn tail(reader: &Reader, n_lines: u32) -> Result<OutputPage, Error> {
    let n = usize::try_from(n_lines.min(MAX_LINES)).unwrap_or(usize::MAX);
    let page_bytes = u64::try_from(MAX_PAGE_BYTES).unwrap_or(u64::MAX);
    // If the lines are more than a page, the newest of them.
    let from = reader.tail_lines(n)?.max(reader.status()?.end.saturating_sub(page_bytes));
    to_page(reader, reader.range(from, MAX_PAGE_BYTES)?)
}

/// The lines that contain a text, without control sequences.
pub(crate) fn search(reader: &Reader, search: &OutputSearch) -> Result<OutputHits, Error> {
    let max = usize::try_from(search.max_hits).unwrap_or(usize::MAX);
    let found = reader.search(&search.text, search.from, max.clamp(1, shed_output::MAX_HITS))?;
    let hits = found.hits.into_iter();
    let hits = hits.map(|hit| OutputHit { offset: hit.offset, line: hit.line }).collect();
    Ok(OutputHits { hits, next: found.next })
}

/// A recording in the format asciicast v2, from one offset to another.
pub(crate) fn cast(reader: &Reader, from: Option<u64>, to: Option<u64>) -> Result<Vec<u8>, Error> {
    let status = reader.status()?;
    let from = from.unwrap_or(status.start).max(status.start);
    let to = to.unwrap_or(status.end).min(status.end).max(from);
    if to - from > MAX_CAST_BYTES {
        let text =
            format!("the recording is larger than {} MiB; give from and to", MAX_CAST_BYTES >> 20);
        return Err(Error::Rejected(Rejection::TooLarge(text)));
    }
    let mut out = Vec::new();
    reader.cast(from..to, &mut out)?;
    Ok(out)
}

/// Waits until a worker has printed something after `from` or its command does not run, for at most `limit`.
pub(crate) async fn wait(
    (server, logs): (&Server, &Logs),
    mut view: watch::Receiver<Arc<WorkView>>,
    (session, worker): (&str, &str),
    from: u64,
    limit: Duration,
) {
    let mut mark = logs.mark(worker);
    let more = async {
        loop {
            let end = mark.borrow_and_update().end.max(logs.end(worker));
            let runs = view.borrow_and_update().runs(session, worker);
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
        // The door answers what it has, so that nobody delays the stop of the server.
        () = server.door_stop.cancelled() => {}
    }
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
