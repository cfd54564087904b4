//! The OpenAPI document and a page that shows it. The page needs nothing but this server, so it works offline, and no token,
//! since it describes only this version of the server.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{LazyLock, Weak};

use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use shed_api::Code;
use utoipa_axum::router::OpenApiRouter;

use crate::State;

/// Placeholder of the rows with the problems' codes.
const PROBLEMS_PLACEHOLDER: &str = "<!--PROBLEMS-->";
/// The page runs this server's scripts only, and may send requests to this server only. Swagger UI sets styles of elements
/// and has its icons in data URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Whether `bytes` are compressed with gzip, which every browser reads.
    gzip: bool,
}

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static FILES: [File; 5] = [
    File {
        path: "/api/docs/page.css",
        content_type: CSS,
        bytes: include_bytes!("../../web/docs/page.css"),
        gzip: false,
    },
    File {
        path: "/api/docs/page.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("../../web/docs/page.js"),
        gzip: false,
    },
    File {
        path: "/api/docs/swagger-ui.css",
        content_type: CSS,
        bytes: include_bytes!("../../web/swagger-ui/swagger-ui.css.gz"),
        gzip: true,
    },
    File {
        path: "/api/docs/swagger-ui-bundle.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("../../web/swagger-ui/swagger-ui-bundle.js.gz"),
        gzip: true,
    },
    File {
        path: "/api/docs/swagger-ui.LICENSE.txt",
        content_type: "text/plain; charset=utf-8",
        bytes: include_bytes!("../../web/swagger-ui/LICENSE.txt.gz"),
        gzip: true,
    },
];

impl File {
    /// The file, or 304 if the caller has it already.
    fn respond(&self, request: &HeaderMap) -> Response {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        // `no-cache`: kept, and asked for again with the tag, so that a new server shows its own page.
        let headers = [(ETAG, tag.as_str()), (CACHE_CONTROL, "no-cache")];
        let known = request.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok());
        if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let encoding = self.gzip.then_some([(CONTENT_ENCODING, "gzip")]);
        let content_type = [(CONTENT_TYPE, self.content_type)];
        match encoding {
            Some(encoding) => (headers, encoding, content_type, self.bytes).into_response(),
            None => (headers, content_type, self.bytes).into_response(),
        }
    }
}

/// Adds the routes of the page's files, which are no part of the API.
pub(crate) fn files(router: OpenApiRouter<Weak<State>>) -> OpenApiRouter<Weak<State>> {
    FILES.iter().fold(router, |router, file| {
        router.route(file.path, get(async |headers: HeaderMap| file.respond(&headers)))
    })
}

static JSON: LazyLock<String> = LazyLock::new(|| crate::document().to_json().unwrap_or_default());
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("../../web/docs/page.html");
    page.replace(PROBLEMS_PLACEHOLDER, &problems())
});

/// A row for each problem code, with an anchor to which the `type` of a problem points.
fn problems() -> String {
    let rows = Code::ALL.iter().map(|code| {
        let (word, about) = (code.as_str(), escaped(code.about()));
        let (status, exit) = (code.http_status(), code.exit_status());
        format!(
            "<tr id=\"{word}\"><td><code>{word}</code></td><td>{status}</td><td>{exit}</td><td>{about}</td></tr>\n"
        )
    });
    rows.collect()
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns this document. Needs no token.
#[utoipa::path(get, path = "/api/openapi.json", tag = "server", security(()),
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(crate) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], JSON.as_str())
}

/// Returns this document as an HTML page with search and requests to try. Needs no token.
#[utoipa::path(get, path = "/api/docs", tag = "server", security(()),
    responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn page() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
    (headers, PAGE.as_str())
}
