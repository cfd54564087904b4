//! The OpenAPI document: made from the handlers, so that it cannot say anything else.

use axum::http::StatusCode;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Info, License, OpenApi, RefOr};

use crate::router::documented;

const DESCRIPTION: &str = "\
Sheds, their sessions, and everything that happens in them. Over the server's unix socket its owner needs no token; over \
TCP every route but `/api/health/live` and `/api/docs` does. A refusal is a problem (RFC 9457) with a stable `code`. \
Every `/api/sheds/{n}/sessions/{s}…` route of a session that shed made is also `/api/sessions/{id}…`.";

/// The document without routes.
pub(crate) fn skeleton() -> OpenApi {
    let mut info = Info::new("shed", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    info.license = Some(License::new("MIT OR Apache-2.0"));
    let mut document = OpenApi::new(info, utoipa::openapi::Paths::new());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let mut components = Components::new();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    document.components = Some(components);
    document.security = Some(vec![utoipa::openapi::security::SecurityRequirement::new(
        "token",
        Vec::<String>::new(),
    )]);
    document
}

/// A status in words, which every response must have.
fn words(status: &str) -> &'static str {
    let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
    status.and_then(|status| status.canonical_reason()).unwrap_or("Answer")
}

/// The whole document, as `/api/openapi.json` serves it.
pub fn document() -> OpenApi {
    let mut document = documented().split_for_parts().1;
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    words(status).clone_into(&mut response.description);
                }
            }
            // A function's name is its own only within its file, which the tag names.
            let tag = operation.tags.as_deref().and_then(<[String]>::first);
            let name = operation.operation_id.take();
            operation.operation_id = tag.zip(name).map(|(tag, name)| format!("{tag}_{name}"));
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The document is checked in, so that a change of wording or of the wire format shows in review.
    #[test]
    fn the_checked_in_document_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let generated = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        let line = checked_in.lines().zip(generated.lines()).position(|(old, new)| old != new);
        let line =
            line.unwrap_or_else(|| checked_in.lines().count().min(generated.lines().count()));
        assert!(
            checked_in == generated,
            "docs/openapi.json differs from the generated document at line {}; \
             to update it, run `make openapi` and review the diff",
            line + 1
        );
    }
}
