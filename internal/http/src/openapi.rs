//! The OpenAPI document, generated from the handlers.
//!
//! A handler declares what only it has: its parameters, its body and its answers. What all of them have is added here: the
//! problems, the header with the request's id, the form of an event, the messages of a WebSocket.

use axum::http::StatusCode;
use shed_api::Problem;
use shed_api::problem::PROBLEM_JSON;
use shed_api::stream::{AttachOpen, ClientFrame, ConsoleOpen, ExecOpen, ServerFrame};
use shed_api::worker::{WorkerClientFrame, WorkerServerFrame};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{
    ArrayItems, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, Content, Header, Info, License, OpenApi, Ref, RefOr, Response, ResponseBuilder,
    Schema,
};
use utoipa::{PartialSchema, ToSchema};

use crate::router::documented;

const DESCRIPTION: &str = "\
Manages sheds and their sessions. Over the server's unix socket its owner needs no token; over TCP every route but \
`/api/health/live`, `/api/docs` and `/api/openapi.json` needs one. Errors are problems (RFC 9457) with a stable `code`. Every \
route `/api/sheds/{n}/sessions/{s}…` is also available as `/api/sessions/{id}…` for managed sessions. A route that answers \
101 is a WebSocket; `x-websocket` names the schemas of its messages, and `docs/API.md` describes their order.";

/// The tags in the order in which they are shown.
const TAGS: &[(&str, &str)] = &[
    ("server", "Health, information, metrics and events."),
    ("sheds", "Containers with persistent volumes: creation, life cycle, usage."),
    ("sessions", "tmux sessions in sheds: creation, life cycle, input and screen."),
    ("workers", "Commands of sessions, their output and their screens."),
    ("commands", "Commands, shells and connections to ports in sheds."),
    ("files", "Differences between states of a session's files."),
    ("checkpoints", "Saved states of a session's files."),
    ("batches", "One operation on several sessions."),
    ("templates", "Values for new sessions."),
    ("cleanup", "Old data of deleted sessions, and what no session owns."),
    ("trash", "Deleted branches and checkpoints."),
    ("keys", "SSH keys that may log in."),
    ("tokens", "API tokens."),
];

/// A parameter in a path, which the handlers do not repeat.
struct PathParameter {
    name: &'static str,
    description: &'static str,
    /// The whole value, as a regular expression.
    pattern: Option<&'static str>,
}

const PATH_PARAMETERS: &[PathParameter] = &[
    PathParameter {
        name: "n",
        description: "Name of the shed.",
        pattern: Some("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"),
    },
    PathParameter {
        name: "s",
        description: "Name or id of the session, or tmux's id (`$3`) of an unmanaged one.",
        pattern: Some("^([A-Za-z0-9][A-Za-z0-9_-]{0,62}|[$][0-9]{1,9})$"),
    },
    PathParameter {
        name: "w",
        description: "Name or id of the worker.",
        pattern: Some("^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"),
    },
    PathParameter { name: "c", description: "Number of the checkpoint.", pattern: None },
    PathParameter { name: "id", description: "Id of the object, as listed.", pattern: None },
    PathParameter {
        name: "port",
        description: "Port on the shed's loopback interface.",
        pattern: None,
    },
];

/// The messages of a WebSocket.
struct Messages {
    operation: &'static str,
    /// Schema of the client's first message, if it sends one.
    opening: Option<&'static str>,
    client: &'static str,
    server: &'static str,
}

const fn stream(operation: &'static str, opening: Option<&'static str>) -> Messages {
    Messages { operation, opening, client: "ClientFrame", server: "ServerFrame" }
}

const WEBSOCKETS: &[Messages] = &[
    stream("commands_stream", Some("ExecOpen")),
    stream("commands_console", Some("ConsoleOpen")),
    stream("commands_forward", None),
    stream("sessions_attach", Some("AttachOpen")),
    stream("sheds_lend", None),
    Messages {
        operation: "workers_watch",
        opening: None,
        client: "WorkerClientFrame",
        server: "WorkerServerFrame",
    },
];

/// The document without routes.
pub(crate) fn skeleton() -> OpenApi {
    let mut info = Info::new("shed", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    info.license = Some(License::new("MIT OR Apache-2.0"));
    let mut document = OpenApi::new(info, utoipa::openapi::Paths::new());
    document.components = Some(components());
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    let tag = |(name, about): &(&str, &str)| {
        TagBuilder::new().name(*name).description(Some(*about)).build()
    };
    document.tags = Some(TAGS.iter().map(tag).collect());
    document
}

/// What several operations refer to.
fn components() -> Components {
    let mut components = Components::new();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    add_schema::<Problem>(&mut components);
    add_schema::<ExecOpen>(&mut components);
    add_schema::<ConsoleOpen>(&mut components);
    add_schema::<AttachOpen>(&mut components);
    add_schema::<ClientFrame>(&mut components);
    add_schema::<ServerFrame>(&mut components);
    add_schema::<WorkerClientFrame>(&mut components);
    add_schema::<WorkerServerFrame>(&mut components);
    let id = header("Id of the request in the server's log.", Type::String);
    components.headers.insert("x-request-id".to_owned(), id.into());
    for (name, description, header) in [
        ("Problem", "The request was refused or failed; `code` says why.", None),
        (
            "Unauthorized",
            "The token is missing, unknown or expired.",
            Some(("www-authenticate", header("`Bearer`.", Type::String))),
        ),
        (
            "RateLimited",
            "Too many requests or connections.",
            Some((
                "retry-after",
                header("Seconds to wait before the next request.", Type::Integer),
            )),
        ),
    ] {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        let mut response =
            ResponseBuilder::new().description(description).content(PROBLEM_JSON, problem).build();
        response.headers.extend(header.map(|(name, header)| (name.to_owned(), header.into())));
        add_request_id(&mut response);
        components.responses.insert(name.to_owned(), response.into());
    }
    components
}

/// Adds the schema of a type and of all types in it.
fn add_schema<T: ToSchema>(components: &mut Components) {
    let mut schemas = vec![(T::name().into_owned(), <T as PartialSchema>::schema())];
    T::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

fn header(description: &str, kind: Type) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind)).build();
    let mut header = Header::new(Schema::Object(schema));
    header.description = Some(description.to_owned());
    header
}

fn add_request_id(response: &mut Response) {
    let id = Ref::new("#/components/headers/x-request-id");
    response.headers.insert("x-request-id".to_owned(), RefOr::Ref(id));
}

/// The standard text of a status. Every response needs a description.
fn reason_phrase(status: &str) -> &'static str {
    let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
    status.and_then(|status| status.canonical_reason()).unwrap_or("Response")
}

/// The whole document, as `/api/openapi.json` serves it.
pub fn document() -> OpenApi {
    let mut document = documented().split_for_parts().1;
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            name(operation);
            describe_parameters(operation);
            describe_responses(operation);
            add_messages(operation);
        }
    }
    let schemas = document.components.iter_mut().flat_map(|all| all.schemas.values_mut());
    schemas.for_each(name_formats);
    document
}

/// Gives an operation a stable id, and splits its text into a summary of one line and a description.
fn name(operation: &mut Operation) {
    // A function's name is unique only within its file, which the tag names.
    let tag = operation.tags.as_deref().and_then(<[String]>::first).cloned().unwrap_or_default();
    let given = operation.operation_id.take().unwrap_or_default();
    let is_whole = given.starts_with(&format!("{tag}_"));
    operation.operation_id = Some(if is_whole { given } else { format!("{tag}_{given}") });
    let text = operation.summary.take().unwrap_or_default().replace('\n', " ");
    let (summary, rest) = text.split_once(". ").unwrap_or((&text, ""));
    operation.summary = Some(summary.trim_end_matches('.').to_owned());
    let parts = [rest, operation.description.as_deref().unwrap_or_default()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    operation.description = (!parts.is_empty()).then(|| parts.join("\n\n"));
}

/// Describes the parameters in the path, and gives numbers the limits of their types.
fn describe_parameters(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        let known = PATH_PARAMETERS.iter().find(|known| known.name == parameter.name);
        let known = known.filter(|_| parameter.parameter_in == ParameterIn::Path);
        if let Some(known) = known {
            parameter.description = Some(known.description.to_owned());
        }
        if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema {
            if let Some(pattern) = known.and_then(|known| known.pattern) {
                schema.pattern = Some(pattern.to_owned());
            }
            schema.maximum = match schema.format {
                Some(SchemaFormat::KnownFormat(KnownFormat::UInt16)) => Some(u16::MAX.into()),
                Some(SchemaFormat::KnownFormat(KnownFormat::UInt32)) => Some(u32::MAX.into()),
                Some(SchemaFormat::KnownFormat(KnownFormat::UInt64)) => Some(u64::MAX.into()),
                _ => schema.maximum.take(),
            };
        }
        parameter.schema.iter_mut().for_each(name_formats);
    }
}

/// Gives unsigned integers the names of their formats that the registry of formats has.
fn name_formats(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            if let Some(SchemaFormat::KnownFormat(known)) = &object.format {
                let name = match known {
                    KnownFormat::UInt8 => Some("uint8"),
                    KnownFormat::UInt16 => Some("uint16"),
                    KnownFormat::UInt32 => Some("uint32"),
                    KnownFormat::UInt64 => Some("uint64"),
                    _ => None,
                };
                if let Some(name) = name {
                    object.format = Some(SchemaFormat::Custom(name.to_owned()));
                }
            }
            object.properties.values_mut().for_each(name_formats);
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                name_formats(items);
            }
        }
        Schema::OneOf(one) => one.items.iter_mut().for_each(name_formats),
        Schema::AllOf(all) => all.items.iter_mut().for_each(name_formats),
        Schema::AnyOf(any) => any.items.iter_mut().for_each(name_formats),
        _ => {}
    }
}

/// Completes the answers of an operation, and adds the problems that every operation can answer.
fn describe_responses(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            reason_phrase(status).clone_into(&mut response.description);
        }
        add_request_id(response);
        if let Some(RefOr::T(content)) = response.content.get_mut("text/event-stream")
            && let Some(item) = content.schema.take()
        {
            content.schema = Some(event_of(item));
        }
    }
    let mut add = |status: &str, name: &str| {
        let problem = RefOr::Ref(Ref::from_response_name(name));
        responses.insert(status.to_owned(), problem);
    };
    add("default", "Problem");
    add("429", "RateLimited");
    let needs_token = operation.security.is_none();
    if needs_token {
        add("401", "Unauthorized");
    }
}

/// One event of a stream, whose text is a JSON value.
fn event_of(item: RefOr<Schema>) -> RefOr<Schema> {
    let text = |description: &str| {
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .description(Some(description))
    };
    let data = text("The value as JSON.")
        .content_media_type("application/json")
        .content_schema(Some(item));
    let event = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Object))
        .description(Some("One event of the stream."))
        .property("id", text("Id to continue after, in the stream of events."))
        .property("event", text("Kind of the event, in the stream of events."))
        .property("data", data)
        .required("data");
    RefOr::T(Schema::Object(event.build()))
}

/// Names the schemas of a WebSocket's messages.
fn add_messages(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let Some(messages) = WEBSOCKETS.iter().find(|messages| messages.operation == id) else {
        return;
    };
    let schema = |name: &str| serde_json::json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut named = serde_json::Map::new();
    named.extend(messages.opening.map(|opening| ("opening".to_owned(), schema(opening))));
    named.insert("client".to_owned(), schema(messages.client));
    named.insert("server".to_owned(), schema(messages.server));
    let extensions = ExtensionsBuilder::new().add("x-websocket", named).build();
    operation.extensions = Some(extensions);
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
    fn every_websocket_names_the_schemas_of_its_messages() {
        let document = serde_json::to_value(document()).unwrap();
        let mut named = 0;
        for item in document["paths"].as_object().unwrap().values() {
            let get = &item["get"];
            assert_eq!(get["responses"].get("101").is_some(), get.get("x-websocket").is_some());
            for message in get["x-websocket"].as_object().into_iter().flatten() {
                let path = message.1["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(path).is_some(), "{path}");
                named += 1;
            }
        }
        assert!(named >= 2 * WEBSOCKETS.len(), "{named}");
    }

    #[test]
    fn every_tag_is_described_and_every_summary_is_one_sentence() {
        let document = document();
        let described: Vec<&str> = TAGS.iter().map(|(name, _)| *name).collect();
        for (path, item) in &document.paths.paths {
            for operation in
                [&item.get, &item.post, &item.patch, &item.delete].into_iter().flatten()
            {
                let tags = operation.tags.as_ref().unwrap();
                assert!(
                    tags.iter().all(|tag| described.contains(&tag.as_str())),
                    "{path}: {tags:?}"
                );
                let summary = operation.summary.as_ref().unwrap();
                assert!(summary.len() <= 90 && !summary.contains(". "), "{path}: {summary}");
            }
        }
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
