//! The table of all routes with the scope each needs. Other tests iterate over it, and it is compared with the OpenAPI
//! document.

use std::collections::BTreeSet;

use shed_api::Scope;

/// What a route needs over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Token(Scope),
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// A valid body.
    pub(crate) body: Option<&'static str>,
    /// The query it requires.
    query: &'static str,
    /// Status and code for an authorised caller on an empty server.
    pub(crate) answer: (u16, &'static str),
}

const READ: Needs = Needs::Token(Scope::Read);
const DRIVE: Needs = Needs::Token(Scope::Drive);
const ADMIN: Needs = Needs::Token(Scope::Admin);
const OK: (u16, &str) = (200, "");
const NO_SHED: (u16, &str) = (404, "shed-not-found");
const NO_ID: (u16, &str) = (404, "not-found");

const KEY: &str = r#"{"name":"k","scope":"read","public_key":
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqyXfZSxQRzPoPYxmkOMjhBNZtCJfEDDlXnpfuqvQdE me@laptop"}"#;

const TRASHED: &str = r#"{"ref":"refs/shed/trash/20261121/x","branch":"x"}"#;

const fn route(
    method: &'static str,
    path: &'static str,
    needs: Needs,
    body: Option<&'static str>,
    answer: (u16, &'static str),
) -> Route {
    Route { method, path, needs, body, query: "", answer }
}

pub(crate) const ROUTES: &[Route] = &[
    route("GET", "/api/health/live", Needs::Nothing, None, OK),
    route("GET", "/api/docs", Needs::Nothing, None, OK),
    route("GET", "/api/openapi.json", Needs::Nothing, None, OK),
    route("GET", "/api/health/ready", READ, None, OK),
    route("GET", "/api/info", READ, None, OK),
    route("GET", "/metrics", READ, None, OK),
    route("GET", "/api/ssh-host-key", READ, None, (404, "not-found")),
    route("GET", "/api/events", READ, None, OK),
    route("GET", "/api/sheds", READ, None, OK),
    route("POST", "/api/sheds", DRIVE, Some(r#"{"name":"new","image":"slow"}"#), (202, "")),
    route("GET", "/api/sheds/{n}", READ, None, NO_SHED),
    route("PATCH", "/api/sheds/{n}", DRIVE, Some(r#"{"cpus":1.5}"#), NO_SHED),
    route("DELETE", "/api/sheds/{n}", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/start", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/stop", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/restart", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/pause", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/unpause", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/rebuild", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/progress", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/logs", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/stats", READ, None, NO_SHED),
    route("GET", "/api/stats", READ, None, OK),
    route("GET", "/api/df", READ, None, OK),
    route("GET", "/api/sessions", READ, None, OK),
    route("GET", "/api/sessions/watch", READ, None, OK),
    route("GET", "/api/previews", READ, None, OK),
    route("GET", "/api/sheds/{n}/sessions", READ, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions", DRIVE, Some(r#"{"name":"work"}"#), NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}", READ, None, NO_SHED),
    route("PATCH", "/api/sheds/{n}/sessions/{s}", DRIVE, Some(r#"{"name":"play"}"#), NO_SHED),
    route("DELETE", "/api/sheds/{n}/sessions/{s}", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/input", DRIVE, Some(r#"{"text":"x"}"#), NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/output", READ, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/terminate", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/restart", DRIVE, Some("{}"), NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/freeze", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/thaw", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/adopt", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/risk", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/workers", READ, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/workers", DRIVE, Some("{}"), NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/workers/{w}", READ, None, NO_SHED),
    route("DELETE", "/api/sheds/{n}/sessions/{s}/workers/{w}", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/workers/{w}/restart", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/workers/{w}/output", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/workers/{w}/output/cast", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/workers/{w}/search", READ, None, NO_SHED)
        .asked("q=x"),
    route("GET", "/api/sheds/{n}/sessions/{s}/workers/{w}/ws", READ, None, NO_SHED),
    route("GET", "/api/previews", READ, None, OK),
    route("GET", "/api/sheds/{n}/sessions/{s}/diff", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/diff/numbers", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/diff/watch", READ, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/checkpoints", READ, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/checkpoints", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/checkpoints/{c}", READ, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/checkpoints/{c}/restore", DRIVE, None, NO_SHED),
    route("POST", "/api/sheds/{n}/sessions/{s}/checkpoints/{c}/fork", DRIVE, Some("{}"), NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/attach", READ, None, NO_SHED),
    route("POST", "/api/batch", DRIVE, Some(r#"{"ids":["none"],"op":"terminate"}"#), OK),
    route("GET", "/api/sheds/{n}/templates", READ, None, NO_SHED),
    route("POST", "/api/templates/check", READ, Some(r#"{"text":""}"#), OK),
    route("POST", "/api/sheds/{n}/gc", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/orphans", READ, None, NO_SHED),
    route("POST", "/api/sheds/{n}/orphans/clean", DRIVE, Some(r#"{"names":["x"]}"#), NO_SHED),
    route("GET", "/api/sheds/{n}/trash", READ, None, NO_SHED),
    route("POST", "/api/sheds/{n}/trash/restore", DRIVE, Some(TRASHED), NO_SHED),
    route("POST", "/api/sheds/{n}/exec", DRIVE, Some(r#"{"argv":["true"]}"#), NO_SHED),
    route("GET", "/api/sheds/{n}/exec/stream", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/console", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/forward/{port}", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/lend/{id}", DRIVE, None, NO_SHED),
    route("GET", "/api/sheds/{n}/sessions/{s}/workers/{w}/ws", READ, None, NO_SHED),
    route("GET", "/api/keys", ADMIN, None, OK),
    route("POST", "/api/keys", ADMIN, Some(KEY), (201, "")),
    route("DELETE", "/api/keys/{id}", ADMIN, None, NO_ID),
    route("GET", "/api/tokens", ADMIN, None, OK),
    route("POST", "/api/tokens", ADMIN, Some(r#"{"name":"t","scope":"read"}"#), (201, "")),
    route("DELETE", "/api/tokens/{id}", ADMIN, None, NO_ID),
];

impl Route {
    const fn asked(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    /// The path with these values for `{n}` and `{s}`.
    pub(crate) fn at(&self, shed: &str, session: &str) -> String {
        self.at_worker(shed, session, "sh")
    }

    /// The path with these values for `{n}`, `{s}` and `{w}`.
    pub(crate) fn at_worker(&self, shed: &str, session: &str, worker: &str) -> String {
        let path = self.path.replace("{n}", shed).replace("{s}", session).replace("{w}", worker);
        let path = path.replace("{id}", "none").replace("{port}", "80").replace("{c}", "1");
        if self.query.is_empty() { path } else { format!("{path}?{}", self.query) }
    }
}

#[test]
fn the_table_has_every_route_of_the_document() {
    let document = serde_json::to_value(shed_http::document()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let table: BTreeSet<(String, String)> =
        ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(table, documented);
}
