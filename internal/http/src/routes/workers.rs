//! Workers and their output.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shed_api::Code;
use shed_api::worker::{NewWorker, OutputHits, OutputPage, Restart, Worker, WorkerList};
use shed_core::OutputSearch;
use utoipa::IntoParams;

use crate::extract::{Answer, Body, Door, OfSession, OfWorker, OptionalBody, Params, Refused, Who};

/// Default number of hits of a search.
const DEFAULT_HITS: u32 = 100;
/// Media type of a recording in the format asciicast v2.
const ASCIICAST: &str = "application/x-asciicast";

/// Lists the workers of a session, in the order they were created.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = WorkerList)))]
pub(crate) async fn list(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<WorkerList>> {
    Ok(Json(state.app.workers().list(&person, &name, &session)?))
}

/// Adds a worker to a session. Answers when its command runs or has ended.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/workers", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path)), request_body = NewWorker,
    responses((status = 201, body = Worker)))]
pub(crate) async fn add(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Body(request): Body<NewWorker>,
) -> Answer<(StatusCode, Json<Worker>)> {
    let added = state.app.workers().add(&person, &name, &session, request).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Returns one worker.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path)),
    responses((status = 200, body = Worker)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
) -> Answer<Json<Worker>> {
    Ok(Json(state.app.workers().get(&person, &name, &session, &worker)?))
}

/// Ends a worker's command, closes its window and removes the worker.
#[utoipa::path(delete, path = "/api/sheds/{n}/sessions/{s}/workers/{w}", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path)),
    responses((status = 204)))]
pub(crate) async fn remove(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
) -> Answer<StatusCode> {
    state.app.workers().remove(&person, &name, &session, &worker).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restarts a worker's command. It is ended first if it runs.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/restart", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path)), request_body = Restart,
    responses((status = 200, body = Worker)))]
pub(crate) async fn restart(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    OptionalBody(restart): OptionalBody<Restart>,
) -> Answer<Json<Worker>> {
    Ok(Json(state.app.workers().restart(&person, &name, &session, &worker, restart).await?))
}

/// Selects a part of the output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// Offset of the first byte; the first stored byte when absent.
    from: Option<u64>,
    /// Largest size of the page in bytes; 256 KiB when absent, which is also the maximum.
    max: Option<u64>,
    /// Number of lines from the end, as far as they fit into a page; excludes the other parameters.
    lines: Option<u32>,
    /// Time in seconds, at most 20, to wait for output if there is none after `from` and the command runs.
    wait: Option<u64>,
}

/// Returns a page of a worker's output. A page ends when it is full, or at the end of a run of the command.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/output", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), PageParams),
    responses((status = 200, body = OutputPage)))]
pub(crate) async fn output(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    Params(params): Params<PageParams>,
) -> Answer<Json<OutputPage>> {
    let app = &state.app;
    let page = match params {
        PageParams { from: None, max: None, lines: Some(lines), wait: None } => {
            app.output().tail(&person, &name, &session, &worker, lines).await?
        }
        PageParams { from, max, lines: None, wait } => {
            let from = from.unwrap_or(0);
            let page = app.output().page(&person, &name, &session, &worker, from, max).await?;
            match wait {
                Some(wait) if page.start == page.end => {
                    let wait = Duration::from_secs(wait);
                    app.output().wait(&person, &name, &session, &worker, from, wait).await?;
                    app.output().page(&person, &name, &session, &worker, from, max).await?
                }
                _ => page,
            }
        }
        PageParams { .. } => {
            let text = "invalid query; expected either lines, or from, max and wait";
            return Err(Refused::new(Code::InvalidRequest, text));
        }
    };
    Ok(Json(page))
}

/// Selects a range of the output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CastParams {
    /// Offset of the first byte; the first stored byte when absent.
    from: Option<u64>,
    /// Offset after the last byte; the end of the output when absent.
    to: Option<u64>,
}

/// Returns a worker's output as a recording in the format asciicast v2.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/output/cast", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), CastParams),
    responses((status = 200, body = String, content_type = "application/x-asciicast")))]
pub(crate) async fn cast(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    Params(params): Params<CastParams>,
) -> Answer<Response> {
    let CastParams { from, to } = params;
    let cast = state.app.output().cast(&person, &name, &session, &worker, from, to).await?;
    Ok(([(CONTENT_TYPE, ASCIICAST)], cast).into_response())
}

/// A search in the output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParams {
    /// Text to search for. Matches are exact, including case.
    #[param(min_length = 1, max_length = 1024)]
    q: String,
    /// Offset at which to begin: 0 when absent, or `next` of an earlier response.
    #[serde(default)]
    from: u64,
    /// Largest number of hits; 100 when absent, at most 1,000.
    max: Option<u32>,
}

/// Searches a worker's output. The matching lines are returned without terminal control sequences.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/search", tag = "workers",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), SearchParams),
    responses((status = 200, body = OutputHits)))]
pub(crate) async fn search(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    Params(params): Params<SearchParams>,
) -> Answer<Json<OutputHits>> {
    let SearchParams { q: text, from, max } = params;
    let search = OutputSearch { text, from, max_hits: max.unwrap_or(DEFAULT_HITS) };
    Ok(Json(state.app.output().search(&person, &name, &session, &worker, search).await?))
}
