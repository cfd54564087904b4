//! Responses that are event streams (server-sent events).

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;

use crate::State;

/// An item with `value` as JSON.
pub(crate) fn item(value: &impl Serialize) -> Event {
    Event::default().data(serde_json::to_string(value).unwrap_or_default())
}

/// An item with text that is JSON already.
pub(crate) fn json_item(json: &str) -> Event {
    Event::default().data(json)
}

/// A response with these items, and heartbeats while there are none.
pub(crate) fn respond(
    state: &State,
    items: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    let heartbeat = KeepAlive::new().interval(state.options.timing.heartbeat).text("heartbeat");
    Sse::new(items.map(Ok::<_, Infallible>)).keep_alive(heartbeat).into_response()
}
