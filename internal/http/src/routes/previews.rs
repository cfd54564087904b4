//! Previews of workers.

use axum::response::Response;
use futures_util::StreamExt as _;
use serde::Deserialize;
use shed_api::worker::Preview;
use shed_api::{SessionRef, ShedName};
use shed_core::Shown;
use utoipa::IntoParams;

use crate::event_stream;
use crate::extract::{Answer, Door, Params, Who};

/// Selects workers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PreviewParams {
    /// Only workers of the shed with this name; of all sheds when absent.
    #[param(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
    shed: Option<String>,
    /// Only workers of the session with this name or id, including those that have ended. Needs `shed`.
    #[param(pattern = "^([A-Za-z0-9][A-Za-z0-9_-]{0,62}|[$][0-9]{1,9})$")]
    session: Option<String>,
    /// Number of rows of each preview; 12 when absent.
    rows: Option<u16>,
}

/// Returns the last rows of workers' screens as an event stream. First each preview is sent as a whole, then the rows that
/// changed, at most five times a second.
#[utoipa::path(get, path = "/api/previews", tag = "workers", operation_id = "workers_previews", params(PreviewParams),
    responses((status = 200, body = Preview, content_type = "text/event-stream")))]
pub(crate) async fn previews(
    Door(state): Door,
    Who(person): Who,
    Params(params): Params<PreviewParams>,
) -> Answer<Response> {
    let shed = params.shed.map(|shed| shed.parse::<ShedName>()).transpose()?;
    let session = params.session.map(|session| session.parse::<SessionRef>()).transpose()?;
    let previews =
        state.app.previews().watch(&person, Shown { shed, session, rows: params.rows })?;
    let items = previews.map(|preview| event_stream::item(&preview));
    Ok(event_stream::respond(&state, items))
}
