//! Commands that are run to their end in one request.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shed_api::Code;
use shed_api::stream::{ExecRequest, ExecResult};

use crate::extract::{Answer, Body, Door, OfShed, Refused, Who};

/// Runs a command to its end and returns its output, at most 8 MiB of each stream.
#[utoipa::path(post, path = "/api/sheds/{n}/exec", tag = "commands", operation_id = "commands_run", params(("n" = String, Path)),
    request_body = ExecRequest,
    responses((status = 200, body = ExecResult)))]
pub(crate) async fn to_end(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(mut request): Body<ExecRequest>,
) -> Answer<Json<ExecResult>> {
    let stdin = match (request.stdin.take(), request.stdin_base64.take()) {
        (None, None) => Vec::new(),
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => {
            let bad =
                |_| Refused::new(Code::InvalidRequest, "invalid stdin_base64; expected base64");
            STANDARD.decode(text).map_err(bad)?
        }
        (Some(_), Some(_)) => {
            let text = "invalid input; expected stdin or stdin_base64, not both";
            return Err(Refused::new(Code::InvalidRequest, text));
        }
    };
    Ok(Json(state.app.streams().exec_to_end(&person, &name, request, stdin).await?))
}
