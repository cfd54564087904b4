//! Previews of workers: one model of a terminal for each worker that is observed, drawn from its log at most five times a
//! second, and dropped shortly after its last observer has left. Without observers nothing runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shed_api::ShedName;
use shed_api::worker::PreviewLine;
use shed_output::{MAX_PAGE_BYTES, Redrawn, Size, redraw};
use tokio::sync::{Notify, watch};

use crate::Error;
use crate::output::collector::blocking;
use crate::output::cursor::USUAL;
use crate::output::logs::Logs;
use crate::server::Server;

/// The pause between two drawings of a worker: nobody follows more than five a second.
const PERIOD: Duration = Duration::from_millis(200);
/// How long a model outlives its last observer: a list that is scrolled comes back to it.
const LINGER: Duration = Duration::from_secs(10);
/// How many bytes of new output are drawn at once. Of more, the last ones.
const REDRAW_BYTES: u64 = 256 << 10;
/// The most models: each takes some hundred kilobytes.
const MAX_MODELS: usize = 512;

/// The models of a server. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Previews {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    models: Mutex<HashMap<String, Handle>>,
    /// Counts the changes of all models.
    bell: watch::Sender<u64>,
}

#[derive(Debug, Clone)]
struct Handle {
    shots: watch::Sender<Arc<Shot>>,
    /// Notified when an observer arrives.
    look: Arc<Notify>,
}

/// A terminal's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shot {
    /// `None` before the first drawing.
    pub(crate) size: Option<Size>,
    /// From top to bottom.
    pub(crate) rows: Vec<String>,
}

impl Previews {
    /// Observes a worker; `None` if there are too many models already.
    pub(crate) fn watch(
        &self,
        server: &Arc<Server>,
        logs: &Logs,
        shed: &ShedName,
        worker: &str,
    ) -> Option<watch::Receiver<Arc<Shot>>> {
        let mut models = self.models();
        if let Some(handle) = models.get(worker) {
            let shots = handle.shots.subscribe();
            handle.look.notify_one();
            return Some(shots);
        }
        if models.len() >= MAX_MODELS {
            return None;
        }
        let handle = Handle { shots: watch::Sender::default(), look: Arc::default() };
        let shots = handle.shots.subscribe();
        models.insert(worker.to_owned(), handle.clone());
        let model = Model {
            previews: self.clone(),
            server: Arc::clone(server),
            logs: logs.clone(),
            shed: shed.clone(),
            worker: worker.to_owned(),
            handle,
        };
        server.tasks.spawn(model.run());
        Some(shots)
    }

    /// Changes whenever a model has drawn something new.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.inner.bell.subscribe()
    }

    /// The number of models.
    pub(crate) fn n_models(&self) -> usize {
        self.models().len()
    }

    fn models(&self) -> std::sync::MutexGuard<'_, HashMap<String, Handle>> {
        self.inner.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a model without observers; false if it has any.
    fn close(&self, worker: &str, handle: &Handle) -> bool {
        let mut models = self.models();
        let is_unseen = handle.shots.receiver_count() == 0;
        if is_unseen {
            models.remove(worker);
        }
        is_unseen
    }
}

/// The task of a model. Ends shortly after the last observer has left, or with the server.
struct Model {
    previews: Previews,
    server: Arc<Server>,
    logs: Logs,
    shed: ShedName,
    worker: String,
    handle: Handle,
}

impl Model {
    async fn run(self) {
        let stop = self.server.stop.clone();
        tokio::select! {
            () = self.follow() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn follow(&self) {
        let mut mark = self.logs.mark(&self.worker);
        let mut drawn = None;
        loop {
            mark.borrow_and_update();
            match self.draw(drawn.take()).await {
                Ok(Some(now)) => {
                    self.show(&now);
                    drawn = Some(now);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(shed = %self.shed, %error, "a worker's preview was not drawn");
                }
            }
            tokio::time::sleep(PERIOD).await;
            if self.idle(&mut mark).await {
                return;
            }
        }
    }

    /// Waits until there is something to draw and an observer; true if no observer came in time.
    async fn idle(&self, mark: &mut watch::Receiver<crate::output::logs::Mark>) -> bool {
        loop {
            tokio::select! {
                changed = mark.changed() => return changed.is_err(),
                () = self.handle.shots.closed() => {}
            }
            tokio::select! {
                // Output since then is drawn at once.
                () = self.handle.look.notified() => {}
                () = tokio::time::sleep(LINGER) => if self.previews.close(&self.worker, &self.handle) {
                    return true;
                },
            }
        }
    }

    async fn draw(&self, drawn: Option<Redrawn>) -> Result<Option<Redrawn>, Error> {
        let (logs, shed) = (self.logs.clone(), self.shed.clone());
        let worker = self.worker.clone();
        blocking(move || match logs.find_reader(shed.as_str(), &worker)? {
            Some(reader) => Ok(Some(draw_on(&reader, drawn)?)),
            None => Ok(None),
        })
        .await
    }

    fn show(&self, drawn: &Redrawn) {
        let shot = Shot { size: Some(drawn.screen.size()), rows: drawn.screen.rows_ansi() };
        let is_new = self.handle.shots.send_if_modified(|known| {
            let is_new = **known != shot;
            if is_new {
                *known = Arc::new(shot);
            }
            is_new
        });
        if is_new {
            self.previews.inner.bell.send_modify(|n| *n += 1);
        }
    }
}

/// Draws the new output, or the last page if there is too much.
fn draw_on(
    reader: &shed_output::Reader,
    drawn: Option<Redrawn>,
) -> Result<Redrawn, shed_output::Error> {
    let status = reader.status()?;
    let near = drawn.filter(|drawn| {
        let since = status.end.checked_sub(drawn.end);
        drawn.epoch == status.epoch && since.is_some_and(|since| since <= REDRAW_BYTES)
    });
    if let Some(mut drawn) = near {
        if let Some(size) = status.size {
            drawn.screen.resize(size.cols, size.rows);
        }
        while drawn.end < status.end {
            let page = reader.range(drawn.end, MAX_PAGE_BYTES)?;
            if page.gap_before > 0 || page.bytes.is_empty() || page.epoch != drawn.epoch {
                return redraw(reader, USUAL, REDRAW_BYTES);
            }
            drawn.screen.feed(&page.bytes);
            drawn.end = page.end;
        }
        return Ok(drawn);
    }
    redraw(reader, USUAL, REDRAW_BYTES)
}

/// What an observer was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    size: Option<Size>,
    rows: BTreeMap<u16, String>,
}

/// The rows to send: of the last `n_rows` up to the last that is not blank, those that differ from what was sent, and a
/// blank for each row that was sent below. The flag says whether they are the whole preview. `None` if nothing changed.
pub(crate) fn changes(
    sent: &mut Sent,
    shot: &Shot,
    n_rows: u16,
) -> Option<(bool, Vec<PreviewLine>)> {
    shot.size?;
    let n_used = shot.rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
    let n_used = u16::try_from(n_used).unwrap_or(u16::MAX);
    let first = n_used.saturating_sub(n_rows);
    let whole = sent.size != shot.size;
    if whole {
        *sent = Sent { size: shot.size, rows: BTreeMap::new() };
    }
    sent.rows.retain(|row, _| *row >= first);
    let mut lines = Vec::new();
    for (row, text) in (0..).zip(&shot.rows).skip(usize::from(first)) {
        let known = sent.rows.get(&row);
        let is_seen = row < n_used || known.is_some();
        if is_seen && known != Some(text) {
            sent.rows.insert(row, text.clone());
            lines.push(PreviewLine { row, text: text.clone() });
        }
    }
    (whole || !lines.is_empty()).then_some((whole, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shot(rows: &[&str]) -> Shot {
        let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
        let n_rows = u16::try_from(rows.len()).unwrap();
        Shot { size: Some(Size { cols: 80, rows: n_rows }), rows }
    }

    fn sent(sent: &mut Sent, rows: &[&str]) -> Option<(bool, Vec<(u16, String)>)> {
        let (whole, lines) = changes(sent, &shot(rows), 2)?;
        Some((whole, lines.into_iter().map(|line| (line.row, line.text)).collect()))
    }

    fn lines(list: &[(u16, &str)]) -> Vec<(u16, String)> {
        list.iter().map(|(row, text)| (*row, (*text).to_owned())).collect()
    }

    #[test]
    fn first_whole_and_then_what_changed() {
        let mut known = Sent::default();
        assert_eq!(changes(&mut known, &Shot::default(), 2), None);
        assert_eq!(sent(&mut known, &["a", "", "", ""]), Some((true, lines(&[(0, "a")]))));
        assert_eq!(sent(&mut known, &["a", "", "", ""]), None);
        let next = sent(&mut known, &["a", "", "c", ""]);
        assert_eq!(next, Some((false, lines(&[(1, ""), (2, "c")]))));
        assert_eq!(sent(&mut known, &["x", "", "c", ""]), None, "above what is shown");
        let cleared = sent(&mut known, &["x", "", "", ""]);
        assert_eq!(cleared, Some((false, lines(&[(0, "x"), (2, "")]))));
        // A resized terminal is sent whole.
        let other = sent(&mut known, &["x", ""]);
        assert_eq!(other, Some((true, lines(&[(0, "x")]))));
    }

    #[test]
    fn a_blank_screen_is_told_once() {
        let mut known = Sent::default();
        assert_eq!(sent(&mut known, &["", ""]), Some((true, Vec::new())));
        assert_eq!(sent(&mut known, &["", ""]), None);
    }
}
