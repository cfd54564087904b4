//! Aliases for sessions by id: `/api/sessions/{id}…` stands for `/api/sheds/{n}/sessions/{id}…`.
//!
//! The path is rewritten once, between the guard, which knows the person, and the routes, which know no aliases. This works
//! for streams over WebSocket too, since they begin as ordinary requests.

use std::sync::Weak;

use axum::extract::{Request, State as FromState};
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use shed_api::Code;

use crate::State;
use crate::extract::{Answer, Door, Refused, Who};
use crate::guard::Caller;

/// Prefix of the aliases.
const ALIASES: &str = "/api/sessions/";
/// The one route with that prefix that is not an alias.
const WATCH: &str = "/api/sessions/watch";
/// Longest part of an id that is repeated in an error, in characters. Our ids have 32 characters.
const MAX_SHOWN: usize = 40;

/// Middleware that rewrites the path of an alias to that of the session's shed.
pub(crate) async fn alias(
    FromState(state): FromState<Weak<State>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some((id, rest)) = split(request.uri().path()) {
        match resolve(&state, &request, id, rest) {
            Ok(uri) => *request.uri_mut() = uri,
            Err(refused) => return refused.into_response(),
        }
    }
    next.run(request).await
}

/// Splits the path of an alias into the id and the rest; `None` for any other path.
fn split(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(ALIASES).filter(|rest| !rest.is_empty() && path != WATCH)?;
    Some(rest.find('/').map_or((rest, ""), |at| rest.split_at(at)))
}

fn resolve(state: &Weak<State>, request: &Request, id: &str, rest: &str) -> Answer<Uri> {
    let Who(person) = Who::of(request.extensions().get::<Caller>())?;
    let Door(door) = Door::from_weak(state)?;
    // Ids are hexadecimal, so a known id needs no percent-decoding.
    let shed = door.app.sessions().shed_of(&person, id).ok_or_else(|| {
        let shown: String = shed_api::name::printable(id).chars().take(MAX_SHOWN).collect();
        Refused::new(Code::SessionNotFound, format!("no session with id {shown:?}"))
    })?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("/api/sheds/{shed}/sessions/{id}{rest}{query}");
    let bad = |_| Refused::new(Code::InvalidRequest, "invalid path in the request's URI");
    let path = path.parse::<PathAndQuery>().map_err(bad)?;
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Refused::new(Code::InvalidRequest, "invalid request URI"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_split_into_the_id_and_the_rest() {
        for (path, expected) in [
            ("/api/sessions/0a", Some(("0a", ""))),
            ("/api/sessions/0a/", Some(("0a", "/"))),
            ("/api/sessions/0a/workers/sh/ws", Some(("0a", "/workers/sh/ws"))),
            ("/api/sessions/watch/output", Some(("watch", "/output"))),
            ("/api/sessions/watch", None),
            ("/api/sessions/", None),
            ("/api/sessions", None),
            ("/api/sessionsx/0a", None),
            ("/api/sheds/a/sessions/0a", None),
            ("//api/sessions/0a", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }
}
