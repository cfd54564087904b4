//! Extractors for requests. A part that does not parse is answered with a problem and a code, like every other error.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use shed_api::problem::PROBLEM_JSON;
use shed_api::{Code, Problem, SessionRef, ShedName};
use shed_core::Person;

use crate::State;
use crate::guard::Caller;

/// Longest part of a path segment that is repeated in an error, in characters.
const MAX_SHOWN: usize = 40;

/// An error response with a problem as its body.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Box<Problem>);

impl From<shed_core::Error> for Refused {
    fn from(error: shed_core::Error) -> Self {
        if matches!(error.problem().code, Code::Internal | Code::EngineFailed) {
            tracing::error!(%error, "a request failed");
        }
        Self(Box::new(error.problem()))
    }
}

impl From<shed_api::name::NameError> for Refused {
    fn from(error: shed_api::name::NameError) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

impl Refused {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = axum::http::StatusCode::from_u16(self.0.status);
        let status = status.unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match self.0.code {
            Code::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::RateLimited => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            Code::UpgradeRequired => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            }
            _ => {}
        }
        // The guard adds the request id to the body.
        response.extensions_mut().insert(*self.0);
        response
    }
}

/// Result of a handler.
pub(crate) type Answer<T> = Result<T, Refused>;

/// Extracts the door's state. The router holds it weakly, since the state holds the router.
pub(crate) struct Door(pub(crate) Arc<State>);

impl FromRequestParts<Weak<State>> for Door {
    type Rejection = Refused;

    async fn from_request_parts(_: &mut Parts, state: &Weak<State>) -> Answer<Self> {
        Self::from_weak(state)
    }
}

impl Door {
    pub(crate) fn from_weak(state: &Weak<State>) -> Answer<Self> {
        let gone = || Refused::new(Code::ShuttingDown, "the server is shutting down");
        state.upgrade().map(Self).ok_or_else(gone)
    }
}

/// Extracts the authenticated person.
pub(crate) struct Who(pub(crate) Person);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        Self::of(parts.extensions.get::<Caller>())
    }
}

impl Who {
    /// The authenticated person, or the error of the authentication.
    pub(crate) fn of(caller: Option<&Caller>) -> Answer<Self> {
        match caller {
            Some(Caller::Person(person)) => Ok(Self(person.clone())),
            Some(Caller::Refused(problem)) => Err(Refused(Box::new(problem.clone()))),
            None => Err(Refused::new(
                Code::Internal,
                "internal error: the request was not authenticated",
            )),
        }
    }
}

/// Extracts `{n}`: a shed.
pub(crate) struct OfShed(pub(crate) ShedName);

impl<S: Send + Sync> FromRequestParts<S> for OfShed {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        Ok(Self(segment(parts, state, "n").await?.parse()?))
    }
}

/// Extracts `{n}` and `{s}`: a session of a shed.
pub(crate) struct OfSession(pub(crate) ShedName, pub(crate) SessionRef);

impl<S: Send + Sync> FromRequestParts<S> for OfSession {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let shed = segment(parts, state, "n").await?.parse()?;
        Ok(Self(shed, segment(parts, state, "s").await?.parse()?))
    }
}

/// Extracts `{n}`, `{s}` and `{w}`: a worker of a session, by name or id.
pub(crate) struct OfWorker(pub(crate) ShedName, pub(crate) SessionRef, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for OfWorker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let OfSession(shed, session) = OfSession::from_request_parts(parts, state).await?;
        let worker = shed_api::name::worker(&segment(parts, state, "w").await?)?;
        Ok(Self(shed, session, worker))
    }
}

/// Extracts `{n}`, `{s}` and `{c}`: a checkpoint of a session, by its number.
pub(crate) struct OfCheckpoint(pub(crate) ShedName, pub(crate) SessionRef, pub(crate) u64);

impl<S: Send + Sync> FromRequestParts<S> for OfCheckpoint {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let OfSession(shed, session) = OfSession::from_request_parts(parts, state).await?;
        let given = segment(parts, state, "c").await?;
        let n = given.parse().map_err(|_| {
            let shown: String = given.chars().take(MAX_SHOWN).collect();
            let text = format!("invalid checkpoint {shown:?}; expected its number");
            Refused::new(Code::InvalidRequest, text)
        })?;
        Ok(Self(shed, session, n))
    }
}

/// Extracts `{id}`: the id of a key or token.
pub(crate) struct OfId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for OfId {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        Ok(Self(segment(parts, state, "id").await?))
    }
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Answer<String> {
    let path =
        Path::<std::collections::HashMap<String, String>>::from_request_parts(parts, state).await;
    let bad = || Refused::new(Code::InvalidRequest, "invalid path; expected UTF-8");
    path.map_err(|_| bad())?.0.remove(name).ok_or_else(bad)
}

/// A value deserialized from a JSON object. serde alone would accept a list of the fields' values as well.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Extracts a JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Weak<State>> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &Weak<State>) -> Answer<Self> {
        let Door(door) = Door::from_weak(state)?;
        let limit = door.options.timing.body;
        drop(door);
        let request = request.map(|body| in_time(body, limit));
        match Json::<Object<T>>::from_request(request, state).await {
            Ok(Json(Object(body))) => Ok(Self(body)),
            Err(JsonRejection::BytesRejection(error)) => Err(unreadable(&error)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Refused::new(
                Code::InvalidRequest,
                "invalid content type; expected a JSON body with Content-Type: application/json",
            )),
            Err(error) => Err(Refused::new(Code::InvalidRequest, root_cause(&error))),
        }
    }
}

/// The same body, which fails when its sender pauses for longer than `limit`.
fn in_time(body: axum::body::Body, limit: Duration) -> axum::body::Body {
    let chunks =
        futures_util::stream::unfold(body.into_data_stream(), move |mut chunks| async move {
            let chunk = match tokio::time::timeout(limit, chunks.next()).await {
                Ok(chunk) => chunk?,
                Err(late) => Err(axum::Error::new(late)),
            };
            Some((chunk, chunks))
        });
    axum::body::Body::from_stream(chunks)
}

fn unreadable(error: &BytesRejection) -> Refused {
    let mut inner: &dyn std::error::Error = error;
    loop {
        if inner.is::<tokio::time::error::Elapsed>() {
            return Refused::new(Code::TimedOut, "the body did not arrive within the time limit");
        }
        match inner.source() {
            Some(source) => inner = source,
            None => break,
        }
    }
    let code = if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        Code::TooLarge
    } else {
        Code::InvalidRequest
    };
    Refused::new(code, format!("cannot read the body: {inner}"))
}

/// Extracts a JSON body; the default value if the request has none.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Weak<State>> for OptionalBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &Weak<State>) -> Answer<Self> {
        let empty = request.headers().get(CONTENT_TYPE).is_none();
        if empty {
            return Ok(Self(T::default()));
        }
        Body::<T>::from_request(request, state).await.map(|Body(body)| Self(body))
    }
}

/// Extracts query parameters.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        let bad = |error: QueryRejection| Refused::new(Code::InvalidRequest, root_cause(&error));
        Ok(Self(query.map_err(bad)?.0))
    }
}

/// The text of the innermost error: serde's message, with field and position.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
