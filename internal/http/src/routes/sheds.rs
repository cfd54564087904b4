//! Sheds.

use std::convert::Infallible;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shed_api::Problem;
use shed_api::shed::{
    CreateShed, DiskUseList, PatchShed, Progress, RebuildShed, Shed, ShedList, Stats, StatsList,
};
use shed_core::{Answer as Wished, Removal};
use shed_model::shed::life::Wish;
use utoipa::IntoParams;

use crate::extract::{Answer, Body, Door, OfShed, OptionalBody, Params, Who};

/// Says that a wish was true before: `x-shed-already: true`.
const ALREADY: HeaderName = HeaderName::from_static("x-shed-already");
/// Lines of a log when nothing else is said.
const LOG_LINES: u32 = 200;

/// Every shed the caller may see, by name.
#[utoipa::path(get, path = "/api/sheds", tag = "sheds", responses((status = 200, body = ShedList)))]
pub(crate) async fn list(Door(state): Door, Who(person): Who) -> Json<ShedList> {
    Json(state.app.sheds(&person))
}

/// How to create.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CreateParams {
    /// Answer only when it is over: 201 with the running shed, or the problem that it failed with.
    #[serde(default)]
    wait: bool,
}

/// Begins to create a shed. Its progress is at `/api/sheds/{n}/progress`; hanging up does not call it off, `DELETE` does.
#[utoipa::path(post, path = "/api/sheds", tag = "sheds", params(CreateParams), request_body = CreateShed,
    responses((status = 202, body = Shed), (status = 201, body = Shed), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn create(
    Door(state): Door,
    Who(person): Who,
    Params(params): Params<CreateParams>,
    Body(request): Body<CreateShed>,
) -> Answer<(StatusCode, Json<Shed>)> {
    let name = request.name.parse()?;
    let shed = state.app.create(&person, request).await?;
    if !params.wait {
        return Ok((StatusCode::ACCEPTED, Json(shed)));
    }
    Ok((StatusCode::CREATED, Json(state.app.created(&person, &name).await?)))
}

/// One shed.
#[utoipa::path(get, path = "/api/sheds/{n}", tag = "sheds", params(("n" = String, Path)),
    responses((status = 200, body = Shed), (status = 404, body = Problem)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<Shed>> {
    Ok(Json(state.app.shed(&person, &name)?))
}

/// Changes limits and options while it runs.
#[utoipa::path(patch, path = "/api/sheds/{n}", tag = "sheds", params(("n" = String, Path)),
    request_body = PatchShed,
    responses((status = 200, body = Shed), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn patch(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(request): Body<PatchShed>,
) -> Answer<Json<Shed>> {
    Ok(Json(state.app.patch(&person, &name, request).await?))
}

/// What to leave.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteParams {
    /// Leave the volumes; a later creation of the same name takes them up.
    #[serde(default)]
    keep_volume: bool,
}

/// Deletes a shed. One that is being created is called off; what was there before it stays.
#[utoipa::path(delete, path = "/api/sheds/{n}", tag = "sheds", params(("n" = String, Path), DeleteParams),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Params(params): Params<DeleteParams>,
) -> Answer<StatusCode> {
    let removal = if params.keep_volume { Removal::KeepVolumes } else { Removal::Everything };
    state.app.delete(&person, &name, removal).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn wish(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    wish: Wish,
) -> Answer<(HeaderMap, Json<Shed>)> {
    let (answer, shed) = state.app.wish(&person, &name, wish).await?;
    let mut headers = HeaderMap::new();
    if answer == Wished::Already {
        headers.insert(ALREADY, HeaderValue::from_static("true"));
    }
    Ok((headers, Json(shed)))
}

macro_rules! wishes {
    ($($(#[$doc:meta])* $name:ident = $path:literal, $wish:expr;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "sheds", params(("n" = String, Path)),
            responses((status = 200, body = Shed), (status = 404, body = Problem),
                (status = 409, body = Problem), (status = 503, body = Problem)))]
        pub(crate) async fn $name(door: Door, who: Who, shed: OfShed) -> Answer<(HeaderMap, Json<Shed>)> {
            wish(door, who, shed, $wish).await
        }
    )*};
}

wishes! {
    /// Starts a shed; 200 with `x-shed-already: true` if it runs.
    start = "/api/sheds/{n}/start", Wish::Start;
    /// Stops a shed: HUP and TERM to everything in it, KILL after ten seconds. Its volumes stay.
    stop = "/api/sheds/{n}/stop", Wish::Stop;
    /// Stops and starts a shed.
    restart = "/api/sheds/{n}/restart", Wish::Restart;
    /// Freezes everything in a shed.
    pause = "/api/sheds/{n}/pause", Wish::Pause;
    /// Thaws a frozen shed.
    unpause = "/api/sheds/{n}/unpause", Wish::Unpause;
}

/// Gives a shed a new container on the same volumes.
#[utoipa::path(post, path = "/api/sheds/{n}/rebuild", tag = "sheds", params(("n" = String, Path)),
    request_body = RebuildShed,
    responses((status = 200, body = Shed), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn rebuild(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    OptionalBody(request): OptionalBody<RebuildShed>,
) -> Answer<Json<Shed>> {
    Ok(Json(state.app.rebuild(&person, &name, request).await?))
}

/// How a creation goes, as an event stream of `Progress` objects. It ends when the creation does.
#[utoipa::path(get, path = "/api/sheds/{n}/progress", tag = "sheds", params(("n" = String, Path)),
    responses((status = 200, body = Progress, content_type = "text/event-stream"), (status = 404, body = Problem)))]
pub(crate) async fn progress(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Response> {
    let reader = state.app.progress(&person, &name)?;
    let stop = state.app.stopping();
    let stream = futures_util::stream::unfold((reader, stop), async |(mut reader, stop)| {
        let news = tokio::select! {
            news = reader.next() => news?,
            () = stop.cancelled() => return None,
        };
        let data = serde_json::to_string(&news).unwrap_or_default();
        let item = axum::response::sse::Event::default().data(data);
        Some((Ok::<_, Infallible>(item), (reader, stop)))
    });
    let heartbeat = KeepAlive::new().interval(state.options.timing.heartbeat).text("heartbeat");
    Ok(Sse::new(stream).keep_alive(heartbeat).into_response())
}

/// How much of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// The last so many lines; 200 by default, at most 10,000.
    lines: Option<u32>,
}

/// What the shed's first process printed: shed-init's own few lines.
#[utoipa::path(get, path = "/api/sheds/{n}/logs", tag = "sheds", params(("n" = String, Path), LogParams),
    responses((status = 200, body = str), (status = 404, body = Problem)))]
pub(crate) async fn logs(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Params(params): Params<LogParams>,
) -> Answer<String> {
    Ok(state.app.logs(&person, &name, params.lines.unwrap_or(LOG_LINES)).await?)
}

/// What a running shed uses now.
#[utoipa::path(get, path = "/api/sheds/{n}/stats", tag = "sheds", params(("n" = String, Path)),
    responses((status = 200, body = Stats), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn stats(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<Stats>> {
    Ok(Json(state.app.stats(&person, &name).await?))
}

/// What all running sheds use now.
#[utoipa::path(get, path = "/api/stats", tag = "sheds", responses((status = 200, body = StatsList)))]
pub(crate) async fn all_stats(Door(state): Door, Who(person): Who) -> Answer<Json<StatsList>> {
    Ok(Json(state.app.all_stats(&person).await?))
}

/// What sheds and kept volumes occupy on disk.
#[utoipa::path(get, path = "/api/df", tag = "sheds", responses((status = 200, body = DiskUseList)))]
pub(crate) async fn disk(Door(state): Door, Who(person): Who) -> Answer<Json<DiskUseList>> {
    Ok(Json(state.app.disk(&person).await?))
}
