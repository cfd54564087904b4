//! Changes of containers, from Docker's event stream.

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
use crate::failure::Failure;
use crate::labels::Labels;

/// Docker's names of the events that change a container's state.
const ACTIONS: [&str; 7] = ["start", "die", "oom", "pause", "unpause", "destroy", "restart"];
/// Capacity for changes nobody has read yet. Beyond it Docker's stream waits, which buffers some events of its own.
const UNREAD: usize = 256;
/// The stream begins with events of this long ago, so that none is lost while the subscription is set up. A change that is
/// reported twice does no harm.
const OVERLAP: Duration = Duration::from_secs(2);

impl Inner {
    /// Subscribes to changes from now on. A task of its own reads them; it ends with the stream or with its reader.
    pub(crate) async fn changes(self: Arc<Self>) -> Result<Changes, Failure> {
        let live = self.client.live().await?;
        // Before the caller starts sheds: after a start of the host the rules are gone.
        self.keep_firewall_once().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut filters = self.labels.filter(&[]);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), ACTIONS.map(str::to_owned).to_vec());
        let options = EventsOptions {
            since: Some(now.saturating_sub(OVERLAP).as_secs().to_string()),
            until: None,
            filters: Some(filters),
        };
        let (probes, engine) = (Arc::clone(&self), Arc::clone(&live));
        tokio::spawn(async move { probes.sweep_probes(&engine).await });
        let (sender, mut changes) = mpsc::channel(UNREAD);
        tokio::spawn(async move {
            tokio::select! {
                () = self.forward_events(live.docker.events(Some(options)), sender) => {}
                () = self.keep_firewall() => {}
            }
            // The engine that comes back may be another version.
            self.client.forget();
        });
        Ok(Box::pin(poll_fn(move |context| changes.poll_recv(context))))
    }

    async fn forward_events(
        &self,
        events: impl Stream<Item = Result<EventMessage, bollard::errors::Error>>,
        sender: mpsc::Sender<Change>,
    ) {
        let mut events = std::pin::pin!(events);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sender.closed() => return,
            };
            match event {
                Some(Ok(event)) => {
                    if let Some(change) = change(event, &self.labels)
                        && sender.send(change).await.is_err()
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
    // The attributes include the container's labels.
    let attributes: HashMap<String, String> = event.actor?.attributes?;
    Some(Change { shed: labels.owner(&attributes)? })
}
