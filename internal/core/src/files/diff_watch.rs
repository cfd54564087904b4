//! The diff numbers of a session, kept up to date while they are observed: a watcher in the shed reports changed files and
//! commits, and only then git counts. One watcher serves all observers; without observers there is none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shed_api::git::DiffNumbers;
use shed_link::git::TreeNews;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Error;
use crate::files::diff::numbers;
use crate::server::Server;
use shed_guest::{Backoff, Chunk, Chunks, Link, Main, Stream};
use shed_model::session::Managed;

/// The shortest time between two counts: files that change all the time are counted twice a second.
const PERIOD: Duration = Duration::from_millis(500);
/// How often a tree with more directories than can be watched is counted.
const PARTIAL_PERIOD: Duration = Duration::from_secs(5);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest line of the watcher's output in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;

type Numbered = watch::Sender<Option<DiffNumbers>>;

/// The observed sessions. Clones are the same. The lock is held for single look-ups.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiffWatches {
    watched: Arc<Mutex<HashMap<String, Numbered>>>,
}

impl DiffWatches {
    /// The numbers of a session, `None` until the first count. Counting ends when the last receiver is dropped.
    pub(crate) fn subscribe(
        &self,
        server: &Arc<Server>,
        link: Link,
        known: Arc<Managed>,
    ) -> watch::Receiver<Option<DiffNumbers>> {
        let id = known.row.id.clone();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&id).filter(|sender| !sender.is_closed()) {
            return sender.subscribe();
        }
        let sender = watch::Sender::new(None);
        let receiver = sender.subscribe();
        watched.insert(id.clone(), sender.clone());
        drop(watched);
        let (task, watches) = (Arc::clone(server), self.clone());
        server.tasks.spawn(async move {
            let gone = link.gone();
            tokio::select! {
                () = watch(&task, &link, &known, &sender) => {}
                () = sender.closed() => {}
                () = gone.cancelled() => {}
                () = task.stop.cancelled() => {}
            }
            let mut watched = watches.watched.lock().unwrap_or_else(PoisonError::into_inner);
            // A new observer may have started the next watch, which has its own sender.
            if watched.get(&id).is_some_and(|known| known.same_channel(&sender)) {
                watched.remove(&id);
            }
        });
        receiver
    }
}

/// Counts now and after each change that the shed reports.
async fn watch(server: &Arc<Server>, link: &Link, known: &Arc<Managed>, sender: &Numbered) {
    let mut backoff = Backoff::constant(PAUSE);
    loop {
        if let Err(error) = try_watch(server, link, known, sender).await {
            tracing::debug!(session = %known.row.name, %error, "a session's files are not watched for a moment");
        }
        backoff.pause().await;
    }
}

async fn try_watch(
    server: &Arc<Server>,
    link: &Link,
    known: &Arc<Managed>,
    sender: &Numbered,
) -> Result<(), Error> {
    let stream = link.start_own(&["watch-tree", &known.row.spec.directory]).await?;
    let Stream { input: _input, output, errors, control: _control, exit: _ } = stream;
    let mut lines = Lines::new(Chunks::new(output, errors, Main::Output));
    loop {
        let since = Instant::now();
        // A change during the count is reported again.
        let counted = numbers(server, link, known).await?;
        sender.send_if_modified(|now| {
            let changed = now.as_ref() != Some(&counted);
            *now = Some(counted);
            changed
        });
        let partial = lines.partial;
        tokio::select! {
            told = lines.next() => told?,
            () = tokio::time::sleep(PARTIAL_PERIOD), if partial => {}
        }
        tokio::time::sleep_until(since + PERIOD).await;
        lines.forget_waiting().await?;
    }
}

/// The watcher's output, line by line.
#[derive(Debug)]
struct Lines {
    chunks: Chunks,
    bytes: Vec<u8>,
    partial: bool,
}

impl Lines {
    fn new(chunks: Chunks) -> Self {
        Self { chunks, bytes: Vec::new(), partial: false }
    }

    /// Waits for the next change.
    async fn next(&mut self) -> Result<(), Error> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                // The first line says that the watcher watches now: it has missed what changed since the first count. An
                // unknown line of a newer watcher also means a change.
                if let Ok(news) = serde_json::from_slice::<TreeNews>(&line) {
                    self.partial = news.partial;
                }
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// Drops reports that arrived during the last count: the next one covers them.
    async fn forget_waiting(&mut self) -> Result<(), Error> {
        while self.chunks.is_ready() {
            self.read().await?;
        }
        let end = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.bytes.drain(..end);
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Error> {
        let chunk = self.chunks.next().await;
        let ended = || Error::Connect("the watcher in the shed ended".to_owned());
        if self.bytes.len() > MAX_LINE_BYTES {
            return Err(ended());
        }
        // What the watcher prints on standard error is dropped.
        if let Chunk::Output(bytes) = chunk.ok_or_else(ended)? {
            self.bytes.extend(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use shed_guest::{Output, ReadStream};
    use tokio::io::{AsyncRead, ReadBuf};

    use super::*;

    /// What a watcher printed before it ended.
    struct Printed(Cursor<&'static [u8]>);

    impl AsyncRead for Printed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl ReadStream for Printed {
        fn ready_bytes(&self) -> usize {
            0
        }
    }

    #[tokio::test]
    async fn a_change_before_the_watcher_watches_is_counted() {
        let printed = br#"{"news":"watching","n_watches":3,"partial":true}
{"news":"changed","n_watches":3,"partial":false}
{"weather":"of a newer version"}
"#;
        let output = Output::other(Box::new(Printed(Cursor::new(printed))));
        let mut lines = Lines::new(Chunks::new(output, None, Main::Output));
        lines.next().await.unwrap();
        assert!(lines.partial);
        lines.next().await.unwrap();
        assert!(!lines.partial);
        lines.next().await.unwrap();
        assert!(lines.next().await.is_err(), "the watcher ended");
    }
}
