//! What happens to containers, as Docker tells it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt as _};
use shed_engine::{Change, Changes};
use tokio::sync::mpsc;

use crate::engine::Inner;
use crate::labels::Labels;
use crate::words::Trouble;

/// What makes a box another one than it was.
const ACTIONS: [&str; 7] = ["start", "die", "oom", "pause", "unpause", "destroy", "restart"];
/// Changes nobody has read yet. Docker waits beyond that, with some of its own in store.
const UNREAD: usize = 256;
/// Docker tells again what happened from so long ago on: what happens before it hears that we listen is not lost. A change
/// that is told twice does no harm.
const OVERLAP: Duration = Duration::from_secs(2);

impl Inner {
    /// What happens from now on. Read on a task of its own, which ends with the stream or with its reader.
    pub(crate) async fn changes(self: Arc<Self>) -> Result<Changes, Trouble> {
        let live = self.client.live().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut filters = self.labels.filter(&[]);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), ACTIONS.map(str::to_owned).to_vec());
        let options = EventsOptions {
            since: Some(now.saturating_sub(OVERLAP).as_secs().to_string()),
            until: None,
            filters: Some(filters),
        };
        let (tell, mut told) = mpsc::channel(UNREAD);
        tokio::spawn(async move {
            self.pass_on(live.docker.events(Some(options)), tell).await;
            // The engine that comes back may be another one.
            self.client.forget();
        });
        Ok(Box::pin(poll_fn(move |context| told.poll_recv(context))))
    }

    async fn pass_on(
        &self,
        events: impl Stream<Item = Result<EventMessage, bollard::errors::Error>>,
        tell: mpsc::Sender<Change>,
    ) {
        let mut events = std::pin::pin!(events);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = tell.closed() => return,
            };
            match event {
                Some(Ok(event)) => {
                    if let Some(change) = change(event, &self.labels)
                        && tell.send(change).await.is_err()
                    {
                        return;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "Docker's events ended");
                    return;
                }
                None => return,
            }
        }
    }
}

fn change(event: EventMessage, labels: &Labels) -> Option<Change> {
    // A container's labels are among the attributes.
    let attributes: HashMap<String, String> = event.actor?.attributes?;
    Some(Change { shed: labels.owner(&attributes)? })
}
