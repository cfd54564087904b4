//! Server-sent events: the event log, progress of a creation, and the live lists.

use std::marker::PhantomData;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::ACCEPT;
use serde::de::DeserializeOwned;
use shed_api::Event;
use shed_api::session::SessionList;
use shed_api::shed::Progress;
use tokio::time::{Instant, timeout_at};

use crate::request::{SILENCE, segment};
use crate::{Client, ClientError};

/// Longest item; the largest real one is a list of many sessions.
const MAX_ITEM_BYTES: usize = 16 << 20;

/// A stream of items of one type.
#[derive(Debug)]
pub struct EventStream<T> {
    client: Client,
    body: Incoming,
    bytes: Vec<u8>,
    /// When the server last sent an item or a heartbeat.
    last_heard: Instant,
    kind: PhantomData<T>,
}

impl Client {
    /// `GET /api/events`: events with ids above `after`, and new ones; of one shed or of all.
    pub async fn events(
        &self,
        after: i64,
        shed: Option<&str>,
    ) -> Result<EventStream<Event>, ClientError> {
        let shed = shed.map(|shed| format!("&shed={}", segment(shed))).unwrap_or_default();
        self.event_stream(&format!("/api/events?after={after}{shed}")).await
    }

    /// `GET /api/sheds/{n}/progress`.
    pub async fn progress(&self, shed: &str) -> Result<EventStream<Progress>, ClientError> {
        self.event_stream(&format!("/api/sheds/{}/progress", segment(shed))).await
    }

    /// `GET /api/sessions/watch`.
    pub async fn watch_sessions(&self) -> Result<EventStream<SessionList>, ClientError> {
        self.event_stream("/api/sessions/watch").await
    }

    pub(crate) async fn event_stream<T>(&self, path: &str) -> Result<EventStream<T>, ClientError> {
        let answer = self.ask_for_stream(path).await?;
        Ok(EventStream {
            client: self.clone(),
            body: answer,
            bytes: Vec::new(),
            last_heard: Instant::now(),
            kind: PhantomData,
        })
    }

    async fn ask_for_stream(&self, path: &str) -> Result<Incoming, ClientError> {
        let answer =
            self.ask_with(Method::GET, path, None, &[(ACCEPT, "text/event-stream")]).await?;
        Ok(answer.into_body())
    }
}

impl<T: DeserializeOwned> EventStream<T> {
    /// The next item; `None` when the server closed the stream regularly. Fails after 50 seconds without a heartbeat. Cancel
    /// safe.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(data) = self.take_item() {
                let item =
                    serde_json::from_str(&data).map_err(|error| self.client.protocol(error))?;
                return Ok(Some(item));
            }
            if self.bytes.len() > MAX_ITEM_BYTES {
                return Err(self.client.protocol("item too long"));
            }
            let frame = timeout_at(self.last_heard + SILENCE, self.body.frame()).await;
            self.last_heard = Instant::now();
            let Ok(frame) = frame else {
                return Err(self.client.silent());
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.lost(&error)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.bytes.extend(data);
                    }
                }
            }
        }
    }

    /// Removes the next complete item from the buffer and returns its data. Heartbeats have no data and are skipped.
    fn take_item(&mut self) -> Option<String> {
        loop {
            let end = self.bytes.windows(2).position(|two| two == b"\n\n")?;
            let item: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&item);
            let lines: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            if !lines.is_empty() {
                return Some(lines.join("\n"));
            }
        }
    }
}
