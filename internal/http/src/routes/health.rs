//! The server: health, information, metrics and events.

use axum::Json;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use shed_api::server::{Health, HostKey, Info};
use shed_api::{Code, Event, ShedName};
use shed_core::{App, Person};
use utoipa::{IntoParams, ToSchema};

use crate::event_stream;
use crate::extract::{Answer, Door, Params, Refused, Who};

/// Reports that the server process runs. Needs no token.
#[utoipa::path(get, path = "/api/health/live", tag = "server", security(()), responses((status = 200, body = str)))]
pub(crate) async fn live() -> &'static str {
    "live\n"
}

/// Reports whether the server is fully operational; 503 if it is not.
#[utoipa::path(get, path = "/api/health/ready", tag = "server",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn ready(Door(state): Door, _: Who) -> (StatusCode, Json<Health>) {
    let health = state.app.server().health();
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

/// Returns the server's name, version and ports, and the caller's scope.
#[utoipa::path(get, path = "/api/info", tag = "server", responses((status = 200, body = Info)))]
pub(crate) async fn info(Door(state): Door, Who(person): Who) -> Json<Info> {
    Json(state.app.server().info(&person, state.options.ssh_port, state.options.http_port))
}

/// Returns metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, body = str, content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(Door(state): Door, Who(person): Who) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], state.metrics.text(&state.app, &person))
}

/// Returns the SSH server's public host key; 404 if the server has no SSH listener.
#[utoipa::path(get, path = "/api/ssh-host-key", tag = "server",
    responses((status = 200, body = HostKey)))]
pub(crate) async fn ssh_host_key(Door(state): Door, _: Who) -> Answer<Json<HostKey>> {
    let none = || Refused::new(Code::NotFound, "this server has no SSH listener");
    state.options.host_key.clone().map(Json).ok_or_else(none)
}

/// Selects events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParams {
    /// Only events after this id; from the beginning of the log when absent.
    after: Option<i64>,
    /// Only events of the shed with this name.
    #[param(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
    shed: Option<String>,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    /// The events, oldest first, at most 1,000.
    events: Vec<Event>,
}

/// Returns events as an event stream, or one page of them.
///
/// With `Accept: application/json` the answer is one page of past events. The stream begins with the past events after `after` (or `Last-Event-ID`) and continues with new ones. The `id` of an item
/// is the event's id; `data` is the event as JSON.
#[utoipa::path(get, path = "/api/events", tag = "server",
    params(EventParams, ("last-event-id" = Option<String>, Header,
        description = "Id of the last event seen; takes precedence over `after`. Other text than a number is ignored.")),
    responses((status = 200, content((EventList = "application/json"), (Event = "text/event-stream")))))]
pub(crate) async fn events(
    Door(state): Door,
    Who(person): Who,
    headers: HeaderMap,
    Params(params): Params<EventParams>,
) -> Answer<Response> {
    let shed = params.shed.as_deref().map(str::parse::<ShedName>).transpose()?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let last_seen = text("last-event-id").and_then(|id| id.trim().parse().ok());
    let after = last_seen.or(params.after).unwrap_or(0);
    let first = state.app.events().list(&person, after, shed.as_ref()).await?;
    if text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("application/json")) {
        return Ok(Json(EventList { events: first }).into_response());
    }
    let stream = follow(state.app.clone(), person, shed, after, first);
    Ok(event_stream::respond(&state, stream))
}

/// Reads rows page by page; the bell only signals that there are more. Ends with the server.
fn follow(
    app: App,
    person: Person,
    shed: Option<ShedName>,
    after: i64,
    first: Vec<Event>,
) -> impl futures_util::Stream<Item = axum::response::sse::Event> {
    struct Reader {
        app: App,
        person: Person,
        shed: Option<ShedName>,
        after: i64,
        page: std::collections::VecDeque<Event>,
        bell: tokio::sync::watch::Receiver<i64>,
    }
    let bell = app.events().bell();
    let reader = Reader { app, person, shed, after, page: first.into(), bell };
    futures_util::stream::unfold(reader, async |mut reader| {
        let stop = reader.app.stopping();
        loop {
            if let Some(event) = reader.page.pop_front() {
                reader.after = event.id;
                let data = serde_json::to_string(&event).unwrap_or_default();
                let item = axum::response::sse::Event::default()
                    .id(event.id.to_string())
                    .event(event.kind.as_str())
                    .data(data);
                return Some((item, reader));
            }
            // Marked as seen before the rows are read, so that rows written meanwhile ring again.
            reader.bell.borrow_and_update();
            let page = reader
                .app
                .events()
                .list(&reader.person, reader.after, reader.shed.as_ref())
                .await
                .ok()?;
            reader.page = page.into();
            if reader.page.is_empty() {
                tokio::select! {
                    rung = reader.bell.changed() => rung.ok()?,
                    () = stop.cancelled() => return None,
                }
            }
        }
    })
}
