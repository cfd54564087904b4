//! The OpenAPI document, generated from the handlers.

use axum::http::StatusCode;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Info, License, OpenApi, RefOr};

use crate::router::documented;

const DESCRIPTION: &str = "\
Manages sheds and their sessions. Over the server's unix socket its owner needs no token; over TCP every route but \
`/api/health/live` and `/api/docs` needs one. Errors are problems (RFC 9457) with a stable `code`. Every route \
`/api/sheds/{n}/sessions/{s}…` is also available as `/api/sessions/{id}…` for managed sessions.";

/// Descriptions of the parameters in paths, which the handlers do not repeat.
const PATH_PARAMETERS: &[(&str, &str)] = &[
    ("n", "Name of the shed."),
    ("s", "Name or id of the session, or tmux's id (`$3`) of an unmanaged one."),
    ("w", "Name or id of the worker."),
    ("c", "Number of the checkpoint."),
    ("id", "Id of the object, as listed."),
    ("port", "Port on the shed's loopback interface."),
];

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

/// The standard text of a status. Every response needs a description.
fn reason_phrase(status: &str) -> &'static str {
    let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
    status.and_then(|status| status.canonical_reason()).unwrap_or("Response")
}

fn describe_path_parameters(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Path
        {
            let known = PATH_PARAMETERS.iter().find(|(name, _)| *name == parameter.name);
            parameter.description = known.map(|(_, description)| (*description).to_owned());
        }
    }
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
                    reason_phrase(status).clone_into(&mut response.description);
                }
            }
            describe_path_parameters(operation);
            // A function's name is unique only within its file, which the tag names.
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

    use shed_api::session::SessionStatus;
    use shed_api::{Code, EventKind, Scope, ShedStatus};

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

    #[test]
    fn enums_list_the_words_that_are_sent() {
        let document = serde_json::to_value(document()).unwrap();
        for (name, sent) in [
            ("Code", serde_json::to_value(Code::ALL)),
            ("EventKind", serde_json::to_value(EventKind::ALL)),
            ("Scope", serde_json::to_value(Scope::ALL)),
            ("SessionStatus", serde_json::to_value(SessionStatus::ALL)),
            ("ShedStatus", serde_json::to_value(ShedStatus::ALL)),
        ] {
            assert_eq!(document["components"]["schemas"][name]["enum"], sent.unwrap(), "{name}");
        }
    }
}
