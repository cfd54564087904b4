//! Workers: what runs in a session, and what it printed.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shed_api::worker::{NewWorker, OutputHits, OutputPage, Restart, Worker, WorkerList};
use shed_api::{Code, Problem};
use shed_core::OutputSearch;
use utoipa::IntoParams;

use crate::extract::{Answer, Body, Door, OfSession, OfWorker, OptionalBody, Params, Refused, Who};

/// Hits of a search when nobody says how many.
const DEFAULT_HITS: u32 = 100;
/// The media type of a recording in the form of asciicast v2.
const ASCIICAST: &str = "application/x-asciicast";

/// The workers of a session, in the order they were made.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = WorkerList), (status = 404, body = Problem)))]
pub(crate) async fn list(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<WorkerList>> {
    Ok(Json(state.app.workers(&person, &name, &session)?))
}

/// One more worker. Answers when its command runs or has ended.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/workers", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path)), request_body = NewWorker,
    responses((status = 201, body = Worker), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn add(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Body(request): Body<NewWorker>,
) -> Answer<(StatusCode, Json<Worker>)> {
    let added = state.app.add_worker(&person, &name, &session, request).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// One worker, by name or by id.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path)),
    responses((status = 200, body = Worker), (status = 404, body = Problem)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
) -> Answer<Json<Worker>> {
    Ok(Json(state.app.worker(&person, &name, &session, &worker)?))
}

/// Ends a worker and closes its window.
#[utoipa::path(delete, path = "/api/sheds/{n}/sessions/{s}/workers/{w}", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn remove(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
) -> Answer<StatusCode> {
    state.app.remove_worker(&person, &name, &session, &worker).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts a worker's command again, ending it first if it runs.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/restart", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path)), request_body = Restart,
    responses((status = 200, body = Worker), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
pub(crate) async fn restart(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    OptionalBody(restart): OptionalBody<Restart>,
) -> Answer<Json<Worker>> {
    Ok(Json(state.app.restart_worker(&person, &name, &session, &worker, restart).await?))
}

/// Which part of the output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// The offset of the first byte wanted; the first that is kept by default.
    from: Option<u64>,
    /// At most so many bytes; 256 KiB at most, and by default.
    max: Option<u64>,
    /// The last so many lines instead, as far as they fit a page.
    lines: Option<u32>,
    /// Wait so many seconds for more, 20 at most, when there is nothing after `from` and the command runs.
    wait: Option<u64>,
}

/// A page of what a worker printed: it ends where the page is full, or where a run of the command does.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/output", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), PageParams),
    responses((status = 200, body = OutputPage), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn output(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    Params(params): Params<PageParams>,
) -> Answer<Json<OutputPage>> {
    let app = &state.app;
    let page = match params {
        PageParams { from: None, max: None, lines: Some(lines), wait: None } => {
            app.output_tail(&person, &name, &session, &worker, lines).await?
        }
        PageParams { from, max, lines: None, wait } => {
            let from = from.unwrap_or(0);
            let page = app.output_page(&person, &name, &session, &worker, from, max).await?;
            match wait {
                Some(wait) if page.start == page.end => {
                    let wait = Duration::from_secs(wait);
                    app.await_output(&person, &name, &session, &worker, from, wait).await?;
                    app.output_page(&person, &name, &session, &worker, from, max).await?
                }
                _ => page,
            }
        }
        PageParams { .. } => {
            let text = "lines excludes from, max and wait: it is counted from the end";
            return Err(Refused::new(Code::InvalidRequest, text));
        }
    };
    Ok(Json(page))
}

/// From where to where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CastParams {
    /// The offset of the first byte; the first that is kept by default.
    from: Option<u64>,
    /// The offset after the last byte; the end by default.
    to: Option<u64>,
}

/// What a worker printed as a recording for players: asciicast v2.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/output/cast", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), CastParams),
    responses((status = 200, body = String, content_type = "application/x-asciicast"),
        (status = 404, body = Problem), (status = 413, body = Problem)))]
pub(crate) async fn cast(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    Params(params): Params<CastParams>,
) -> Answer<Response> {
    let CastParams { from, to } = params;
    let cast = state.app.output_cast(&person, &name, &session, &worker, from, to).await?;
    Ok(([(CONTENT_TYPE, ASCIICAST)], cast).into_response())
}

/// What to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParams {
    /// The text, exactly so.
    q: String,
    /// Where to begin: 0, or the `next` of an answer.
    #[serde(default)]
    from: u64,
    /// At most so many hits; 100 by default, 1,000 at most.
    max: Option<u32>,
}

/// Lines of the output in which a text stands, without what steers a terminal.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/search", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), SearchParams),
    responses((status = 200, body = OutputHits), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn search(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    Params(params): Params<SearchParams>,
) -> Answer<Json<OutputHits>> {
    let SearchParams { q: text, from, max } = params;
    let search = OutputSearch { text, from, max_hits: max.unwrap_or(DEFAULT_HITS) };
    Ok(Json(state.app.search_output(&person, &name, &session, &worker, search).await?))
}
