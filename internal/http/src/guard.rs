//! Middleware around all routes: request id, Host and Origin checks, authentication, rate limits, request log.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::extract::{Request, State as FromState};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use shed_api::{Code, Problem};
use shed_core::Person;

use crate::State;
use crate::auth::{Peer, person};
use crate::extract::Refused;
use crate::unauthenticated::PendingConnection;

/// The header with the id that identifies a request in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that a caller may give itself, in bytes.
const MAX_ID_BYTES: usize = 64;
/// Time limit of a request that does not stream. Creations and rebuilds continue after their request has ended.
const REQUEST_LIMIT: Duration = Duration::from_secs(700);

/// The result of the authentication, for handlers that need it. Some health and documentation routes do not.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Person(Person),
    Refused(Problem),
}

/// Checks host, credential and rate of every request before it is routed.
pub(crate) async fn guard(
    FromState(state): FromState<Weak<State>>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut actor = String::new();
    let response = match state.upgrade() {
        None => Refused::new(Code::ShuttingDown, "the server is shutting down").into_response(),
        Some(state) => match admit(&state, &mut request, &mut actor).await {
            Ok(()) => tokio::select! {
                response = next.run(request) => response,
                refused = deadline(&state) => refused.into_response(),
            },
            Err(refused) => refused.into_response(),
        },
    };
    let response = with_id(response, &id);
    if let Some(state) = state.upgrade() {
        state.metrics.count(response.status());
    }
    let status = response.status().as_u16();
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    // The query is not logged: it may contain private data.
    if status >= 500 {
        tracing::warn!(%method, path, status, ms, actor, request = id, "request");
    } else {
        tracing::debug!(%method, path, status, ms, actor, request = id, "request");
    }
    response
}

/// The id from the request's header if it is valid, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let fit = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain)
    };
    let own = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(fit);
    let new = || uuid::Uuid::new_v4().simple().to_string()[..16].to_owned();
    own.map_or_else(new, str::to_owned)
}

/// Returns when a request must end: after its time limit, or some time after the server began to shut down.
async fn deadline(state: &State) -> Refused {
    let stop = state.app.stopping();
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(state.options.timing.drain).await;
    };
    tokio::select! {
        () = tokio::time::sleep(REQUEST_LIMIT) => {
            let text = format!("the request took longer than {} seconds", REQUEST_LIMIT.as_secs());
            Refused::new(Code::TimedOut, text)
        }
        () = drained => Refused::new(Code::ShuttingDown, "the server is shutting down"),
    }
}

/// Checks and authenticates a request, and stores the caller in its extensions.
async fn admit(
    state: &Arc<State>,
    request: &mut Request,
    actor: &mut String,
) -> Result<(), Refused> {
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.ok_or_else(|| {
        Refused::new(Code::Internal, "internal error: the connection has no peer")
    })?;
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        // RFC 9112, section 3.2. Programs before and after this one may take different ones.
        return Err(Refused::new(Code::InvalidRequest, "more than one Host header"));
    }
    if let Peer::Network(_) = peer {
        check_host(state, request.headers())?;
    }
    let (parts, body) = std::mem::take(request).into_parts();
    let caller = person(state, &peer, &parts).await;
    let has_credential = parts.headers.contains_key(AUTHORIZATION);
    *request = Request::from_parts(parts, body);
    let caller = match caller {
        Ok(person) => {
            if let Some(pending) = request.extensions().get::<PendingConnection>() {
                pending.authenticated();
            }
            *actor = person.actor.to_string();
            if person.local_uid.is_none() && !state.limits.request(actor) {
                return Err(Refused::new(Code::RateLimited, "too many requests"));
            }
            Caller::Person(person)
        }
        Err(error) => {
            let problem = error.problem();
            let refused = problem.code == Code::Unauthorized;
            if let (true, Some(address)) = (refused, peer.address()) {
                // A request without a token guesses none: health probes come without one.
                if has_credential && !state.limits.refusal(address) {
                    return Err(Refused::new(Code::RateLimited, "too many refused credentials"));
                }
                *actor = format!("address:{address}");
                if !has_credential && !state.limits.request(actor) {
                    return Err(Refused::new(Code::RateLimited, "too many requests"));
                }
            }
            Caller::Refused(problem)
        }
    };
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Protects against foreign pages in a browser: the Host header against DNS rebinding, the Origin header against cross-site
/// requests.
fn check_host(state: &State, headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refused = |what: &str, given: &str| {
        let given: String = shed_api::name::printable(given).chars().take(100).collect();
        let problem =
            Problem::new(Code::HostNotAllowed, format!("{what} {given:?} is not allowed"));
        Refused(Box::new(
            problem.hint("on the server, add it to hosts under [http] in the configuration"),
        ))
    };
    let host = text(HOST).unwrap_or_default();
    if !is_own(&state.options.hosts, host) {
        return Err(refused("host", host));
    }
    if let Some(origin) = text(ORIGIN)
        && !is_own_origin(&state.options.hosts, host, origin)
    {
        return Err(refused("origin", origin));
    }
    Ok(())
}

/// Whether `origin` is this server: the host and port of the request, or a name from the configuration. Another port of
/// localhost is foreign: it may be a page that an agent serves from its shed.
fn is_own_origin(hosts: &[String], host: &str, origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    let is_named = || hosts.iter().any(|own| own.eq_ignore_ascii_case(host_of(authority)));
    authority.eq_ignore_ascii_case(host) || is_named()
}

/// Whether `authority` (`host` or `host:port`) names this server. IP addresses are allowed, since they cannot be rebound.
fn is_own(hosts: &[String], authority: &str) -> bool {
    let host = host_of(authority);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok()
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
}

/// The host of `host` or `host:port`, without the trailing dot of a fully qualified name.
fn host_of(authority: &str) -> &str {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.trim_end_matches('.')
}

fn with_id(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions().get::<Problem>().cloned() {
        let problem = Problem { request_id: Some(id.to_owned()), ..problem };
        if let Ok(body) = serde_json::to_vec(&problem) {
            response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
            *response.body_mut() = body.into();
        }
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_and_addresses_are_this_server() {
        let hosts = ["shed.example.com".to_owned()];
        for own in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "10.1.2.3",
            "shed.example.com:443",
            "shed.example.com.",
        ] {
            assert!(is_own(&hosts, own), "{own}");
        }
        for other in
            ["", "evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "example.com", "[evil]"]
        {
            assert!(!is_own(&hosts, other), "{other}");
        }
    }

    #[test]
    fn a_page_may_only_send_requests_to_its_own_server() {
        let hosts = ["shed.example.com".to_owned()];
        let is_own = |origin| is_own_origin(&hosts, "localhost:8080", origin);
        for own in
            ["http://localhost:8080", "https://shed.example.com", "https://shed.example.com:8443"]
        {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "",
            "null",
            "http://localhost:3000",
            "http://localhost",
            "http://10.1.2.3",
            "http://evil.com",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
