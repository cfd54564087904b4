//! Routes of sheds.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use shed_api::shed::{
    CreateShed, DiskUseList, PatchShed, Progress, RebuildShed, Shed, ShedList, Stats, StatsList,
};
use shed_core::{Answer as Wished, Removal};
use shed_model::shed::life::Request;
use utoipa::IntoParams;

use crate::event_stream;
use crate::extract::{Answer, Body, Door, OfShed, OptionalBody, Params, Who};

/// Header of a response to a request whose goal was met already: `x-shed-already: true`.
const ALREADY: HeaderName = HeaderName::from_static("x-shed-already");
/// Default number of lines of a log.
const LOG_LINES: u32 = 200;

/// Lists the sheds that the caller may access, sorted by name.
#[utoipa::path(get, path = "/api/sheds", tag = "sheds", responses((status = 200, body = ShedList)))]
pub(crate) async fn list(Door(state): Door, Who(person): Who) -> Json<ShedList> {
    Json(state.app.sheds().list(&person))
}

/// Options of a creation.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CreateParams {
    /// Answer only when the creation has ended: 201 with the running shed, or the problem that it failed with.
    #[serde(default)]
    wait: bool,
}

/// Starts the creation of a shed. Its progress is at `/api/sheds/{n}/progress`. Closing the connection does not cancel it;
/// `DELETE` does.
#[utoipa::path(post, path = "/api/sheds", tag = "sheds", params(CreateParams), request_body = CreateShed,
    responses((status = 202, body = Shed), (status = 201, body = Shed)))]
pub(crate) async fn create(
    Door(state): Door,
    Who(person): Who,
    Params(params): Params<CreateParams>,
    Body(request): Body<CreateShed>,
) -> Answer<(StatusCode, Json<Shed>)> {
    let name = request.name.parse()?;
    let shed = state.app.sheds().create(&person, request).await?;
    if !params.wait {
        return Ok((StatusCode::ACCEPTED, Json(shed)));
    }
    Ok((StatusCode::CREATED, Json(state.app.sheds().created(&person, &name).await?)))
}

/// Returns one shed.
#[utoipa::path(get, path = "/api/sheds/{n}", tag = "sheds", params(("n" = String, Path)),
    responses((status = 200, body = Shed)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<Shed>> {
    Ok(Json(state.app.sheds().get(&person, &name)?))
}

/// Changes limits and options of a shed, also while it runs.
#[utoipa::path(patch, path = "/api/sheds/{n}", tag = "sheds", params(("n" = String, Path)),
    request_body = PatchShed,
    responses((status = 200, body = Shed)))]
pub(crate) async fn patch(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(request): Body<PatchShed>,
) -> Answer<Json<Shed>> {
    Ok(Json(state.app.sheds().patch(&person, &name, request).await?))
}

/// Options of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteParams {
    /// Keep the volumes; a later shed of the same name reattaches them.
    #[serde(default)]
    keep_volume: bool,
}

/// Deletes a shed, its container and its volumes. Cancels a creation that is in progress; volumes that existed before it
/// are kept.
#[utoipa::path(delete, path = "/api/sheds/{n}", tag = "sheds", params(("n" = String, Path), DeleteParams),
    responses((status = 204)))]
pub(crate) async fn delete(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Params(params): Params<DeleteParams>,
) -> Answer<StatusCode> {
    let removal = if params.keep_volume { Removal::KeepVolumes } else { Removal::Everything };
    state.app.sheds().delete(&person, &name, removal).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    request: Request,
) -> Answer<(HeaderMap, Json<Shed>)> {
    let (answer, shed) = state.app.sheds().request(&person, &name, request).await?;
    let mut headers = HeaderMap::new();
    if answer == Wished::Already {
        headers.insert(ALREADY, HeaderValue::from_static("true"));
    }
    Ok((headers, Json(shed)))
}

macro_rules! changes {
    ($($(#[$doc:meta])* $name:ident = $path:literal, $request:expr;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "sheds", params(("n" = String, Path)),
            responses((status = 200, body = Shed, headers(("x-shed-already" = bool,
                description = "`true` if the shed was in that state already; absent otherwise.")))))]
        pub(crate) async fn $name(door: Door, who: Who, shed: OfShed) -> Answer<(HeaderMap, Json<Shed>)> {
            change(door, who, shed, $request).await
        }
    )*};
}

changes! {
    /// Starts a shed. The response has the header `x-shed-already: true` if it runs already.
    start = "/api/sheds/{n}/start", Request::Start;
    /// Stops a shed: sends HUP and TERM to all its processes, and KILL after ten seconds. Its volumes are kept.
    stop = "/api/sheds/{n}/stop", Request::Stop;
    /// Stops and starts a shed.
    restart = "/api/sheds/{n}/restart", Request::Restart;
    /// Freezes all processes of a shed.
    pause = "/api/sheds/{n}/pause", Request::Pause;
    /// Lets the processes of a paused shed continue.
    unpause = "/api/sheds/{n}/unpause", Request::Unpause;
}

/// Replaces a shed's container by a new one with the same volumes.
#[utoipa::path(post, path = "/api/sheds/{n}/rebuild", tag = "sheds", params(("n" = String, Path)),
    request_body = RebuildShed,
    responses((status = 200, body = Shed)))]
pub(crate) async fn rebuild(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    OptionalBody(request): OptionalBody<RebuildShed>,
) -> Answer<Json<Shed>> {
    Ok(Json(state.app.sheds().rebuild(&person, &name, request).await?))
}

/// Returns the progress of a creation as an event stream of `Progress` objects. It ends with the creation.
#[utoipa::path(get, path = "/api/sheds/{n}/progress", tag = "sheds", params(("n" = String, Path)),
    responses((status = 200, body = Progress, content_type = "text/event-stream")))]
pub(crate) async fn progress(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Response> {
    let reader = state.app.sheds().progress(&person, &name)?;
    let stop = state.app.stopping();
    let stream = futures_util::stream::unfold((reader, stop), async |(mut reader, stop)| {
        let progress = tokio::select! {
            progress = reader.next() => progress?,
            () = stop.cancelled() => return None,
        };
        Some((event_stream::item(&progress), (reader, stop)))
    });
    Ok(event_stream::respond(&state, stream))
}

/// Options of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// Number of lines from the end of the log; 200 when absent, at most 10,000.
    lines: Option<u32>,
}

/// Returns the container's log: the messages of shed-init.
#[utoipa::path(get, path = "/api/sheds/{n}/logs", tag = "sheds", params(("n" = String, Path), LogParams),
    responses((status = 200, body = str)))]
pub(crate) async fn logs(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Params(params): Params<LogParams>,
) -> Answer<String> {
    Ok(state.app.sheds().logs(&person, &name, params.lines.unwrap_or(LOG_LINES)).await?)
}

/// Returns the current resource usage of a running shed.
#[utoipa::path(get, path = "/api/sheds/{n}/stats", tag = "sheds", params(("n" = String, Path)),
    responses((status = 200, body = Stats)))]
pub(crate) async fn stats(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<Stats>> {
    Ok(Json(state.app.sheds().stats(&person, &name).await?))
}

/// Returns the current resource usage of all running sheds.
#[utoipa::path(get, path = "/api/stats", tag = "sheds", responses((status = 200, body = StatsList)))]
pub(crate) async fn all_stats(Door(state): Door, Who(person): Who) -> Answer<Json<StatsList>> {
    Ok(Json(state.app.sheds().all_stats(&person).await?))
}

/// Returns the disk usage of sheds and kept volumes.
#[utoipa::path(get, path = "/api/df", tag = "sheds", responses((status = 200, body = DiskUseList)))]
pub(crate) async fn disk(Door(state): Door, Who(person): Who) -> Answer<Json<DiskUseList>> {
    Ok(Json(state.app.sheds().disk(&person).await?))
}
