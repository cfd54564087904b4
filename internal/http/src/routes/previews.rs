//! Previews of workers.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::Deserialize;
use shed_api::worker::Preview;
use shed_api::{Problem, SessionRef, ShedName};
use shed_core::Shown;
use utoipa::IntoParams;

use crate::extract::{Answer, Door, Params, Who};

/// Which workers, and how much of each.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PreviewParams {
    /// Of this shed; of all when absent.
    shed: Option<String>,
    /// Of this session, also workers that have ended. Needs `shed`.
    session: Option<String>,
    /// So many rows of each; 12 when absent.
    rows: Option<u16>,
}

/// What the last rows of workers look like, as an event stream: each first whole, then the rows that changed, at most five
/// times a second.
#[utoipa::path(get, path = "/api/previews", tag = "previews", params(PreviewParams),
    responses((status = 200, body = Preview, content_type = "text/event-stream"), (status = 404, body = Problem)))]
pub(crate) async fn previews(
    Door(state): Door,
    Who(person): Who,
    Params(params): Params<PreviewParams>,
) -> Answer<Response> {
    let shed = params.shed.map(|shed| shed.parse::<ShedName>()).transpose()?;
    let session = params.session.map(|session| session.parse::<SessionRef>()).transpose()?;
    let previews = state.app.previews(&person, Shown { shed, session, rows: params.rows })?;
    let items = previews.map(|preview| {
        let data = serde_json::to_string(&preview).unwrap_or_default();
        Ok::<_, Infallible>(Event::default().data(data))
    });
    let heartbeat = KeepAlive::new().interval(state.options.timing.heartbeat).text("heartbeat");
    Ok(Sse::new(items).keep_alive(heartbeat).into_response())
}
